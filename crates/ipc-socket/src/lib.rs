//! Frames and descriptors over Unix and vsock stream sockets: the system calls of the protocol.
//!
//! `sys` sends and receives bytes with descriptors; [`Inbox`] turns them into messages with
//! their descriptors; [`Socket`] and [`Listener`] are the two ends of an
//! endpoint, and `dial` leads from one to the other; [`Connection`] is a blocking peer for programs
//! that need no event loop. [`ServiceManager`] is told how a program is, by the same kind of socket.
//!
//! Invariants: a descriptor that arrives is owned and close-on-exec before anything else happens,
//! so that no error leaks it; a message gets exactly the descriptors that it declares; what a peer
//! passed is closed by threads that do nothing else ([`start_closers`]).

mod clock;
mod closing;
mod connection;
mod dial;
mod handover;
mod inbox;
mod service_manager;
mod socket;
mod sys;
mod token_file;
mod trusted;

pub use closing::{Passed, PassedBy, close_all, close_for, start_closers, unclosed};
pub use connection::{ConnectError, Connection, ReceiveError, Receiver, Sender};
pub use dial::WireError;
pub use handover::{HandoverReceiver, HandoverSender, handover};
pub use inbox::{Inbox, InboxError, RECEIVE_LEN, Scratch};
pub use service_manager::{
    InheritedSocket, MANAGER_VARIABLES, NOTIFY_SOCKET, ServiceManager, inherited_sockets,
};
pub use socket::{Listener, Socket};
pub use sys::{
    DESCRIPTOR_TABLE_LEN, Peer, Received, close_here, peer, recv, reserve_descriptor_table, send,
};
pub use token_file::read_token;
pub use trusted::{Trust, TrustError};
