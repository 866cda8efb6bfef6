//! Frames and descriptors over Unix stream sockets: the system calls beside `ipc-proto`.
//!
//! [`sys`] sends and receives bytes with descriptors; [`Inbox`] turns what arrives into messages
//! with the descriptors that belong to them; [`Connection`] is a blocking peer for programs that
//! need no event loop.
//!
//! Invariants: a descriptor that arrives is owned and close-on-exec before anything else happens,
//! so that no error leaks it; a message gets exactly the descriptors that it declares.

mod connection;
mod inbox;
mod sys;

pub use connection::{ConnectError, Connection, ReceiveError, Receiver, Sender};
pub use inbox::{Inbox, InboxError, Scratch};
pub use sys::{Peer, Received, close_all, peer, recv, send};
