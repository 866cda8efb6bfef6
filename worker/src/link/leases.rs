//! The leases of one connection, and the credit that the controller has left.
//!
//! Pure bookkeeping: what it returns is to be done by [`crate::link::session`]. Invariants:
//! - a lease is answered at most once, and not at all after it was revoked;
//! - every credit that a lease used comes back exactly once: with its answer, or on its own after
//!   it was revoked; while draining, never;
//! - no more leases are held than credit was given.

use crate::link::hang::Revoked;
use crate::metrics::{Content, instruments};
use engine::clock::Stopwatch;
use engine::exec::checkpointed::{self, Started};
use engine::exec::order::Order;
use ipc_proto::Family;
use ipc_proto::message::LeaseId;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A breach of the protocol by the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It assigned a batch without credit.
    NoCredit,
    /// It assigned a lease that is held already.
    HeldAlready(LeaseId),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredit => f.write_str("a batch beyond the credit given"),
            Self::HeldAlready(lease) => write!(f, "lease {lease} twice"),
        }
    }
}

impl std::error::Error for Violation {}

#[derive(Debug)]
pub(crate) struct Leases {
    /// Batches that may still be assigned.
    credit: u16,
    held: HashMap<LeaseId, Held>,
    /// Long files that no thread has, oldest first; those that were started or revoked may be among
    /// them.
    long: VecDeque<(LeaseId, Family)>,
    /// Leases whose answer, or whose credit, is not on its way yet.
    unsettled: usize,
    draining: bool,
    /// The controller answered the drain.
    left: bool,
}

#[derive(Debug)]
struct Held {
    attempt: u32,
    revoked: Arc<AtomicBool>,
    /// `None` once a thread works on it.
    order: Option<Order>,
    /// Name of that thread.
    thread: Option<Arc<str>>,
    /// For whoever counts.
    content: Option<Content>,
    arrived: Option<Stopwatch>,
}

/// A lease that a thread is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) revoked: bool,
    /// For whoever counts.
    pub(crate) content: Option<Content>,
    /// To be given to the controller.
    pub(crate) credit: u16,
}

/// Leases that were revoked.
#[derive(Debug)]
pub(crate) struct Dropped {
    /// Those that no thread has.
    pub(crate) orders: Vec<Order>,
    /// Those that were not revoked before, and that a thread works on.
    pub(crate) running: Vec<Revoked>,
    /// To be given to the controller.
    pub(crate) credit: u16,
}

impl Leases {
    pub(crate) fn new(credit: u16) -> Self {
        Self {
            credit,
            held: HashMap::new(),
            long: VecDeque::new(),
            unsettled: 0,
            draining: false,
            left: false,
        }
    }

    pub(crate) fn assign(
        &mut self,
        lease: LeaseId,
        attempt: u32,
        order: Order,
    ) -> Result<(), Violation> {
        if self.held.contains_key(&lease) {
            return Err(Violation::HeldAlready(lease));
        }
        self.credit = self.credit.checked_sub(1).ok_or(Violation::NoCredit)?;
        if let Some(family) = checkpointed::family_of(&order).filter(|_| !order.check) {
            self.long.push_back((lease, family));
        }
        let counted = instruments().map(|_| (Content::of(&order), Stopwatch::start()));
        let (content, arrived) = counted.unzip();
        let (revoked, thread) = (Arc::default(), None);
        let held = Held { attempt, revoked, order: Some(order), thread, content, arrived };
        self.held.insert(lease, held);
        self.unsettled += 1;
        Ok(())
    }

    /// `None` if the lease was revoked meanwhile.
    pub(crate) fn start(&mut self, lease: LeaseId) -> Option<Started> {
        let held = self.held.get_mut(&lease)?;
        let order = held.order.take()?;
        for (instruments, arrived) in instruments().into_iter().zip(&held.arrived) {
            instruments.begun(arrived.elapsed_us());
        }
        held.thread = thread::current().name().map(Arc::from);
        self.long.retain(|(waiting, _)| *waiting != lease);
        Some(Started { attempt: held.attempt, order, revoked: Arc::clone(&held.revoked) })
    }

    /// Starts the oldest long file of `family` that no thread has.
    pub(crate) fn start_long(&mut self, family: Family) -> Option<(LeaseId, Started)> {
        let held = &self.held;
        let waits = |lease: &LeaseId| held.get(lease).is_some_and(|held| held.order.is_some());
        self.long.retain(|(lease, _)| waits(lease));
        let at = self.long.iter().position(|(_, of)| *of == family)?;
        let (lease, _) = self.long.remove(at)?;
        self.start(lease).map(|started| (lease, started))
    }

    /// [`Leases::settle`] must follow when the answer is sent.
    pub(crate) fn finish(&mut self, lease: LeaseId) -> Finished {
        let held = self.held.remove(&lease);
        let revoked = held.as_ref().is_none_or(|held| held.revoked.load(Ordering::Relaxed));
        let content = held.and_then(|held| held.content);
        Finished { revoked, content, credit: self.give(1) }
    }

    /// [`Leases::settle`] must follow, for each of the orders, when the credit is sent.
    pub(crate) fn revoke(&mut self, leases: &[LeaseId]) -> Dropped {
        let (mut orders, mut running) = (Vec::new(), Vec::new());
        for lease in leases {
            let Some(held) = self.held.get_mut(lease) else { continue };
            let was_revoked = held.revoked.swap(true, Ordering::Relaxed);
            if let Some(order) = held.order.take() {
                self.held.remove(lease);
                orders.push(order);
            } else if let Some(thread) = held.thread.as_ref().filter(|_| !was_revoked) {
                let job = Arc::downgrade(&held.revoked);
                running.push(Revoked { thread: Arc::clone(thread), job });
            }
        }
        let credit = self.give(u16::try_from(orders.len()).expect("no more than credit was given"));
        Dropped { orders, running, credit }
    }

