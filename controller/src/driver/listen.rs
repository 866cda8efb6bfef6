//! Listening sockets: taking the place of a dead controller's, never of a live one's; accepting
//! as many peers as there is room for.

mod kept;

pub use kept::KeptSockets;

use super::admission::{self, Side};
use super::connection;
use super::hub::Hub;
use super::log::{Event, LOG};
use super::port::watch;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::handshake::Refusal;
use ipc_proto::message::RefuseReason;
use ipc_socket::Socket;
use kept::KeptSocket;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use telemetry::http::{Api, BindFailure, HttpAddress, HttpListener, Pages};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

/// While there is no room, one peer each this long is told so; the others wait to be accepted.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// Peers that are accepted before others have their turn.
const ACCEPTS_MAX: u64 = 16;

/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a socket cannot be listened on.
#[derive(Debug)]
pub enum BindError {
    /// A living controller has it.
    InUse(Endpoint),
    /// Something else than a socket is in the way.
    NotASocket(PathBuf),
    /// The system's error with a file.
    Io(PathBuf, io::Error),
    /// The system's error with the socket itself.
    Listen(Endpoint, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(endpoint) => {
                write!(f, "{endpoint}: another controller listens here; stop it first")
            }
            Self::NotASocket(path) => {
                write!(f, "{}: exists and is not a socket; remove it", path.display())
            }
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Listen(endpoint, error) => write!(f, "{endpoint}: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) | Self::Listen(_, error) => Some(error),
            Self::InUse(_) | Self::NotASocket(_) => None,
        }
    }
}

/// A listener for HTTP.
#[derive(Debug)]
pub(super) struct HttpPlace {
    listener: HttpListener,
    _place: Option<Place>,
}

impl HttpPlace {
    /// Listens at `address`; nobody but our own user can open a Unix socket.
    pub(super) fn bind(address: &HttpAddress, kept: &mut KeptSockets) -> Result<Self, BindFailure> {
        match address {
            HttpAddress::Tcp(_) => {
                Ok(Self { listener: HttpListener::bind(address)?, _place: None })
            }
            HttpAddress::Unix(path) => {
                let failure = |error| BindFailure::new(address, error);
                let taken = Place::take(path, true, kept).map_err(io::Error::other);
                let (listener, place) = taken.map_err(failure)?;
                let listener = HttpListener::unix(listener).map_err(failure)?;
                Ok(Self { listener, _place: Some(place) })
            }
        }
    }

    /// Answers requests with `pages`.
    pub(super) async fn serve(self, pages: Pages, api: Api) {
        let Self { listener, _place } = self;
        listener.serve_with(pages, api).await;
    }
}

#[derive(Debug)]
pub(super) struct Listener {
    endpoint: Endpoint,
    listener: AsyncFd<ipc_socket::Listener>,
    _place: Option<Place>,
}

