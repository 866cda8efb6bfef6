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
//! What stays unseen: a single write call that began before the first fstat and still goes on after
//! the last one, because its stamp is set when it begins.
//!
//! Not here: a file system that never answers (FUSE). Its files are regular, and only the lease's
//! deadline at the controller helps.

use crate::input::sys;
use ipc_proto::message::{Failure, Stamp};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use nix::sys::uio::pread;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that a thread reads at once. BLAKE3 gains from more (8 % from 256 KiB to 1 MiB).
pub const BUFFER_LEN: usize = 1 << 20;

/// How far reading a small file came.
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
    /// It is regular and as the stamp says, and its bytes have to be waited for.
    Absent,
}

/// Reads a file of less than `buffer.len()` bytes, if it is in memory.
///
/// # Errors
/// Why the item fails.
///
/// # Panics
/// If `stamp.size` bytes and one more do not fit the buffer.
pub fn read_present(
    file: BorrowedFd<'_>,
    stamp: Stamp,
    buffer: &mut [u8],
) -> Result<Whole, Failure> {
    let size = usize::try_from(stamp.size).expect("a small file's size fits the buffer");
    let ready_len = match sys::read_ready(file, &mut buffer[..=size], 0) {
        Ok(len) => Some(len),
        Err(Errno::EAGAIN | Errno::EOPNOTSUPP) => None,
        Err(errno) => return Err(refused(file, errno)),
    };
    let now = stamp_of(file)?;
    Ok(match ready_len {
        _ if now != stamp => Whole::Unequal { now },
        Some(len) if len > size => Whole::Unequal { now },
        Some(len) if len == size => Whole::Read { len },
        _ => Whole::Absent,
    })
}

/// Reads the rest of a file that is known to be regular, of which `len` bytes are in `buffer`; never
/// [`Whole::Absent`].
///
/// # Errors
/// Why the item fails.
///
/// # Panics
/// As [`read_present`].
pub fn read_rest(
    file: BorrowedFd<'_>,
    stamp: Stamp,
    buffer: &mut [u8],
    len: usize,
) -> Result<Whole, Failure> {
    let size = usize::try_from(stamp.size).expect("a small file's size fits the buffer");
    let len = fill(file, &mut buffer[..=size], len)?;
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
    let want = Want { offset: 0, len: limit };
    let read_len = read_range(file, want, buffer, revoked, sink)?;
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
    let read_len = read_range(file, Want { offset, len }, buffer, revoked, sink)?;
    if read_len == len && stamp_of(file)? == stamp { Ok(()) } else { Err(Failure::Changed) }
}

/// What `file` looks like now.
///
/// # Errors
/// Why the item fails: [`Failure::NotRegular`], or `EISDIR` for a directory.
pub fn stamp_of(file: BorrowedFd<'_>) -> Result<Stamp, Failure> {
    let stat = fstat(file).map_err(failure)?;
    regular(stat.st_mode)?;
    Ok(Stamp {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    })
}

/// Whether a file of this mode is a regular one.
pub(crate) fn regular(mode: u32) -> Result<(), Failure> {
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Ok(()),
        SFlag::S_IFDIR => Err(failure(Errno::EISDIR)),
        _ => Err(Failure::NotRegular),
    }
}

/// Nanoseconds since 1970, modulo 2^64: only equality counts.
pub(crate) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// Reads until `buffer`, of which `len` bytes are there, is full or the file ends.
pub(crate) fn fill(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut len: usize,
) -> Result<usize, Failure> {
    while len < buffer.len() {
        match read_at(file, &mut buffer[len..], len as u64)? {
            0 => break,
            read_len => len += read_len,
        }
    }
    Ok(len)
}

