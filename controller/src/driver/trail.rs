//! The audit trail between this process, the journal and readers over HTTP.

use super::hub::Hub;
use super::journal::JournalUser;
use crate::core::Principal;
use crate::events::{self, Trail, TrailAction, TrailEvent, TrailKind};
use crate::jobs::Caller;
use crate::journal::{Rows, Write};
use ipc_proto::limits::REASON_LEN_MAX;
use ipc_proto::message::{EventRow, ServiceRefusal, ServiceReply};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;
use tokio::sync::{Notify, oneshot};

/// Number of the reads of the trail itself; readers have greater ones.
const OWN: u64 = 0;

/// Reads of a reader without an answer, and the trail, if there is a journal.
#[derive(Debug, Default)]
pub(super) struct TrailPort {
    trail: RefCell<Option<Trail>>,
    readers: RefCell<HashMap<u64, TrailReader>>,
    last_reader: Cell<u64>,
    grown: Notify,
}

/// Whoever waits for rows.
#[derive(Debug)]
enum TrailReader {
    /// A part of this process.
    Here(oneshot::Sender<Result<Rows, String>>),
    /// A client, that gets so many events at most.
    Client(Caller, u32, usize),
}

/// Why events cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TrailError {
    /// There is no journal.
    NoJournal,
    /// The journal does not answer, for this reason.
    Journal(String),
}

impl Hub {
    pub(super) fn open_trail(&self) {
        let mut trail = Trail::default();
        let actions = trail.start();
        *self.trail.trail.borrow_mut() = Some(trail);
        self.carry_out_for_trail(actions);
    }

    /// Adds an event to the trail, if there is one.
    pub(super) fn note(
        &self,
        kind: TrailKind,
        subject: impl Display,
        by: Option<Principal>,
        text: impl Display,
    ) {
        let by = by.map(|by| by.to_string()).unwrap_or_default();
        let (at_s, subject, text) = (self.wall_s(), subject.to_string(), text.to_string());
        self.note_event(TrailEvent { at_s, kind, subject, by, text }, None);
    }

    /// Adds an event to the trail, if there is one, and commits a write with it.
    pub(super) fn note_event(&self, event: TrailEvent, also: Option<Write>) {
        let mut trail = self.trail.trail.borrow_mut();
        let actions = trail.as_mut().map(|trail| trail.note_with(event, also));
        drop(trail);
        self.carry_out_for_trail(actions.unwrap_or_default());
    }

    fn carry_out_for_trail(&self, actions: Vec<TrailAction>) {
        for action in actions {
            match action {
                TrailAction::Persist(number, writes) => {
                    let sequence = JournalUser::Trail.number(number);
                    let taken = self.journal.with(|journal| journal.commit(sequence, writes));
                    if taken.is_none_or(|taken| taken.is_err()) {
                        self.trail_persisted(number, false);
                    }
                }
                TrailAction::Read(query) => {
                    self.journal.queue_read(JournalUser::Trail.number(OWN), query);
                }
            }
        }
    }

    /// Takes the end of a commit of the trail.
    pub(super) fn trail_persisted(&self, number: u64, is_durable: bool) {
        let mut trail = self.trail.trail.borrow_mut();
        let actions = trail.as_mut().map(|trail| trail.persisted(number, is_durable));
        drop(trail);
        self.trail.grown.notify_waiters();
        self.carry_out_for_trail(actions.unwrap_or_default());
    }

    /// Takes rows that the trail or a reader of it asked for.
    pub(super) fn trail_read(&self, number: u64, rows: Result<Rows, String>) {
        if number == OWN {
            let mut trail = self.trail.trail.borrow_mut();
            let actions = trail.as_mut().map(|trail| trail.read_done(rows));
            drop(trail);
            return self.carry_out_for_trail(actions.unwrap_or_default());
        }
        let reader = self.trail.readers.borrow_mut().remove(&number);
        match reader {
            Some(TrailReader::Here(reader)) => {
                // It may have given up.
                let _ = reader.send(rows);
            }
            Some(TrailReader::Client(caller, tag, limit)) => {
                self.send_reply(caller, tag, events_reply(rows, limit));
            }
            None => {}
        }
    }

    /// Reads the first events after `after`, and answers a client.
    pub(super) fn read_events(&self, (caller, tag): (Caller, u32), after: u64, limit: usize) {
        let reader = self.add_reader(TrailReader::Client(caller, tag, limit));
        self.journal.queue_read(JournalUser::Trail.number(reader), events::query(after));
    }

    /// The number of a read of `reader`.
    fn add_reader(&self, reader: TrailReader) -> u64 {
        let number = OWN + 1 + self.trail.last_reader.get();
        self.trail.last_reader.set(self.trail.last_reader.get() + 1);
        self.trail.readers.borrow_mut().insert(number, reader);
        number
    }

    /// Number of the newest event.
    pub(super) fn newest_event(&self) -> Result<u64, TrailError> {
        self.trail.trail.borrow().as_ref().map(Trail::newest).ok_or(TrailError::NoJournal)
    }

    /// The first events after `after`, as many as one read brings, and whether there are more.
    pub(super) async fn events(
        &self,
        after: u64,
    ) -> Result<(Vec<(u64, TrailEvent)>, bool), TrailError> {
        self.newest_event()?;
        let (reader, found) = oneshot::channel();
        let tag = self.add_reader(TrailReader::Here(reader));
        let reading = Reading { port: &self.trail, tag };
        self.journal.queue_read(JournalUser::Trail.number(tag), events::query(after));
        let rows = found.await.map_err(|_| TrailError::NoJournal)?.map_err(TrailError::Journal)?;
        drop(reading);
        let found = events::events(&rows).map_err(|row| TrailError::Journal(row.0))?;
        Ok((found, rows.more))
    }

    /// Waits until the trail has an event after `after`.
    pub(super) async fn event_after(&self, after: u64) -> Result<(), TrailError> {
        loop {
            let grown = self.trail.grown.notified();
            if self.newest_event()? > after {
                return Ok(());
            }
            grown.await;
        }
    }
}

/// The answer to a client with these rows.
fn events_reply(rows: Result<Rows, String>, limit: usize) -> ServiceReply {
    let found = rows.and_then(|rows| {
        let found = events::events(&rows).map_err(|row| row.0)?;
        Ok((found, rows.more))
    });
    match found {
        Ok((mut found, more)) => {
            let more = more || found.len() > limit;
            found.truncate(limit);
            let row = |(number, event): (u64, TrailEvent)| {
                let TrailEvent { at_s, kind, subject, by, text } = event;
                EventRow { number, at_s, kind: kind.name().to_owned(), subject, by, text }
            };
            ServiceReply::Events { rows: found.into_iter().map(row).collect(), more }
        }
        Err(text) => {
            let text = crate::jobs::cut(format!("the journal: {text}"), REASON_LEN_MAX);
            ServiceReply::Refused { reason: ServiceRefusal::JournalFailed, text }
        }
    }
}

/// A read that somebody waits for.
struct Reading<'a> {
    port: &'a TrailPort,
    tag: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.port.readers.borrow_mut().remove(&self.tag);
    }
}
