//! Hashing a stream of any length, in steps that any worker can do.
//!
//! SHA-2 is a chain: each segment needs the state that the one before left. BLAKE3 is a tree
//! (BLAKE3 paper, section 2.1): parts of equal length are hashed concurrently, and their chaining
//! values merged in groups as they fill, so that memory is bounded however long the stream is.
//!
//! Invariant: the last step carries the caller's tag, and it is sent only after the caller agreed.

use crate::problem::Problem;
use client::{ClientError, Job, Ticket};
use ipc_proto::limits::{
    CHAINING_VALUE_LEN, CHUNK_LEN, INLINE_LEN_MAX, MERGE_VALUES_MAX, SEGMENT_ALIGN, STATE_LEN_MAX,
};
use ipc_proto::message::{Failure, Piece, Window};
use ipc_proto::{Algorithm, Blob};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::mem;

/// Parts that are in flight at once.
const PARTS_MAX: usize = 16;

/// Values that are merged into one at once: a power of two, so that what they cover is a subtree.
const GROUP_MAX: usize = MERGE_VALUES_MAX / 2;

/// Why a stream has no digest.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// It cannot be read, or a step failed.
    Problem(Problem),
    /// Nothing can be sent.
    Client(ClientError),
}

impl From<ClientError> for StreamError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<Failure> for StreamError {
    fn from(failure: Failure) -> Self {
        Self::Problem(Problem::Failure(failure))
    }
}

/// Sends all of `input`; the digest comes as the result with `tag`. Before the last step `agree` is
/// asked with the number of bytes; `advanced` is told how many are sent.
pub(crate) fn send<R: Read>(
    job: &mut Job,
    algorithm: Algorithm,
    input: R,
    tag: u64,
    advanced: impl FnMut(u64),
    agree: impl FnOnce(&R, u64) -> Result<(), Problem>,
) -> Result<(), StreamError> {
    let window = job.window()?;
    let is_tree = !algorithm.has_midstate();
    let part_len = if is_tree { part_len(window) } else { segment_len(window) };
    let part_len = part_len.ok_or(ClientError::WindowTooSmall)?;
    let mut parts = Parts { input, part_len, total: 0, is_over: false, advanced };
    let (first, second) = (parts.next()?, parts.next()?);
    if second.is_empty() {
        agree(&parts.input, parts.total).map_err(StreamError::Problem)?;
        let len = u32::try_from(first.len()).expect("a part fits a frame");
        return Ok(job.send_messages(vec![len], first, &[tag])?);
    }
    if is_tree {
        let mut tree = Tree { levels: vec![Vec::new()], group_len: group_len(window) };
        tree.send_parts(job, &mut parts, [first, second])?;
        agree(&parts.input, parts.total).map_err(StreamError::Problem)?;
        return tree.finish(job, tag);
    }
    let (mut data, mut next, mut state) = (first, second, Blob::default());
    while !next.is_empty() {
        let ticket = job.start_piece(Piece::Segment { state, data: data.into(), last: false })?;
        (data, next) = (next, parts.next()?);
        state = job.wait(ticket)??.into();
    }
    agree(&parts.input, parts.total).map_err(StreamError::Problem)?;
    Ok(job.send_piece(Piece::Segment { state, data: data.into(), last: true }, tag)?)
}

/// Chaining values, back to back: those of parts, then of groups of parts, and so on.
struct Tree {
    levels: Vec<Vec<u8>>,
    /// Bytes of values that make a group.
    group_len: usize,
}

impl Tree {
    /// Sends `first` and all other parts, and takes in their values.
    fn send_parts(
        &mut self,
        job: &mut Job,
        parts: &mut Parts<impl Read, impl FnMut(u64)>,
        first: [Vec<u8>; 2],
    ) -> Result<(), StreamError> {
        let mut in_flight = VecDeque::<Ticket>::new();
        let (mut offset, mut first) = (0, first.into_iter());
        loop {
            let data = first.next().map_or_else(|| parts.next(), Ok)?;
            let is_over = data.is_empty();
            while in_flight.len() == PARTS_MAX || (is_over && !in_flight.is_empty()) {
                let value = in_flight.pop_front().map(|ticket| job.wait(ticket));
                self.push(job, 0, value.expect("not empty")??)?;
            }
            if is_over {
                return Ok(());
            }
            let len = data.len() as u64;
            in_flight.push_back(job.start_piece(Piece::Subtree { offset, data: data.into() })?);
            offset += len;
        }
    }

