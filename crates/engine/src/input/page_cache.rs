//! Readahead and drop-behind in the page cache for one large file.
//!
//! The next chunk is requested before it is needed, so that the disk works while the thread hashes.
//! Chunks behind the reader can be evicted, except pages that were cached before. Where the system does
//! not report those, only huge files are evicted.
//!
//! Both are advice: nothing here fails, or changes what is read.

use crate::input::sys;
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::os::fd::BorrowedFd;

/// Unit of readahead and eviction, in bytes.
const CHUNK_LEN: u64 = 4 << 20;

/// Shorter files are not evicted where the system does not report cached pages. In bytes.
const UNKNOWN_LEN_MIN: u64 = 1 << 30;

/// Page cache of one file while it is read chunk by chunk.
#[derive(Debug)]
pub(crate) struct PageCache {
    /// End of the file, or of the part of it.
    end: u64,
    /// Start of the first chunk that is not requested yet.
    asked: u64,
    drops: Option<Drops>,
    /// Bytes of a range that are cached, as the system reports.
    cached_len: CachedLen,
}

type CachedLen = fn(BorrowedFd<'_>, u64, u64) -> Result<u64, Errno>;

#[derive(Debug)]
struct Drops {
    /// Start of the first chunk that is not behind the reader yet.
    behind: u64,
    /// For each chunk from there on, whether it was cached before; oldest first.
    kept: Vec<bool>,
}

impl PageCache {
    /// Through `len` bytes from `offset` on.
    pub(crate) fn new(offset: u64, len: u64, drop_behind: bool) -> Self {
        let drops = drop_behind.then(|| Drops { behind: offset, kept: Vec::new() });
        Self { end: offset.saturating_add(len), asked: offset, drops, cached_len: sys::cached_len }
    }

    /// Requests what follows `offset`, where the reader is now, and evicts what is before it.
    pub(crate) fn advance(&mut self, file: BorrowedFd<'_>, offset: u64) {
        while self.asked < self.end && self.asked <= offset.saturating_add(CHUNK_LEN) {
            self.ask(file);
        }
        if let Some(drops) = &mut self.drops {
            while !drops.kept.is_empty() && drops.behind + CHUNK_LEN <= offset {
                drops.pass(file, CHUNK_LEN);
            }
        }
    }

    /// Evicts the rest: the reader is done.
    pub(crate) fn finish(&mut self, file: BorrowedFd<'_>) {
        if let Some(drops) = &mut self.drops {
            while !drops.kept.is_empty() {
                drops.pass(file, CHUNK_LEN);
            }
        }
    }

    fn ask(&mut self, file: BorrowedFd<'_>) {
        let (start, len) = (self.asked, CHUNK_LEN.min(self.end - self.asked));
        if let Some(drops) = &mut self.drops {
            let cached_len = (self.cached_len)(file, start, len);
            let was_there = was_there_before(cached_len, len, self.end);
            drops.kept.push(was_there);
        }
        self.asked = start.saturating_add(CHUNK_LEN);
        // The last byte of a chunk is the last to come.
        if sys::read_ready(file, &mut [0], start + len - 1) == Err(Errno::EAGAIN) {
            advise(file, start, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
        }
    }
}

/// Returns true if a chunk of `len` bytes of a file of `end` bytes was cached before we read it.
fn was_there_before(cached_len: Result<u64, Errno>, len: u64, end: u64) -> bool {
    match cached_len {
        // The system reads a little ahead by itself: what is there of that is ours.
        Ok(cached_len) => cached_len > len / 2,
        Err(_) => end < UNKNOWN_LEN_MIN,
    }
}

impl Drops {
    fn pass(&mut self, file: BorrowedFd<'_>, len: u64) {
        if !self.kept.remove(0) {
            advise(file, self.behind, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
        self.behind += len;
    }
}

fn advise(file: BorrowedFd<'_>, offset: u64, len: u64, advice: PosixFadviseAdvice) {
    if let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) {
        // A file system that takes no advice is read as it is.
        let _ = posix_fadvise(file, offset, len, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    const LEN: u64 = 5 * CHUNK_LEN + 12_345;

    /// A file on a disk, of which nothing is in memory.
    fn cold() -> File {
        let mut file = tempfile::tempfile_in(std::env::var("CARGO_MANIFEST_DIR").unwrap()).unwrap();
        file.write_all(&vec![7; usize::try_from(LEN).unwrap()]).unwrap();
        file.sync_all().unwrap();
        advise(file.as_fd(), 0, LEN, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        file
    }

    fn resident(file: &File, offset: u64, len: u64) -> u64 {
        sys::resident_len(file.as_fd(), offset, len).unwrap()
    }

    /// Returns true if nearly all of it is cached: the system may evict a little at any time.
    fn is_there(file: &File, offset: u64, len: u64) -> bool {
        resident(file, offset, len) > len / 8 * 7
    }

    fn is_gone(file: &File, offset: u64, len: u64) -> bool {
        resident(file, offset, len) == 0
    }

    /// A system that does not report cached pages: Linux before 6.5.
    fn unknown(_: BorrowedFd<'_>, _: u64, _: u64) -> Result<u64, Errno> {
        Err(Errno::ENOSYS)
    }

    fn read_through(file: &File, drop_behind: bool, cached_len: CachedLen) {
        let mut pages = PageCache { cached_len, ..PageCache::new(0, LEN, drop_behind) };
        let mut buffer = vec![0; 256 << 10];
        for offset in (0..LEN).step_by(buffer.len()) {
            pages.advance(file.as_fd(), offset);
            file.read_at(&mut buffer, offset).unwrap();
        }
        pages.finish(file.as_fd());
    }

    #[test]
    fn counts_the_resident_bytes() {
        let file = cold();
        file.read_exact_at(&mut vec![0; 10_000], CHUNK_LEN).unwrap();
        match sys::cached_len(file.as_fd(), 0, LEN) {
            Ok(cached_len) => assert_eq!(cached_len, resident(&file, 0, LEN)),
            Err(errno) => assert_eq!(errno, Errno::ENOSYS),
        }
    }

    #[test]
    fn evicts_a_file_only_on_request_and_with_known_cached_pages() {
        for (drop_behind, cached_len, is_dropped) in [
            (false, sys::resident_len as CachedLen, false),
            (true, sys::resident_len, true),
            // Only huge files are dropped there.
            (true, unknown, false),
        ] {
            let file = cold();
            assert!(is_gone(&file, 0, LEN), "the page cache lets go of it");
            read_through(&file, drop_behind, cached_len);
            assert!(if is_dropped { is_gone } else { is_there }(&file, 0, LEN), "{drop_behind}");
        }
    }

    #[test]
    fn keeps_pages_that_were_cached_before() {
        let file = cold();
        let mut buffer = vec![0; usize::try_from(CHUNK_LEN).unwrap()];
        file.read_exact_at(&mut buffer, CHUNK_LEN).unwrap();
        read_through(&file, true, sys::resident_len);
        assert!(is_there(&file, CHUNK_LEN, CHUNK_LEN), "the second chunk");
        assert!(is_gone(&file, 0, CHUNK_LEN), "the first");
        // The system reads ahead by itself.
        let after = resident(&file, 2 * CHUNK_LEN, LEN - 2 * CHUNK_LEN);
        assert!(after < CHUNK_LEN, "those after it");
    }

    /// There a file that is not huge is left alone.
    #[test]
    fn without_cachestat_only_huge_files_are_evicted() {
        for (end, was_there) in [(UNKNOWN_LEN_MIN - 1, true), (UNKNOWN_LEN_MIN, false)] {
            assert_eq!(was_there_before(Err(Errno::ENOSYS), CHUNK_LEN, end), was_there, "{end}");
        }
        assert!(was_there_before(Ok(CHUNK_LEN), CHUNK_LEN, UNKNOWN_LEN_MIN));
        assert!(!was_there_before(Ok(0), CHUNK_LEN, 1));
    }

    #[test]
    fn only_a_few_chunks_are_cached_at_a_time() {
        let file = cold();
        let mut pages = PageCache { cached_len: sys::resident_len, ..PageCache::new(0, LEN, true) };
        let mut buffer = vec![0; 256 << 10];
        for offset in (0..LEN).step_by(buffer.len()) {
            pages.advance(file.as_fd(), offset);
            file.read_at(&mut buffer, offset).unwrap();
            assert!(pages.drops.as_ref().unwrap().kept.len() <= 3, "at {offset}");
            let behind = offset / CHUNK_LEN * CHUNK_LEN;
            assert!(behind == 0 || is_gone(&file, 0, behind), "at {offset}");
        }
    }

    #[test]
    fn requests_readahead_of_the_next_chunk() {
        let file = cold();
        let mut pages = PageCache::new(0, LEN, false);
        pages.advance(file.as_fd(), 0);
        assert_eq!(pages.asked, 2 * CHUNK_LEN, "the first chunk and the one after it");
        test_kit::until("the next chunk", || {
            (resident(&file, CHUNK_LEN, CHUNK_LEN) > CHUNK_LEN / 2).then_some(())
        });
        pages.advance(file.as_fd(), LEN);
        assert!(pages.asked >= LEN);
    }
}
