//! The reorder buffer: every entry of a run that is listed and not yet printed, in input order, with
//! its outcome as soon as there is one.
//!
//! The lister appends batches, openers add lengths and problems, the main thread adds results and
//! takes what is complete from the front. An entry's [`Tag`] is that of its item: the client library
//! knows which items are in flight, nothing else is recorded of them there.
//!
//! Invariants:
//! - an entry is taken once, in order, and only with its outcome;
//! - at most [`ENTRIES_MAX`] entries and [`TEXT_LEN_MAX`] bytes of names, and one batch more, are
//!   buffered: then the lister waits.

mod batch;
mod outcome;

use crate::problem::Problem;
pub(crate) use batch::{Batch, Label};
use ipc_proto::limits::FRAME_NAMES_MAX;
use ipc_proto::message::Failure;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use outcome::EntryOutcome;
pub(crate) use outcome::{Change, Complete, Item, Mark, Unseen, Verdict};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Most buffered entries. More than a job's window, so that a huge file in front of many small ones
/// does not leave the workers without work.
pub(crate) const ENTRIES_MAX: usize = 65_536;

/// Most bytes of buffered names.
pub(crate) const TEXT_LEN_MAX: usize = 16 << 20;

/// An entry of a run: the number of its batch, and its position there in the last
/// [`POSITION_BITS`] bits.
pub(crate) type Tag = u64;

const POSITION_BITS: u32 = 16;
const _: () = assert!(FRAME_NAMES_MAX < 1 << POSITION_BITS, "every position has a tag");

/// End of the sending side of a run.
#[derive(Debug)]
pub(crate) enum End {
    /// With everything sent.
    Done,
    /// Because it could not send.
    Failed(String),
    /// Because the connection or the jobs ended; the main thread knows why.
    Stopped,
}

/// The main thread ended the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// Progress in files; marks are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Files that are listed.
    pub(crate) files: u64,
    /// Their bytes, as far as lengths are known.
    pub(crate) bytes: u64,
    /// Files that have their outcome.
    pub(crate) files_done: u64,
    /// Their bytes.
    pub(crate) bytes_done: u64,
}

/// The buffer, shared by the threads of a run.
#[derive(Debug)]
pub(crate) struct Reorder {
    state: Mutex<State>,
    room: Condvar,
    /// Readable when the main thread should look: see [`Self::wake`].
    event: EventFd,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Pending>,
    /// Number of the first of them.
    first: u64,
    /// Entries are taken as soon as they have their outcome.
    is_unordered: bool,
    listed: u64,
    entries: usize,
    text_len: usize,
    tally: Tally,
    end: Option<End>,
    is_stopped: bool,
}

#[derive(Debug)]
struct Pending {
    batch: Arc<Batch>,
    outcomes: Vec<EntryOutcome>,
    /// Entries that have their outcome and were not taken.
    ready: usize,
    /// Entries that were not taken.
    left: usize,
}

