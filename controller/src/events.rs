//! The audit trail: who did what, and when. A pure state machine beside the durable jobs, whose events are rows of
//! the journal.
//!
//! Drive it so: carry out [`Trail::start`]; hand it each event by [`Trail::note`], and each answer of the journal to
//! its actions by [`Trail::persisted`] and [`Trail::read_done`]; carry out what they return.
//!
//! Invariants:
//! - numbers of events ascend by one, and none is used again;
//! - at most [`TRAIL_EVENTS_MAX`] are kept, and the oldest go first;
//! - one commit is in flight; what happens meanwhile goes into the next one, and work never waits for it;
//! - what cannot be written is dropped and counted, and the count is an event once it can.

use crate::jobs::{BadRow, decoded, encoded};
use crate::journal::{Query, Rows, TableId, Write};
use ipc_proto::limits::EVENT_TEXT_LEN_MAX;
use ipc_proto::message::{JobAct, LimitExceeded, Message, ScheduleAct};
use serde::{Deserialize, Serialize};

/// Most events that are kept.
pub const TRAIL_EVENTS_MAX: u64 = 100_000;

/// Most events that wait to be written.
const PENDING_MAX: usize = 1024;

/// Bytes that one read of the journal brings.
const READ_LEN: usize = 256 << 10;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrailKind {
    /// A durable job was submitted.
    JobSubmitted,
    /// It was ended.
    JobCancelled,
    /// Its failed items are hashed again.
    JobRetried,
    /// It is held back.
    JobPaused,
    /// It runs again.
    JobResumed,
    /// It was forgotten.
    JobRemoved,
    /// A worker connected.
    WorkerJoined,
    /// It left, or was lost.
    WorkerLeft,
    /// It is given no more work.
    WorkerQuarantined,
    /// It may work again.
    WorkerReleased,
    /// It is taken out of service.
    WorkerDraining,
    /// It has no work left.
    WorkerDrained,
    /// It is in service again.
    WorkerUndrained,
    /// Files of settings were read again.
    SettingsReloaded,
    /// Events that could not be written: the text is their number.
    EventsDropped,
    /// A schedule was added or replaced.
    ScheduleApplied,
    /// It is held back.
    SchedulePaused,
    /// It is due again.
    ScheduleResumed,
    /// It was forgotten.
    ScheduleRemoved,
    /// Somebody started a run of it.
    RunStarted,
    /// Somebody ended its active run.
    RunCancelled,
    /// A run of it ended: the text has its number and outcome.
    RunEnded,
    /// A run of it found rotted files.
    FilesRotted,
    /// A durable job is done: the text counts its items.
    JobDone,
    /// It failed: the text says why.
    JobFailed,
    /// A backup was read to its end: the text is its length.
    BackupMade,
}

impl TrailKind {
    /// Its word in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::JobSubmitted => "job-submitted",
            Self::JobCancelled => "job-cancelled",
            Self::JobRetried => "job-retried",
            Self::JobPaused => "job-paused",
            Self::JobResumed => "job-resumed",
            Self::JobRemoved => "job-removed",
            Self::WorkerJoined => "worker-joined",
            Self::WorkerLeft => "worker-left",
            Self::WorkerQuarantined => "worker-quarantined",
            Self::WorkerReleased => "worker-released",
            Self::WorkerDraining => "worker-draining",
            Self::WorkerDrained => "worker-drained",
            Self::WorkerUndrained => "worker-undrained",
            Self::SettingsReloaded => "settings-reloaded",
            Self::EventsDropped => "events-dropped",
            Self::ScheduleApplied => "schedule-applied",
            Self::SchedulePaused => "schedule-paused",
            Self::ScheduleResumed => "schedule-resumed",
            Self::ScheduleRemoved => "schedule-removed",
            Self::RunStarted => "run-started",
            Self::RunCancelled => "run-cancelled",
            Self::RunEnded => "run-ended",
            Self::FilesRotted => "files-rotted",
            Self::JobDone => "job-done",
            Self::JobFailed => "job-failed",
            Self::BackupMade => "backup-made",
        }
    }
}

