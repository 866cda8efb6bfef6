//! Facts about the names of workers that outlive a controller: those that an operator drained, and those that gave a
//! wrong answer.
//!
//! Every change is an [`Action::Keep`] with all that holds of the name from then on; a controller that starts is
//! given what was kept by [`Core::restore`], before its first event.

use super::{Action, Core, Fault, Principal};
use std::rc::Rc;
use std::time::Duration;

/// Reasons for which whoever connects under a name gets no work. Without any, nothing is to be kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The fault for which it is in quarantine, and the time since then.
    pub quarantined: Option<(Fault, Duration)>,
    /// It is drained, and stays so.
    pub drained: Option<LastingDrain>,
}

/// A drain that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastingDrain {
    /// The principal that drained it.
    pub by: Principal,
    /// Time since then.
    pub age: Duration,
    /// Time until its leases go to others.
    pub left: Duration,
}

impl<F: Clone> Core<F> {
    /// Has what holds of the name `name` kept.
    pub(super) fn keep(&mut self, name: &str) {
        let standing = Standing {
            quarantined: self.quarantine.lasting(self.now, name),
            drained: self.drains.lasting(self.now, name),
        };
        self.actions.push(Action::Keep(name.to_owned(), standing));
    }

    /// Takes in what was kept of the name `name` by the controller before this one. Beyond the limits, nobody who
    /// connects is given work for a quarantine, and a drain is forgotten.
    pub fn restore(&mut self, name: &str, standing: Standing) {
        let name = Rc::from(name);
        if let Some((fault, age)) = standing.quarantined {
            self.quarantine.restore(&name, fault, age);
        }
        if let Some(drain) = standing.drained {
            self.drains.restore(name, drain);
        }
    }
}
