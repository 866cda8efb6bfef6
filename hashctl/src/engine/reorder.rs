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

use super::function::Function;
use crate::lists::manifest::Remark;
use crate::problem::{Problem, Special};
use blake3::OutputReader;
use ipc_proto::limits::FRAME_NAMES_MAX;
use ipc_proto::message::Failure;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Longest digest of any algorithm, in bytes.
const DIGEST_LEN_MAX: usize = 64;

/// Most buffered entries. More than a job's window, so that a huge file in front of many small ones
/// does not leave the workers without work.
pub(crate) const ENTRIES_MAX: usize = 65_536;

/// Most bytes of buffered names.
pub(crate) const TEXT_LEN_MAX: usize = 16 << 20;

/// Bytes of text for which a batch has room per entry, so that it seldom grows.
const NAME_LEN_USUAL: usize = 64;

/// An entry of a run: the number of its batch, and its position there in the last
/// [`POSITION_BITS`] bits.
pub(crate) type Tag = u64;

const POSITION_BITS: u32 = 16;
const _: () = assert!(FRAME_NAMES_MAX < 1 << POSITION_BITS, "every position has a tag");

/// State of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Waiting,
    /// Its digest.
    Digest,
    /// It has none, because of this.
    Problem(Problem),
    /// Found in a tree and left out.
    Skipped(Special),
    /// Not a file but a mark between files.
    Mark(Mark),
}

/// Something about a list, in its place among the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The line of this number is not a line of a list.
    BadLine(u64),
    /// The line of this number is too long.
    LongLine(u64),
    /// The list cannot be read (any further), with this error number.
    Unreadable(i32),
    /// The same, where the number is not reported.
    ReadError,
    /// The list ends here.
    End,
    /// Something that only `check` says.
    Remark(Remark),
}

/// The name of an entry, and what its digest is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    /// The name of the file, or of the manifest for a mark; without zero bytes.
    pub(crate) name: &'a [u8],
    pub(crate) function: Function,
    /// The expected digest; empty if there is none.
    pub(crate) want: &'a [u8],
}

/// One entry with its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) label: Label<'a>,
    /// Length of the file in bytes.
    pub(crate) size: u64,
    /// Never [`Verdict::Waiting`].
    pub(crate) verdict: Verdict,
    /// The digest, if there is one.
    pub(crate) digest: &'a [u8],
    /// Output of any length of [`Function::Blake3`], which starts with the digest.
    pub(crate) output: Option<&'a OutputReader>,
}

impl<'a> Item<'a> {
    /// One item per digest.
    pub(crate) fn each(self) -> impl Iterator<Item = Self> {
        let mut rest = self.digest;
        self.label.function.each().map(move |function| {
            let len = function.digest_len().min(rest.len());
            let digest = rest.split_off(..len).unwrap_or_default();
            Self { label: Label { function, ..self.label }, digest, ..self }
        })
    }
}

/// Neighbouring entries, as they were listed.
#[derive(Debug)]
pub(crate) struct Batch {
    rows: Vec<Row>,
    /// Names, each with a zero byte behind it, and expected digests.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    name_end: usize,
    want_end: usize,
    function: Function,
    listed: Verdict,
}

impl Batch {
    /// An empty batch with room for `len` entries.
    pub(crate) fn with_capacity(len: usize) -> Self {
        Self { rows: Vec::with_capacity(len), text: Vec::with_capacity(len * NAME_LEN_USUAL) }
    }

    /// Appends an entry, with its verdict if that is known without opening a file.
    pub(crate) fn push(&mut self, label: Label<'_>, listed: Verdict) {
        let Label { name, function, want } = label;
        self.text.extend_from_slice(name);
        let name_end = self.text.len();
        self.text.push(0);
        self.text.extend_from_slice(want);
        self.rows.push(Row { name_end, want_end: self.text.len(), function, listed });
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of names and expected digests.
    pub(crate) fn text_len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn label(&self, position: usize) -> Label<'_> {
        let row = &self.rows[position];
        Label {
            name: &self.text[self.start(position)..row.name_end],
            function: row.function,
            want: &self.text[row.name_end + 1..row.want_end],
        }
    }

