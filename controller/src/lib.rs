//! The controller of a hashcluster: hands out hash tasks, and forgets none.
//!
//! [`core`] decides and does no I/O; [`driver`] does sockets, timers, credentials and signals; [`journal`] stores;
//! [`jobs`] are those that outlive their clients, [`schedules`] submit them, [`notices`] tell of their runs, and
//! [`events`] are the audit trail, and [`roster`] what is kept of workers.

pub mod core;
pub mod driver;
pub mod events;
pub mod jobs;
pub mod journal;
pub mod notices;
pub mod roster;
pub mod schedules;