impl Reorder {
    pub(crate) fn new() -> Result<Self, Errno> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { state: Mutex::default(), room: Condvar::new(), event })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Appends a batch when there is room; the tag of its first entry, from which the others count on.
    pub(crate) fn push(&self, batch: Arc<Batch>) -> Result<Tag, Stopped> {
        let is_full = |state: &mut State| {
            (state.entries >= ENTRIES_MAX || state.text_len >= TEXT_LEN_MAX) && !state.is_stopped
        };
        let mut state = self.room.wait_while(self.lock(), is_full).expect("no holder panics");
        if state.is_stopped {
            return Err(Stopped);
        }
        let first = (state.first + state.batches.len() as u64) << POSITION_BITS;
        state.listed += batch.len() as u64;
        state.entries += batch.len();
        state.text_len += batch.text_len();
        let mut ready = 0;
        for row in &batch.rows {
            let is_file = !matches!(row.listed, Verdict::Mark(_));
            let is_done = !matches!(row.listed, Verdict::Waiting);
            state.tally.files += u64::from(is_file);
            state.tally.files_done += u64::from(is_file && is_done);
            ready += usize::from(is_done);
        }
        let outcomes = batch.rows.iter().map(|row| EntryOutcome::new(row.listed)).collect();
        let left = batch.len();
        state.batches.push_back(Pending { batch, outcomes, ready, left });
        drop(state);
        if ready > 0 {
            self.wake();
        }
        Ok(first)
    }

    /// Enters what was learned, and empties `changes`.
    pub(crate) fn change(&self, changes: &mut Vec<(Tag, Change)>) {
        let mut has_outcome = false;
        let mut state = self.lock();
        for (tag, change) in changes.drain(..) {
            match change {
                Change::Size(size) => state.set_size(tag, size),
                Change::Named(size, way) => {
                    state.set_size(tag, size);
                    let outcome = state.waiting(tag).0;
                    (outcome.named, outcome.sent) = (Some(way), Some(way));
                }
                Change::Sent(size, way) => {
                    state.set_size(tag, size);
                    state.waiting(tag).0.sent = Some(way);
                }
                Change::Verdict(verdict) => {
                    has_outcome = true;
                    state.set(tag, verdict, &[]);
                }
                Change::Digest { bytes, len } => {
                    has_outcome = true;
                    state.set(tag, Verdict::Digest, &bytes[..len]);
                }
                Change::Digests(digests) => {
                    has_outcome = true;
                    state.set(tag, Verdict::Digest, &digests);
                }
                Change::Output(output) => state.waiting(tag).0.output = Some(output),
            }
        }
        drop(state);
        if has_outcome {
            self.wake();
        }
    }

    /// Enters how many bytes of a file are hashed, for the progress.
    pub(crate) fn advance(&self, tag: Tag, done_len: u64) {
        self.lock().advance(tag, |_| done_len);
    }

    /// Enters how many more bytes of a file are hashed, of which some may have been hashed before.
    pub(crate) fn advance_by(&self, tag: Tag, bytes: u64) {
        self.lock().advance(tag, |old| old.done_len.saturating_add(bytes).min(old.size));
    }

    /// Enters results, which the client library has checked: one per item, digests of the right length.
    /// Returns files that can be tried in another way; they have no outcome yet.
    pub(crate) fn resolve<'a>(
        &self,
        results: impl Iterator<Item = (Tag, Result<&'a [u8], Failure>)>,
    ) -> Vec<Unseen> {
        let mut unseen = Vec::new();
        let mut state = self.lock();
        for (tag, result) in results {
            match result {
                Ok(digest) => state.set(tag, Verdict::Digest, digest),
                Err(failure) => match state.unseen(tag, failure) {
                    Some(file) => unseen.push(file),
                    None => state.set(tag, Verdict::Problem(Problem::Failure(failure)), &[]),
                },
            }
        }
        unseen
    }

    /// The files of `tags`, to be sent again; `None` if one cannot be, as it was a stream.
    pub(crate) fn unanswered(&self, tags: &[Tag]) -> Option<Vec<Unseen>> {
        let mut state = self.lock();
        let file = |&tag: &Tag| {
            let way = state.waiting(tag).0.sent?;
            let (batch, position) = (state.batch_of(tag), position_of(tag));
            let batch = Arc::clone(&state.batches[batch].batch);
            Some(Unseen { tag, batch, position, way, failure: None })
        };
        tags.iter().map(file).collect()
    }

    /// Enters more about the problem that an entry is going to have.
    pub(crate) fn explain(&self, tag: Tag, detail: &str) {
        self.lock().waiting(tag).0.detail = Some(detail.into());
    }

    /// Makes entries come as soon as they have their outcome, not in input order.
    pub(crate) fn set_unordered(&self) {
        self.lock().is_unordered = true;
    }

    /// Takes complete entries of one batch, which are neighbours: the first ones, or any.
    pub(crate) fn take(&self) -> Option<Complete> {
        let mut state = self.lock();
        let is_unordered = state.is_unordered;
        let is_next = |pending: &Pending| !is_unordered || pending.ready > 0;
        let pending = state.batches.iter_mut().find(|pending| is_next(pending))?;
        let is_ready = |outcome: &EntryOutcome| !outcome.is_taken && !outcome.is_waiting();
        let start = match is_unordered {
            true => pending.outcomes.iter().position(is_ready)?,
            false => pending.outcomes.len() - pending.left,
        };
        let rest = &mut pending.outcomes[start..];
        let len = rest.iter().take_while(|outcome| is_ready(outcome)).count();
        let outcomes = rest[..len].to_vec();
        for outcome in &mut rest[..len] {
            (outcome.output, outcome.is_taken) = (None, true);
        }
        pending.ready -= len;
        pending.left -= len;
        let batch = Arc::clone(&pending.batch);
        while state.batches.front().is_some_and(|front| front.left == 0) {
            state.batches.pop_front();
            state.first += 1;
        }
        (len > 0).then_some(Complete { batch, start, outcomes })
    }

    /// Makes room once taken entries are printed.
    pub(crate) fn release(&self, printed: &Complete) {
        let mut state = self.lock();
        state.entries -= printed.outcomes.len();
        state.text_len -= printed.text_len();
        self.room.notify_all();
    }

    /// True if every listed entry was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().batches.is_empty()
    }

    /// Entries that were ever listed.
    pub(crate) fn listed(&self) -> u64 {
        self.lock().listed
    }

    pub(crate) fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// The name of the entry that output waits for.
    pub(crate) fn current(&self) -> Option<Vec<u8>> {
        let state = self.lock();
        let pending = state.batches.front()?;
        let next = pending.outcomes.iter().position(|outcome| !outcome.is_taken)?;
        Some(pending.batch.label(next).name.to_vec())
    }

    /// Ends the sending side. The first end counts.
    pub(crate) fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.wake();
    }

    /// The end of the sending side, given once.
    pub(crate) fn take_end(&self) -> Option<End> {
        self.lock().end.take()
    }

    /// Makes the lister end.
    pub(crate) fn stop(&self) {
        self.lock().is_stopped = true;
        self.room.notify_all();
    }

    /// Wakes the main thread.
    pub(crate) fn wake(&self) {
        // It fails only with 2^64 - 2 wakes pending.
        let _ = self.event.write(1);
    }

    /// Forgets the wakes so far.
    pub(crate) fn clear_wakes(&self) {
        // It fails if there was none.
        let _ = self.event.read();
    }
}

