//! Starts the real binaries for tests and benches, and cleans up whatever happens to them.

mod cluster;
mod cpu;
mod device;
mod peer;
mod tree;

pub use cluster::{Cluster, Options, bin};
pub use cpu::{Spent, cpu_time, run_timed};
pub use device::Device;
pub use peer::{client, client_role, worker_role};
pub use tree::{Random, write_file, write_tree};
