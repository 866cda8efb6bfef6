//! The run directory: sockets, lock, pidfile and logs of one cluster.
//!
//! Invariant: whoever has a [`RunDir`] holds its lock, and the directory is nobody else's: owned
//! by us, mode 0700, no symlink.

use crate::pidfile;
use ipc_proto::endpoint::{self, CLIENT_SOCKET, EndpointError, SYSTEM_RUNTIME_DIR, WORKER_SOCKET};
use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Names the directory for `hashctl` and for us.
pub(crate) const RUNTIME_DIR_VARIABLE: &str = "HASHCLUSTER_RUNTIME_DIR";

pub(crate) const LOCK: &str = "lock";
const PIDFILE: &str = "supervisor.pid";
const LOGS: &str = "log";

/// Prefix of a private directory's name, and the number of random characters after it.
const PRIVATE: &str = "hashcluster-run.";
const PRIVATE_SUFFIX_LEN: usize = 6;

#[derive(Debug, Error)]
pub(crate) enum RunDirError {
    /// A step on the way to it failed.
    #[error("cannot {what} {path}: {error}; name another with --runtime-dir", path = path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// It is something else, or a symlink.
    #[error("run directory {} is no directory, or a symlink", path.display())]
    NotDirectory { path: PathBuf },
    /// It belongs to another user.
    #[error(
        "run directory {path} belongs to uid {owner}, not to us; name another with --runtime-dir",
        path = path.display()
    )]
    Foreign { path: PathBuf, owner: u32 },
    /// Others may enter it.
    #[error(
        "run directory {path} has mode {mode:04o}, others may enter it; `chmod 700 {path}` after a \
         look inside, or name another with --runtime-dir",
        path = path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    /// Lines of scripts and logs would end in its name.
    #[error(
        "run directory {path:?} has a control character in its name; name another with --runtime-dir"
    )]
    Control { path: PathBuf },
    /// Its sockets' paths are none.
    #[error(
        "run directory {}: {error}; name a shorter one with --runtime-dir",
        path.display()
    )]
    Socket {
        path: PathBuf,
        #[source]
        error: EndpointError,
    },
    /// Somebody has it.
    #[error("the run directory is in use")]
    Busy,
}

/// A run directory in our hands.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    is_private: bool,
    /// True if an earlier holder had no time to clean up.
    pub(crate) was_left: bool,
    /// Locked until it is closed, at the latest by our end.
    lock: File,
    /// The directory with a shared lock, which keeps systemd-tmpfiles(8) from removing what is old in it.
    _kept: File,
}

/// Tells whether a run directory is still at its path.
#[derive(Debug)]
pub(crate) struct Witness {
    lock_path: PathBuf,
    dev: u64,
    ino: u64,
}