    pub(crate) fn held_len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn settle(&mut self, leases_len: usize) {
        self.unsettled -= leases_len;
    }

    /// Grants no credit from now on.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// The controller waits for no answer any more: returns true if that ends a drain.
    pub(crate) fn leave(&mut self) -> bool {
        self.left = self.draining;
        self.left
    }

    /// Returns true once a drain was requested and the controller has taken all leases back, or they are
    /// answered.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && (self.left || self.unsettled == 0)
    }

    /// Nobody waits for any answer any more, as the connection is gone; all leases are revoked.
    pub(crate) fn abandon(&mut self) -> Dropped {
        let held: Vec<LeaseId> = self.held.keys().copied().collect();
        self.revoke(&held)
    }

    fn give(&mut self, batches: u16) -> u16 {
        if self.draining {
            return 0;
        }
        self.credit += batches;
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::message::{Piece, Work};
    use ipc_proto::{Algorithm, Blob};

    fn id(number: u64) -> LeaseId {
        LeaseId { epoch: 1, number }
    }

    fn order() -> Order {
        let piece = Piece::Segment { state: Blob::default(), data: Blob::default(), last: true };
        Order::new(Algorithm::Sha256.into(), Work::Piece(piece), Vec::new())
    }

    fn assign(leases: &mut Leases, lease: u64) -> Result<(), Violation> {
        leases.assign(id(lease), 1, order())
    }

    #[test]
    fn a_batch_beyond_the_credit_is_a_violation() {
        let mut leases = Leases::new(2);
        assign(&mut leases, 1).unwrap();
        assign(&mut leases, 2).unwrap();
        assert_eq!(assign(&mut leases, 3), Err(Violation::NoCredit));
        leases.start(id(1)).unwrap();
        assert_eq!(leases.finish(id(1)), Finished { revoked: false, content: None, credit: 1 });
        assign(&mut leases, 3).unwrap();
        assert_eq!(assign(&mut leases, 4), Err(Violation::NoCredit));
    }

    #[test]
    fn a_lease_that_is_held_cannot_be_assigned_again() {
        let mut leases = Leases::new(4);
        assign(&mut leases, 1).unwrap();
        assert_eq!(assign(&mut leases, 1), Err(Violation::HeldAlready(id(1))));
        leases.start(id(1)).unwrap();
        assert_eq!(assign(&mut leases, 1), Err(Violation::HeldAlready(id(1))));
    }

    #[test]
    fn a_queued_lease_is_dropped_when_revoked_and_its_credit_comes_back_once() {
        let mut leases = Leases::new(2);
        assign(&mut leases, 1).unwrap();
        let dropped = leases.revoke(&[id(1), id(1), id(9)]);
        assert_eq!((dropped.orders.len(), dropped.credit), (1, 1));
        assert!(leases.start(id(1)).is_none(), "a thread that comes late finds nothing");
        assert_eq!(leases.credit, 2);
    }

    #[test]
    fn a_running_lease_is_cancelled_and_not_answered_when_revoked() {
        let mut leases = Leases::new(2);
        assign(&mut leases, 1).unwrap();
        let started = leases.start(id(1)).unwrap();
        let dropped = leases.revoke(&[id(1)]);
        assert_eq!((dropped.orders.len(), dropped.credit), (0, 0));
        assert!(started.revoked.load(Ordering::Relaxed));
        assert_eq!(leases.finish(id(1)), Finished { revoked: true, content: None, credit: 1 });
        assert_eq!(leases.credit, 2);
    }

    #[test]
    fn a_drain_grants_no_credit_and_ends_with_the_last_answer_or_when_the_controller_says_so() {
        let mut leases = Leases::new(3);
        assert!(!Leases::new(1).is_drained());
        let mut empty = Leases::new(1);
        assert!(!empty.leave(), "nobody asked for it");
        empty.drain();
        assert!(empty.is_drained(), "nothing held");
        for lease in 1..=3 {
            assign(&mut leases, lease).unwrap();
        }
        leases.start(id(1)).unwrap();
        leases.drain();
        assert!(!leases.is_drained());
        let dropped = leases.revoke(&[id(2)]);
        assert_eq!((dropped.orders.len(), dropped.credit), (1, 0));
        leases.settle(1);
        assert!(!leases.is_drained());
        assert_eq!(leases.finish(id(1)), Finished { revoked: false, content: None, credit: 0 });
        leases.start(id(3)).unwrap();
        assert_eq!(leases.finish(id(3)), Finished { revoked: false, content: None, credit: 0 });
        leases.settle(1);
        assert!(!leases.is_drained(), "an answer is not sent yet");
        assert!(leases.leave() && leases.is_drained(), "nobody waits for it");
        leases.settle(1);
        assert!(leases.is_drained());
    }

    #[test]
    fn a_lost_connection_revokes_running_and_drops_queued_leases() {
        let mut leases = Leases::new(2);
        assign(&mut leases, 1).unwrap();
        assign(&mut leases, 2).unwrap();
        let started = leases.start(id(1)).unwrap();
        leases.abandon();
        assert!(started.revoked.load(Ordering::Relaxed));
        assert!(leases.start(id(2)).is_none());
        assert!(leases.finish(id(1)).revoked);
    }
}
