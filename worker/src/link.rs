//! The worker's side of its one connection.

pub mod connection;
pub mod hang;
mod leases;
pub mod reconnect;
pub mod session;
pub mod shutdown;
