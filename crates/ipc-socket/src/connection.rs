//! A blocking peer: connects, says `Hello`, then sends and receives messages.

use crate::closing::Passed;
use crate::dial::{self, WireError};
use crate::inbox::{Inbox, InboxError, Scratch};
use crate::socket::Socket;
use crate::sys;
use ipc_proto::codec::{self, CodecError};
use ipc_proto::endpoint::Endpoint;
use ipc_proto::limits::HELLO_TIMEOUT;
use ipc_proto::message::{Hello, HelloReply, Message, RefuseReason, Role, Welcome};
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;
use thiserror::Error;

/// Number and spacing of retries for a frame whose descriptors exceed the kernel's limit of
/// descriptors in flight.
const TOO_MANY_REFS_RETRIES: u32 = 2_000;
const TOO_MANY_REFS_PAUSE: Duration = Duration::from_millis(5);

/// Failure to connect.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The socket cannot be reached, or the peer went away.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The vsock device does not lead to the controller.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The controller refused.
    #[error("refused: {text}")]
    Refused {
        /// Reason for programs.
        reason: RefuseReason,
        /// Reason for people.
        text: String,
    },
    /// The answer violates the protocol.
    #[error("{0}")]
    Protocol(#[source] InboxError),
}

impl From<Errno> for ConnectError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Failure to receive a message.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The peer closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The read timeout of the socket expired.
    #[error("timed out")]
    TimedOut,
    /// An error of the operating system.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The peer violated the protocol.
    #[error("{0}")]
    Protocol(#[source] InboxError),
}

/// The sending half; several threads need a lock around it.
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
    frame: Vec<u8>,
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    socket: Socket,
    inbox: Inbox,
    scratch: Scratch,
}

/// An open connection to a controller.
#[derive(Debug)]
pub struct Connection {
    /// The sending half.
    pub sender: Sender,
    /// The receiving half.
    pub receiver: Receiver,
    /// The controller's introduction, without planes that this connection cannot carry.
    pub welcome: Welcome,
}

impl Connection {
    /// Connects to the controller at `endpoint` and says `Hello`.
    pub fn open(endpoint: &Endpoint, role: Role) -> Result<Self, ConnectError> {
        let socket = dial::dial(endpoint)?;
        socket.set_read_timeout(Some(2 * HELLO_TIMEOUT))?;
        let twin = socket.try_clone()?;
        let mut sender = Sender { socket: twin, frame: Vec::new() };
        let mut receiver = Receiver { socket, inbox: Inbox::new(), scratch: Scratch::default() };
        // A full controller refuses before it reads, so there may be an answer although the send failed.
        let sent = sender.send(&Hello::new(role), &[]);
        let mut welcome = match receiver.receive::<HelloReply>() {
            Ok((HelloReply::Welcome(welcome), _)) => welcome,
            Ok((HelloReply::Refused { reason, text, .. }, _)) => {
                return Err(ConnectError::Refused { reason, text });
            }
            Err(ReceiveError::Protocol(error)) => return Err(ConnectError::Protocol(error)),
            Err(ReceiveError::Io(error)) => return Err(error.into()),
            Err(ReceiveError::TimedOut) => {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            Err(ReceiveError::Closed) => {
                let error = sent.err().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
                return Err(error.into());
            }
        };
        receiver.set_timeout(None)?;
        welcome.planes.descriptors &= receiver.socket.is_local();
        Ok(Self { sender, receiver, welcome })
    }
}

impl Sender {
    /// Sends one message whole, with its descriptors.
    ///
    /// # Errors
    /// As sendmsg(2); `InvalidInput` for a message that is too long, or that has descriptors on a
    /// connection that cannot carry them.
    pub fn send<M: Message>(
        &mut self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        debug_assert_eq!(message.descriptors_len(), descriptors.len());
        if !descriptors.is_empty() && !self.socket.is_local() {
            let text = "descriptors cannot be passed over vsock";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.frame.clear();
        codec::encode_frame(message, &mut self.frame)
            .map_err(|error: CodecError| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut sent = send_patiently(self.socket.as_fd(), &self.frame, descriptors)?;
        while sent < self.frame.len() {
            sent += sys::send(self.socket.as_fd(), &self.frame[sent..], &[])?;
        }
        Ok(())
    }

    /// Goes on over the connection of `other`, under the same number.
    ///
    /// # Errors
    /// As dup3(2).
    pub fn replace(&mut self, other: &Self) -> io::Result<()> {
        sys::replace(self.as_fd(), other.as_fd())
    }

    /// Closes the connection in both directions, which ends a blocked receive as well.
    pub fn close(&self) {
        self.socket.close();
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn send_patiently(
    socket: BorrowedFd<'_>,
    frame: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut retries = 0;
    loop {
        match sys::send(socket, frame, descriptors) {
            Err(error)
                if error.raw_os_error() == Some(libc::ETOOMANYREFS)
                    && retries < TOO_MANY_REFS_RETRIES =>
            {
                retries += 1;
                thread::sleep(TOO_MANY_REFS_PAUSE);
            }
            result => return result,
        }
    }
}

impl Receiver {
    /// The next message, with its descriptors.
    ///
    /// # Errors
    /// See [`ReceiveError`]; after [`ReceiveError::TimedOut`] it can be called again.
    pub fn receive<M: Message>(&mut self) -> Result<(M, Vec<Passed>), ReceiveError> {
        loop {
            if let Some(message) = self.next_ready()? {
                return Ok(message);
            }
            match self.inbox.receive(self.socket.as_fd(), &mut self.scratch) {
                Ok(received) if received.bytes_len == 0 => return Err(ReceiveError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ReceiveError::TimedOut);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ReceiveError::Closed);
                }
                Err(error) => return Err(ReceiveError::Io(error)),
            }
        }
    }

    /// The next message that has already arrived; does not read from the socket.
    ///
    /// # Errors
    /// [`ReceiveError::Protocol`].
    pub fn next_ready<M: Message>(&mut self) -> Result<Option<(M, Vec<Passed>)>, ReceiveError> {
        self.inbox.next_message().map_err(ReceiveError::Protocol)
    }

    /// The connection's socket.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Bounds each wait for bytes from now on; `None` waits for ever.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::codec::CodecError;
    use ipc_proto::message::LimitExceeded;
    use std::error::Error;

    #[test]
    fn the_cause_of_an_error_is_its_source_at_every_step() {
        let limit = LimitExceeded { field: "files", value: 0, limit: 1 };
        let inbox = || InboxError::Codec(CodecError::Limit(limit));
        let connect = ConnectError::Protocol(inbox());
        let receive = ReceiveError::Protocol(inbox());
        for error in [&connect as &dyn Error, &receive] {
            let inbox = error.source().expect("what arrived");
            let codec = inbox.source().expect("the body");
            let cause = codec.source().expect("the field");
            assert_eq!(cause.downcast_ref(), Some(&limit));
        }
    }
}
