//! State of this process for a service manager such as systemd (sd_notify(3)): one datagram per change,
//! to the socket that the environment names.
//!
//! The socket is connected once, so that a process without paths can still report: [`ServiceManager::tell`]
//! is one sendmsg(2), as every sandbox allows it.

use nix::sys::socket::{MsgFlags, sendmsg};
use std::env;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
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
        let (fd, bytes) = (self.socket.as_raw_fd(), [IoSlice::new(state.as_bytes())]);
        // A manager that does not read must not hold up this process.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = sendmsg::<()>(fd, &bytes, &[], flags, None);
    }

    /// Time without `WATCHDOG=1` after which the manager takes this process for hung.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }
}
