//! Pages of a directory, sorted, in bounded memory whatever its size.
//!
//! The kernel returns names in no order that a page could continue, so each page would cost a read of the whole
//! directory. A [`NameWindow`] keeps the smallest names behind some name instead, up to
//! [`WINDOW_NAMES_MAX`] of them, and serves the pages that follow for as long as the directory keeps its times.
//!
//! Invariants:
//! - the names of a page ascend, and are behind the one that it continues; a page with `more` has an entry;
//! - the start of a directory is always read anew, and a window is kept only if the directory's times
//!   were older than the clock by the margin of the quiet rule: what was there before a listing began is in it.

use crate::clock::{MARGIN_NS, Stopwatch};
use crate::input::dirents::{dirents, read_entries};
use crate::input::open_file::failure;
use crate::input::sys::{Status, entry_status};
use ipc_proto::limits::NAMES_LEN_MAX;
use ipc_proto::message::{DirEntry, EntryKind, Failure, ListOutcome, ListWork, Stamp};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, makedev};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Most names in a window.
const WINDOW_NAMES_MAX: usize = if cfg!(test) { 100 } else { 131_072 };

/// Most bytes of names in a window, unless a single name is longer.
const WINDOW_LEN_MAX: usize = 4 << 20;

/// Most windows that are kept.
const WINDOWS_MAX: usize = 4;

/// Bytes of entries that are read at once.
const READ_LEN: usize = 64 << 10;

/// A page ends early after this long, so that a slow disk does not cost the lease. In microseconds.
const PAGE_TIME_MAX_US: u64 = 5_000_000;

/// Windows of directories that are being listed, the last one used last.
#[derive(Debug, Default)]
pub(crate) struct ListingCache(Mutex<Vec<NameWindow>>);

/// A directory in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DirState {
    device: (u32, u32),
    inode: u64,
    stamp: Stamp,
}

/// The smallest names behind `after` of a directory.
#[derive(Debug)]
struct NameWindow {
    dir: DirState,
    after: Vec<u8>,
    names: Names,
    /// No name is behind the last one.
    is_last: bool,
}

/// Names, each with a zero byte behind it.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    /// Start of each.
    starts: Vec<u32>,
}

/// The page that `work` asks for of the directory that `open` opens, at the time `now_ns` of the clock that stamps files.
pub(crate) fn page(
    open: impl Fn() -> Result<OwnedFd, Failure>,
    work: &ListWork,
    (cache, now_ns): (&ListingCache, i64),
    revoked: &AtomicBool,
) -> Result<ListOutcome, Failure> {
    let stopwatch = Stopwatch::start();
    let (mut entries, mut names_len) = (Vec::new(), 0);
    let mut after = work.after.0.clone();
    loop {
        let dir = open()?;
        let dir = dir.as_fd();
        let (Status { device, stamp, .. }, inode) = entry_status(dir, c"").map_err(failure)?;
        let state = DirState { device, inode, stamp };
        let window = match cache.take(state, &after) {
            Some(window) => window,
            None => NameWindow::read(dir, state, &after, revoked)?,
        };
        let mut left_len = 0;
        let first = window.names.position_behind(&after);
        for i in first..window.names.len() {
            let name = window.names.get(i);
            let is_full = entries.len() == usize::from(work.entries_max)
                || names_len + name.count_bytes() > NAMES_LEN_MAX
                || (!entries.is_empty() && stopwatch.elapsed_us() > PAGE_TIME_MAX_US);
            if is_full || revoked.load(Ordering::Relaxed) {
                left_len = window.names.len() - i;
                break;
            }
            after.clear();
            after.extend_from_slice(name.to_bytes());
            if let Some(entry) = entry(dir, name) {
                names_len += entry.name.len();
                entries.push(entry);
            }
        }
        let more = left_len > 0 || !window.is_last;
        if left_len > 0 {
            cache.keep(window, now_ns);
        }
        // A page without an entry has no name from which the next one could go on.
        if !more || !entries.is_empty() || revoked.load(Ordering::Relaxed) {
            return Ok(ListOutcome::Page { entries, more });
        }
    }
}

