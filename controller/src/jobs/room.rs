//! Room in a bounded journal (`--journal-max`).
//!
//! The last part of the bound is a reserve. Once the journal reaches into it, ended jobs are removed, one per commit,
//! the one that ended first before the others. While there is none to remove, nothing new is taken; when the reserve is
//! used up, running jobs stand still. Reads, cancels and removals go on all the while.

use super::Book;
use super::commit::Retirement;
use ipc_proto::message::JobId;

/// The reserve is the bound divided by this.
const RESERVE_DIVISOR: u64 = 16;

/// Smallest bound of a journal, in bytes: it holds a full audit trail and the history of schedules.
pub const JOURNAL_LEN_MIN: u64 = 64 << 20;

/// The length of a journal and its bound, in bytes of rows.
#[derive(Debug)]
pub(super) struct JournalRoom {
    len: u64,
    len_max: u64,
    /// The commit of the last removal, which the length does not show before.
    removal: u64,
    /// Nothing is left to remove, and the length is in the reserve.
    is_short: bool,
}

impl JournalRoom {
    pub(super) fn new(len_max: u64) -> Self {
        Self { len: 0, len_max, removal: 0, is_short: false }
    }

    fn is_in_reserve(&self) -> bool {
        self.len > self.len_max - self.len_max / RESERVE_DIVISOR
    }

    /// True if running jobs have to stand still.
    pub(super) fn is_used_up(&self) -> bool {
        self.len > self.len_max
    }

    /// Why nothing new is taken, if it is not.
    pub(super) fn shortage(&self) -> Option<String> {
        (self.is_short || self.is_used_up()).then(|| {
            format!(
                "the journal has {} of the {} bytes of --journal-max; give the controller a larger one, or remove jobs",
                self.len, self.len_max
            )
        })
    }
}

impl Book {
    /// Takes in the length of the journal.
    pub(super) fn journal_len(&mut self, len: u64) {
        self.room.len = len;
        self.make_room();
    }

    /// Removes the job that ended first, if the journal is in its reserve.
    pub(super) fn make_room(&mut self) {
        if !self.is_open() || !self.commits.is_durable(self.room.removal) {
            return;
        }
        self.room.is_short = false;
        if !self.room.is_in_reserve() {
            return;
        }
        let baselines = self.baselines();
        let ended = self.jobs.iter().filter(|(id, job)| {
            let ended_s = job.progress.ended_s;
            ended_s > 0 && job.progress.state.has_ended() && !baselines.contains(id)
        });
        let oldest: Option<JobId> =
            ended.map(|(&id, job)| (job.progress.ended_s, id)).min().map(|(_, id)| id);
        let Some(id) = oldest else {
            self.room.is_short = true;
            return;
        };
        self.room.removal = self.commits.next_sequence();
        self.retire_job(id, Retirement::Room);
    }
}
