//! Files that one thread hashes beside each other, window by window (SHA-2).
//!
//! Each file has a window of memory. Once every window has bytes, as many whole blocks of each are
//! absorbed at once as the one with the fewest has; a file that ends makes room for the next. So
//! files of any lengths fill the lanes of a kernel, and take no more memory than their windows.
//!
//! Invariants: a digest, or a state, covers each byte once, from the first on; a file has the same
//! stamp before its first byte is read, by whichever worker, and after its last.
//!
//! Not here: which files, and what becomes of them: `long` has leases, `batch` files of one.

use crate::hash::Midway;
use crate::input::dataset::Found;
use crate::input::descriptor as source;
use crate::input::page_cache::Passage;
use ipc_proto::limits::SEGMENT_ALIGN;
use ipc_proto::message::{Failure, Stamp};
use nix::errno::Errno;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// How many bytes of a file are read before they are hashed, at most.
const WINDOW_LEN_MAX: usize = 64 << 10;

/// What all windows have together, so that they stay in the second cache.
const WINDOWS_LEN: usize = 512 << 10;

/// Windows of `buffer` for `lanes` files.
pub(crate) fn windows(buffer: &mut [u8], lanes: usize) -> Vec<&mut [u8]> {
    let len = (WINDOWS_LEN / lanes).min(WINDOW_LEN_MAX) / SEGMENT_ALIGN * SEGMENT_ALIGN;
    buffer.chunks_exact_mut(len).take(lanes).collect()
}

/// An open file on its way.
pub(crate) struct File<'a> {
    source: Source<'a>,
    /// What it looked like before its first byte was read.
    before: Stamp,
    midway: Midway,
    passage: Passage,
    /// Where in the window the bytes are that were read and not absorbed.
    held: Range<usize>,
    /// Whether these are the last.
    is_last: bool,
}

/// Where bytes come from.
pub(crate) enum Source<'a> {
    Owned(OwnedFd),
    Passed(BorrowedFd<'a>),
    Found(Found),
}

impl<'a> File<'a> {
    /// A file that looks like `before`, of which `midway` covers the first bytes.
    pub(crate) fn new(
        source: Source<'a>,
        before: Stamp,
        midway: Midway,
        drop_behind: bool,
    ) -> Self {
        let offset = midway.len();
        let passage = Passage::new(offset, before.size.saturating_sub(offset), drop_behind);
        Self { source, before, midway, passage, held: 0..0, is_last: false }
    }

    /// What it looked like at first.
    pub(crate) fn before(&self) -> Stamp {
        self.before
    }

    /// What was absorbed.
    pub(crate) fn midway(&self) -> &Midway {
        &self.midway
    }

    /// Reads the next bytes to `window`, if those before are absorbed.
    ///
    /// # Errors
    /// Why the file fails.
    pub(crate) fn read(&mut self, window: &mut [u8], revoked: &AtomicBool) -> Result<(), Failure> {
        if !self.held.is_empty() || self.is_last {
            return Ok(());
        }
        if revoked.load(Ordering::Relaxed) {
            return Err(source::failure(Errno::ECANCELED));
        }
        let offset = self.midway.len();
        self.passage.reach(self.source.as_fd(), offset);
        // One byte more than there should be shows that the file grew.
        let missing_len = self.before.size.saturating_add(1).saturating_sub(offset);
        let window_len = usize::try_from(missing_len).map_or(window.len(), |n| n.min(window.len()));
        let len = source::fill_at(self.source.as_fd(), &mut window[..window_len], offset)?;
        self.held = 0..len;
        self.is_last = len < window_len;
        let end = offset + len as u64;
        if if self.is_last { end != self.before.size } else { end > self.before.size } {
            return Err(Failure::Changed);
        }
        Ok(())
    }

    /// How many bytes in its window are whole blocks.
    fn whole_len(&self) -> usize {
        self.held.len() / SEGMENT_ALIGN * SEGMENT_ALIGN
    }

    /// The digest, once all that is in `window` is less than a block, and the last of it.
    pub(crate) fn finish(&mut self, window: &[u8]) -> Option<Result<Vec<u8>, Failure>> {
        if !self.is_last || self.whole_len() > 0 {
            return None;
        }
        let rest = &window[mem::replace(&mut self.held, 0..0)];
        Some(self.agree().map(|()| self.midway.finish(rest)))
    }

    /// Whether the file is as it was.
    fn agree(&self) -> Result<(), Failure> {
        match &self.source {
            Source::Found(found) => found.agree(true),
            passed if passed.look()? == self.before => Ok(()),
            Source::Owned(_) | Source::Passed(_) => Err(Failure::Changed),
        }
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        self.passage.leave(self.source.as_fd());
    }
}