/// The entry `name` of `dir`, unless it has vanished.
fn entry(dir: BorrowedFd<'_>, name: &CStr) -> Option<DirEntry> {
    let name_blob = name.to_bytes().into();
    match entry_status(dir, name) {
        Ok((Status { mode, device: (major, minor), stamp }, inode)) => {
            let device = makedev(major.into(), minor.into());
            Some(DirEntry { name: name_blob, kind: kind_of(mode), stamp, inode, device })
        }
        Err(Errno::ENOENT) => None,
        Err(errno) => {
            let kind = EntryKind::Unknown { errno: errno as i32 };
            Some(DirEntry { name: name_blob, kind, stamp: Stamp::default(), inode: 0, device: 0 })
        }
    }
}

fn kind_of(mode: u32) -> EntryKind {
    match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => EntryKind::File,
        SFlag::S_IFDIR => EntryKind::Directory,
        SFlag::S_IFLNK => EntryKind::Symlink,
        SFlag::S_IFIFO => EntryKind::Fifo,
        SFlag::S_IFSOCK => EntryKind::Socket,
        SFlag::S_IFCHR => EntryKind::CharDevice,
        SFlag::S_IFBLK => EntryKind::BlockDevice,
        _ => EntryKind::Unknown { errno: 0 },
    }
}

impl ListingCache {
    /// Takes out a window of `dir` that has what follows `after`.
    fn take(&self, dir: DirState, after: &[u8]) -> Option<NameWindow> {
        let mut windows = self.lock();
        let at = windows.iter().position(|window| window.dir == dir && window.continues(after))?;
        Some(windows.remove(at))
    }

    /// Keeps a window for the next page, unless a change of its directory could go unnoticed.
    fn keep(&self, window: NameWindow, now_ns: i64) {
        if window.dir.stamp.ctime_ns.saturating_add(MARGIN_NS) >= now_ns {
            return;
        }
        let mut windows = self.lock();
        windows.retain(|other| (other.dir, &other.after) != (window.dir, &window.after));
        if windows.len() == WINDOWS_MAX {
            windows.remove(0);
        }
        windows.push(window);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<NameWindow>> {
        self.0.lock().expect("nothing panics while it holds the windows")
    }
}

impl NameWindow {
    /// Reads `dir`, which was just opened, and keeps the smallest names behind `after`.
    fn read(
        dir: BorrowedFd<'_>,
        state: DirState,
        after: &[u8],
        revoked: &AtomicBool,
    ) -> Result<Self, Failure> {
        let mut buffer = vec![0; READ_LEN];
        let mut names = Names::default();
        // Names behind this one do not fit.
        let mut bound: Option<Vec<u8>> = None;
        while !revoked.load(Ordering::Relaxed) {
            let len = read_entries(dir, &mut buffer).map_err(failure)?;
            if len == 0 {
                break;
            }
            for (_, _, name) in dirents(&buffer[..len]) {
                let bytes = name.to_bytes();
                if bytes > after && bound.as_deref().is_none_or(|bound| bytes <= bound) {
                    names.push(name);
                }
            }
            if names.len() >= 2 * WINDOW_NAMES_MAX || names.bytes.len() >= 2 * WINDOW_LEN_MAX {
                bound = names.prune().or(bound);
            }
        }
        let is_last = names.prune().is_none() && bound.is_none();
        Ok(Self { dir: state, after: after.to_vec(), names, is_last })
    }

    /// True if it has the names behind `after`. The start of a directory is read anew.
    fn continues(&self, after: &[u8]) -> bool {
        let has_more = |last: usize| self.is_last || after < self.names.get(last).to_bytes();
        !after.is_empty()
            && *self.after <= *after
            && self.names.len().checked_sub(1).is_some_and(has_more)
    }
}

impl Names {
    fn len(&self) -> usize {
        self.starts.len()
    }