impl From<JobAct> for TrailKind {
    fn from(act: JobAct) -> Self {
        match act {
            JobAct::Cancel => Self::JobCancelled,
            JobAct::Retry => Self::JobRetried,
            JobAct::Pause => Self::JobPaused,
            JobAct::Resume => Self::JobResumed,
            JobAct::Remove => Self::JobRemoved,
        }
    }
}

impl From<ScheduleAct> for TrailKind {
    fn from(act: ScheduleAct) -> Self {
        match act {
            ScheduleAct::Pause => Self::SchedulePaused,
            ScheduleAct::Resume => Self::ScheduleResumed,
            ScheduleAct::Run => Self::RunStarted,
            ScheduleAct::Cancel => Self::RunCancelled,
            ScheduleAct::Remove => Self::ScheduleRemoved,
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailEvent {
    /// Seconds since 1970.
    pub at_s: u64,
    /// Its kind.
    pub kind: TrailKind,
    /// The job, worker or schedule that it is about; empty for none.
    pub subject: String,
    /// Whoever asked for it; empty if nobody did.
    pub by: String,
    /// More, for a person.
    pub text: String,
}

impl Message for TrailEvent {
    /// Rows are checked where they are made.
    fn check(&self) -> Result<(), LimitExceeded> {
        Ok(())
    }
}

/// An output of the trail.
#[derive(Debug, PartialEq, Eq)]
pub enum TrailAction {
    /// Commit these writes; answered by [`Trail::persisted`] with this number.
    Persist(u64, Vec<Write>),
    /// Read rows; answered by [`Trail::read_done`].
    Read(Query),
}

/// The trail.
#[derive(Debug)]
pub struct Trail {
    phase: TrailPhase,
    /// Number of the oldest event.
    first: u64,
    /// Number of the next one.
    next: u64,
    pending: Vec<TrailEvent>,
    /// Writes of their commit.
    also: Vec<Write>,
    in_flight: Option<InFlight>,
    /// Events that were not written.
    dropped: u64,
    commits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrailPhase {
    /// The numbers of what is there are being read.
    Recovering,
    Open,
    /// The numbers cannot be read: nothing is written.
    Closed,
}

/// A commit that is on its way.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    events: u64,
    /// The oldest event after it.
    first: u64,
    /// Dropped events that it tells of.
    dropped: u64,
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            phase: TrailPhase::Recovering,
            first: 1,
            next: 1,
            pending: Vec::new(),
            also: Vec::new(),
            in_flight: None,
            dropped: 0,
            commits: 0,
        }
    }
}

impl Trail {
    /// The first actions.
    pub fn start(&mut self) -> Vec<TrailAction> {
        vec![TrailAction::Read(query(0))]
    }

    /// Adds an event.
    pub fn note(&mut self, event: TrailEvent) -> Vec<TrailAction> {
        self.note_with(event, None)
    }

    /// Adds an event, and commits a write with it, or neither.
    pub fn note_with(&mut self, mut event: TrailEvent, also: Option<Write>) -> Vec<TrailAction> {
        for text in [&mut event.subject, &mut event.by, &mut event.text] {
            let end = (0..=EVENT_TEXT_LEN_MAX.min(text.len()))
                .rev()
                .find(|&end| text.is_char_boundary(end));
            text.truncate(end.unwrap_or(0));
        }
        if self.phase == TrailPhase::Closed || self.pending.len() >= PENDING_MAX {
            self.dropped = self.dropped.saturating_add(1);
        } else {
            self.pending.push(event);
            self.also.extend(also);
        }
        self.commit()
    }

    /// Takes the end of a commit.
    pub fn persisted(&mut self, number: u64, is_durable: bool) -> Vec<TrailAction> {
        let Some(done) = self.in_flight.filter(|_| number == self.commits) else {
            return Vec::new();
        };
        self.in_flight = None;
        if is_durable {
            self.next += done.events;
            self.first = done.first;
            self.dropped -= done.dropped;
        } else {
            self.dropped = self.dropped.saturating_add(done.events - u64::from(done.dropped > 0));
            // The next event tries again: there is no timer to fail by.
            return Vec::new();
        }
        self.commit()
    }

