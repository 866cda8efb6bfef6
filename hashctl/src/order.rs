//! The reorder buffer: entries in input order, whose outcomes come in any order.
//!
//! Entries come in batches, each with its names in one piece of memory that is used again. Every
//! entry has a number, counted from 0 over all batches. Invariant: an entry is given out once, in
//! order, and only when its outcome is known.

use crate::problem::{Problem, Special};
use ipc_proto::Algorithm;
use std::collections::VecDeque;
use std::io;

/// Longest digest of any algorithm, in bytes.
pub const DIGEST_LEN_MAX: usize = 64;

/// What is known about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Waiting,
    /// Its digest.
    Digest,
    /// It has none, because of this.
    Problem(Problem),
    /// Met in a tree and left out.
    Skipped(Special),
    /// Not a file but a mark between files.
    Mark(Mark),
}

/// Something about a manifest, in its place among the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The line of this number is no line of a manifest.
    BadLine(u64),
    /// The line of this number is longer than any.
    LongLine(u64),
    /// The manifest cannot be read (any further), with this error number.
    Unreadable(i32),
    /// The manifest ends here.
    End,
}

/// One entry, as it is given out.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The name of the file, or the manifest's for a mark.
    pub name: &'a [u8],
    /// What the digest should be, if it is known.
    pub want: &'a [u8],
    /// Length of the file in bytes.
    pub size: u64,
    /// What its digest is computed with.
    pub algorithm: Algorithm,
    /// What became of it; never [`Verdict::Waiting`].
    pub verdict: Verdict,
    /// The digest, if there is one.
    pub digest: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name_end: usize,
    want_end: usize,
    size: u64,
    algorithm: Algorithm,
    verdict: Verdict,
    digest: [u8; DIGEST_LEN_MAX],
}

/// Neighbouring entries.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    text: Vec<u8>,
}

impl Batch {
    /// Appends an entry.
    pub fn push(
        &mut self,
        algorithm: Algorithm,
        name: &[u8],
        want: &[u8],
        size: u64,
        verdict: Verdict,
    ) {
        self.text.extend_from_slice(name);
        let name_end = self.text.len();
        self.text.extend_from_slice(want);
        let want_end = self.text.len();
        let digest = [0; DIGEST_LEN_MAX];
        self.entries.push(Entry { name_end, want_end, size, algorithm, verdict, digest });
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of its names and wanted digests.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Whether an entry has its outcome already.
    #[must_use]
    pub fn has_outcome(&self) -> bool {
        self.entries.iter().any(|entry| entry.verdict != Verdict::Waiting)
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
    }

    fn item(&self, position: usize) -> Item<'_> {
        let start = position.checked_sub(1).map_or(0, |before| self.entries[before].want_end);
        let entry = &self.entries[position];
        Item {
            name: &self.text[start..entry.name_end],
            want: &self.text[entry.name_end..entry.want_end],
            size: entry.size,
            algorithm: entry.algorithm,
            verdict: entry.verdict,
            digest: &entry.digest[..entry.algorithm.digest_len()],
        }
    }
}

/// The entries that are not given out yet.
#[derive(Debug, Default)]
pub struct Order {
    /// Each with the number of its first entry.
    batches: VecDeque<(u64, Batch)>,
    /// Entries of the first batch that were given out.
    given: usize,
    pushed: u64,
    tally: Tally,
}

/// How far the work is, in files: what stands for none is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files that are known.
    pub files: u64,
    /// Their bytes, as far as lengths are known.
    pub bytes: u64,
    /// Files that have their outcome.
    pub files_done: u64,
    /// Their bytes.
    pub bytes_done: u64,
}

impl Order {
    /// Appends entries.
    pub fn push(&mut self, batch: Batch) {
        let first = self.pushed;
        self.pushed += batch.len() as u64;
        for entry in &batch.entries {
            if !matches!(entry.verdict, Verdict::Mark(_)) {
                self.tally.files += 1;
                self.tally.bytes += entry.size;
            }
            if matches!(entry.verdict, Verdict::Problem(_) | Verdict::Skipped(_)) {
                self.tally.files_done += 1;
                self.tally.bytes_done += entry.size;
            }
        }
        self.batches.push_back((first, batch));
    }

