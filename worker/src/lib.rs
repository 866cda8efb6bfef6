//! Computes digests for a controller: the engine behind one socket.
//!
//! [`link`] speaks with the controller and knows which leases are held, [`pool`] has the hashing
//! threads, [`host`] sets their cores and priorities, [`sandbox`] takes away what they do not need.
//! Reading and hashing is `engine`.

pub mod host;
pub mod link;
pub mod log;
mod metrics;
pub mod pages;
pub mod pool;
pub mod sandbox;
mod sys;
