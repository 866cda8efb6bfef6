//! Doing one batch: what an [`Order`] asks for, with the memory of one thread.
//!
//! Invariants: every item gets an output or a failure, outputs in the order of the items; a
//! descriptor is closed as soon as it is read; nothing that a peer can put into an order panics.

use crate::hash::{self, Backend, Subtree};
use crate::source::{self, BUFFER_LEN, READS_MAX, Whole};
use ipc_proto::Algorithm;
use ipc_proto::message::{Failure, Failures, Piece, Stamp, Work};
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Files up to this size are read whole, several beside each other where a backend has lanes.
const SMALL_LEN_MAX: u64 = 128 << 10;

/// Most files that are read before they are hashed together.
const GROUP_MAX: usize = 16;

/// What the start and end of a message cost, in bytes hashed: for [`Order::cost_len`].
const MESSAGE_COST_LEN: usize = 64;

/// What there is to do.
#[derive(Debug)]
pub struct Order {
    /// What to compute.
    pub algorithm: Algorithm,
    /// Of what.
    pub work: Work,
    /// As many as `work` needs.
    pub descriptors: Vec<OwnedFd>,
}

impl Order {
    /// How many bytes take about as long to hash, or `None` if there are files to read.
    #[must_use]
    pub fn cost_len(&self) -> Option<usize> {
        match &self.work {
            Work::Messages { lens, data } => Some(data.len() + lens.len() * MESSAGE_COST_LEN),
            Work::Piece(piece) => Some(piece.len() + MESSAGE_COST_LEN),
            Work::Files { .. } | Work::Part { .. } => None,
        }
    }
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Outputs of the items that did not fail, back to back.
    pub outputs: Vec<u8>,
    /// The items that failed.
    pub failures: Failures,
}

/// The memory that a thread works in, used again for every batch.
pub struct Scratch(Box<[u8]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; BUFFER_LEN].into())
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// Does `order`. Once `revoked` is true it may stop early, with an output that means nothing.
#[must_use]
pub fn run(order: Order, scratch: &mut Scratch, revoked: &AtomicBool) -> Output {
    let Order { algorithm, work, mut descriptors } = order;
    let backend = Backend::best_for(algorithm);
    let mut output = Output::default();
    match work {
        Work::Files { files } => {
            let group_max = backend.lanes().min(GROUP_MAX);
            let mut batch = Batch {
                backend,
                algorithm,
                buffer: &mut scratch.0,
                group: Group::new(group_max),
                revoked,
                output: &mut output,
            };
            batch.run(files.into_iter().zip(descriptors));
        }
        Work::Messages { lens, data } => {
            backend.hash_many(algorithm, &split(&lens, &data), &mut output.outputs);
        }
        Work::Part { file, offset, len } => {
            let result = match descriptors.pop() {
                Some(source) if algorithm == Algorithm::Blake3 => {
                    part(source.as_fd(), file, offset, len, &mut scratch.0, revoked)
                }
                _ => Err(Failure::Invalid),
            };
            match result {
                Ok(value) => output.outputs.extend_from_slice(&value),
                Err(failure) => output.failures.push((0, failure)),
            }
        }
        Work::Piece(piece) => match step(algorithm, &piece) {
            Some(value) => output.outputs = value,
            None => output.failures.push((0, Failure::Invalid)),
        },
    }
    output
}

/// The messages in `data`; those that it does not have are left out.
fn split<'a>(lens: &[u32], mut data: &'a [u8]) -> Vec<&'a [u8]> {
    let mut messages = Vec::with_capacity(lens.len());
    for &len in lens {
        let Some((message, rest)) = data.split_at_checked(len as usize) else { break };
        messages.push(message);
        data = rest;
    }
    messages
}

