//! A new connection for threads that have a descriptor table of their own (unshare(2), `CLONE_FILES`): a socket that
//! another thread opens is not in it. It is passed like to another process, and takes the number of the old one, by
//! which all threads know it.

use crate::connection::Sender;
use crate::sys;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The end that gives a connection.
#[derive(Debug)]
pub struct HandoverSender(OwnedFd);

/// The end of the thread, made before it has a table of its own.
#[derive(Debug)]
pub struct HandoverReceiver(OwnedFd);

/// Both ends.
///
/// # Errors
/// As socketpair(2).
pub fn handover() -> io::Result<(HandoverSender, HandoverReceiver)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((HandoverSender(ours), HandoverReceiver(theirs)))
}

impl HandoverSender {
    /// Gives the connection of this `generation`.
    ///
    /// # Errors
    /// As sendmsg(2).
    pub fn give(&self, generation: u64, sender: &Sender) -> io::Result<()> {
        sys::send(self.0.as_fd(), &generation.to_be_bytes(), &[sender.as_fd()]).map(drop)
    }
}

impl HandoverReceiver {
    /// Makes `sender` that of this `generation` in the table of this thread. Those before are skipped.
    ///
    /// # Errors
    /// As recvmsg(2) and dup3(2); `UnexpectedEof` if it was not given.
    pub fn take(&self, generation: u64, sender: &mut Sender) -> io::Result<()> {
        loop {
            let (mut bytes, mut given) = ([0; 8], Vec::new());
            let received = sys::recv(self.0.as_fd(), &mut bytes, &mut given)?;
            let Some(socket) = given.pop().filter(|_| received.bytes_len == bytes.len()) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            if u64::from_be_bytes(bytes) == generation {
                return sys::replace(sender.as_fd(), socket.as_fd());
            }
        }
    }
}
