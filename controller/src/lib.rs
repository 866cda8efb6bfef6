//! The controller of a hashcluster: hands out hash tasks, and forgets none.
//!
//! [`core`] decides and does no I/O; [`driver`] does sockets, timers, credentials and signals; [`journal`] stores;
//! [`jobs`] are those that outlive their clients, and [`schedules`] submit them.

pub mod core;
pub mod driver;
pub mod jobs;
pub mod journal;
pub mod schedules;