    fn push(&mut self, job: &mut Job, level: usize, mut value: Vec<u8>) -> Result<(), StreamError> {
        for level in level.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            if self.levels[level].len() < self.group_len {
                self.levels[level].append(&mut value);
                break;
            }
            // A full group is merged only when there is more behind it: it is not the root.
            let group = mem::replace(&mut self.levels[level], value);
            value = merge(job, group)?;
        }
        Ok(())
    }

    /// Merges the unfinished groups, from the parts upwards, into the root.
    fn finish(mut self, job: &mut Job, tag: u64) -> Result<(), StreamError> {
        for level in 0.. {
            let values = mem::take(&mut self.levels[level]);
            if level + 1 == self.levels.len() {
                return Ok(job.send_piece(Piece::Merge { values: values.into(), root: true }, tag)?);
            }
            let is_one = values.len() == CHAINING_VALUE_LEN;
            let edge = if is_one { values } else { merge(job, values)? };
            self.push(job, level + 1, edge)?;
        }
        unreachable!("the last level returns")
    }
}

fn merge(job: &mut Job, values: Vec<u8>) -> Result<Vec<u8>, StreamError> {
    let ticket = job.start_piece(Piece::Merge { values: values.into(), root: false })?;
    Ok(job.wait(ticket)??)
}

/// Length of the segments of a SHA-2 stream: as long as frame and window allow, in whole blocks.
fn segment_len(window: Window) -> Option<usize> {
    let room = window.bytes.checked_sub(STATE_LEN_MAX as u64)?;
    let len = usize::try_from(room).unwrap_or(usize::MAX).min(INLINE_LEN_MAX);
    Some(len - len % SEGMENT_ALIGN).filter(|&len| len > 0)
}

/// Length of the parts of a BLAKE3 stream: a power of two of chunks, so that each is a subtree.
fn part_len(window: Window) -> Option<usize> {
    let room = window.bytes.min(INLINE_LEN_MAX as u64);
    let len = 1_usize << room.checked_ilog2()?;
    (len as u64 >= CHUNK_LEN).then_some(len)
}

/// Bytes of chaining values that are merged at once.
fn group_len(window: Window) -> usize {
    let room = window.bytes / CHAINING_VALUE_LEN as u64;
    let values = usize::try_from(room).unwrap_or(usize::MAX).clamp(2, GROUP_MAX);
    CHAINING_VALUE_LEN << values.ilog2()
}

/// Cuts a stream into parts of one length, the last one shorter; empty ones after the end.
struct Parts<R, F> {
    input: R,
    part_len: usize,
    total: u64,
    is_over: bool,
    advanced: F,
}

impl<R: Read, F: FnMut(u64)> Parts<R, F> {
    fn next(&mut self) -> Result<Vec<u8>, StreamError> {
        let mut part = Vec::new();
        if self.is_over {
            return Ok(part);
        }
        part.resize(self.part_len, 0);
        let mut len = 0;
        while len < part.len() {
            match self.input.read(&mut part[len..]) {
                // A terminal reports its end of file once.
                Ok(0) => {
                    self.is_over = true;
                    break;
                }
                Ok(read_len) => len += read_len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    return Err(StreamError::Problem(Problem::Io(errno)));
                }
            }
        }
        part.truncate(len);
        // What was sent before this part is hashed, or nearly.
        (self.advanced)(self.total);
        self.total += len as u64;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(bytes: u64) -> Window {
        Window { items: 1, bytes }
    }

    #[test]
    fn steps_fit_the_window_and_keep_their_shape() {
        for (bytes, want) in [
            (0, None),
            (639, None),
            (640, Some(128)),
            (1 << 10, Some(512)),
            (u64::MAX, Some(512 << 10)),
        ] {
            assert_eq!(segment_len(window(bytes)), want, "{bytes}");
        }
        for (bytes, want) in [
            (0, None),
            (1023, None),
            (1024, Some(1024)),
            (4095, Some(2048)),
            (u64::MAX, Some(512 << 10)),
        ] {
            assert_eq!(part_len(window(bytes)), want, "{bytes}");
        }
        assert_eq!(group_len(window(1024)), 32 * 32);
        assert_eq!(group_len(window(u64::MAX)), 4096 * 32);
    }

    #[test]
    fn parts_are_whole_until_the_end_however_the_input_trickles() {
        struct Trickle(usize);
        impl Read for Trickle {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let len = buffer.len().min(3).min(self.0);
                self.0 -= len;
                Ok(len)
            }
        }
        for (total, want) in [(0, vec![]), (7, vec![7]), (10, vec![10]), (25, vec![10, 10, 5])] {
            let (input, advanced) = (Trickle(total), |_| {});
            let mut parts = Parts { input, part_len: 10, total: 0, is_over: false, advanced };
            let next = || Some(parts.next().unwrap().len()).filter(|&len| len > 0);
            let lens: Vec<usize> = std::iter::from_fn(next).collect();
            assert_eq!(lens, want);
            assert_eq!(parts.total, total as u64);
        }
    }
}