impl AsFd for Reorder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl State {
    /// An entry that waits, with the progress that depends on it.
    ///
    /// # Panics
    /// If there is none: an entry gets one outcome, and is not taken before.
    fn waiting(&mut self, tag: Tag) -> (&mut EntryOutcome, &mut Tally) {
        let position = position_of(tag);
        let batch = self.batch_of(tag);
        let outcome = &mut self.batches[batch].outcomes[position];
        assert!(outcome.is_waiting(), "an entry gets one outcome");
        (outcome, &mut self.tally)
    }

    fn batch_of(&self, tag: Tag) -> usize {
        index_of((tag >> POSITION_BITS) - self.first)
    }

    /// A file that went by name, once.
    fn unseen(&mut self, tag: Tag, failure: Failure) -> Option<Unseen> {
        let way = self.waiting(tag).0.named.take()?;
        let batch = Arc::clone(&self.batches[self.batch_of(tag)].batch);
        let position = position_of(tag);
        let is_possible = Unseen::is_possible(failure);
        let failure = Some(failure);
        is_possible.then_some(Unseen { tag, batch, position, way, failure })
    }

    fn advance(&mut self, tag: Tag, done_len: impl FnOnce(&EntryOutcome) -> u64) {
        let (outcome, tally) = self.waiting(tag);
        let done_len = done_len(outcome);
        let old = std::mem::replace(&mut outcome.done_len, done_len);
        tally.bytes_done = tally.bytes_done - old + done_len;
    }

    fn set_size(&mut self, tag: Tag, size: u64) {
        let (outcome, tally) = self.waiting(tag);
        let old = std::mem::replace(&mut outcome.size, size);
        tally.bytes = tally.bytes - old + size;
    }

    /// Sets the verdict of an entry; the digest is empty unless that is the verdict.
    fn set(&mut self, tag: Tag, verdict: Verdict, digest: &[u8]) {
        let (outcome, tally) = self.waiting(tag);
        match outcome.digest.get_mut(..digest.len()) {
            Some(place) => place.copy_from_slice(digest),
            None => outcome.digests = Some(digest.into()),
        }
        outcome.verdict = verdict;
        tally.bytes_done = tally.bytes_done - outcome.done_len + outcome.size;
        tally.files_done += 1;
        let batch = self.batch_of(tag);
        self.batches[batch].ready += 1;
    }
}

/// Position of an entry in its batch.
fn position_of(tag: Tag) -> usize {
    index_of(tag & ((1 << POSITION_BITS) - 1))
}

fn index_of(number: u64) -> usize {
    usize::try_from(number).expect("part of a tag of this run")
}

#[cfg(test)]
mod tests;
