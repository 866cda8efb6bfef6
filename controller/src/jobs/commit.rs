//! Group commit: one in flight, the next one collects; replies wait for what they speak of.

use super::record::delete_untold;
use super::{Book, BookAction, Caller, JobWait, Phase, limits};
use crate::journal::Write;
use ipc_proto::message::{JobId, JobRow, JobState, ServiceRefusal, ServiceReply};
use std::collections::BTreeMap;

/// Why an ended job is kept no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// It ended too long ago.
    Age,
    /// Its principal has too many.
    Count,
    /// The journal has no room for it.
    Room,
}

/// A commit and what depends on it.
#[derive(Debug, Default)]
struct Transaction {
    writes: Vec<Write>,
    replies: Vec<(Caller, u32, ServiceReply)>,
    /// Jobs that end with it.
    ended: Vec<JobId>,
    /// Jobs that are kept no more.
    retired: Vec<(JobId, Retirement)>,
    /// Results and items of each job that are durable with it.
    committed: BTreeMap<JobId, (u64, u64)>,
}

/// The commits of a book.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// Number of the last one that was handed to the journal.
    handed: u64,
    /// Number of the last one that is durable.
    durable: u64,
    in_flight: Option<Transaction>,
    next: Transaction,
    is_probe: bool,
}

impl Commits {
    pub(super) fn write(&mut self, writes: impl IntoIterator<Item = Write>) {
        self.next.writes.extend(writes);
    }

    pub(super) fn reply(&mut self, caller: Caller, tag: u32, reply: ServiceReply) {
        self.next.replies.push((caller, tag, reply));
    }

    pub(super) fn results(&mut self, id: JobId, committed: u64, items: u64) {
        self.next.committed.insert(id, (committed, items));
    }

    /// A job ends.
    pub(super) fn ended(&mut self, id: JobId) {
        self.next.ended.push(id);
    }

    /// A job is kept no more.
    pub(super) fn retired(&mut self, id: JobId, retirement: Retirement) {
        self.next.retired.push((id, retirement));
    }

    /// Number of the commit that what is written now will be part of.
    pub(super) fn next_sequence(&self) -> u64 {
        self.handed + 1
    }

    pub(super) fn is_durable(&self, sequence: u64) -> bool {
        sequence <= self.durable
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }

    /// Has an empty commit tried.
    pub(super) fn probe(&mut self) {
        self.is_probe = true;
    }
}

impl Book {
    /// Hands what was collected to the journal, if it has nothing in hand.
    pub(super) fn commit(&mut self) {
        let commits = &mut self.commits;
        if commits.next.writes.is_empty() {
            // What these speak of is in flight, or durable.
            let replies = std::mem::take(&mut commits.next.replies);
            match &mut commits.in_flight {
                Some(in_flight) => in_flight.replies.extend(replies),
                None => self.actions.extend(replies.into_iter().map(to_action)),
            }
            if !commits.is_probe {
                return;
            }
        }
        if commits.in_flight.is_some() {
            return;
        }
        commits.is_probe = false;
        commits.handed += 1;
        let mut transaction = std::mem::take(&mut commits.next);
        let writes = std::mem::take(&mut transaction.writes);
        commits.in_flight = Some(transaction);
        self.actions.push(BookAction::Persist(commits.handed, writes));
    }

    pub(super) fn persisted(&mut self, sequence: u64) {
        if sequence != self.commits.handed {
            return;
        }
        let Some(done) = self.commits.in_flight.take() else { return };
        self.commits.durable = sequence;
        for (id, (committed, items)) in done.committed {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.committed = committed;
                job.readable = items;
            }
        }
        self.actions.extend(done.replies.into_iter().map(to_action));
        for id in done.ended {
            self.tell_end(id);
        }
        let retired = |(id, retirement)| BookAction::Retired(id, retirement);
        self.actions.extend(done.retired.into_iter().map(retired));
        if let Phase::Full { .. } = self.phase {
            self.phase = Phase::Open;
        }
    }

    /// Has an event tell of the end of a job.
    pub(super) fn tell_end(&mut self, id: JobId) {
        // One that was removed, or is retried, in the same commit has not ended for anybody.
        let is_over = |row: &JobRow| matches!(row.state, JobState::Done | JobState::Failed);
        let row = self.row(id).filter(is_over);
        let told = delete_untold(id);
        self.actions.extend(row.map(|row| BookAction::Ended { row: Box::new(row), told }));
    }

    /// Nothing that was decided since the last commit holds any more: what is durable is read again.
    pub(super) fn persist_failed(&mut self, sequence: u64, text: String, is_final: bool) {
        if sequence != self.commits.handed {
            return;
        }
        let Some(failed) = self.commits.in_flight.take() else { return };
        let next = std::mem::take(&mut self.commits.next);
        let is_new = matches!(self.phase, Phase::Open);
        for (caller, tag, reply) in failed.replies.into_iter().chain(next.replies) {
            // A job that is not there may be so by a removal which failed now.
            let holds = matches!(
                reply,
                ServiceReply::Refused { reason, .. } if reason != ServiceRefusal::UnknownJob
            );
            let reply = if holds {
                reply
            } else {
                let reason = ServiceRefusal::JournalFailed;
                ServiceReply::Refused { reason, text: text.clone() }
            };
            self.actions.push(to_action((caller, tag, reply)));
        }
        self.phase = if is_final {
            Phase::Failed { text }
        } else {
            let retry = self.at.monotonic + limits::FULL_PAUSE;
            Phase::Full { text, retry }
        };
        if is_new {
            self.recover();
        }
    }

    /// Answers requests whose time has come.
    pub(super) fn answer_waits(&mut self) {
        if self.waits.is_empty() || self.is_recovering() {
            return;
        }
        let now = self.at.monotonic;
        for wait in std::mem::take(&mut self.waits) {
            let JobWait { caller, tag, job: id, deadline, results } = wait;
            let Some(job) = self.jobs.get(&id) else {
                self.refuse(
                    caller,
                    tag,
                    ServiceRefusal::UnknownJob,
                    format!("job {id} was removed"),
                );
                continue;
            };
            let has_come = match results {
                None => job.progress.state.has_ended(),
                Some((from, _)) => from < job.shown() || job.progress.state.has_ended(),
            };
            match results {
                _ if !has_come && now < deadline => self.waits.push(wait),
                None => self.reply_job(caller, tag, id),
                Some((from, limit)) => self.read_results((caller, tag), id, (from, limit)),
            }
        }
    }
}

fn to_action((caller, tag, reply): (Caller, u32, ServiceReply)) -> BookAction {
    BookAction::Reply(caller, tag, reply)
}
