//! The worker's side of its one connection.

pub mod connection;
mod leases;
pub mod reconnect;
pub mod session;
pub mod shutdown;
