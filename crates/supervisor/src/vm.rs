//! The cluster of VMs.
//!
//! [`session`] is the life of a cluster and [`fleet`] its middle: what happens to the VMs
//! ([`machine`]). [`plan`] makes every command line, [`prepare`] every file, in the places of
//! [`layout`]. [`watch`] asks how the VMs are, [`control`] takes commands while they run. [`mod@view`]
//! is a program of its own: what a file server sees.

mod accel;
mod control;
mod error;
mod fleet;
mod image;
mod layout;
mod machine;
mod operands;
mod plan;
mod prepare;
mod qmp;
mod session;
mod share;
mod table;
mod view;
mod watch;

pub(crate) use error::Error;
pub(crate) use plan::VirtiofsdKind;
pub(crate) use session::{command, console, run, ssh, sweep, up};
pub(crate) use view::run as view;