fn step(algorithm: Algorithm, piece: &Piece) -> Option<Vec<u8>> {
    match (algorithm, piece) {
        (Algorithm::Blake3, Piece::Subtree { offset, data }) => {
            let mut subtree = Subtree::new(*offset, data.len() as u64)?;
            subtree.update(data)?;
            subtree.finish().map(Vec::from)
        }
        (Algorithm::Blake3, Piece::Merge { values, root }) => {
            hash::merge(values, *root).map(Vec::from)
        }
        (_, Piece::Segment { state, data, last }) => hash::segment(algorithm, state, data, *last),
        (_, Piece::Subtree { .. } | Piece::Merge { .. }) => None,
    }
}

fn part(
    file: BorrowedFd<'_>,
    stamp: Stamp,
    offset: u64,
    len: u64,
    buffer: &mut [u8],
    revoked: &AtomicBool,
) -> Result<hash::ChainingValue, Failure> {
    let mut subtree = Subtree::new(offset, len).ok_or(Failure::Invalid)?;
    let mut fits = Some(());
    source::read_part(file, stamp, offset, len, buffer, revoked, |bytes| {
        fits = fits.and_then(|()| subtree.update(bytes));
    })?;
    fits.and_then(|()| subtree.finish()).ok_or(Failure::Changed)
}

/// A batch of files on its way.
struct Batch<'a> {
    backend: Backend,
    algorithm: Algorithm,
    buffer: &'a mut [u8],
    group: Group,
    revoked: &'a AtomicBool,
    output: &'a mut Output,
}

/// Files that are in the buffer and not hashed yet, back to back.
struct Group {
    spans: [Range<usize>; GROUP_MAX],
    len: usize,
    /// As many as a backend likes at once.
    max: usize,
    bytes_len: usize,
}

impl Group {
    fn new(max: usize) -> Self {
        Self { spans: [const { 0..0 }; GROUP_MAX], len: 0, max, bytes_len: 0 }
    }
}

impl Batch<'_> {
    fn run(&mut self, files: impl Iterator<Item = (Stamp, OwnedFd)>) {
        for (position, (stamp, file)) in (0..).zip(files) {
            if self.revoked.load(Ordering::Relaxed) {
                return;
            }
            if let Err(failure) = self.file(file.as_fd(), stamp) {
                self.output.failures.push((position, failure));
            }
        }
        self.hash_group();
    }

    fn file(&mut self, file: BorrowedFd<'_>, stamp: Stamp) -> Result<(), Failure> {
        if stamp.size > SMALL_LEN_MAX {
            let before = source::stamp_of(file)?;
            return self.stream(file, before, READS_MAX);
        }
        let free_len = (self.buffer.len() - self.group.bytes_len) as u64;
        if free_len <= stamp.size {
            self.hash_group();
        }
        let start = self.group.bytes_len;
        match source::read_whole(file, stamp, &mut self.buffer[start..])? {
            Whole::Read { len } => {
                self.group.spans[self.group.len] = start..start + len;
                self.group.len += 1;
                self.group.bytes_len += len;
                if self.group.len == self.group.max {
                    self.hash_group();
                }
                Ok(())
            }
            Whole::Unequal { now } => self.stream(file, now, READS_MAX - 1),
        }
    }

    fn hash_group(&mut self) {
        let mut inputs = [&[][..]; GROUP_MAX];
        let inputs = &mut inputs[..self.group.len];
        for (input, span) in inputs.iter_mut().zip(&self.group.spans) {
            *input = &self.buffer[span.clone()];
        }
        self.backend.hash_many(self.algorithm, inputs, &mut self.output.outputs);
        self.group.len = 0;
        self.group.bytes_len = 0;
    }

    /// Reads and hashes a file of any size, up to `reads_max` times until it holds still.
    fn stream(
        &mut self,
        file: BorrowedFd<'_>,
        mut before: Stamp,
        reads_max: u32,
    ) -> Result<(), Failure> {
        self.hash_group();
        for _ in 0..reads_max {
            let mut stream = self.backend.stream(self.algorithm);
            let sink = |bytes: &[u8]| stream.update(bytes);
            match source::read_stream(file, before, self.buffer, self.revoked, sink)? {
                Ok(()) => {
                    stream.finish(&mut self.output.outputs);
                    return Ok(());
                }
                Err(now) => before = now,
            }
        }
        Err(Failure::Changed)
    }
}
