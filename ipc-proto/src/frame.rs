//! Length-prefixed frames: `[len: u32 little-endian][body: len bytes]`.
//!
//! [`Decoder`] takes bytes in pieces of any size and yields whole bodies. It does no I/O, reads no
//! clock, and compares `len` with its limit before it reserves memory for the body: [`BODY_LEN_MAX`],
//! or [`HELLO_LEN_MAX`] until it is known who sends.
//!
//! Invariants:
//! - after an error the decoder stays failed: a stream cannot be re-synchronised;
//! - the same bytes give the same bodies however they were split;
//! - a body is never empty: every message has at least a tag.
//!
//! Not here: what a body means (`message`), who may send it (`handshake`).

use crate::limits::{BODY_LEN_MAX, HELLO_LEN_MAX};
use std::fmt;

/// Length of the prefix of a frame in bytes.
pub const PREFIX_LEN: usize = 4;

/// A fatal error of a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A prefix of 0.
    Empty,
    /// A prefix above the limit.
    Oversize {
        /// Length in the prefix, in bytes.
        body_len: u32,
        /// The limit, in bytes.
        len_max: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("frame of length 0"),
            Self::Oversize { body_len, len_max } => {
                write!(f, "frame of {body_len} bytes, at most {len_max} are taken")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Cuts a byte stream into bodies.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Longest body that is taken.
    len_max: usize,
    /// Bytes of `bytes` that earlier bodies took.
    taken: usize,
    /// Bytes of the stream before `bytes[0]`.
    discarded: u64,
    failed: Option<FrameError>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Vec::new(), len_max: BODY_LEN_MAX, taken: 0, discarded: 0, failed: None }
    }

    /// A decoder at the start of a stream whose first body is a `Hello`: until
    /// [`Self::accept_hello`], bodies are at most [`HELLO_LEN_MAX`] long.
    #[must_use]
    pub fn for_hello() -> Self {
        Self { len_max: HELLO_LEN_MAX, ..Self::new() }
    }

    /// Takes bodies of any message from now on.
    pub fn accept_hello(&mut self) {
        self.len_max = BODY_LEN_MAX;
    }

    /// Appends what was read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.taken == self.bytes.len() || self.taken > BODY_LEN_MAX {
            self.discard_taken();
        }
        self.bytes.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn discard_taken(&mut self) {
        self.discarded += self.taken as u64;
        self.bytes.drain(..self.taken);
        self.taken = 0;
    }

    /// Memory that is held, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Memory that is held after `len` more bytes, which are appended without reserving any in advance.
    #[must_use]
    pub fn capacity_for(&self, len: usize) -> usize {
        let kept = if self.taken == self.bytes.len() { 0 } else { self.bytes.len() };
        self.bytes.capacity().max(kept + len)
    }

    /// Bytes that are missing of the next body; of its prefix, if that is not whole.
    #[must_use]
    pub fn missing_len(&self) -> usize {
        let held = &self.bytes[self.taken..];
        let whole = held.first_chunk::<PREFIX_LEN>().map_or(PREFIX_LEN, |prefix| {
            PREFIX_LEN + check_prefix(*prefix, self.len_max).unwrap_or(0)
        });
        whole.saturating_sub(held.len())
    }

    /// Releases memory that is not needed for the bytes that are held.
    pub fn shrink(&mut self) {
        self.discard_taken();
        self.bytes.shrink_to_fit();
    }

    /// The next whole body, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// A prefix that breaks a limit; the same error again on every later call.
    pub fn next_body(&mut self) -> Result<Option<&[u8]>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some(prefix) = self.bytes[self.taken..].first_chunk::<PREFIX_LEN>() else {
            return Ok(None);
        };
        let body_len = match check_prefix(*prefix, self.len_max) {
            Ok(body_len) => body_len,
            Err(error) => {
                self.failed = Some(error);
                self.bytes = Vec::new();
                self.taken = 0;
                return Err(error);
            }
        };
        let start = self.taken + PREFIX_LEN;
        let end = start + body_len;
        if self.bytes.len() < end {
            return Ok(None);
        }
        self.taken = end;
        Ok(Some(&self.bytes[start..end]))
    }

    /// Position in the stream behind the last body handed out, prefixes included, in bytes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.discarded + self.taken as u64
    }

    /// Number of bytes held that belong to no body yet.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.bytes.len() - self.taken
    }
}

