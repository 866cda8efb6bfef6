//! Readers of what is not in memory: many files at a time through a ring, or one after the other by
//! plain calls, after readahead was requested for all of them.
//!
//! What is in memory is read by a plain call either way: `docs/decisions/0015-reading-by-io-uring.md`
//! has what was measured.
//!
//! Rings are made by the main thread when the process starts, before anything is denied to it.

use crate::input::sys::Read;
use crate::input::sys::uring::Ring;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fmt;
use std::io;
use std::str::FromStr;

/// The reading method that the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Through io_uring where the system allows it, else by plain calls
    #[default]
    Auto,
    /// Through io_uring, or not at all
    Uring,
    /// By plain calls only
    Plain,
}

impl FromStr for Asked {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "plain" => Ok(Self::Plain),
            _ => Err("one of auto, uring, plain"),
        }
    }
}

/// The reading method in use, and the reason.
#[derive(Debug)]
pub struct Reading {
    has_rings: bool,
    /// Why not, where rings were wanted.
    refused: Option<io::Error>,
}

/// Reader of one thread.
#[derive(Debug, Default)]
pub struct Reader(Option<Ring>);

impl Reading {
    /// Makes `threads` readers.
    ///
    /// # Errors
    /// Rings are refused by the system, and the operator allows nothing else.
    pub fn open(asked: Asked, threads: u16) -> io::Result<(Self, Vec<Reader>)> {
        Self::open_by(asked, threads, Ring::new)
    }

    fn open_by(
        asked: Asked,
        threads: u16,
        make: impl Fn() -> io::Result<Ring>,
    ) -> io::Result<(Self, Vec<Reader>)> {
        let plain = || (0..threads).map(|_| Reader::default()).collect();
        if asked == Asked::Plain {
            return Ok((Self { has_rings: false, refused: None }, plain()));
        }
        match (0..threads).map(|_| make().map(|ring| Reader(Some(ring)))).collect() {
            Ok(readers) => Ok((Self { has_rings: true, refused: None }, readers)),
            Err(error) if asked == Asked::Uring => Err(error),
            Err(error) => Ok((Self { has_rings: false, refused: Some(error) }, plain())),
        }
    }

    /// The name that the controller shows.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.has_rings { "io_uring" } else { "plain" }
    }
}

/// For a log.
impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.has_rings, &self.refused) {
            (true, _) => f.write_str("what is not in memory through io_uring"),
            (false, None) => f.write_str("by plain calls"),
            (false, Some(error)) => write!(f, "by plain calls, as io_uring is refused: {error}"),
        }
    }
}

impl Reader {
    /// Does what it can of `reads`; what is left of them has an error, or is shorter than its file.
    pub(crate) fn read_many(&mut self, reads: &mut [Read<'_>]) {
        match &mut self.0 {
            Some(ring) => ring.read_many(reads),
            None => announce(reads),
        }
    }
}

/// Has the kernel read ahead in all of the files, so that who reads them one by one waits less. A
/// single one is read as soon as it is asked for.
fn announce(reads: &[Read<'_>]) {
    for read in reads.iter().filter(|_| reads.len() > 1) {
        let len = libc::off_t::try_from(read.buffer.len()).unwrap_or(libc::off_t::MAX);
        // It is only a hint.
        let _ = posix_fadvise(read.file, 0, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse() -> io::Result<Ring> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    #[test]
    fn falls_back_to_plain_reads_unless_rings_are_required() {
        let (reading, readers) = Reading::open_by(Asked::Auto, 3, refuse).unwrap();
        assert_eq!((reading.name(), readers.len()), ("plain", 3));
        let text = reading.to_string();
        assert!(text.starts_with("by plain calls, as io_uring is refused: "), "{text}");
        let error = Reading::open_by(Asked::Uring, 1, refuse).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let never = || unreachable!("nobody asked for a ring");
        let (reading, _) = Reading::open_by(Asked::Plain, 1, never).unwrap();
        assert_eq!((reading.name(), &*reading.to_string()), ("plain", "by plain calls"));
    }
}