impl Witness {
    /// True if the directory was removed, or another is in its place.
    pub(crate) fn is_lost(&self) -> bool {
        match fs::symlink_metadata(&self.lock_path) {
            Ok(found) => (found.dev(), found.ino()) != (self.dev, self.ino),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

impl RunDir {
    /// Takes the directory at `path`, and makes it if it is not there.
    pub(crate) fn claim(path: &Path) -> Result<Self, RunDirError> {
        let path = &absolute(path)?;
        if path.as_os_str().as_bytes().iter().any(u8::is_ascii_control) {
            return Err(RunDirError::Control { path: path.clone() });
        }
        for socket in [CLIENT_SOCKET, WORKER_SOCKET] {
            endpoint::check(&path.join(socket))
                .map_err(|error| RunDirError::Socket { path: path.clone(), error })?;
        }
        make(path).map_err(failed("make the run directory", path))?;
        check(path)?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunDirError::Busy),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_path)(error)),
        }
        // Whoever goes in good order removes it.
        let was_left = pidfile_of(path).exists();
        let kept = File::open(path).map_err(failed("open", path))?;
        // Only who claims the directory has it so, and only for a moment.
        let _ = kept.try_lock_shared();
        let run_dir = Self { path: path.clone(), is_private: false, was_left, lock, _kept: kept };
        // Of somebody who was killed: they would lead clients astray.
        run_dir.remove_sockets()?;
        make(&path.join(LOGS)).map_err(failed("make", &path.join(LOGS)))?;
        let pidfile = path.join(PIDFILE);
        pidfile::write(&pidfile).map_err(failed("write", &pidfile))?;
        Ok(run_dir)
    }

    /// Makes a directory that no one else knows; [`Self::release`] removes it.
    pub(crate) fn private() -> Result<Self, RunDirError> {
        Self::private_in(&xdg().unwrap_or_else(|| PathBuf::from("/tmp")))
    }

    /// The same, in `parent`, where others that nobody holds any more are removed.
    pub(crate) fn private_in(parent: &Path) -> Result<Self, RunDirError> {
        sweep_private(parent);
        let path = nix::unistd::mkdtemp(&parent.join(format!("{PRIVATE}XXXXXX")))
            .map_err(|error| failed("make a run directory in", parent)(error.into()))?;
        let claimed = Self::claim(&path);
        if claimed.is_err() {
            // The error says more than a failed removal could.
            let _ = fs::remove_dir_all(&path);
        }
        Ok(Self { is_private: true, ..claimed? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn witness(&self) -> Result<Witness, RunDirError> {
        let lock_path = self.path.join(LOCK);
        let metadata = self.lock.metadata().map_err(failed("look at", &lock_path))?;
        Ok(Witness { lock_path, dev: metadata.dev(), ino: metadata.ino() })
    }

    /// Removes what speaks of a running cluster; all of it, if the directory is private.
    pub(crate) fn release(self) -> Result<(), RunDirError> {
        if self.is_private {
            return fs::remove_dir_all(&self.path).map_err(failed("remove", &self.path));
        }
        self.remove_sockets()?;
        let pidfile = self.path.join(PIDFILE);
        fs::remove_file(&pidfile).map_err(failed("remove", &pidfile))
    }

    fn remove_sockets(&self) -> Result<(), RunDirError> {
        for socket in [CLIENT_SOCKET, WORKER_SOCKET].map(|name| self.path.join(name)) {
            let is_socket = |metadata: fs::Metadata| metadata.file_type().is_socket();
            if fs::symlink_metadata(&socket).is_ok_and(is_socket) {
                fs::remove_file(&socket).map_err(failed("remove", &socket))?;
            }
        }
        Ok(())
    }
}

/// Removes private directories of ours in `parent` whose holders were killed: nobody has their
/// locks. What cannot be removed stays.
fn sweep_private(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.strip_prefix(PRIVATE));
        let is_private = suffix.is_some_and(|suffix| suffix.len() == PRIVATE_SUFFIX_LEN);
        if !is_private || check(&entry.path()).is_err() {
            continue;
        }
        // One that has no lock yet is just being made.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Where the pidfile of the run directory `path` is.
pub(crate) fn pidfile_of(path: &Path) -> PathBuf {
    path.join(PIDFILE)
}

/// The run directory to use: what was asked for, else the one of this user.
pub(crate) fn or_default(asked: Option<&Path>) -> PathBuf {
    let asked = asked.map(Path::to_owned);
    let uid = nix::unistd::geteuid().as_raw();
    choose(asked.or_else(runtime_dir_variable), uid, xdg())
}

/// The run directory where `hashctl` looks when it is told nothing.
pub(crate) fn found_by_clients() -> PathBuf {
    client::client_runtime_dir(runtime_dir_variable(), xdg())
}

fn runtime_dir_variable() -> Option<PathBuf> {
    env::var_os(RUNTIME_DIR_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

fn xdg() -> Option<PathBuf> {
    let dir = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    (dir.is_absolute() && dir.is_dir()).then_some(dir)
}

/// Unlike a client, which looks into the system's directory first, a cluster takes it only for
/// root: nobody else can make it.
fn choose(asked: Option<PathBuf>, uid: u32, xdg: Option<PathBuf>) -> PathBuf {
    match (asked, uid) {
        (Some(dir), _) => dir,
        (None, 0) => PathBuf::from(SYSTEM_RUNTIME_DIR),
        (None, _) => client::user_runtime_dir(xdg, uid),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, RunDirError> {
    std::path::absolute(path).map_err(failed("resolve", path))
}

/// Makes the run directory for what starts before the cluster, or checks that it is ours alone.
///
/// # Errors
/// See [`RunDirError`].
pub(crate) fn prepare(path: &Path) -> Result<(), RunDirError> {
    make(path).map_err(failed("make the run directory", path))?;
    check(path)
}

fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Checks that a run directory is ours alone.
///
/// # Errors
/// See [`RunDirError`]; it need not exist.
pub(crate) fn check(path: &Path) -> Result<(), RunDirError> {
    let metadata = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let (path, owner, mode) = (path.to_owned(), metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_dir() {
        return Err(RunDirError::NotDirectory { path });
    }
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(RunDirError::Foreign { path, owner });
    }
    if mode & 0o077 != 0 {
        return Err(RunDirError::Exposed { path, mode });
    }
    Ok(())
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> RunDirError {
    let path = path.to_owned();
    move |error| RunDirError::Io { what, path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_directory_is_the_asked_one_or_the_users_own() {
        let dir = |asked: Option<&str>, uid, xdg: Option<&str>| {
            choose(asked.map(PathBuf::from), uid, xdg.map(PathBuf::from))
        };
        let xdg = Some("/run/user/7");
        assert_eq!(dir(Some("/a"), 0, xdg), Path::new("/a"));
        assert_eq!(dir(None, 0, xdg), Path::new("/run/hashcluster"));
        assert_eq!(dir(None, 7, xdg), Path::new("/run/user/7/hashcluster"));
        assert_eq!(dir(None, 7, None), Path::new("/tmp/hashcluster-7"));
    }
}