    /// How many entries were ever appended.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Whether every entry was given out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// How far the work is.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Sets the outcome of an entry that waits for it. A digest of the wrong length, or an entry
    /// that does not wait, gives `false`.
    #[must_use]
    pub fn resolve(&mut self, number: u64, outcome: Result<&[u8], Problem>) -> bool {
        let Some(entry) = self.entry(number).filter(|entry| entry.verdict == Verdict::Waiting)
        else {
            return false;
        };
        match outcome {
            Ok(digest) if digest.len() == entry.algorithm.digest_len() => {
                entry.digest[..digest.len()].copy_from_slice(digest);
                entry.verdict = Verdict::Digest;
            }
            Ok(_) => return false,
            Err(problem) => entry.verdict = Verdict::Problem(problem),
        }
        let size = entry.size;
        self.tally.files_done += 1;
        self.tally.bytes_done += size;
        true
    }

    /// Sets the length of a file that was not known before.
    pub fn set_size(&mut self, number: u64, size: u64) {
        let Some(entry) = self.entry(number) else { return };
        let old = std::mem::replace(&mut entry.size, size);
        let is_done = entry.verdict == Verdict::Digest;
        self.tally.bytes = self.tally.bytes - old + size;
        if is_done {
            self.tally.bytes_done = self.tally.bytes_done - old + size;
        }
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let after = self.batches.partition_point(|(first, _)| *first <= number);
        let (first, batch) = self.batches.get_mut(after.checked_sub(1)?)?;
        batch.entries.get_mut(usize::try_from(number - *first).ok()?)
    }

    /// Gives out what has its outcome, up to the first entry that has not; batches that are done
    /// with go to `spent`.
    ///
    /// # Errors
    /// The first one of `give`; its entry counts as given.
    pub fn drain(
        &mut self,
        spent: &mut Vec<Batch>,
        mut give: impl FnMut(&Item<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some((_, batch)) = self.batches.front() {
            while self.given < batch.len() {
                let item = batch.item(self.given);
                if item.verdict == Verdict::Waiting {
                    return Ok(());
                }
                self.given += 1;
                give(&item)?;
            }
            self.given = 0;
            spent.extend(self.batches.pop_front().map(|(_, batch)| batch));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(names: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for name in names {
            batch.push(Algorithm::Sha256, name.as_bytes(), b"want", 7, Verdict::Waiting);
        }
        batch
    }

    fn drain(order: &mut Order) -> Vec<String> {
        let mut given = Vec::new();
        let give = |item: &Item<'_>| {
            assert_eq!((item.want, item.size), (&b"want"[..], 7));
            let mark = if item.verdict == Verdict::Digest { item.digest[0] } else { b'!' };
            given.push(format!("{}{}", String::from_utf8_lossy(item.name), char::from(mark)));
            Ok(())
        };
        order.drain(&mut Vec::new(), give).unwrap();
        given
    }

    #[test]
    fn shuffled_outcomes_come_out_in_input_order_and_as_soon_as_they_can() {
        let mut order = Order::default();
        order.push(batch(&["a", "b"]));
        order.push(batch(&["c"]));
        order.push(batch(&["d", "e"]));
        assert!(order.resolve(3, Ok(&[b'3'; 32])));
        assert!(order.resolve(1, Ok(&[b'1'; 32])));
        assert!(drain(&mut order).is_empty(), "the first one is missing");
        assert!(order.resolve(0, Err(Problem::Changed)));
        assert_eq!(drain(&mut order), ["a!", "b1"]);
        assert!(order.resolve(2, Ok(&[b'2'; 32])));
        assert_eq!(drain(&mut order), ["c2", "d3"]);
        assert!(!order.is_empty());
        assert!(order.resolve(4, Ok(&[b'4'; 32])));
        assert_eq!(drain(&mut order), ["e4"]);
        assert!(order.is_empty());
        assert_eq!(order.pushed(), 5);
    }

    #[test]
    fn what_cannot_be_the_outcome_is_refused() {
        let mut order = Order::default();
        order.push(batch(&["a", "b"]));
        assert!(!order.resolve(2, Ok(&[0; 32])), "not pushed");
        assert!(!order.resolve(0, Ok(&[0; 31])), "not a digest of SHA-256");
        assert!(order.resolve(0, Ok(&[0; 32])));
        assert!(!order.resolve(0, Ok(&[0; 32])), "twice");
        assert_eq!(drain(&mut order).len(), 1);
        assert!(!order.resolve(0, Ok(&[0; 32])), "given out");
    }
}
