//! Files that the process that hashes them opens itself: no client has looked at them before, so that
//! their lengths are unknown.
//!
//! [`hash_small`] opens some, reads each and looks at it once, then closes them and hashes them
//! together. Whatever is not small, not in memory or does not hold still is handed back open, for
//! [`hash_long`], [`hash_stream`] or an order of descriptors (`run`).

use crate::clock::Moment;
use crate::exec::interleave::{self, FileQueue};
use crate::exec::long_file::{FileTask, Hasher, LongFile};
use crate::exec::order::{Scratch, ScratchParts};
use crate::exec::small_files::{GROUP_MAX, is_enough, stride};
use crate::hash::{FEW_LEN_MAX, FEW_MAX, Kernels, Midstate, Stream};
use crate::input::open_file::{BUFFER_LEN, Handle, LastFileSystem, OpenFile, Validation, failure};
use crate::input::quiet::{Expected, Rule, Trial};
use ipc_proto::Algorithm;
use ipc_proto::message::{Failure, Stamp};
use nix::errno::Errno;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

/// Bytes of a file that are asked for before anything is known of it.
const FIRST_LEN: usize = 64 << 10;

/// Opens the files of a batch, and takes what becomes of them.
pub trait LocalFiles {
    /// Opens the next file and names it; `None` after the last one.
    ///
    /// # Errors
    /// No descriptor is free: the files that are open are closed before it is called again.
    fn open(&mut self) -> Result<Option<(usize, OwnedFd)>, NoDescriptor>;

    /// The digest of a file of `size` bytes.
    fn done(&mut self, name: usize, size: u64, digest: &[u8]);

    /// A file that is for something else: nothing of it was taken, not from a FIFO either.
    fn other(&mut self, name: usize, file: OwnedFd);
}

/// No descriptor is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDescriptor;

/// Hashes small files, at most `open_max` of which are open at once.
pub fn hash_small(
    files: &mut impl LocalFiles,
    algorithm: Algorithm,
    strict: bool,
    open_max: usize,
    scratch: &mut Scratch,
) {
    let ScratchParts { buffer, clock, options, .. } = scratch.tools();
    let open_max = open_max.clamp(1, GROUP_MAX);
    let mut opened = Vec::with_capacity(open_max);
    let mut is_last = open_some(files, open_max, &mut opened);
    let mut group = Group {
        rule: Rule { clock, strict },
        start: clock.now(),
        algorithm,
        are_few: is_last && opened.len() <= FEW_MAX,
        buffer,
        can_read_ready: true,
        last_file_system: LastFileSystem::default(),
        slots: Vec::with_capacity(GROUP_MAX),
        spent: Vec::with_capacity(GROUP_MAX),
        used_len: 0,
        digests: Vec::new(),
        is_large_expected: false,
    };
    loop {
        group.start = clock.now();
        for (name, file) in opened.drain(..) {
            group.add(name, file, files);
        }
        // Not one by one: that takes twice as long.
        (options.close)(mem::take(&mut group.spent));
        group.hash(files);
        if is_last {
            return;
        }
        is_last = open_some(files, open_max, &mut opened);
    }
}

/// Opens files until `open_max` of them are open; true after the last one.
fn open_some(
    files: &mut impl LocalFiles,
    open_max: usize,
    opened: &mut Vec<(usize, OwnedFd)>,
) -> bool {
    while opened.len() < open_max {
        match files.open() {
            Ok(Some(file)) => opened.push(file),
            Ok(None) => return true,
            Err(NoDescriptor) => return false,
        }
    }
    false
}

/// Files that are read and not hashed.
struct Group<'a> {
    rule: Rule<'a>,
    /// Before the first of them was read.
    start: Moment,
    algorithm: Algorithm,
    /// There are so few that measuring the backends may take longer than hashing them.
    are_few: bool,
    buffer: &'a mut [u8],
    can_read_ready: bool,
    last_file_system: LastFileSystem,
    slots: Vec<LocalSlot>,
    /// Read, and to be closed.
    spent: Vec<OwnedFd>,
    used_len: usize,
    digests: Vec<u8>,
    /// The last file was large: the next one is looked at before it is read.
    is_large_expected: bool,
}