    fn push(&mut self, name: &CStr) {
        let start = u32::try_from(self.bytes.len()).expect("twice a window and one read");
        self.starts.push(start);
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
    }

    fn get(&self, i: usize) -> &CStr {
        let name = CStr::from_bytes_until_nul(&self.bytes[self.starts[i] as usize..]);
        name.expect("every name ends with a zero")
    }

    /// Position of the first name behind `after`; the names are sorted.
    fn position_behind(&self, after: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).to_bytes() <= after {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Sorts the names and keeps those that fit a window; the last of them if others did not fit.
    fn prune(&mut self) -> Option<Vec<u8>> {
        let mut starts = std::mem::take(&mut self.starts);
        let name = |start: u32| {
            let name = CStr::from_bytes_until_nul(&self.bytes[start as usize..]);
            name.expect("every name ends with a zero")
        };
        starts.sort_unstable_by(|&a, &b| name(a).cmp(name(b)));
        // A name that was renamed away and back while the directory was read may come twice.
        starts.dedup_by(|a, b| name(*a) == name(*b));
        let mut kept = Self::default();
        for &start in starts.iter().take(WINDOW_NAMES_MAX) {
            let name = name(start);
            if kept.len() > 0 && kept.bytes.len() + name.count_bytes() >= WINDOW_LEN_MAX {
                break;
            }
            kept.push(name);
        }
        let is_cut = kept.len() < starts.len();
        *self = kept;
        is_cut.then(|| self.get(self.len() - 1).to_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Blob;
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::time::SystemTime;
    use tempfile::TempDir;

    static GOING: AtomicBool = AtomicBool::new(false);

    fn work(after: &[u8], entries_max: u16) -> ListWork {
        let (dataset, dir) = ("d".to_owned(), Blob::default());
        ListWork { dataset, dir, after: after.into(), entries_max, claims: None }
    }

    /// A directory that is listed at some time.
    struct Listed {
        dir: TempDir,
        cache: ListingCache,
        now_ns: i64,
    }

    impl Listed {
        fn new(now_ns: i64) -> Self {
            Self { dir: tempfile::tempdir().unwrap(), cache: ListingCache::default(), now_ns }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn open(&self) -> OwnedFd {
            File::open(self.dir.path()).unwrap().into()
        }

        fn state(&self) -> DirState {
            let (Status { device, stamp, .. }, inode) =
                entry_status(self.open().as_fd(), c"").unwrap();
            DirState { device, inode, stamp }
        }

        fn windows_len(&self) -> usize {
            self.cache.lock().len()
        }

        /// The names of a page, and if there are more.
        #[track_caller]
        fn names(&self, after: &[u8], entries_max: u16) -> (Vec<Vec<u8>>, bool) {
            let work = work(after, entries_max);
            let outcome =
                page(|| Ok(self.open()), &work, (&self.cache, self.now_ns), &GOING).unwrap();
            assert!(outcome.fits(&work), "{outcome:?}");
            let ListOutcome::Page { entries, more } = outcome else { panic!("{outcome:?}") };
            (entries.into_iter().map(|entry| entry.name.0).collect(), more)
        }

        /// All names, by pages of `entries_max`; `between` is done after each page.
        fn all(&self, entries_max: u16, mut between: impl FnMut(usize)) -> Vec<Vec<u8>> {
            let mut all: Vec<Vec<u8>> = Vec::new();
            for pages in 1.. {
                let after = all.last().cloned().unwrap_or_default();
                let (names, more) = self.names(&after, entries_max);
                all.extend(names);
                if !more {
                    break;
                }
                between(pages);
            }
            all
        }

        /// Creates files; their names, sorted.
        fn create(&self, len: usize) -> Vec<Vec<u8>> {
            // Not in the order of their names, and some of them prefixes of others.
            let mut names: Vec<String> = (0..len).map(|i| format!("{}", i * 7919 % len)).collect();
            names.iter().for_each(|name| drop(File::create(self.path(name)).unwrap()));
            names.sort();
            names.into_iter().map(String::into_bytes).collect()
        }
    }

    #[test]
    fn a_directory_larger_than_a_window_is_listed_completely_and_sorted() {
        for now_ns in [0, i64::MAX] {
            let listed = Listed::new(now_ns);
            let want = listed.create(6 * WINDOW_NAMES_MAX + 7);
            for entries_max in [1, 7, 100, 4096] {
                assert_eq!(listed.all(entries_max, |_| {}), want, "pages of {entries_max}");
            }
            assert_eq!(listed.names(&[0xff], 9), (vec![], false), "nothing is behind it");
        }
    }

    #[test]
    fn a_window_serves_the_next_pages_only_while_its_directory_holds_still() {
        let young = Listed::new(0);
        young.create(3 * WINDOW_NAMES_MAX);
        young.all(10, |_| assert_eq!(young.windows_len(), 0, "it may change unnoticed"));
        let listed = Listed::new(i64::MAX);
        let want = listed.create(3 * WINDOW_NAMES_MAX);
        let names = listed.all(10, |page| {
            assert_eq!(listed.windows_len(), usize::from(page % 10 != 0), "page {page}");
        });
        assert_eq!(names, want);
        let (first, _) = listed.names(b"", 10);
        File::create(listed.path("00")).unwrap();
        let old = SystemTime::UNIX_EPOCH;
        File::open(listed.dir.path()).unwrap().set_modified(old).unwrap();
        let (second, _) = listed.names(&first[0], 1);
        assert_eq!(second, [b"00"], "what came is seen, whatever the times say");
        let others: Vec<Listed> = (0..WINDOWS_MAX).map(|_| Listed::new(i64::MAX)).collect();
        for other in others {
            other.create(20);
            page(|| Ok(other.open()), &work(b"", 1), (&listed.cache, i64::MAX), &GOING).unwrap();
        }
        assert_eq!(listed.windows_len(), WINDOWS_MAX, "the oldest goes first");
        assert!(listed.cache.take(listed.state(), &first[0]).is_none());
    }

    #[test]
    fn names_that_vanish_before_they_are_looked_at_are_left_out() {
        let listed = Listed::new(i64::MAX);
        listed.create(3 * WINDOW_NAMES_MAX);
        let dir = listed.open();
        let window = NameWindow::read(dir.as_fd(), listed.state(), b"", &GOING).unwrap();
        assert!(window.names.len() == WINDOW_NAMES_MAX && !window.is_last);
        for i in 0..window.names.len() {
            fs::remove_file(listed.path(window.names.get(i).to_str().unwrap())).unwrap();
        }
        assert_eq!(entry(dir.as_fd(), window.names.get(0)), None);
        // A window that has vanished as a whole is skipped, and not an empty page with more behind it.
        listed.cache.lock().push(NameWindow { dir: listed.state(), ..window });
        let (names, more) = listed.names(b"!", 1);
        assert!(names.len() == 1 && more);
    }

    #[test]
    fn the_memory_of_names_is_bounded_and_a_name_that_comes_twice_counts_once() {
        let mut names = Names::default();
        for name in [c"b", c"a", c"b", c"ab", c"a\xff"] {
            names.push(name);
        }
        assert_eq!(names.prune(), None);
        let sorted: Vec<&CStr> = (0..names.len()).map(|i| names.get(i)).collect();
        assert_eq!(sorted, [c"a", c"ab", c"a\xff", c"b"]);
        let long = |i: u8| std::ffi::CString::new(vec![b'a' + i; WINDOW_LEN_MAX / 4]).unwrap();
        let mut names = Names::default();
        (0..8).rev().for_each(|i| names.push(&long(i)));
        assert_eq!(names.prune().unwrap()[0], b'c', "three of a quarter, each with its zero");
        assert!(names.bytes.len() <= WINDOW_LEN_MAX && names.len() == 3);
    }
}
