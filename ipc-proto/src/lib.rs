//! The protocol between hashcluster's controller, workers and clients.
//!
//! Messages travel as frames over stream sockets, Unix and vsock; `docs/protocol.md` describes every byte so
//! that a peer can be written in another language.
//!
//! Invariants: no I/O, no clock, no async and no `unsafe` in this crate; whatever a peer sends is
//! compared with a limit of [`limits`] before memory is reserved for it.
//!
//! Not here: sockets and descriptors (`ipc-socket`), who is given what (`hashcluster-controller`).

mod algorithm;
mod algorithms;
pub mod backend;
mod blob;
pub mod codec;
pub mod endpoint;
pub mod frame;
pub mod handshake;
pub mod image;
pub mod limits;
mod list;
pub mod message;
pub mod sample;
pub mod token;

pub use algorithm::{Algorithm, Family, UnknownAlgorithm};
pub use algorithms::Algorithms;
pub use blob::Blob;
