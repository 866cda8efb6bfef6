//! Shared parts of tests and benches: the real binaries, fake peers, files, random numbers, waiting.
//!
//! All of it panics where a step fails, as a test does.
//!
//! Every crate may have it as a dev-dependency. In `ipc-proto`'s own unit tests, which see their
//! types twice then, only what names no type of the protocol can be used.

mod broker;
mod cluster;
mod controller;
mod cpu;
mod denied;
mod files;
mod footprint;
mod fuzz;
mod hung;
mod messages;
mod process;
mod random;
mod running;
mod small_disk;
mod worker;

pub use broker::{Broker, BrokerPlace, broker_cluster, broker_cluster_at};
pub use cluster::{Cluster, Options, bin};
pub use controller::{DESCRIPTORS, FakeController, INLINE, Peer, Polled, welcome};
pub use cpu::{Spent, cpu_time, run_timed};
pub use denied::{NUMBERS, alone, call, every_other_call_is_denied};
pub use files::{
    file, hostile_names, lingering_socket, oracle, repository, sparse_file, write_file,
    write_secret, write_tree,
};
pub use footprint::Footprint;
pub use fuzz::{fuzz, seeds};
pub use hung::HungFile;
pub use messages::MessageJob;
pub use process::{DEADLINE, free_ports, output, program, text, until, until_within};
pub use random::{Random, pattern};
pub use running::{Ended, Running};
pub use small_disk::SmallDisk;
pub use worker::{FakeWorker, HeldLease, worker_role};
