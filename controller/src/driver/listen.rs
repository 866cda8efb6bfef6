//! Listening sockets: taking the place of a dead controller's, never of a live one's; accepting
//! as many peers as there is room for.

use super::connection::{self, Side};
use super::hub::Hub;
use ipc_proto::handshake::Refusal;
use ipc_proto::message::RefuseReason;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Display, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// While there is no room, one peer each this long is told so; the others wait to be accepted.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a socket cannot be listened on.
#[derive(Debug)]
pub enum BindError {
    /// A living controller has it.
    InUse(PathBuf),
    /// Something else than a socket is in the way.
    NotASocket(PathBuf),
    /// The system's error.
    Io(PathBuf, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => {
                write!(f, "{}: another controller listens here; stop it first", path.display())
            }
            Self::NotASocket(path) => {
                write!(f, "{}: exists and is not a socket; remove it", path.display())
            }
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for BindError {}

#[derive(Debug)]
pub(super) struct Listener {
    path: PathBuf,
    listener: UnixListener,
    _lock: Flock<File>,
}

impl Listener {
    /// Listens at `path`. A lock beside it tells a living controller from a dead one, which may
    /// have left its socket.
    pub(super) fn bind(path: &Path, is_private: bool) -> Result<Self, BindError> {
        let failed = |error| BindError::Io(path.to_owned(), error);
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        {
            fs::DirBuilder::new().mode(0o700).create(dir).map_err(failed)?;
        }
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.file_type().is_socket() => {
                fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = StdListener::bind(path);
        umask(before);
        let listener = bound.map_err(failed)?;
        if !is_private {
            // Whoever is not allowed is refused by credentials, with a reason.
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
        }
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { path: path.to_owned(), listener, _lock: lock })
    }

    pub(super) fn path(&self) -> Display<'_> {
        self.path.display()
    }

    /// Accepts peers, at most `peers_max` at a time.
    pub(super) async fn serve(&self, hub: Rc<Hub>, side: Side, peers_max: u32) {
        let room = Arc::new(Semaphore::new(usize::try_from(peers_max).unwrap_or(usize::MAX)));
        loop {
            let permit = tokio::select! {
                biased;
                permit = Arc::clone(&room).acquire_owned() => permit,
                () = self.refuse_one(&hub, &room, peers_max) => continue,
            };
            let permit = permit.expect("the semaphore is never closed");
            if let Some(stream) = self.accept(&hub).await {
                let served = connection::serve(Rc::clone(&hub), stream, side);
                tokio::task::spawn_local(async move {
                    served.await;
                    drop(permit);
                });
            }
        }
    }

    /// Tells one waiting peer that there is no room, unless there is some by now.
    async fn refuse_one(&self, hub: &Hub, room: &Semaphore, peers_max: u32) {
        tokio::time::sleep(BUSY_INTERVAL).await;
        if room.available_permits() > 0 {
            return;
        }
        if let Some(stream) = self.accept(hub).await {
            let text = format!("the controller has its most connections, {peers_max}");
            connection::refuse(hub, &stream, Refusal::new(RefuseReason::Busy, text));
        }
    }

    async fn accept(&self, hub: &Hub) -> Option<UnixStream> {
        match self.listener.accept().await {
            Ok((stream, _)) => Some(stream),
            Err(error) => {
                hub.log.line(&format!("{}: accept: {error}", self.path.display()));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The lock is still held, so this is our own socket; it may have been removed by hand.
        let _ = fs::remove_file(&self.path);
    }
}

/// The lock beside the socket at `path`.
fn lock(path: &Path) -> Result<Flock<File>, BindError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let failed = |error| BindError::Io(PathBuf::from(&lock_path), error);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&lock_path)
        .map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == Errno::EWOULDBLOCK {
            BindError::InUse(path.to_owned())
        } else {
            failed(errno.into())
        }
    })
}
