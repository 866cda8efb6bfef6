//! The journal of a controller that has a state directory: its threads, and what becomes of their answers.

use super::hub::Hub;
use super::log::{Event, LOG};
use super::sandbox::{ControllerSandbox, Role};
use crate::journal::{DiskStorage, Journal, JournalAnswer, JournalHealth};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Open files of a state directory: the journal and the lock.
pub(super) const FILES: usize = 2;

/// The journal, if there is one, and its ability to write.
#[derive(Debug, Default)]
pub(super) struct JournalPort {
    journal: RefCell<Option<Journal>>,
    health: RefCell<JournalHealth>,
}

impl JournalPort {
    pub(super) fn set(&self, journal: Journal) {
        *self.journal.borrow_mut() = Some(journal);
    }

    /// True if this controller has a state directory.
    pub(super) fn is_there(&self) -> bool {
        self.journal.borrow().is_some()
    }

    /// Calls `with` for the journal, if there is one.
    pub(super) fn with<T>(&self, with: impl FnOnce(&Journal) -> T) -> Option<T> {
        self.journal.borrow().as_ref().map(with)
    }

    /// Waits until what is queued is written. There is no journal afterwards.
    pub(super) fn close(&self) {
        drop(self.journal.take());
    }

    pub(super) fn health(&self) -> JournalHealth {
        self.health.borrow().clone()
    }
}

/// Starts the threads of the journal in `storage`, in their part of the sandbox.
pub(super) fn start(
    storage: DiskStorage,
    sandbox: ControllerSandbox,
) -> io::Result<(Journal, UnboundedReceiver<JournalAnswer>)> {
    Journal::start(storage, move || sandbox.narrow(Role::Journal))
}

/// Takes the answers of the journal.
pub(super) async fn follow(hub: Rc<Hub>, mut answers: UnboundedReceiver<JournalAnswer>) {
    while let Some(answer) = answers.recv().await {
        match answer {
            JournalAnswer::Health(health) => {
                log(&health);
                *hub.journal.health.borrow_mut() = health;
            }
            answer @ (JournalAnswer::Committed(_)
            | JournalAnswer::NotCommitted(..)
            | JournalAnswer::Found(..)) => hub.journal_answered(answer),
        }
    }
}

fn log(health: &JournalHealth) {
    match health {
        JournalHealth::Writes => LOG.log(&Event::JournalWrites {}),
        JournalHealth::Full(error) => LOG.log(&Event::JournalFull { error }),
        JournalHealth::ReadOnly(error) => LOG.log(&Event::JournalReadOnly { error }),
        JournalHealth::Failed(error) => LOG.log(&Event::JournalFailed { error }),
    }
}
