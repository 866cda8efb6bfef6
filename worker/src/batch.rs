//! Whole files of one batch: small ones are read one after the other and hashed beside each other.
//!
//! Invariant: outputs come in the order of the files that did not fail.

use crate::datasets::{Datasets, Found};
use crate::hash::Kernels;
use crate::source::{self, Whole};
use crate::task::Output;
use ipc_proto::message::{Failure, Named, Stamp};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Files up to this size are read whole, several beside each other where a backend has lanes.
const SMALL_LEN_MAX: u64 = 128 << 10;

/// Most files that are read before they are hashed together.
pub(crate) const GROUP_MAX: usize = 16;

/// A batch of files on its way.
pub(crate) struct Batch<'a> {
    pub(crate) kernels: Kernels,
    /// Whether open files have to be as the client saw them, and not just hold still.
    pub(crate) strict: bool,
    pub(crate) buffer: &'a mut [u8],
    pub(crate) group: Group,
    pub(crate) revoked: &'a AtomicBool,
    pub(crate) output: &'a mut Output,
}

/// Files that are in the buffer and not hashed yet, back to back.
pub(crate) struct Group {
    spans: [Range<usize>; GROUP_MAX],
    len: usize,
    /// As many as a backend likes at once.
    max: usize,
    bytes_len: usize,
}

impl Group {
    pub(crate) fn new(max: usize) -> Self {
        Self { spans: [const { 0..0 }; GROUP_MAX], len: 0, max, bytes_len: 0 }
    }
}

impl Batch<'_> {
    /// Hashes open files.
    pub(crate) fn run(&mut self, stamps: &[Stamp], files: &[OwnedFd]) {
        self.each(stamps.iter().zip(files), |batch, (&stamp, file)| {
            batch.passed(file.as_fd(), stamp)
        });
    }

    /// Hashes files of a dataset.
    pub(crate) fn run_named(&mut self, datasets: &Datasets, dataset: &str, files: &[Named]) {
        self.each(files.iter(), |batch, named| batch.found(&datasets.find(dataset, named)?));
    }

    fn each<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        mut hash: impl FnMut(&mut Self, T) -> Result<(), Failure>,
    ) {
        for (position, item) in (0..).zip(items) {
            if self.revoked.load(Ordering::Relaxed) {
                return;
            }
            if let Err(failure) = hash(self, item) {
                self.output.failures.push((position, failure));
            }
        }
        self.hash_group();
    }

    fn passed(&mut self, file: BorrowedFd<'_>, stamp: Stamp) -> Result<(), Failure> {
        if stamp.size > SMALL_LEN_MAX {
            let before = source::stamp_of(file)?;
            if self.strict && before != stamp {
                return Err(Failure::Changed);
            }
            return self.stream(file, before);
        }
        let start = self.make_room(stamp.size);
        match source::read_whole(file, stamp, &mut self.buffer[start..])? {
            Whole::Read { len } => {
                self.push(len);
                Ok(())
            }
            Whole::Unequal { .. } if self.strict => Err(Failure::Changed),
            // It may have changed while it waited: what counts is that it holds still from now on.
            Whole::Unequal { now } => self.stream(file, now),
        }
    }

    fn found(&mut self, file: &Found) -> Result<(), Failure> {
        if file.size() > SMALL_LEN_MAX {
            self.hash_group();
            let mut stream = self.kernels.stream();
            file.read_stream(self.buffer, self.revoked, |bytes| stream.update(bytes))?;
            stream.finish(&mut self.output.outputs);
            return Ok(());
        }
        let start = self.make_room(file.size());
        let len = file.read_whole(&mut self.buffer[start..])?;
        self.push(len);
        Ok(())
    }

    /// Where in the buffer a small file and one more byte can be read to.
    fn make_room(&mut self, size: u64) -> usize {
        let free_len = (self.buffer.len() - self.group.bytes_len) as u64;
        if free_len <= size {
            self.hash_group();
        }
        self.group.bytes_len
    }

    /// Takes the next `len` bytes of the buffer for a file.
    fn push(&mut self, len: usize) {
        let start = self.group.bytes_len;
        self.group.spans[self.group.len] = start..start + len;
        self.group.len += 1;
        self.group.bytes_len += len;
        if self.group.len == self.group.max {
            self.hash_group();
        }
    }

    fn hash_group(&mut self) {
        let mut inputs = [&[][..]; GROUP_MAX];
        let inputs = &mut inputs[..self.group.len];
        for (input, span) in inputs.iter_mut().zip(&self.group.spans) {
            *input = &self.buffer[span.clone()];
        }
        self.kernels.hash_many(inputs, &mut self.output.outputs);
        self.group.len = 0;
        self.group.bytes_len = 0;
    }

    /// Reads and hashes a file of any size, which has to stay as it was `before`.
    fn stream(&mut self, file: BorrowedFd<'_>, before: Stamp) -> Result<(), Failure> {
        self.hash_group();
        let mut stream = self.kernels.stream();
        let sink = |bytes: &[u8]| stream.update(bytes);
        source::read_stream(file, before, self.buffer, self.revoked, sink)?
            .map_err(|_| Failure::Changed)?;
        stream.finish(&mut self.output.outputs);
        Ok(())
    }
}