struct LocalSlot {
    name: usize,
    start: usize,
    len: usize,
}

impl Group<'_> {
    fn kernels(&self) -> Kernels {
        match self.are_few && self.used_len <= FEW_LEN_MAX {
            true => Kernels::of_few(self.algorithm),
            false => Kernels::usual(self.algorithm),
        }
    }

    fn add(&mut self, name: usize, file: OwnedFd, files: &mut impl LocalFiles) {
        let handle = Handle::Owned(file);
        match self.read(&handle, files) {
            Some(len) => {
                let (file, start) = (handle.into_owned(), self.used_len);
                self.slots.push(LocalSlot { name, start, len });
                self.used_len = (start + stride(len)).min(self.buffer.len());
                self.spent.extend(file);
                let has_lanes = self.kernels().preferred_batch() > 1;
                let algorithm = Some(self.algorithm);
                if is_enough(has_lanes, algorithm, self.used_len, self.slots.len()) {
                    self.hash(files);
                }
            }
            None => {
                if let Some(file) = handle.into_owned() {
                    files.other(name, file);
                }
            }
        }
    }

    /// Reads a file to the end of what is used of the buffer; its length, if it is small, in memory and
    /// held still.
    fn read(&mut self, handle: &Handle<'_>, files: &mut impl LocalFiles) -> Option<usize> {
        let mut want_len = FIRST_LEN;
        if self.is_large_expected {
            want_len = handle.look_at(&mut self.last_file_system).ok()?.1.size.try_into().ok()?;
            self.is_large_expected = want_len > FIRST_LEN;
        }
        loop {
            if want_len > FEW_LEN_MAX
                && want_len > BUFFER_LEN / Kernels::usual(self.algorithm).interleave_max().max(2)
            {
                return None;
            }
            if self.buffer.len() - self.used_len <= want_len {
                self.hash(files);
            }
            let buffer = &mut self.buffer[self.used_len..=self.used_len + want_len];
            let len = handle.read_ready(buffer, &mut self.can_read_ready).ok()??;
            let (validation, now) = handle.look_at(&mut self.last_file_system).ok()?;
            let size = usize::try_from(now.size).ok()?;
            if len == size && len <= want_len {
                let is_good = validation != Validation::Sizeless
                    && Trial::without_look(self.start).is_good(self.rule, validation, now);
                return is_good.then_some(len);
            }
            self.is_large_expected = size > FIRST_LEN;
            // It is longer than was thought, or not all of it is in memory.
            if len <= want_len || size <= want_len {
                return None;
            }
            want_len = size;
        }
    }

    fn hash(&mut self, files: &mut impl LocalFiles) {
        let mut inputs = [&[][..]; GROUP_MAX];
        let inputs = &mut inputs[..self.slots.len()];
        for (input, slot) in inputs.iter_mut().zip(&self.slots) {
            *input = &self.buffer[slot.start..slot.start + slot.len];
        }
        self.digests.clear();
        if !inputs.is_empty() {
            self.kernels().hash_many(inputs, &mut self.digests);
        }
        let digests = self.digests.chunks_exact(self.algorithm.digest_len());
        for (slot, digest) in self.slots.drain(..).zip(digests) {
            files.done(slot.name, slot.len as u64, digest);
        }
        self.used_len = 0;
    }
}

/// Supplies long files that are hashed while they are read, and takes their outcomes.
pub trait LongFiles {
    /// Names a file.
    type Name;

    /// The next file to hash now, if there is one: open, and known to be regular.
    fn next(&mut self) -> Option<(Self::Name, Result<OwnedFd, Failure>)>;

    /// More of the file is hashed, of which this many bytes are hashed now.
    fn advanced(&mut self, name: &mut Self::Name, done_len: u64);

    /// Its digest, or why it has none.
    fn done(&mut self, name: Self::Name, outcome: Result<Vec<u8>, Failure>);
}