    /// The name of an entry from its byte `start` on, as system calls take it.
    pub(crate) fn path(&self, position: usize, start: usize) -> &CStr {
        let text = &self.text[self.start(position) + start..=self.rows[position].name_end];
        CStr::from_bytes_with_nul(text).expect("names hold no zero byte")
    }

    fn start(&self, position: usize) -> usize {
        position.checked_sub(1).map_or(0, |before| self.rows[before].want_end)
    }
}

#[derive(Clone, Debug)]
struct Outcome {
    size: u64,
    /// Bytes of it that are hashed, while that is not over.
    done_len: u64,
    verdict: Verdict,
    digest: [u8; DIGEST_LEN_MAX],
    is_taken: bool,
    /// The digests, if they are longer than that.
    digests: Option<Box<[u8]>>,
    output: Option<Box<OutputReader>>,
}

impl Outcome {
    fn is_waiting(&self) -> bool {
        matches!(self.verdict, Verdict::Waiting)
    }
}

/// Entries that were taken, complete.
#[derive(Debug)]
pub(crate) struct Complete {
    batch: Arc<Batch>,
    /// Position of the first in the batch.
    start: usize,
    outcomes: Vec<Outcome>,
}

impl Complete {
    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.outcomes.iter().zip(self.start..).map(|(outcome, position)| {
            let label = self.batch.label(position);
            let digest = match &outcome.digests {
                Some(digests) => digests,
                None => &outcome.digest[..label.function.digest_len().min(outcome.digest.len())],
            };
            let output = outcome.output.as_deref();
            Item { label, size: outcome.size, verdict: outcome.verdict, digest, output }
        })
    }

    fn text_len(&self) -> usize {
        let end = self.batch.start(self.start + self.outcomes.len());
        end - self.batch.start(self.start)
    }
}

/// Facts that an opener or hashing thread learns about an entry. The verdict or digest is the last.
#[derive(Debug)]
pub(crate) enum Change {
    Size(u64),
    Verdict(Verdict),
    Digest {
        bytes: [u8; DIGEST_LEN_MAX],
        len: usize,
    },
    /// Several digests, back to back.
    Digests(Vec<u8>),
    Output(Box<OutputReader>),
}