fn check_prefix(prefix: [u8; PREFIX_LEN], len_max: usize) -> Result<usize, FrameError> {
    let body_len = u32::from_le_bytes(prefix);
    match usize::try_from(body_len) {
        Ok(0) => Err(FrameError::Empty),
        Ok(len) if len <= len_max => Ok(len),
        _ => Err(FrameError::Oversize { body_len, len_max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    fn bodies(decoder: &mut Decoder) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| decoder.next_body().unwrap().map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn the_same_bytes_give_the_same_bodies_however_they_are_split() {
        let want = [vec![1], vec![2; 300], vec![3; 5]];
        let stream: Vec<u8> = want.iter().flat_map(|body| frame(body)).collect();
        for cut in 0..=stream.len() {
            let mut decoder = Decoder::new();
            decoder.push(&stream[..cut]);
            let mut got = bodies(&mut decoder);
            decoder.push(&stream[cut..]);
            got.extend(bodies(&mut decoder));
            assert_eq!(got, want, "cut at {cut}");
            assert_eq!(decoder.position(), stream.len() as u64);
            assert_eq!(decoder.pending_len(), 0);
        }
    }

    #[test]
    fn a_bad_length_is_fatal_and_reserves_no_memory() {
        for (prefix, want) in [
            ([0; 4], FrameError::Empty),
            ([0xff; 4], FrameError::Oversize { body_len: u32::MAX, len_max: BODY_LEN_MAX }),
            (
                [1, 0, 16, 0],
                FrameError::Oversize { body_len: (1 << 20) + 1, len_max: BODY_LEN_MAX },
            ),
        ] {
            let mut decoder = Decoder::new();
            decoder.push(&prefix);
            assert_eq!(decoder.next_body(), Err(want));
            decoder.push(&frame(b"later"));
            assert_eq!(decoder.next_body(), Err(want), "a failed stream stays failed");
            assert_eq!(decoder.pending_len(), 0);
        }
    }

    #[test]
    fn only_the_hello_has_the_short_limit() {
        let (hello, after) = (vec![1; HELLO_LEN_MAX], vec![2; BODY_LEN_MAX]);
        let mut decoder = Decoder::for_hello();
        decoder.push(&frame(&hello));
        decoder.push(&frame(&after));
        assert_eq!(decoder.next_body(), Ok(Some(&hello[..])));
        decoder.accept_hello();
        assert_eq!(decoder.next_body(), Ok(Some(&after[..])));
        let mut decoder = Decoder::for_hello();
        decoder.push(&frame(&[1; HELLO_LEN_MAX + 1])[..PREFIX_LEN]);
        let error = decoder.next_body().expect_err("before any byte of it has come");
        assert_eq!(error.to_string(), "frame of 4097 bytes, at most 4096 are taken");
    }

    #[test]
    fn memory_is_what_was_said_before_and_what_is_missing_completes_a_body() {
        let mut decoder = Decoder::new();
        for (pushed, missing) in [(0, 4), (3, 1), (1, 1000), (999, 1), (1, 4), (0, 4)] {
            let said = decoder.capacity_for(pushed);
            let start = decoder.bytes.len() % 1004;
            decoder.push(&frame(&[9; 1000])[start..start + pushed]);
            assert_eq!(decoder.capacity(), said);
            let is_whole = decoder.next_body().unwrap().is_some();
            assert_eq!((decoder.missing_len(), is_whole), (missing, missing == 4 && pushed == 1));
        }
        decoder.shrink();
        assert_eq!((decoder.capacity(), decoder.position()), (0, 1004));
    }

    #[test]
    fn memory_stays_near_one_body_over_a_long_stream() {
        let mut decoder = Decoder::new();
        let body = frame(&[9; 1000]);
        for _ in 0..10_000 {
            decoder.push(&body);
            decoder.push(&body[..1]);
            assert!(decoder.next_body().unwrap().is_some());
            decoder.push(&body[1..]);
            assert!(decoder.next_body().unwrap().is_some());
        }
        assert!(decoder.bytes.capacity() < 4 * BODY_LEN_MAX);
    }
}
