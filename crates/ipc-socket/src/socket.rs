//! Stream sockets of both families, connected and listening.
//!
//! A connected socket is held as the standard library's `UnixStream`, also for `AF_VSOCK`: all
//! operations used here (shutdown, timeouts, a second handle) work on any descriptor of a socket.

use crate::closing::{Passed, PassedBy};
use crate::sys;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, VsockAddr, bind, listen, recvmsg, socket,
};
use std::io::{self, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// The wildcard context id (vsock(7)).
const CID_ANY: u32 = libc::VMADDR_CID_ANY;

/// Backlog of a Unix socket: further peers wait in connect(2). Accepting one takes about 12 µs, so with the
/// system's maximum of 4096 an honest peer would wait for 50 ms during a flood. Vsock keeps the maximum, as
/// there a full backlog refuses peers.
const UNIX_BACKLOG: i32 = 16;

/// A connected stream socket.
#[derive(Debug)]
pub struct Socket {
    stream: Passed<UnixStream>,
    is_local: bool,
}

impl Socket {
    /// A socket that leads into or out of a VM, of either family at this end.
    #[must_use]
    pub fn far(stream: impl Into<OwnedFd>) -> Self {
        Self { stream: UnixStream::from(stream.into()).into(), is_local: false }
    }

    /// True if the peer is a process of this host: only then descriptors can be passed and the kernel
    /// knows its credentials.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// A second handle of the same socket.
    ///
    /// # Errors
    /// As dup(2).
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.try_clone()?.into(), is_local: self.is_local })
    }

    /// Sets the timeout of reads, for every handle; `None` waits indefinitely.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// Sets the timeout of writes, for every handle; `None` waits indefinitely.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(timeout)
    }

    /// Makes the socket non-blocking, or blocking.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    /// Says who the peer is: when the socket is closed, so is what was passed through it and not received.
    pub fn set_owner(&mut self, owner: PassedBy) {
        self.stream.set_owner(owner);
    }

    /// Ends the connection, and closes the socket in this thread unless that could wait for something that
    /// was passed through it.
    pub fn hang_up(self) {
        self.close();
        let mut byte = [0];
        let mut bytes = [IoSliceMut::new(&mut byte)];
        // Descriptors ride on bytes: without any left there is nothing that could wait.
        let peeked = recvmsg::<()>(self.as_raw_fd(), &mut bytes, None, MsgFlags::MSG_PEEK);
        if peeked.is_ok_and(|message| message.bytes == 0) {
            drop(self.stream.into_inner());
        }
    }

    /// Shuts the connection down in both directions; vsock devices do not support closing only one.
    pub fn close(&self) {
        // The peer may have closed first; then nothing remains to be done.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { stream: stream.into(), is_local: true }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// A non-blocking listening stream socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    is_unix: bool,
}

impl Listener {
    /// Listens on a port of `cid`, a context id of this machine; `None` for all of them.
    ///
    /// # Errors
    /// As socket(2), bind(2) and listen(2).
    pub fn vsock(cid: Option<u32>, port: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &VsockAddr::new(cid.unwrap_or(CID_ANY), port))?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok(Self { socket, is_unix: false })
    }

    /// Wraps a listening Unix socket, and shortens its queue of peers that wait to be accepted.
    ///
    /// # Errors
    /// As ioctl(2) and listen(2).
    pub fn unix(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        listen(&listener, Backlog::new(UNIX_BACKLOG)?)?;
        Ok(Self { socket: listener.into(), is_unix: true })
    }

    /// Accepts a waiting peer; the new socket is non-blocking, too.
    ///
    /// # Errors
    /// As accept(2), `WouldBlock` if there is none.
    pub fn accept(&self) -> io::Result<Socket> {
        let stream = UnixStream::from(sys::accept(self.socket.as_fd())?);
        Ok(Socket { stream: stream.into(), is_local: self.is_unix })
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