    /// Takes rows that were asked for at the start.
    pub fn read_done(&mut self, rows: Result<Rows, String>) -> Vec<TrailAction> {
        let numbers = rows.map(|rows| {
            let numbers: Result<Vec<u64>, BadRow> =
                rows.rows.iter().map(|(key, _)| number(key)).collect();
            (numbers, rows.more)
        });
        let Ok((Ok(numbers), more)) = numbers else {
            self.phase = TrailPhase::Closed;
            self.dropped = self.dropped.saturating_add(self.pending.len() as u64);
            self.pending.clear();
            self.also.clear();
            return Vec::new();
        };
        if let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) {
            if self.next == 1 {
                self.first = first;
            }
            self.next = last + 1;
            if more {
                return vec![TrailAction::Read(query(last))];
            }
        }
        self.phase = TrailPhase::Open;
        self.commit()
    }

    /// Number of the newest event that is durable; 0 for none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.next - 1
    }

    fn commit(&mut self) -> Vec<TrailAction> {
        if self.phase != TrailPhase::Open || self.in_flight.is_some() || self.pending.is_empty() {
            return Vec::new();
        }
        let mut events = std::mem::take(&mut self.pending);
        let dropped = self.dropped;
        if dropped > 0 {
            let (at_s, kind) = (events[0].at_s, TrailKind::EventsDropped);
            let (subject, by, text) = (String::new(), String::new(), dropped.to_string());
            events.insert(0, TrailEvent { at_s, kind, subject, by, text });
        }
        let events_len = events.len() as u64;
        let put = |(number, event): (u64, TrailEvent)| Write::Put {
            table: TableId::Events,
            key: key(number),
            value: encoded(&event),
        };
        let mut writes: Vec<Write> = (self.next..).zip(events).map(put).collect();
        let first = self.first.max((self.next + events_len).saturating_sub(TRAIL_EVENTS_MAX));
        writes.append(&mut self.also);
        if first > self.first {
            let (from, to) = (key(self.first), key(first));
            writes.push(Write::DeleteRange { table: TableId::Events, from, to });
        }
        self.commits += 1;
        self.in_flight = Some(InFlight { events: events_len, first, dropped });
        vec![TrailAction::Persist(self.commits, writes)]
    }
}

/// Rows after the event `after`.
#[must_use]
pub fn query(after: u64) -> Query {
    let from = key(after.saturating_add(1));
    Query { table: TableId::Events, from, to: Vec::new(), bytes_max: READ_LEN }
}

/// Events in rows, with their numbers.
///
/// # Errors
/// A row that is not an event.
pub fn events(rows: &Rows) -> Result<Vec<(u64, TrailEvent)>, BadRow> {
    rows.rows.iter().map(|(key, value)| Ok((number(key)?, decoded(value)?))).collect()
}

fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn number(key: &[u8]) -> Result<u64, BadRow> {
    let bytes = key.try_into().map_err(|_| BadRow("a key that is not an event's".to_owned()))?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{MemoryStorage, Storage};

    /// A trail on a journal that commits at once, unless it is full.
    struct World {
        trail: Trail,
        storage: MemoryStorage,
        is_full: bool,
    }

    impl World {
        fn new(storage: MemoryStorage) -> Self {
            let mut world = Self { trail: Trail::default(), storage, is_full: false };
            let actions = world.trail.start();
            world.carry_out(actions);
            world
        }

        fn carry_out(&mut self, mut actions: Vec<TrailAction>) {
            while let Some(action) = actions.pop() {
                actions.extend(match action {
                    TrailAction::Persist(number, writes) => {
                        let done = !self.is_full && self.storage.commit(&writes).is_ok();
                        self.trail.persisted(number, done)
                    }
                    TrailAction::Read(query) => {
                        let rows = self.rows(&query);
                        self.trail.read_done(Ok(rows))
                    }
                });
            }
        }

        fn rows(&self, query: &Query) -> Rows {
            let snapshot = self.storage.snapshot().unwrap();
            snapshot.range(query.table, &query.from, &query.to, query.bytes_max).unwrap()
        }

        fn note(&mut self, kind: TrailKind, text: &str) {
            let actions = self.trail.note(event(kind, text));
            self.carry_out(actions);
        }

        fn seen(&self, after: u64) -> Vec<String> {
            let found = events(&self.rows(&query(after))).unwrap();
            found
                .iter()
                .map(|(n, event)| format!("{n} {} {}", event.kind.name(), event.text))
                .collect()
        }
    }

    fn event(kind: TrailKind, text: &str) -> TrailEvent {
        let (subject, by) = (String::new(), String::new());
        TrailEvent { at_s: 7, kind, subject, by, text: text.to_owned() }
    }

    #[test]
    fn events_keep_their_numbers_over_a_restart() {
        let mut world = World::new(MemoryStorage::default());
        world.note(TrailKind::WorkerJoined, "a");
        world.note(TrailKind::WorkerLeft, "b");
        let mut world = World::new(world.storage);
        assert_eq!(world.trail.newest(), 2);
        world.note(TrailKind::JobSubmitted, "c");
        assert_eq!(world.seen(0), ["1 worker-joined a", "2 worker-left b", "3 job-submitted c"]);
        assert_eq!(world.seen(2), ["3 job-submitted c"]);
    }

    #[test]
    fn a_write_is_done_with_its_event_or_not_at_all() {
        let mut world = World::new(MemoryStorage::default());
        let also = || Write::Put { table: TableId::Meta, key: vec![1], value: vec![2] };
        let rows = |world: &World| {
            let query = Query { table: TableId::Meta, from: vec![1], to: vec![2], bytes_max: 9 };
            world.rows(&query).rows.len()
        };
        world.is_full = true;
        let actions = world.trail.note_with(event(TrailKind::JobDone, "a"), Some(also()));
        world.carry_out(actions);
        world.is_full = false;
        world.note(TrailKind::WorkerLeft, "b");
        assert_eq!(rows(&world), 0, "its event was dropped");
        let actions = world.trail.note_with(event(TrailKind::JobDone, "c"), Some(also()));
        world.carry_out(actions);
        assert_eq!(rows(&world), 1);
        assert_eq!(world.seen(0), ["1 events-dropped 1", "2 worker-left b", "3 job-done c"]);
    }

    #[test]
    fn what_a_full_journal_does_not_take_is_counted() {
        let mut world = World::new(MemoryStorage::default());
        world.is_full = true;
        world.note(TrailKind::WorkerJoined, "a");
        world.note(TrailKind::WorkerLeft, "b");
        assert_eq!(world.trail.newest(), 0);
        world.is_full = false;
        world.note(TrailKind::WorkerJoined, "c");
        world.note(TrailKind::WorkerLeft, "d");
        assert_eq!(world.seen(0), ["1 events-dropped 2", "2 worker-joined c", "3 worker-left d"]);
    }

    #[test]
    fn events_wait_for_the_journal_in_bounded_memory() {
        let mut trail = Trail::default();
        let _ = trail.start();
        for _ in 0..PENDING_MAX + 5 {
            assert_eq!(trail.note(event(TrailKind::WorkerLeft, &"x".repeat(9999))), []);
        }
        let actions = trail.read_done(Ok(Rows::default()));
        let [TrailAction::Persist(1, writes)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(writes.len(), PENDING_MAX + 1, "and one that tells of the others");
        assert!(writes.iter().all(|write| write.bytes_len() < EVENT_TEXT_LEN_MAX + 64));
        assert_eq!(trail.note(event(TrailKind::WorkerLeft, "y")), [], "one commit at a time");
        assert_eq!(trail.persisted(1, true).len(), 1);
    }

    #[test]
    fn the_oldest_events_go_first() {
        let mut trail = Trail { next: TRAIL_EVENTS_MAX + 1, ..Trail::default() };
        trail.phase = TrailPhase::Open;
        let actions = trail.note(event(TrailKind::WorkerLeft, "y"));
        let [TrailAction::Persist(_, writes)] = &actions[..] else { panic!("{actions:?}") };
        let range = Write::DeleteRange { table: TableId::Events, from: key(1), to: key(2) };
        assert_eq!(writes.last(), Some(&range));
    }

    #[test]
    fn a_trail_that_cannot_be_read_is_not_written() {
        let mut trail = Trail::default();
        let _ = trail.start();
        assert_eq!(trail.read_done(Err("damaged".to_owned())), []);
        assert_eq!(trail.note(event(TrailKind::WorkerLeft, "y")), []);
    }
}
