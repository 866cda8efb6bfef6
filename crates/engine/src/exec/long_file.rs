//! A file that is hashed while it is read, window by window, by the quiet rule.
//!
//! Drive it by [`LongFile::read`], then [`absorb`] for all files that share a kernel, then
//! [`LongFile::finish`], until that returns an outcome. What did not hold still is read again from its
//! start, or from the last look before its metadata alone changed: `finish` then returns `None`, and the
//! next `read` starts over.
//!
//! Invariants: a digest covers each byte of its range once, in order, all of one content; no file is
//! read more than [`READS_MAX`] times.

use crate::clock::StampClock;
use crate::hash::{Midstate, Stream, Subtree};
use crate::input::io_limit::IoLimit;
use crate::input::open_file::{Handle, LastFileSystem, OpenFile, Validation, failure};
use crate::input::page_cache::PageCache;
use crate::input::quiet::{self, Expected, READS_MAX, Rule, Trial};
use ipc_proto::limits::SEGMENT_ALIGN;
use ipc_proto::message::{Failure, Stamp};
use nix::errno::Errno;
use std::mem;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes between two looks at a file that is being read.
const LOOK_LEN: u64 = 64 << 20;

/// Longer files wait, before they are read, until the tick of the clock in which they were written is over:
/// a read that begins within it proves nothing, and takes longer. In bytes.
const WAIT_LEN_MIN: u64 = 4 << 20;

/// Most bytes of a file that has no size.
const SIZELESS_LEN_MAX: u64 = 1 << 30;

/// Shorter files are not evicted from the page cache. In bytes.
const DROP_LEN_MIN: u64 = 4 << 20;

/// Longest time for which a file server may return a replaced file under a name, from its cache: a
/// little more than the second of virtiofsd.
const STALE_NS: i64 = 1_200_000_000;

/// Interval at which a file that may be a replaced one is opened again.
const REOPEN_NS: i64 = 50_000_000;

/// The computation over the bytes of a file.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    /// SHA-2 at a block border: can be interleaved with others, and saved.
    Midstate(Midstate),
    /// Any algorithms, one after the other over each window.
    Streams(Vec<Stream>),
    /// Part of a BLAKE3 tree.
    Subtree(Subtree),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) -> Option<()> {
        match self {
            Self::Midstate(midstate) => midstate.update(bytes),
            Self::Streams(streams) => streams.iter_mut().for_each(|stream| stream.update(bytes)),
            Self::Subtree(subtree) => subtree.update(bytes)?,
        }
        Some(())
    }

    /// The output, if the input ends behind `rest`, which is less than a block of a midstate.
    fn finish(mut self, rest: &[u8]) -> Option<Vec<u8>> {
        if let Self::Midstate(midstate) = &self {
            return Some(midstate.finish(rest));
        }
        self.update(rest)?;
        match self {
            Self::Streams(streams) => {
                let mut digests = Vec::new();
                streams.into_iter().for_each(|stream| stream.finish(&mut digests));
                Some(digests)
            }
            Self::Subtree(subtree) => subtree.finish().map(Vec::from),
            Self::Midstate(_) => None,
        }
    }
}

/// The bytes of a file that are hashed, and how.
#[derive(Debug)]
pub(crate) struct FileTask<'a> {
    pub(crate) source: OpenFile<'a>,
    /// Its stamp before it is read.
    pub(crate) stamp: Stamp,
    pub(crate) expected: Expected,
    /// Where they start.
    pub(crate) offset: u64,
    /// Number of bytes; `None` for all to the end of the file.
    pub(crate) len: Option<u64>,
    /// Hasher for the bytes from `offset` on. Its midstate may cover some of them.
    pub(crate) hasher: Hasher,
    pub(crate) io_limit: Option<&'a IoLimit>,
    pub(crate) drop_behind: bool,
}

/// Opens a file, which must look as `expected`.
///
/// A name that leads to an older file than its client saw may be answered from memory by whoever
/// shares it: it is opened again until that is a while after `since_ns`.
pub(crate) fn open<'a>(
    mut open: impl FnMut() -> Result<Handle<'a>, Failure>,
    expected: Expected,
    rule: Rule<'_>,
    since_ns: i64,
) -> Result<(OpenFile<'a>, Stamp), Failure> {
    loop {
        let (file, stamp) = open()?.look(&mut LastFileSystem::default())?;
        if expected.admits(stamp, file.validation()) {
            return Ok((file, stamp));
        }
        let now_ns = rule.clock.now().real_ns;
        let may_be_stale = file.validation() == Validation::ForeignClock && expected.is_of_a_name();
        if !may_be_stale || now_ns >= since_ns.saturating_add(STALE_NS) || now_ns < since_ns {
            return Err(Failure::Changed);
        }
        rule.clock.wait_until_after(now_ns.saturating_add(REOPEN_NS));
    }
}