impl Change {
    pub(crate) fn digest(digest: &[u8]) -> Self {
        if digest.len() > DIGEST_LEN_MAX {
            return Self::Digests(digest.to_vec());
        }
        let mut bytes = [0; DIGEST_LEN_MAX];
        bytes[..digest.len()].copy_from_slice(digest);
        Self::Digest { bytes, len: digest.len() }
    }
}

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
    outcomes: Vec<Outcome>,
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
        state.text_len += batch.text.len();
        let mut ready = 0;
        for row in &batch.rows {
            let is_file = !matches!(row.listed, Verdict::Mark(_));
            let is_done = !matches!(row.listed, Verdict::Waiting);
            state.tally.files += u64::from(is_file);
            state.tally.files_done += u64::from(is_file && is_done);
            ready += usize::from(is_done);
        }
        let outcome = |row: &Row| Outcome {
            size: 0,
            done_len: 0,
            verdict: row.listed,
            is_taken: false,
            digest: [0; _],
            digests: None,
            output: None,
        };
        let outcomes = batch.rows.iter().map(outcome).collect();
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
        let mut state = self.lock();
        let (outcome, tally) = state.waiting(tag);
        let old = std::mem::replace(&mut outcome.done_len, done_len);
        tally.bytes_done = tally.bytes_done - old + done_len;
    }

    /// Enters results, which the client library has checked: one per item, digests of the right length.
    pub(crate) fn resolve<'a>(
        &self,
        results: impl Iterator<Item = (Tag, Result<&'a [u8], Failure>)>,
    ) {
        let mut state = self.lock();
        for (tag, result) in results {
            match result {
                Ok(digest) => state.set(tag, Verdict::Digest, digest),
                Err(failure) => state.set(tag, Verdict::Problem(Problem::Failure(failure)), &[]),
            }
        }
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
        let is_ready = |outcome: &Outcome| !outcome.is_taken && !outcome.is_waiting();
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
    fn waiting(&mut self, tag: Tag) -> (&mut Outcome, &mut Tally) {
        let position = index_of(tag & ((1 << POSITION_BITS) - 1));
        let batch = self.batch_of(tag);
        let outcome = &mut self.batches[batch].outcomes[position];
        assert!(outcome.is_waiting(), "an entry gets one outcome");
        (outcome, &mut self.tally)
    }

    fn batch_of(&self, tag: Tag) -> usize {
        index_of((tag >> POSITION_BITS) - self.first)
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

fn index_of(number: u64) -> usize {
    usize::try_from(number).expect("part of a tag of this run")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;

    fn push(reorder: &Reorder, names: &[&str]) {
        let mut batch = Batch::with_capacity(names.len());
        for name in names {
            let (function, want) = (Function::Standard(Algorithm::Sha256), &b"want"[..]);
            batch.push(Label { name: name.as_bytes(), function, want }, Verdict::Waiting);
        }
        reorder.push(batch.into()).unwrap();
    }

    fn resolve(reorder: &Reorder, batch: u64, position: u64, digest: u8) {
        let tag = (batch << POSITION_BITS) + position;
        reorder.resolve([(tag, Ok(&[digest; 32][..]))].into_iter());
    }

    fn take(reorder: &Reorder) -> String {
        let mut taken = String::new();
        while let Some(complete) = reorder.take() {
            for item in complete.items() {
                assert_eq!(item.label.want, b"want");
                let mark = if item.verdict == Verdict::Digest { item.digest[0] } else { b'!' };
                taken += &format!("{}{}", String::from_utf8_lossy(item.label.name), mark as char);
            }
            reorder.release(&complete);
        }
        taken
    }

    #[test]
    fn outcomes_come_at_once_where_order_does_not_matter() {
        let reorder = Reorder::new().unwrap();
        reorder.set_unordered();
        push(&reorder, &["a", "b", "c"]);
        push(&reorder, &["d"]);
        resolve(&reorder, 1, 0, b'4');
        resolve(&reorder, 0, 1, b'2');
        assert_eq!(take(&reorder), "b2d4");
        push(&reorder, &["e"]);
        resolve(&reorder, 0, 2, b'3');
        assert_eq!(take(&reorder), "c3");
        resolve(&reorder, 2, 0, b'5');
        resolve(&reorder, 0, 0, b'1');
        assert_eq!(take(&reorder), "a1e5");
        assert!(reorder.is_empty());
        let State { entries, text_len, first, .. } = &*reorder.lock();
        assert_eq!((*entries, *text_len, *first), (0, 0, 3), "everything is released");
    }

    #[test]
    fn shuffled_outcomes_are_printed_in_input_order_as_soon_as_possible() {
        let reorder = Reorder::new().unwrap();
        push(&reorder, &["a", "b"]);
        push(&reorder, &["c"]);
        push(&reorder, &["d", "e"]);
        resolve(&reorder, 2, 0, b'3');
        resolve(&reorder, 0, 1, b'1');
        assert_eq!(take(&reorder), "", "the first one is missing");
        let verdict = Verdict::Problem(Problem::Changed);
        reorder.change(&mut vec![(0, Change::Size(7)), (0, Change::Verdict(verdict))]);
        assert_eq!(take(&reorder), "a!b1");
        resolve(&reorder, 1, 0, b'2');
        assert_eq!(take(&reorder), "c2d3");
        assert!(!reorder.is_empty());
        resolve(&reorder, 2, 1, b'4');
        assert_eq!(take(&reorder), "e4");
        assert!(reorder.is_empty());
        let State { entries, text_len, listed, tally, .. } = &*reorder.lock();
        assert_eq!((*entries, *text_len, *listed), (0, 0, 5), "everything is released");
        assert_eq!(*tally, Tally { files: 5, bytes: 7, files_done: 5, bytes_done: 7 });
    }
}
