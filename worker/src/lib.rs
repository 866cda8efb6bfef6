//! Computes digests for a controller, over one socket.
//!
//! From the outside in: [`link`] speaks with the controller, [`session`] knows which leases are
//! held, [`pool`] has the hashing threads, [`task`] does one batch, `long` a long SHA-2 file or two,
//! [`source`] reads what was passed, [`datasets`] what was named, [`reading`] what is not in memory,
//! [`hash`] hashes it.
//!
//! Invariants: nothing here opens a file by name except below the root of a dataset; everything
//! else that is hashed arrives as a descriptor or as bytes; nothing maps a file, so that one that shrinks cannot kill the process; only `clock` reads
//! a clock.

mod batch;
mod beside;
mod clock;
pub mod datasets;
pub mod hash;
pub mod host;
mod leases;
pub mod link;
pub mod log;
mod long;
mod passage;
pub mod pool;
pub mod reading;
pub mod reconnect;
pub mod session;
pub mod source;
pub mod stop;
mod sys;
pub mod task;
mod turns;