/// A file on its way.
#[derive(Debug)]
pub(crate) struct LongFile<'a> {
    /// With the hasher at the first byte, and the stamp before it.
    task: FileTask<'a>,
    strict: bool,
    hasher: Hasher,
    trial: Trial,
    /// Number of reads, this one included.
    reads: u8,
    /// The read before, and its output.
    last: Option<(Trial, Vec<u8>)>,
    /// The midstate at the last look that saw what the one before the first byte saw.
    steady: Option<Midstate>,
    /// Bytes given to the hasher, or covered by its midstate from the start.
    done_len: u64,
    /// Where it was looked at last.
    looked_len: u64,
    pages: PageCache,
    /// Where in the window the bytes are that were read and not hashed.
    held: Range<usize>,
    /// These are the last bytes.
    is_last: bool,
}

impl<'a> LongFile<'a> {
    /// Starts to read a file that was opened a moment ago.
    pub(crate) fn new(task: FileTask<'a>, rule: Rule<'_>) -> Self {
        if task.stamp.size >= WAIT_LEN_MIN && rule.wants_probe(task.stamp, rule.clock.now()) {
            rule.wait_for_next_tick(task.stamp, task.source.validation());
        }
        let mut file = Self {
            strict: rule.strict,
            hasher: task.hasher.clone(),
            trial: Trial::of(rule, &task.source, task.stamp),
            task,
            reads: 1,
            last: None,
            steady: None,
            done_len: 0,
            looked_len: 0,
            pages: PageCache::new(0, 0, false),
            held: 0..0,
            is_last: false,
        };
        file.rewind();
        file
    }

    /// The midstate and the stamp of the file that it is of, if another worker can resume from there:
    /// bytes that may yet be read again are not to be relied on.
    pub(crate) fn checkpoint(&self, clock: &StampClock) -> Option<(&Midstate, Stamp)> {
        let is_trusted = self.trial.is_trusted(self.rule(clock), self.task.source.validation());
        self.midstate().filter(|_| is_trusted).map(|midstate| (midstate, self.task.stamp))
    }

    /// Bytes that are hashed, or covered by the midstate from the start.
    pub(crate) fn done_len(&self) -> u64 {
        self.done_len
    }