/// Hashes files of one algorithm while they are read, interleaved where that is faster.
pub fn hash_long(
    files: &mut impl LongFiles,
    algorithm: Algorithm,
    strict: bool,
    scratch: &mut Scratch,
    stopped: &AtomicBool,
) {
    let files_max = interleave_max(algorithm);
    let ScratchParts { buffer, clock, options, .. } = scratch.tools();
    let windows = match Midstate::new(algorithm) {
        Some(_) => interleave::windows(buffer, files_max),
        None => vec![&mut buffer[..BUFFER_LEN]],
    };
    let rule = Rule { clock, strict };
    let hasher = || match Midstate::new(algorithm) {
        Some(midstate) => Hasher::Midstate(midstate),
        None => Hasher::Streams(vec![Stream::new(algorithm)]),
    };
    let mut queue = Queue { files, rule, hasher, drop_behind: options.drop_behind, stopped };
    interleave::run(&mut queue, windows, clock);
}

/// Number of long files that are best hashed at once by one thread.
#[must_use]
pub fn interleave_max(algorithm: Algorithm) -> usize {
    match Midstate::new(algorithm) {
        Some(_) => Kernels::usual(algorithm).interleave_max(),
        None => 1,
    }
}

/// Hashes one file by `streams`, whose digests come back to back, from its start, by the quiet rule.
///
/// # Errors
/// Why it has no digest.
pub fn hash_stream(
    file: OwnedFd,
    streams: &[Stream],
    strict: bool,
    scratch: &mut Scratch,
    stopped: &AtomicBool,
) -> Result<Vec<u8>, Failure> {
    let ScratchParts { buffer, clock, options, .. } = scratch.tools();
    let mut one = One { file: Some(file), outcome: None };
    let mut queue = Queue {
        files: &mut one,
        rule: Rule { clock, strict },
        hasher: || Hasher::Streams(streams.to_vec()),
        drop_behind: options.drop_behind,
        stopped,
    };
    interleave::run(&mut queue, vec![&mut buffer[..BUFFER_LEN]], clock);
    one.outcome.unwrap_or(Err(failure(Errno::ECANCELED)))
}

struct One {
    file: Option<OwnedFd>,
    outcome: Option<Result<Vec<u8>, Failure>>,
}

impl LongFiles for One {
    type Name = ();

    fn next(&mut self) -> Option<((), Result<OwnedFd, Failure>)> {
        self.file.take().map(|file| ((), Ok(file)))
    }

    fn advanced(&mut self, (): &mut (), _: u64) {}

    fn done(&mut self, (): (), outcome: Result<Vec<u8>, Failure>) {
        self.outcome = Some(outcome);
    }
}

struct Queue<'q, F, H> {
    files: &'q mut F,
    rule: Rule<'q>,
    hasher: H,
    drop_behind: bool,
    stopped: &'q AtomicBool,
}

impl<F: LongFiles, H: Fn() -> Hasher> FileQueue<'static> for Queue<'_, F, H> {
    type Ticket = F::Name;

    fn next(&mut self) -> Option<(F::Name, Result<LongFile<'static>, Failure>)> {
        let (name, file) = self.files.next()?;
        let opened = file.and_then(|file| Handle::Owned(file).look(&mut LastFileSystem::default()));
        let file = opened.map(|(source, stamp): (OpenFile<'static>, Stamp)| {
            let (expected, hasher) = (Expected::Any, (self.hasher)());
            let (offset, len, io_limit, drop_behind) = (0, None, None, self.drop_behind);
            let task =
                FileTask { source, stamp, expected, offset, len, hasher, io_limit, drop_behind };
            LongFile::new(task, self.rule)
        });
        Some((name, file))
    }

    fn revoked<'t>(&'t self, _: &'t F::Name) -> &'t AtomicBool {
        self.stopped
    }

    fn advanced(&mut self, name: &mut F::Name, file: &LongFile<'static>) {
        self.files.advanced(name, file.done_len());
    }

    fn done(&mut self, name: F::Name, outcome: Result<Vec<u8>, Failure>, _: u64) {
        self.files.done(name, outcome);
    }
}