/// Reads from `offset` on until `buffer` is full or the file ends.
pub(crate) fn fill_at(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<usize, Failure> {
    let mut len = 0;
    while len < buffer.len() {
        match read_at(file, &mut buffer[len..], offset.saturating_add(len as u64))? {
            0 => break,
            read_len => len += read_len,
        }
    }
    Ok(len)
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Reads the bytes of `want`; gives how many came before the file ended.
pub(crate) fn read_range(
    file: BorrowedFd<'_>,
    Want { offset, len }: Want,
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
pub(crate) fn refused(file: BorrowedFd<'_>, errno: Errno) -> Failure {
    match stamp_of(file) {
        Ok(_) => failure(errno),
        Err(not_regular) => not_regular,
    }
}

pub(crate) fn failure(errno: Errno) -> Failure {
    Failure::Io { errno: errno as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;
    use std::time::SystemTime;
    use tempfile::tempfile;

    static GOING: AtomicBool = AtomicBool::new(false);

    fn file(bytes: &[u8]) -> (File, Stamp) {
        let mut file = tempfile().unwrap();
        file.write_all(bytes).unwrap();
        // Long ago: some kernels' clock for stamps is too coarse to see a change right after.
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let stamp = stamp_of(file.as_fd()).unwrap();
        (file, stamp)
    }

    fn read_whole(file: &File, stamp: Stamp, buffer: &mut [u8]) -> Result<Whole, Failure> {
        match read_present(file.as_fd(), stamp, buffer)? {
            Whole::Absent => read_rest(file.as_fd(), stamp, buffer, 0),
            whole @ (Whole::Read { .. } | Whole::Unequal { .. }) => Ok(whole),
        }
    }

    #[test]
    fn a_small_file_is_read_whole_wherever_its_position_is() {
        let mut buffer = [0xff; 5000];
        for len in [0, 1, 4095, 4096, 4097, 4999] {
            let bytes = vec![7; len];
            let (file, stamp) = file(&bytes);
            assert_eq!(read_whole(&file, stamp, &mut buffer), Ok(Whole::Read { len }));
            assert_eq!(buffer[..len], bytes);
            let rest = read_rest(file.as_fd(), stamp, &mut buffer, len / 2);
            assert_eq!(rest, Ok(Whole::Read { len }));
            assert_eq!(buffer[..len], bytes);
        }
    }

    #[test]
    fn a_small_file_that_is_not_as_stamped_is_told_from_one_that_is() {
        let (file, stamp) = file(b"four");
        let mut buffer = [0; 100];
        let mut check = |stamp| {
            let now = stamp_of(file.as_fd()).unwrap();
            let read = read_whole(&file, stamp, &mut buffer);
            assert_eq!(read, Ok(Whole::Unequal { now }), "{stamp:?}");
            let rest = read_rest(file.as_fd(), stamp, &mut buffer, 0);
            assert_eq!(rest, Ok(Whole::Unequal { now }), "{stamp:?}");
        };
        check(Stamp { size: 3, ..stamp });
        check(Stamp { size: 5, ..stamp });
        check(Stamp { size: 0, ..stamp });
        check(Stamp { mtime_ns: stamp.mtime_ns - 1, ..stamp });
        check(Stamp { ctime_ns: stamp.ctime_ns + 1, ..stamp });
        file.set_len(2).unwrap();
        check(stamp);
    }

    #[test]
    fn a_file_that_grows_shrinks_or_is_written_while_it_is_read_is_not_good() {
        type Change = fn(&File);
        let changes: [(&str, Change); 3] = [
            ("grows", |file| file.set_len(1_000_000).unwrap()),
            ("shrinks", |file| file.set_len(300_000).unwrap()),
            ("is written", |file| file.write_all_at(b"x", 5).unwrap()),
        ];
        for (what, change) in changes {
            let (file, before) = file(&vec![1; 600_000]);
            let mut buffer = vec![0; 250_000];
            let mut pieces = 0;
            let result = read_stream(file.as_fd(), before, &mut buffer, &GOING, |_| {
                pieces += 1;
                if pieces == 1 {
                    change(&file);
                }
            });
            assert_eq!(result, Ok(Err(stamp_of(file.as_fd()).unwrap())), "it {what}");
            let after = stamp_of(file.as_fd()).unwrap();
            assert_ne!(after, before);
            let result = read_stream(file.as_fd(), after, &mut buffer, &GOING, |_| {});
            assert_eq!(result, Ok(Ok(())), "then it holds still");
        }
    }

    #[test]
    fn no_more_is_read_than_a_stamp_says_and_one_byte() {
        let (file, stamp) = file(&[1; 100]);
        let mut len = 0;
        let before = Stamp { size: 10, ..stamp };
        let result =
            read_stream(file.as_fd(), before, &mut [0; 64], &GOING, |bytes| len += bytes.len());
        assert_eq!((result, len), (Ok(Err(stamp)), 11));
    }

    #[test]
    fn a_part_is_exactly_its_bytes_of_an_unchanged_file() {
        let bytes: Vec<u8> = (0..=250).cycle().take(10_000).collect();
        let (file, stamp) = file(&bytes);
        let read = |stamp, offset, len| {
            let mut got = Vec::new();
            let mut buffer = [0; 1000];
            read_part(file.as_fd(), stamp, offset, len, &mut buffer, &GOING, |bytes| {
                got.extend_from_slice(bytes);
            })
            .map(|()| got)
        };
        assert_eq!(read(stamp, 2048, 3000), Ok(bytes[2048..5048].to_vec()));
        assert_eq!(read(stamp, 9000, 1000), Ok(bytes[9000..].to_vec()));
        assert_eq!(read(stamp, 9000, 1001), Err(Failure::Changed), "the file ends too early");
        let other = Stamp { mtime_ns: 1, ..stamp };
        assert_eq!(read(other, 0, 1024), Err(Failure::Changed));
    }

    #[test]
    fn a_revoked_read_ends() {
        let (file, stamp) = file(b"");
        file.set_len(1 << 40).unwrap();
        let stamp = Stamp { size: 1 << 40, ..stamp };
        let revoked = AtomicBool::new(false);
        let result = read_stream(file.as_fd(), stamp, &mut [0; 4096], &revoked, |_| {
            revoked.store(true, Ordering::Relaxed);
        });
        assert_eq!(result, Err(failure(Errno::ECANCELED)));
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        let zeroes = File::open("/dev/zero").unwrap();
        let dir = File::open("/").unwrap();
        let mut buffer = [0; 100];
        let stamp = Stamp { size: 50, mtime_ns: 0, ctime_ns: 0 };
        for (file, want) in [
            (socket.as_fd(), Failure::NotRegular),
            (pipe.as_fd(), Failure::NotRegular),
            (zeroes.as_fd(), Failure::NotRegular),
            (dir.as_fd(), failure(Errno::EISDIR)),
        ] {
            assert_eq!(read_present(file, stamp, &mut buffer), Err(want));
            assert_eq!(stamp_of(file), Err(want));
            let part = read_part(file, stamp, 0, 1, &mut buffer, &GOING, |_| {});
            assert_eq!(part, Err(want));
        }
    }
}