    fn rule<'c>(&self, clock: &'c StampClock) -> Rule<'c> {
        Rule { clock, strict: self.strict }
    }

    /// The state of the hash of what was read so far, if the algorithm has one.
    pub(crate) fn midstate(&self) -> Option<&Midstate> {
        match &self.hasher {
            Hasher::Midstate(midstate) => Some(midstate),
            Hasher::Streams(_) | Hasher::Subtree(_) => None,
        }
    }

    /// Reads the next bytes to `window`, if those before are hashed.
    pub(crate) fn read(
        &mut self,
        window: &mut [u8],
        clock: &StampClock,
        revoked: &AtomicBool,
    ) -> Result<(), Failure> {
        if !self.held.is_empty() || self.is_last {
            return Ok(());
        }
        if revoked.load(Ordering::Relaxed) {
            return Err(failure(Errno::ECANCELED));
        }
        if self.done_len - self.looked_len >= LOOK_LEN {
            self.look(self.rule(clock))?;
        }
        let offset = self.task.offset.saturating_add(self.done_len);
        let _permit = self.task.io_limit.map(IoLimit::acquire);
        self.pages.advance(self.task.source.as_fd(), offset);
        let missing_len = self.read_max().saturating_sub(self.done_len);
        let window_len = usize::try_from(missing_len).map_or(window.len(), |n| n.min(window.len()));
        let len = self.task.source.fill_at(&mut window[..window_len], 0, offset)?;
        self.held = 0..len;
        self.is_last = len < window_len || window_len as u64 == missing_len;
        Ok(())
    }

    /// Bytes to read at most: one more than there should be shows that the file grew.
    fn read_max(&self) -> u64 {
        match self.task.len {
            Some(len) => len,
            None if self.is_sizeless() => SIZELESS_LEN_MAX + 1,
            None => self.task.stamp.size.saturating_sub(self.task.offset).saturating_add(1),
        }
    }

    fn is_sizeless(&self) -> bool {
        match self.task.source.validation() {
            Validation::Sizeless => true,
            Validation::ForeignClock => self.task.stamp.size == 0,
            Validation::LocalClock | Validation::ReadOnly => false,
        }
    }

    /// Returns true if `read_len` bytes are all that the item has.
    fn is_complete(&self, read_len: u64) -> bool {
        match self.task.len {
            Some(len) => read_len == len,
            None if self.is_sizeless() => true,
            None => self.task.offset.saturating_add(read_len) == self.task.stamp.size,
        }
    }

    /// Looks at the file between two reads, and fails early if this read cannot count any more.
    fn look(&mut self, rule: Rule<'_>) -> Result<(), Failure> {
        self.looked_len = self.done_len;
        let now = self.task.source.stamp()?;
        let validation = self.task.source.validation();
        if matches!(validation, Validation::ReadOnly | Validation::Sizeless) {
            return Ok(());
        }
        if !quiet::is_same_content(self.task.stamp, now) {
            return self.read_again(rule, None);
        }
        if !self.trial.is_trusted(rule, validation) {
            // What had young stamps at first has old ones now: one read from here on is enough.
            if !rule.strict && quiet::is_old(now, rule.clock.now()) {
                self.restart(rule)?;
            }
        } else if now == self.task.stamp {
            self.steady = self.midstate().cloned();
        }
        Ok(())
    }

    /// Bytes in its window that are to be hashed together with those of others: whole blocks.
    fn whole_len(&self) -> usize {
        match self.hasher {
            Hasher::Midstate(_) => self.held.len() / SEGMENT_ALIGN * SEGMENT_ALIGN,
            Hasher::Streams(_) | Hasher::Subtree(_) => self.held.len(),
        }
    }

    /// The outcome, once all that is in `window` is hashed, or less than a block, and the last of it.
    pub(crate) fn finish(
        &mut self,
        window: &[u8],
        clock: &StampClock,
    ) -> Option<Result<Vec<u8>, Failure>> {
        if !self.is_last || self.whole_len() > 0 {
            return None;
        }
        self.try_finish(window, self.rule(clock)).transpose()
    }

    fn try_finish(&mut self, window: &[u8], rule: Rule<'_>) -> Result<Option<Vec<u8>>, Failure> {
        let rest = &window[mem::replace(&mut self.held, 0..0)];
        let read_len = self.done_len + rest.len() as u64;
        if self.is_sizeless() && read_len > SIZELESS_LEN_MAX {
            return Err(failure(Errno::EFBIG));
        }
        let after = self.task.source.stamp()?;
        let validation = self.task.source.validation();
        if !self.task.expected.admits(after, validation) {
            return Err(Failure::Changed);
        }
        if !self.is_complete(read_len) {
            return self.read_again(rule, None).map(|()| None);
        }
        let output = self.hasher.clone().finish(rest).ok_or(Failure::Changed)?;
        if self.trial.is_good(rule, validation, after) {
            return Ok(Some(output));
        }
        if let Some((first, last)) = &self.last
            && *last == output
            && first.is_unwritten(rule, validation, after)
        {
            return Ok(Some(output));
        }
        self.read_again(rule, Some(output)).map(|()| None)
    }

    /// Starts another read after one whose output was `output`, if it came to its end.
    fn read_again(&mut self, rule: Rule<'_>, output: Option<Vec<u8>>) -> Result<(), Failure> {
        if self.reads == READS_MAX {
            return Err(Failure::Changed);
        }
        self.reads += 1;
        self.last = output.map(|output| (self.trial, output));
        self.restart(rule)
    }

    fn restart(&mut self, rule: Rule<'_>) -> Result<(), Failure> {
        rule.wait_for_next_tick(self.task.source.stamp()?, self.task.source.validation());
        self.trial = Trial::start(rule, &self.task.source)?;
        let before = self.trial.before().expect("a read that starts with a look");
        if !self.task.expected.admits(before, self.task.source.validation()) {
            return Err(Failure::Changed);
        }
        // Where only metadata changed, what was read before that is good.
        let steady = self.steady.take().filter(|_| quiet::is_same_content(self.task.stamp, before));
        self.hasher = steady.map_or_else(|| self.task.hasher.clone(), Hasher::Midstate);
        self.task.stamp = before;
        self.rewind();
        Ok(())
    }

    /// Goes to where the hasher is.
    fn rewind(&mut self) {
        self.pages.finish(self.task.source.as_fd());
        self.done_len = self.midstate().map_or(0, Midstate::len);
        self.looked_len = self.done_len;
        (self.held, self.is_last) = (0..0, false);
        let end =
            self.task.len.map_or(self.task.stamp.size, |len| self.task.offset.saturating_add(len));
        let start = self.task.offset.saturating_add(self.done_len);
        let drops = self.task.drop_behind && end - self.task.offset.min(end) >= DROP_LEN_MIN;
        self.pages = PageCache::new(start, end.saturating_sub(start), drops);
    }
}

