//! The real worker against a controller that the test plays, and its kernels against each other.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod command_line;
mod connection;
mod controller;
mod datasets;
mod denied;
mod directories;
mod files;
mod hung;
mod leases;
mod long;
mod pieces;
mod pool;
mod syslog;
