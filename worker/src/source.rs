//! Reading a file that was passed as a descriptor, and knowing that it did not change meanwhile.
//!
//! A digest is good if the file had the same [`Stamp`] before its first and after its last byte was
//! read, and exactly as many bytes as the stamp says. For a small file the stamp before is the
//! client's, taken when it opened the file, so that one read and one fstat are all it costs.
//!
//! Invariants:
//! - no read can wait until fstat has said that the descriptor is a regular file: before that only
//!   what is in memory is read, so that a FIFO, terminal or device holds nobody up;
//! - every read names its offset: a shared file position does not matter and does not move;
//! - no read goes more than one byte beyond the size of a stamp.
//!
//! Not here: a file system that never answers (FUSE). Its files are regular, and only the lease's
//! deadline at the controller helps.

use crate::sys;
use ipc_proto::message::{Failure, Stamp};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use nix::sys::uio::pread;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that a thread reads at once.
pub const BUFFER_LEN: usize = 256 << 10;

/// How often a file is read before it is said to be changing.
pub const READS_MAX: u32 = 2;

/// How reading a small file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// The buffer starts with the file, this long.
    Read {
        /// In bytes.
        len: usize,
    },
    /// The file is not, or no longer, as the stamp says.
    Unequal {
        /// How it is now.
        now: Stamp,
    },
}

/// Reads a file of less than `buffer.len()` bytes.
///
/// # Errors
/// Why the item fails.
///
/// # Panics
/// If `stamp.size` bytes and one more do not fit the buffer.
pub fn read_whole(file: BorrowedFd<'_>, stamp: Stamp, buffer: &mut [u8]) -> Result<Whole, Failure> {
    let size = usize::try_from(stamp.size).expect("a small file's size fits the buffer");
    let buffer = &mut buffer[..=size];
    let ready_len = match sys::read_ready(file, buffer, 0) {
        Ok(len) => Some(len),
        Err(Errno::EAGAIN | Errno::EOPNOTSUPP) => None,
        Err(errno) => return Err(refused(file, errno)),
    };
    let len = match ready_len {
        Some(len) if len >= size => len,
        _ => {
            stamp_of(file)?;
            fill(file, buffer, ready_len.unwrap_or(0))?
        }
    };
    let now = stamp_of(file)?;
    Ok(if len == size && now == stamp { Whole::Read { len } } else { Whole::Unequal { now } })
}

/// Reads a file of any size into `sink`, piece by piece, and gives its stamp afterwards if that is
/// `before` and as many bytes came, else how it is now. `file` must be known to be regular.
///
/// # Errors
/// Why the item fails.
pub fn read_stream(
    file: BorrowedFd<'_>,
    before: Stamp,
    buffer: &mut [u8],
    revoked: &AtomicBool,
    sink: impl FnMut(&[u8]),
) -> Result<Result<(), Stamp>, Failure> {
    let limit = before.size.saturating_add(1);
    let read_len = read_range(file, 0, limit, buffer, revoked, sink)?;
    let now = stamp_of(file)?;
    Ok(if read_len == before.size && now == before { Ok(()) } else { Err(now) })
}

/// Reads `len` bytes from `offset` on into `sink`, piece by piece.
///
/// # Errors
/// Why the item fails: [`Failure::Changed`] if the file does not have the stamp before and after,
/// or ends too early.
pub fn read_part(
    file: BorrowedFd<'_>,
    stamp: Stamp,
    offset: u64,
    len: u64,
    buffer: &mut [u8],
    revoked: &AtomicBool,
    sink: impl FnMut(&[u8]),
) -> Result<(), Failure> {
    if stamp_of(file)? != stamp {
        return Err(Failure::Changed);
    }
    let read_len = read_range(file, offset, len, buffer, revoked, sink)?;
    if read_len == len && stamp_of(file)? == stamp { Ok(()) } else { Err(Failure::Changed) }
}

/// What `file` looks like now.
///
/// # Errors
/// Why the item fails: [`Failure::NotRegular`], or `EISDIR` for a directory.
pub fn stamp_of(file: BorrowedFd<'_>) -> Result<Stamp, Failure> {
    let stat = fstat(file).map_err(failure)?;
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => {}
        SFlag::S_IFDIR => return Err(failure(Errno::EISDIR)),
        _ => return Err(Failure::NotRegular),
    }
    Ok(Stamp {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    })
}

/// Nanoseconds since 1970, modulo 2^64: only equality counts.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// Reads until `buffer`, of which `len` bytes are there, is full or the file ends.
fn fill(file: BorrowedFd<'_>, buffer: &mut [u8], mut len: usize) -> Result<usize, Failure> {
    while len < buffer.len() {
        match read_at(file, &mut buffer[len..], len as u64)? {
            0 => break,
            read_len => len += read_len,
        }
    }
    Ok(len)
}

/// Reads up to `len` bytes from `offset` on; gives how many came before the file ended.
fn read_range(
    file: BorrowedFd<'_>,
    offset: u64,
    len: u64,
    buffer: &mut [u8],
    revoked: &AtomicBool,
    mut sink: impl FnMut(&[u8]),
) -> Result<u64, Failure> {
    let mut done_len = 0;
    while done_len < len {
        if revoked.load(Ordering::Relaxed) {
            return Err(failure(Errno::ECANCELED));
        }
        let missing_len = usize::try_from(len - done_len).unwrap_or(usize::MAX);
        let window_len = buffer.len().min(missing_len);
        match read_at(file, &mut buffer[..window_len], offset.saturating_add(done_len))? {
            0 => break,
            read_len => {
                sink(&buffer[..read_len]);
                done_len += read_len as u64;
            }
        }
    }
    Ok(done_len)
}

fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
    let offset = i64::try_from(offset).map_err(|_| failure(Errno::EINVAL))?;
    loop {
        match pread(file, buffer, offset) {
            Err(Errno::EINTR) => {}
            result => return result.map_err(failure),
        }
    }
}

/// Why a read failed: what is no regular file is said to be that, whatever its read says.
fn refused(file: BorrowedFd<'_>, errno: Errno) -> Failure {
    match stamp_of(file) {
        Ok(_) => failure(errno),
        Err(not_regular) => not_regular,
    }
}

fn failure(errno: Errno) -> Failure {
    Failure::Io { errno: errno as i32 }
}