impl Drop for LongFile<'_> {
    fn drop(&mut self) {
        self.pages.finish(self.task.source.as_fd());
    }
}

/// Hashes what was read: as many whole blocks of each midstate that has any, all that is there of the
/// others.
pub(crate) fn absorb<'f, 'a: 'f>(files: impl Iterator<Item = (&'f mut LongFile<'a>, &'f [u8])>) {
    let mut files: Vec<_> = files.filter(|(file, _)| file.whole_len() > 0).collect();
    let Some(len) = files.iter().map(|(file, _)| file.whole_len()).min() else { return };
    let (mut midstates, mut data) = (Vec::new(), Vec::new());
    for (file, window) in &mut files {
        let bytes = &window[file.held.start..][..len];
        file.held.start += len;
        file.done_len += len as u64;
        match &mut file.hasher {
            Hasher::Midstate(midstate) => {
                midstates.push(midstate);
                data.push(bytes);
            }
            other @ (Hasher::Streams(_) | Hasher::Subtree(_)) => {
                other.update(bytes).expect("no more is read than a subtree has");
            }
        }
    }
    Midstate::update_many(&mut midstates, &data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::Hands;
    use crate::clock::{MARGIN_NS, nanoseconds};
    use crate::hash::Backend;
    use ipc_proto::Algorithm;
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::path::Path;
    use test_kit::pattern;

    static GOING: AtomicBool = AtomicBool::new(false);

    const LEN: usize = 300_000;

    fn digest(bytes: &[u8]) -> Vec<u8> {
        Backend::PORTABLE.digests(Algorithm::Sha256, &[bytes])
    }

    fn open_long(path: &Path, expected: Expected, rule: Rule<'_>) -> LongFile<'static> {
        let open = || Ok(Handle::Owned(File::open(path).unwrap().into()));
        let (source, stamp) = open_any(open, expected, rule);
        let hasher = Hasher::Midstate(Midstate::new(Algorithm::Sha256).unwrap());
        let (offset, len, io_limit, drop_behind) = (0, None, None, false);
        let task = FileTask { source, stamp, expected, offset, len, hasher, io_limit, drop_behind };
        LongFile::new(task, rule)
    }

    fn open_any(
        open: impl FnMut() -> Result<Handle<'static>, Failure>,
        expected: Expected,
        rule: Rule<'_>,
    ) -> (OpenFile<'static>, Stamp) {
        super::open(open, expected, rule, rule.clock.now().real_ns).unwrap()
    }

    /// Runs it to its end, with something after each window; how often it was read.
    fn finish(
        mut file: LongFile<'_>,
        clock: &StampClock,
        mut between: impl FnMut(u8),
    ) -> (u8, Result<Vec<u8>, Failure>) {
        let mut window = vec![0; 64 << 10];
        loop {
            if let Err(failure) = file.read(&mut window, clock, &GOING) {
                return (file.reads, Err(failure));
            }
            absorb([(&mut file, &*window)].into_iter());
            between(file.reads);
            if let Some(outcome) = file.finish(&window, clock) {
                return (file.reads, outcome);
            }
        }
    }

    fn now_ns(path: &Path) -> i64 {
        let meta = fs::metadata(path).unwrap();
        nanoseconds(meta.ctime(), meta.ctime_nsec())
    }

    /// Number of reads of a file, by the age of its stamps and its possible writers.
    #[test]
    fn reads_a_file_again_only_where_it_may_not_have_held_still() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes = pattern(LEN);
        let want = Ok(digest(&bytes));
        const SECOND: i64 = 1_000_000_000;
        for (what, age_ns, is_open, strict, reads) in [
            ("old", MARGIN_NS + 1, false, false, 1),
            ("old, open for writing", MARGIN_NS + 1, true, false, 1),
            ("old, strict", MARGIN_NS + 1, false, true, 1),
            ("old, open for writing, strict", MARGIN_NS + 1, true, true, 2),
            ("young", SECOND, false, false, 1),
            ("young, open for writing", SECOND, true, false, 2),
        ] {
            let hands = Hands::default();
            fs::write(&path, &bytes).unwrap();
            let writer = is_open.then(|| File::options().write(true).open(&path).unwrap());
            hands.pass(now_ns(&path) + age_ns);
            let clock = hands.clock();
            let file = open_long(&path, Expected::Any, Rule { clock: &clock, strict });
            assert_eq!(finish(file, &clock, |_| {}), (reads, want.clone()), "{what}");
            drop(writer);
        }
    }

    #[test]
    fn rereads_a_changing_file_at_most_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        type Change = fn(&File, u8);
        let changes: [(&str, Change); 3] = [
            ("grows", |file, i| file.set_len(LEN as u64 + 1 + u64::from(i)).unwrap()),
            ("shrinks", |file, i| file.set_len(LEN as u64 / 2 - u64::from(i)).unwrap()),
            ("is written", |file, i| file.write_all_at(&[i], 5).unwrap()),
        ];
        for (what, change) in changes {
            for last in 1..=READS_MAX {
                fs::write(&path, pattern(LEN)).unwrap();
                let writer = File::options().write(true).open(&path).unwrap();
                let clock = StampClock::default();
                let rule = Rule { clock: &clock, strict: false };
                let (mut writer, mut changed) = (Some(writer), 0);
                let file = open_long(&path, Expected::Any, rule);
                let (reads, outcome) = finish(file, &clock, |read| {
                    if let Some(file) = writer.as_ref().filter(|_| changed < read) {
                        changed = read;
                        change(file, read);
                    }
                    // Then nobody can write any more.
                    if changed == last {
                        writer = None;
                    }
                });
                let want = Ok(digest(&fs::read(&path).unwrap()));
                let want = if last == READS_MAX { Err(Failure::Changed) } else { want };
                let reads_wanted = (last + 1).min(READS_MAX);
                assert_eq!((reads, outcome), (reads_wanted, want), "{what} {last} times");
            }
        }
    }

    /// One that another reader has the other parts of, or that is checked, is not read as it is now.
    #[test]
    fn a_part_is_not_hashed_from_later_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, pattern(LEN)).unwrap();
        let clock = StampClock::default();
        let rule = Rule { clock: &clock, strict: false };
        let open = || Ok(Handle::Owned(File::open(&path).unwrap().into()));
        let (_, stamp) = open_any(open, Expected::Any, rule);
        for (expected, want_metadata) in [
            (Expected::SameContent(stamp), Ok(digest(&pattern(LEN)))),
            (Expected::SameFile(stamp), Err(Failure::Changed)),
        ] {
            let later = fs::metadata(&path).unwrap().modified().unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            if want_metadata.is_err() {
                let open = || Ok(Handle::Owned(File::open(&path).unwrap().into()));
                let opened = super::open(open, expected, rule, 0);
                assert_eq!(
                    opened.map(|_| ()),
                    Err(Failure::Changed),
                    "its metadata changed before"
                );
                continue;
            }
            let long = open_long(&path, expected, rule);
            // Sets what it was.
            let (_, outcome) = finish(long, &clock, |_| file.set_modified(later).unwrap());
            assert_eq!(outcome, want_metadata, "{expected:?}");
            let long = open_long(&path, expected, rule);
            let (_, outcome) = finish(long, &clock, |_| file.set_len(5).unwrap());
            assert_eq!(outcome, Err(Failure::Changed), "{expected:?}");
            fs::write(&path, pattern(LEN)).unwrap();
            file.set_modified(later).unwrap();
        }
    }

    #[test]
    fn a_revoked_read_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let clock = StampClock::default();
        let rule = Rule { clock: &clock, strict: false };
        let mut file = open_long(&path, Expected::Any, rule);
        let revoked = AtomicBool::new(true);
        let result = file.read(&mut [0; 4096], &clock, &revoked);
        assert_eq!(result, Err(failure(Errno::ECANCELED)));
    }
}
