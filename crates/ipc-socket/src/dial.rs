//! Connecting to an endpoint. Over vsock two lines precede the protocol, and everything has a
//! timeout: a dial made while the VM boots may never be answered.
//!
//! ```text
//! us      CONNECT 5001\n
//! device  OK 1073741824\n
//! ```
//!
//! Invariant: no byte after the device's line is read, as it belongs to the protocol.

use crate::clock::Deadline;
use crate::connection::ConnectError;
use crate::socket::Socket;
use crate::sys;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::limits::DIAL_TIMEOUT;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, VsockAddr, connect, getsockopt, socket, sockopt,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use thiserror::Error;

/// Longest answer of a device, its newline included: `OK` and a number of 32 bits are 14 bytes.
const ANSWER_LEN_MAX: usize = 32;

/// Failure of a vsock device to reach the controller.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Nothing happened in [`DIAL_TIMEOUT`].
    #[error("the VM does not answer in {} seconds", DIAL_TIMEOUT.as_secs())]
    Silent,
    /// The device closed the connection, as it does if nobody listens on the port.
    #[error("the VM is not up, or no program in it listens on this port")]
    Closed,
    /// An answer other than `OK` and a number.
    #[error("not a vsock device: it answered \"{}\"", answer.escape_ascii())]
    Rubbish {
        /// The start of it.
        answer: Vec<u8>,
    },
}

/// Connects to `endpoint`; the protocol starts at the socket's next byte.
pub(crate) fn dial(endpoint: &Endpoint) -> Result<Socket, ConnectError> {
    let deadline = Deadline::after(DIAL_TIMEOUT);
    let (socket, port) = match endpoint {
        Endpoint::Unix(path) => return Ok(UnixStream::connect(path)?.into()),
        Endpoint::Vsock { cid: None, .. } => return Err(Errno::EADDRNOTAVAIL.into()),
        Endpoint::Vsock { cid: Some(cid), port } => (reach_cid(*cid, *port, deadline)?, *port),
        Endpoint::VsockUnix { path, port } => (reach_device(path)?, *port),
    };
    ask(&socket, port, deadline)?;
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// Connects to a port of a VM or, with CID 2, of the host; the socket is non-blocking.
fn reach_cid(cid: u32, port: u32, deadline: Deadline) -> Result<Socket, ConnectError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = Socket::far(socket(AddressFamily::Vsock, SockType::Stream, flags, None)?);
    match connect(socket.as_raw_fd(), &VsockAddr::new(cid, port)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            wait(&socket, PollFlags::POLLOUT, deadline)?;
            let errno = getsockopt(&socket, sockopt::SocketError)?;
            if errno != 0 {
                return Err(io::Error::from_raw_os_error(errno).into());
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    Ok(socket)
}

/// Connects to the socket of a device, non-blocking from then on. A full accept queue cannot be
/// polled for, so its timeout is the socket's own.
fn reach_device(path: &Path) -> Result<Socket, ConnectError> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = Socket::far(socket(AddressFamily::Unix, SockType::Stream, flags, None)?);
    socket.set_write_timeout(Some(DIAL_TIMEOUT))?;
    loop {
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(WireError::Silent.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
    socket.set_write_timeout(None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Requests `port` from the device, and reads its answer byte by byte.
fn ask(socket: &Socket, port: u32, deadline: Deadline) -> Result<(), ConnectError> {
    let line = format!("CONNECT {port}\n");
    let mut sent = 0;
    while sent < line.len() {
        match sys::send(socket.as_fd(), &line.as_bytes()[sent..], &[]) {
            Ok(sent_len) => sent += sent_len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(socket, PollFlags::POLLOUT, deadline)?;
            }
            Err(error) => return Err(gone(error)),
        }
    }
    let mut answer = Vec::with_capacity(ANSWER_LEN_MAX);
    while answer.last() != Some(&b'\n') {
        if answer.len() == ANSWER_LEN_MAX {
            return Err(WireError::Rubbish { answer }.into());
        }
        wait(socket, PollFlags::POLLIN, deadline)?;
        let mut byte = [0];
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        match sys::recv(socket.as_fd(), &mut byte, &mut descriptors) {
            Ok(received) if received.bytes_len == 0 => return Err(WireError::Closed.into()),
            Ok(_) => answer.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(gone(error)),
        }
    }
    if is_ok(&answer) { Ok(()) } else { Err(WireError::Rubbish { answer }.into()) }
}

fn is_ok(answer: &[u8]) -> bool {
    let number = answer.strip_prefix(b"OK ").and_then(|rest| rest.strip_suffix(b"\n"));
    number.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

fn gone(error: io::Error) -> ConnectError {
    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
        return WireError::Closed.into();
    }
    error.into()
}

fn wait(socket: &Socket, events: PollFlags, deadline: Deadline) -> Result<(), ConnectError> {
    loop {
        let left = deadline.left().ok_or(WireError::Silent)?;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), events)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
