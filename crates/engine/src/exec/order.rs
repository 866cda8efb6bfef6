//! Orders, their outputs, and the memory in which one thread carries them out.

use crate::clock::StampClock;
use crate::exec::checkpointed::REPORT_LEN;
use crate::hash::{FEW_LEN_MAX, FEW_MAX, Kernels};
use crate::input::dataset::{DatasetReader, Datasets};
use crate::input::io_limit::IoLimit;
use crate::input::open_file::{BUFFER_LEN, Handle};
use crate::input::reader::Reader;
use crate::input::sys;
use ipc_proto::limits::LONG_LEN;
use ipc_proto::message::{Failure, Failures, FileItem, FileSource, Work};
use ipc_proto::{Algorithms, Blob};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

/// Alignment of a thread's buffer, in bytes.
pub(crate) const PAGE_LEN: usize = 4096;

/// The cost of the start and end of a message, in bytes hashed: for [`Order::cost_len`].
const MESSAGE_COST_LEN: usize = 64;

/// Work for one thread.
#[derive(Debug)]
pub struct Order {
    /// The digests of each item, in this order.
    pub algorithms: Algorithms,
    /// The items.
    pub work: Work,
    /// As many as `work` needs.
    pub descriptors: Vec<OwnedFd>,
    /// This is a cross-check: it is hashed by other kernels than usual.
    pub check: bool,
    /// Every file is probed for writers, however old its stamps are.
    pub strict_reads: bool,
}

impl Order {
    /// An order that is neither a cross-check nor strict.
    #[must_use]
    pub fn new(algorithms: Algorithms, work: Work, descriptors: Vec<OwnedFd>) -> Self {
        Self { algorithms, work, descriptors, check: false, strict_reads: false }
    }

    /// Cost of the order, in bytes that take about as long to hash; `None` if files must be read.
    #[must_use]
    pub fn cost_len(&self) -> Option<usize> {
        match &self.work {
            Work::Inline { lens, data } => {
                Some((data.len() + lens.len() * MESSAGE_COST_LEN) * self.algorithms.len())
            }
            Work::Piece(piece) => Some(piece.len() + MESSAGE_COST_LEN),
            Work::Files { .. } | Work::Subtree { .. } | Work::Resume { .. } | Work::List(_) => None,
        }
    }

    /// True if a worker whose threads all have such orders begins a shorter one at once.
    #[must_use]
    pub fn is_long(&self) -> bool {
        let len = match &self.work {
            Work::Files { files, .. } => files_len(files),
            Work::Resume { file, offset, .. } => file.len().saturating_sub(*offset),
            Work::Subtree { len, .. } => *len,
            Work::Inline { .. } | Work::Piece(_) | Work::List(_) => 0,
        };
        len >= LONG_LEN
    }

    /// True for a few short files.
    fn is_little(&self) -> bool {
        matches!(&self.work, Work::Files { files, .. }
            if files.len() <= FEW_MAX && files_len(files) <= FEW_LEN_MAX as u64)
    }

    /// The kernels of each algorithm, resolved once per batch.
    pub(crate) fn kernels(&self) -> impl Iterator<Item = Kernels> {
        let kernels = match self.check {
            true => Kernels::others,
            false if self.is_little() => Kernels::of_few,
            false => Kernels::usual,
        };
        self.algorithms.iter().map(move |&algorithm| kernels(algorithm))
    }
}

fn files_len(files: &[FileItem]) -> u64 {
    files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.len()))
}

/// Outcomes of the items of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Outputs of the items that did not fail, back to back.
    pub outputs: Vec<u8>,
    /// The items that failed.
    pub failures: Failures,
}

impl Output {
    /// The outcome of a batch of one item.
    pub(crate) fn of(outcome: Result<Vec<u8>, Failure>) -> Self {
        match outcome {
            Ok(outputs) => Self { outputs, failures: Failures::new() },
            Err(failure) => Self { outputs: Vec::new(), failures: vec![(0, failure)] },
        }
    }
}

/// Where the files of an order come from.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// Open files, which stay open: closing them is the order's owner's.
    Descriptors(&'a [OwnedFd]),
    /// Names in a dataset.
    Dataset { reader: DatasetReader<'a>, paths: &'a [Blob] },
}