impl Listener {
    /// Listens at `endpoint`; nobody but its own user can open a Unix socket that `is_private`.
    pub(super) fn bind(
        endpoint: &Endpoint,
        is_private: bool,
        kept: &mut KeptSockets,
    ) -> Result<Self, BindError> {
        let failed = |error: io::Error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                return BindError::InUse(endpoint.clone());
            }
            BindError::Listen(endpoint.clone(), error)
        };
        let (listener, place) = match endpoint {
            Endpoint::Unix(path) => {
                let (listener, place) = Place::take(path, is_private, kept)?;
                (ipc_socket::Listener::unix(listener).map_err(failed)?, Some(place))
            }
            Endpoint::Vsock { cid, port } => {
                (ipc_socket::Listener::vsock(*cid, *port).map_err(failed)?, None)
            }
            Endpoint::VsockUnix { .. } => return Err(failed(io::ErrorKind::Unsupported.into())),
        };
        let listener = watch(listener, Interest::READABLE).map_err(failed)?;
        Ok(Self { endpoint: endpoint.clone(), listener, _place: place })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Accepts peers, at most `peers_max` at a time.
    pub(super) async fn serve(&self, hub: Rc<Hub>, side: Side, peers_max: u32) {
        let room = Arc::new(Semaphore::new(usize::try_from(peers_max).unwrap_or(usize::MAX)));
        let mut accepted_len: u64 = 0;
        loop {
            let permit = tokio::select! {
                biased;
                permit = Arc::clone(&room).acquire_owned() => permit,
                () = self.refuse_one(&hub, side, &room, peers_max) => continue,
            };
            let permit = permit.expect("the semaphore is never closed");
            let Some(mut socket) = self.accept().await else { continue };
            if let Some(newcomer) = admission::meet(&hub, &mut socket, side) {
                let served = connection::serve(Rc::clone(&hub), socket, newcomer, side);
                tokio::task::spawn_local(async move {
                    served.await;
                    drop(permit);
                });
            } else {
                socket.hang_up();
            }
            accepted_len += 1;
            if accepted_len.is_multiple_of(ACCEPTS_MAX) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Tells one waiting peer that there is no room, unless there is some by now.
    async fn refuse_one(&self, hub: &Hub, side: Side, room: &Semaphore, peers_max: u32) {
        tokio::time::sleep(BUSY_INTERVAL).await;
        if room.available_permits() > 0 {
            return;
        }
        if let Some(socket) = self.accept().await {
            let text = format!("the controller has its most connections, {peers_max}");
            admission::refuse(hub, &socket, side, Refusal::new(RefuseReason::Busy, text));
            socket.hang_up();
        }
    }

    async fn accept(&self) -> Option<Socket> {
        match self.next().await {
            Ok(socket) => Some(socket),
            Err(error) => {
                LOG.log(&Event::AcceptFailed { endpoint: &self.endpoint, error: &error });
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    async fn next(&self) -> io::Result<Socket> {
        loop {
            let mut guard = self.listener.readable().await?;
            if let Ok(accepted) = guard.try_io(|listener| listener.get_ref().accept()) {
                return accepted;
            }
        }
    }
}

/// A path in the file system that is ours to listen at.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// The socket stays when this process ends.
    is_kept: bool,
    _lock: Flock<File>,
}

impl Place {
    /// Listens at `path`, by the socket that was kept for it if there is one. A lock beside it tells a living
    /// controller from a dead one, which may have left its socket.
    fn take(
        path: &Path,
        is_private: bool,
        kept: &mut KeptSockets,
    ) -> Result<(UnixListener, Self), BindError> {
        let failed = |error| BindError::Io(path.to_owned(), error);
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        {
            fs::DirBuilder::new().mode(0o700).create(dir).map_err(failed)?;
        }
        let lock = lock(path)?;
        let mut socket = None;
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                socket = kept.take(path, &found);
                if socket.is_none() {
                    fs::remove_file(path).map_err(failed)?;
                }
            }
            Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let is_kept = kept.is_managed() || socket.is_some();
        let mode = match &socket {
            // Of a socket that the manager made it is as its unit says.
            Some(KeptSocket { is_ours: false, .. }) => None,
            // Whoever is not allowed is refused by credentials, with a reason.
            _ if !is_private => Some(0o666),
            Some(_) => Some(0o600),
            None => None,
        };
        let listener = match socket {
            Some(socket) => socket.listener,
            None => {
                let before = umask(Mode::from_bits_truncate(0o177));
                let bound = UnixListener::bind(path);
                umask(before);
                let listener = bound.map_err(failed)?;
                kept.add(&fs::symlink_metadata(path).map_err(failed)?, &listener);
                listener
            }
        };
        let place = Self { path: path.to_owned(), is_kept, _lock: lock };
        if let Some(mode) = mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        }
        Ok((listener, place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_kept {
            // The lock is still held, so this is our own socket; it may have been removed by hand.
            let _ = fs::remove_file(&self.path);
        }
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
            BindError::InUse(Endpoint::Unix(path.to_owned()))
        } else {
            failed(errno.into())
        }
    })
}
