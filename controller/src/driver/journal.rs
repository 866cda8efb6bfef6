//! The journal of a controller that has a state directory: its threads, and what becomes of their answers.

use super::hub::Hub;
use super::log::{Event, LOG};
use super::sandbox::{ControllerSandbox, Role};
use crate::jobs::{BookEvent, cut};
use crate::journal::{
    DiskStorage, Journal, JournalAnswer, JournalHealth, Query, Rows, StorageError,
};
use crate::schedules::PlannerEvent;
use ipc_proto::limits::REASON_LEN_MAX;
use ipc_proto::message::JournalState;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::rc::Rc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Open files of a state directory: the journal and the lock.
pub(super) const FILES: usize = 2;

/// A part of this process that uses the journal. Numbers of commits and reads have it in their upper bits, so that an
/// answer finds its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JournalUser {
    Book,
    Planner,
    Trail,
    Backup,
    Roster,
}

impl JournalUser {
    const ALL: [Self; 5] = [Self::Book, Self::Planner, Self::Trail, Self::Backup, Self::Roster];

    /// Bits of a number that are the user's own.
    const SHIFT: u32 = 56;

    /// The number by which the journal knows what is `number` to this user.
    pub(super) fn number(self, number: u64) -> u64 {
        debug_assert_eq!(number >> Self::SHIFT, 0, "a number that nobody reaches by counting");
        (self as u64) << Self::SHIFT | number
    }

    /// The user of a number of the journal, and what it is to this one.
    fn of(number: u64) -> (Self, u64) {
        let own = number & !(u64::MAX << Self::SHIFT);
        let is_of = |user: &Self| number >> Self::SHIFT == *user as u64;
        // Only numbers that a user was given are handed to the journal.
        (Self::ALL.into_iter().find(is_of).unwrap_or(Self::Book), own)
    }
}

/// The journal, if there is one, and its ability to write.
#[derive(Debug, Default)]
pub(super) struct JournalPort {
    journal: RefCell<Option<Journal>>,
    health: RefCell<JournalHealth>,
    /// Reads for which the journal had no room.
    reads: RefCell<VecDeque<(u64, Query)>>,
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

    /// Hands a read to the journal, now or when it has room.
    pub(super) fn queue_read(&self, tag: u64, query: Query) {
        self.reads.borrow_mut().push_back((tag, query));
        self.hand_out_reads();
    }

    /// Hands reads to the journal, as many as it takes.
    fn hand_out_reads(&self) {
        let mut reads = self.reads.borrow_mut();
        while let Some((tag, query)) = reads.pop_front() {
            let taken = self.with(|journal| journal.read(tag, query));
            if let Some(Err(query)) = taken {
                return reads.push_front((tag, query));
            }
        }
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
            JournalAnswer::Committed(sequence) => hub.committed(sequence, Ok(())),
            JournalAnswer::NotCommitted(sequence, error) => hub.committed(sequence, Err(&error)),
            JournalAnswer::BackedUp(tag, piece) => {
                hub.journal.hand_out_reads();
                hub.backed_up(JournalUser::of(tag).1, piece.map_err(|error| text_of(&error)));
            }
            JournalAnswer::Found(tag, found) => {
                hub.journal.hand_out_reads();
                hub.found(tag, found.map_err(|error| text_of(&error)));
            }
        }
    }
}

impl Hub {
    /// Tells the user of a commit what became of it.
    fn committed(&self, sequence: u64, done: Result<(), &StorageError>) {
        let (user, number) = JournalUser::of(sequence);
        match (user, done) {
            (JournalUser::Book, Ok(())) => self.tell_book(BookEvent::Persisted(number)),
            (JournalUser::Book, Err(error)) => {
                let is_final = !matches!(error, StorageError::Full(_) | StorageError::ReadOnly(_));
                let text = text_of(error);
                self.tell_book(BookEvent::PersistFailed { sequence: number, text, is_final });
            }
            (JournalUser::Planner, Ok(())) => self.tell_planner(PlannerEvent::Persisted(number)),
            (JournalUser::Planner, Err(_)) => {
                self.tell_planner(PlannerEvent::PersistFailed(number));
            }
            (JournalUser::Trail, done) => self.trail_persisted(number, done.is_ok()),
            (JournalUser::Roster, done) => self.roster_persisted(number, done.is_ok()),
            // It writes nothing.
            (JournalUser::Backup, _) => {}
        }
        self.tell_journal_len();
    }

    /// The journal in a status. One that has reached its bound is full.
    pub(super) fn journal_state(&self) -> (JournalState, String) {
        let health = self.journal.health();
        let shortage = self.book.shortage();
        let state = match &health {
            JournalHealth::Writes if !self.journal.is_there() => JournalState::Absent,
            JournalHealth::Writes if shortage.is_some() => JournalState::Full,
            JournalHealth::Writes => JournalState::Writes,
            JournalHealth::Full(_) => JournalState::Full,
            JournalHealth::ReadOnly(_) => JournalState::ReadOnly,
            JournalHealth::Failed(_) => JournalState::Failed,
        };
        let reason = health.reason().map(str::to_owned).or(shortage);
        (state, cut(reason.unwrap_or_default(), REASON_LEN_MAX))
    }

    /// Tells the user of a read what was found.
    fn found(&self, tag: u64, rows: Result<Rows, String>) {
        match JournalUser::of(tag) {
            (JournalUser::Book, number) => self.tell_book(BookEvent::Read(number, rows)),
            (JournalUser::Planner, number) => self.tell_planner(PlannerEvent::Read(number, rows)),
            (JournalUser::Trail, number) => self.trail_read(number, rows),
            // They read nothing by this way.
            (JournalUser::Backup | JournalUser::Roster, _) => {}
        }
    }
}

/// An error with its cause.
fn text_of(error: &StorageError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_journal_find_their_user() {
        for user in JournalUser::ALL {
            for number in [0, 1, (1 << JournalUser::SHIFT) - 1] {
                assert_eq!(JournalUser::of(user.number(number)), (user, number));
            }
        }
    }
}
