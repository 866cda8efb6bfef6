//! Standard input, where it is a file.

use crate::input::open::{Kind, look};
use ipc_proto::message::Stamp;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Whence, lseek};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Standard input as a file that can be read by its offsets: regular, open for reading, and at its
/// start. It is left at its end, as if it had been read here.
pub(super) fn stdin_file(stdin: &io::Stdin) -> Result<Option<(OwnedFd, Stamp)>, Errno> {
    let (kind, stamp) = look(stdin)?;
    let mode = OFlag::from_bits_retain(fcntl(stdin, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
    let can_read = mode == OFlag::O_RDONLY || mode == OFlag::O_RDWR;
    if kind != Kind::File || !can_read || lseek(stdin, 0, Whence::SeekCur) != Ok(0) {
        return Ok(None);
    }
    let file = stdin.as_fd().try_clone_to_owned().map_err(|error| errno_of(&error))?;
    Ok(lseek(stdin, 0, Whence::SeekEnd).ok().map(|_| (file, stamp)))
}

pub(super) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
