//! The cluster without VMs: a controller and its workers as processes of this host.
//!
//! [`up`] and [`run`] are the supervisor; [`stop`] and [`status`] look for one in another process.
//! The run directory is the only thing that they share: its lock says that somebody supervises,
//! its pidfile says who.

mod cluster;
mod control;
mod error;
mod session;

pub(crate) use control::{status, stop};
pub(crate) use error::Error;
pub(crate) use session::{run, up};