impl Source<'_> {
    /// What the file looks like now, or looked like when it was found.
    ///
    /// # Errors
    /// Why the file fails.
    pub(crate) fn look(&self) -> Result<Stamp, Failure> {
        match self {
            Self::Owned(file) => source::stamp_of(file.as_fd()),
            Self::Passed(file) => source::stamp_of(*file),
            Self::Found(found) => Ok(found.before()),
        }
    }
}

impl AsFd for Source<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Owned(file) => file.as_fd(),
            Self::Passed(file) => *file,
            Self::Found(found) => found.as_fd(),
        }
    }
}

/// Absorbs what was read: as many whole blocks of each file that has any.
pub(crate) fn absorb<'f, 'a: 'f>(files: impl Iterator<Item = (&'f mut File<'a>, &'f [u8])>) {
    let mut files: Vec<_> = files.filter(|(file, _)| file.whole_len() > 0).collect();
    let Some(len) = files.iter().map(|(file, _)| file.whole_len()).min() else { return };
    let (mut messages, mut data) = (Vec::new(), Vec::new());
    for (file, window) in &mut files {
        data.push(&window[file.held.start..][..len]);
        file.held.start += len;
        messages.push(&mut file.midway);
    }
    Midway::update_beside(&mut messages, &data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Backend;
    use ipc_proto::Algorithm;
    use std::fs;
    use std::os::unix::fs::FileExt;
    use tempfile::tempfile;

    static GOING: AtomicBool = AtomicBool::new(false);

    fn pattern(len: usize) -> Vec<u8> {
        (0..=250).cycle().skip(len % 251).take(len).collect()
    }

    fn open(bytes: &[u8]) -> (fs::File, File<'static>) {
        let file = tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let source = Source::Owned(file.try_clone().unwrap().into());
        let before = source.look().unwrap();
        let midway = Midway::new(Algorithm::Sha256).unwrap();
        (file, File::new(source, before, midway, false))
    }

    /// Runs all of them to their ends, with something in between.
    fn run(files: Vec<File<'static>>, mut between: impl FnMut()) -> Vec<Result<Vec<u8>, Failure>> {
        let mut buffer = vec![0; 1 << 20];
        let windows = windows(&mut buffer, files.len());
        let mut lanes: Vec<_> = files.into_iter().zip(windows).map(|lane| (lane, None)).collect();
        while lanes.iter().any(|(_, outcome)| outcome.is_none()) {
            let mut going: Vec<_> =
                lanes.iter_mut().filter(|(_, outcome)| outcome.is_none()).collect();
            for ((file, window), outcome) in &mut going {
                *outcome = file.read(window, &GOING).err().map(Err);
            }
            going.retain(|(_, outcome)| outcome.is_none());
            absorb(going.iter_mut().map(|((file, window), _)| (file, &**window)));
            between();
            for ((file, window), outcome) in going {
                *outcome = file.finish(window);
            }
        }
        lanes.into_iter().filter_map(|(_, outcome)| outcome).collect()
    }

    fn digest(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Backend::Portable.hash_many(Algorithm::Sha256, &[bytes], &mut out);
        out
    }

    #[test]
    fn files_of_any_lengths_share_windows() {
        let lens = [0, 1, 127, 128, 129, 65_535, 65_536, 65_537, 300_000];
        for count in 1..=lens.len() {
            let contents: Vec<_> = lens[lens.len() - count..].iter().map(|l| pattern(*l)).collect();
            let files = contents.iter().map(|bytes| open(bytes).1).collect();
            let want: Vec<_> = contents.iter().map(|bytes| Ok(digest(bytes))).collect();
            assert!(run(files, || {}) == want, "{count} files");
        }
    }

    #[test]
    fn windows_are_whole_blocks_and_stay_within_the_cache() {
        let mut buffer = vec![0; 1 << 20];
        for lanes in 1..=16 {
            let windows = windows(&mut buffer, lanes);
            assert_eq!(windows.len(), lanes);
            let len = windows[0].len();
            assert!(windows.iter().all(|window| window.len() == len));
            assert!(len.is_multiple_of(SEGMENT_ALIGN) && len >= 32 << 10, "{len}");
            assert!(len * lanes <= WINDOWS_LEN);
        }
    }

    #[test]
    fn one_that_changes_has_no_digest_and_the_others_have() {
        type Change = fn(&fs::File);
        let changes: [(&str, Change); 3] = [
            ("grows", |file| file.set_len(1_000_000).unwrap()),
            ("shrinks", |file| file.set_len(70_000).unwrap()),
            ("is written", |file| file.write_all_at(b"x", 5).unwrap()),
        ];
        let (bytes, other) = (pattern(400_000), pattern(400_001));
        for (what, change) in changes {
            let ((file, changed), (_, good)) = (open(&bytes), open(&other));
            let mut turns = 0;
            let outcomes = run(vec![changed, good], || {
                turns += 1;
                if turns == 2 {
                    change(&file);
                }
            });
            assert_eq!(outcomes, [Err(Failure::Changed), Ok(digest(&other))], "it {what}");
        }
    }
}