impl<'a> Source<'a> {
    /// The files of an order.
    ///
    /// # Errors
    /// [`Failure::UnknownDataset`].
    pub(crate) fn of(
        source: &'a FileSource,
        descriptors: &'a [OwnedFd],
        datasets: &'a Datasets,
    ) -> Result<Self, Failure> {
        Ok(match source {
            FileSource::Descriptors => Self::Descriptors(descriptors),
            FileSource::Dataset { name, paths } => {
                Self::Dataset { reader: datasets.reader(name)?, paths }
            }
        })
    }

    /// The file at `position`.
    pub(crate) fn open(&mut self, position: usize) -> Result<Handle<'a>, Failure> {
        match self {
            Self::Descriptors(files) => {
                files.get(position).map(|file| Handle::Passed(file.as_fd())).ok_or(Failure::Invalid)
            }
            Self::Dataset { reader, paths } => {
                let path = paths.get(position).ok_or(Failure::Invalid)?;
                reader.open(path).map(Handle::Owned)
            }
        }
    }

    /// The limit of threads that read from it at once, if there is one.
    pub(crate) fn io_limit(&self) -> Option<&'a IoLimit> {
        match self {
            Self::Descriptors(_) => None,
            Self::Dataset { reader, .. } => reader.io_limit(),
        }
    }
}

/// The way files are read, the same for all orders of a process.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Bytes of a long file after which a checkpoint is reported.
    pub report_len: u64,
    /// Evicts large files from the page cache behind the reader, except pages that were cached
    /// before.
    pub drop_behind: bool,
    /// Closes small files that were opened by name and read, several in one call.
    pub close: fn(Vec<OwnedFd>),
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { report_len: REPORT_LEN, drop_behind: false, close: drop }
    }
}

/// The memory that a thread works in, used again for every batch.
///
/// It starts at a page: the kernel copies from whole pages, and a target that starts a few bytes
/// further into its page than the source, as large allocations of glibc do, makes each load wait for
/// the store before it. That was 20 % of the time of a large BLAKE3 file.
pub struct Scratch {
    memory: Box<[u8]>,
    start: usize,
    reader: Reader,
    options: ReadOptions,
    clock: StampClock,
}

/// The parts of a [`Scratch`], lent to one order.
#[derive(Debug)]
pub(crate) struct ScratchParts<'a> {
    /// [`BUFFER_LEN`] bytes and a little more: two files that fill it are asked for one more each.
    pub(crate) buffer: &'a mut [u8],
    pub(crate) reader: &'a mut Reader,
    pub(crate) options: ReadOptions,
    pub(crate) clock: &'a StampClock,
}

const SLACK_LEN: usize = 2 * PAGE_LEN;

impl Default for Scratch {
    fn default() -> Self {
        Self::new(Reader::default(), ReadOptions::default())
    }
}

impl Scratch {
    /// For a thread that reads with `reader`, by `options`.
    #[must_use]
    pub fn new(reader: Reader, options: ReadOptions) -> Self {
        sys::ignore_lease_breaks();
        let memory: Box<[u8]> = vec![0; BUFFER_LEN + SLACK_LEN + PAGE_LEN].into();
        let start = memory.as_ptr().align_offset(PAGE_LEN) % PAGE_LEN;
        Self { memory, start, reader, options, clock: StampClock::default() }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(self, clock: StampClock) -> Self {
        Self { clock, ..self }
    }

    /// Its parts, for one order.
    pub(crate) fn tools(&mut self) -> ScratchParts<'_> {
        let end = self.start + BUFFER_LEN + SLACK_LEN;
        ScratchParts {
            buffer: &mut self.memory[self.start..end],
            reader: &mut self.reader,
            options: self.options,
            clock: &self.clock,
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;

    #[test]
    fn a_buffer_starts_at_a_page_and_has_its_length() {
        let mut scratch = Scratch::default();
        let tools = scratch.tools();
        assert_eq!(tools.buffer.as_ptr().addr() % PAGE_LEN, 0);
        assert_eq!(tools.buffer.len(), BUFFER_LEN + SLACK_LEN);
    }

    #[test]
    fn many_empty_messages_are_not_free() {
        let work = Work::Inline { lens: vec![0; 8192], data: Blob::default() };
        let order = Order::new(Algorithm::Sha256.into(), work, Vec::new());
        assert_eq!(order.cost_len(), Some(8192 * 64));
    }
}
