//! The state directory of a controller: its lock, and the journal in it.

use super::disk::{DiskStorage, FormatError};
use super::{Device, StorageError};
use ipc_socket::{Trust, TrustError};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The journal's name in the state directory.
pub const JOURNAL_FILE: &str = "journal.redb";

/// The name of a journal that is being made.
const NEW_FILE: &str = "journal.redb.new";

/// The lock of the directory, with the process id of its holder.
const LOCK_FILE: &str = "journal.lock";

/// Why a state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// The system's error with a file.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        error: io::Error,
    },
    /// Others may have written or read what is in it.
    #[error("state directory: {0}")]
    Untrusted(#[from] TrustError),
    /// It is no directory.
    #[error("{}: not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another controller has it.
    #[error("{}: another controller{holder} uses this state directory; stop it first", path.display())]
    InUse {
        /// The lock.
        path: PathBuf,
        /// Its process, if it is known.
        holder: String,
    },
    /// The journal cannot be opened.
    #[error(
        "{path}: {error}; move it away by 'mv {path} {path}.damaged', and restore a backup by \
         'hashcluster-controller --state-dir DIR --restore-from FILE', or start without", path = path.display()
    )]
    Journal {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        error: FormatError,
    },
    /// The journal of a newer controller.
    #[error("{}: {error}; start that version of the controller", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        error: FormatError,
    },
    /// There is no place to make a journal, or to recover one.
    #[error("{}: {error}: {cause}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: StorageError,
        /// The system's reason.
        cause: String,
    },
}

/// An open state directory, which no other controller can open.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Opens a directory, which is made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let failed = |error| StateDirError::Io { path: path.to_owned(), error };
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_parent(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(StateDirError::NotADirectory(path.to_owned()));
        }
        Trust::Unwritten.check(path, &metadata)?;
        let lock = lock(&path.join(LOCK_FILE))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens the journal, or makes one if there is none.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn journal(&self) -> Result<DiskStorage, StateDirError> {
        let (path, new_path) = (self.path.join(JOURNAL_FILE), self.path.join(NEW_FILE));
        let failed = |path: &Path, error| StateDirError::Io { path: path.to_owned(), error };
        match fs::symlink_metadata(&path) {
            Ok(_) => {}
            // A journal has this name once it is complete.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&new_path)?;
                fs::rename(&new_path, &path).map_err(|error| failed(&path, error))?;
                sync_dir(&self.path).map_err(|error| failed(&self.path, error))?;
            }
            Err(error) => return Err(failed(&path, error)),
        }
        let file = open_file(&path, false).map_err(|error| failed(&path, error))?;
        let metadata = file.metadata().map_err(|error| failed(&path, error))?;
        Trust::Secret.check(&path, &metadata)?;
        if !metadata.is_file() {
            let error = FormatError::Foreign("it is not a file".to_owned());
            return Err(StateDirError::Journal { path, error });
        }
        let device: Arc<dyn Device> = Arc::new(file);
        DiskStorage::open(device).map_err(|error| match error {
            FormatError::Storage(error @ (StorageError::Full(_) | StorageError::ReadOnly(_))) => {
                unavailable(path, error)
            }
            error @ FormatError::Newer { .. } => StateDirError::Newer { path, error },
            error @ (FormatError::Foreign(_) | FormatError::Storage(_)) => {
                StateDirError::Journal { path, error }
            }
        })
    }
}

/// Makes an empty journal.
fn make(path: &Path) -> Result<(), StateDirError> {
    let failed = |error| StateDirError::Io { path: path.to_owned(), error };
    // What a crash left of an earlier try.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = open_file(path, true).map_err(failed)?;
    DiskStorage::create(Arc::new(file))
        .map(drop)
        .map_err(|error| unavailable(path.to_owned(), error))
}

fn unavailable(path: PathBuf, error: StorageError) -> StateDirError {
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    StateDirError::Storage { path, error, cause }
}

fn open_file(path: &Path, is_new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(is_new).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path)
}

/// Makes durable which names a directory has.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// The lock at `path`, into which the number of this process is written.
fn lock(path: &Path) -> Result<Flock<File>, StateDirError> {
    let failed = |error| StateDirError::Io { path: path.to_owned(), error };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(path).map_err(failed)?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
            return Err(StateDirError::InUse { path: path.to_owned(), holder: holder(file) });
        }
        Err((_, errno)) => return Err(failed(errno.into())),
    };
    // For people only: what counts is the lock, which a full disk does not prevent.
    let number = format!("{}\n", std::process::id());
    let _ = lock.set_len(0).and_then(|()| lock.write_all(number.as_bytes()));
    Ok(lock)
}

/// The process that wrote its number into a lock, as part of a sentence.
fn holder(mut file: File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(16).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (pid {pid})"),
        _ => String::new(),
    }
}
