//! State of this process for a service manager such as systemd (sd_notify(3)): one datagram per change,
//! to the socket that the environment names.
//!
//! The manager keeps listening sockets while the process is restarted, so that no peer is refused meanwhile:
//! [`ServiceManager::store`] hands them over, [`inherited_sockets`] has them in the next process.
//!
//! The socket is connected once, so that a process without paths can still report: [`ServiceManager::tell`]
//! is one sendmsg(2), as every sandbox allows it.

use crate::sys;
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt};
use std::env;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process;
use std::time::Duration;

/// Names the socket.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Variables that a service manager sets for one process, not for those that it starts.
pub const MANAGER_VARIABLES: [&str; 3] = [NOTIFY_SOCKET, "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The service manager that waits for reports of this process.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The manager that started this process, or `None` if nothing in the environment names one.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is neither a path nor an abstract name, or nobody listens there.
    pub fn from_env() -> io::Result<Option<Self>> {
        let Some(name) = env::var_os(NOTIFY_SOCKET).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(&name)?,
            _ => {
                let text = "neither an absolute path nor @ and a name";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let limit = number("WATCHDOG_USEC").filter(|&us| is_ours && us > 0);
        let watchdog = limit.map(Duration::from_micros);
        Ok(Some(Self { socket, watchdog }))
    }

    /// Sends `state`: lines such as `READY=1`. A report that cannot be sent is lost.
    pub fn tell(&self, state: &str) {
        self.send(state, &[]);
    }

    /// Has the manager keep `socket` for the next process of this service. One that keeps none, as systemd
    /// without `FileDescriptorStoreMax=`, drops it.
    pub fn store(&self, name: &str, socket: BorrowedFd<'_>) {
        let sockets = [socket.as_raw_fd()];
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), &[ControlMessage::ScmRights(&sockets)]);
    }

    fn send(&self, state: &str, control: &[ControlMessage<'_>]) {
        let (fd, bytes) = (self.socket.as_raw_fd(), [IoSlice::new(state.as_bytes())]);
        // A manager that does not read must not hold up this process.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = sendmsg::<()>(fd, &bytes, control, flags, None);
    }

    /// Time without `WATCHDOG=1` after which the manager takes this process for hung.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }
}

/// Most sockets that a process takes from its manager.
const INHERITED_MAX: u16 = 16;

/// A listening Unix socket that the service manager made, or kept, for this process.
#[derive(Debug)]
pub struct InheritedSocket {
    /// Its name: that by which it was stored, or of the unit (`FileDescriptorName=`).
    pub name: String,
    /// The socket.
    pub listener: UnixListener,
}

/// The sockets that this process was started with (sd_listen_fds(3)), once: none for a second caller, and
/// none of another kind than listening Unix sockets.
#[must_use]
pub fn inherited_sockets() -> Vec<InheritedSocket> {
    let number = |name| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(process::id()) {
        return Vec::new();
    }
    let len = number("LISTEN_FDS").and_then(|len| u16::try_from(len).ok()).unwrap_or(0);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').chain(std::iter::repeat(""));
    let sockets = sys::started_with(len.min(INHERITED_MAX)).into_iter().zip(names);
    let listening = sockets
        .filter(|(socket, _)| getsockopt(socket, sockopt::AcceptConn).is_ok_and(|listens| listens));
    listening
        .map(|(socket, name)| (UnixListener::from(socket), name))
        .filter(|(listener, _)| listener.local_addr().is_ok())
        .map(|(listener, name)| InheritedSocket { name: name.to_owned(), listener })
        .collect()
}
