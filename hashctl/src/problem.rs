//! Reasons why a name has no digest, as data and as text.

use crate::input::walk::DEPTH_MAX;
use crate::say::errno_text;
use ipc_proto::message::{Failure, WorkerLoss};
use overview::{failure_text, one_line};
use std::fmt;

/// Files that are neither regular nor directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A symbolic link, inside a tree.
    Symlink,
    /// A symbolic link to a directory that it is in.
    LinkLoop,
    /// A directory on another file system than the tree.
    OtherFileSystem,
    /// A file that this command writes.
    Output,
    /// Anything else.
    Other,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Symlink => "a symbolic link",
            Self::LinkLoop => "a symbolic link to a directory that it is in",
            Self::OtherFileSystem => "on another file system",
            Self::Output => "the output of this command",
            Self::Other => "not a regular file",
        })
    }
}

/// Reason why a name has no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Opening or reading failed here, with this error number.
    Io(i32),
    /// A directory where a file was named.
    Directory,
    /// Named, and not a regular file.
    Special(Special),
    /// A directory below [`DEPTH_MAX`] others.
    TooDeep,
    /// The file changed while it was read here.
    Changed,
    /// No dataset has it, and no other way is allowed.
    NoDataset,
    /// The workers could not hash it.
    Failure(Failure),
    /// It is here, but the workers find something else under its name, and it may not go as bytes.
    Unseen(Failure),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Io(errno) => f.write_str(&errno_text(errno)),
            Self::Failure(failure) => f.write_str(&failure_text(failure)),
            Self::Unseen(failure) => write!(
                f,
                "the workers see something else under its name ({}), and it may not go to them as bytes",
                Self::Failure(failure)
            ),
            Self::Directory => f.write_str("Is a directory"),
            Self::Special(special) => write!(f, "skipped: {special}"),
            Self::TooDeep => {
                write!(f, "skipped: more than {DEPTH_MAX} directories above it; name it by itself")
            }
            Self::Changed => f.write_str(&failure_text(Failure::Changed)),
            Self::NoDataset => {
                f.write_str("in no dataset that this host and the controller have in common")
            }
        }
    }
}

/// Losses of an item, in order.
pub(crate) fn losses_text(losses: &[WorkerLoss]) -> String {
    let each = losses.iter().map(|loss| format!("{} ({})", one_line(&loss.worker), loss.cause));
    each.collect::<Vec<_>>().join(", ")
}
