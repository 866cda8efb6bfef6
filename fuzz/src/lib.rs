//! The bodies of the fuzz targets. They belong to the tests of the crates, which run them too.

#[path = "../../ipc-proto/tests/it/targets.rs"]
mod wire;

#[path = "../../controller/tests/it/targets.rs"]
mod controller;

#[path = "../../crates/engine/tests/it/kernels.rs"]
mod kernels_of_engine;

#[path = "../../crates/engine/tests/it/lanes.rs"]
mod lanes_of_engine;

#[path = "../../crates/schedule/tests/it/targets.rs"]
mod schedule_files;

pub use hashcluster_vm::{fuzz_deployment as deployment, fuzz_report as report};
pub use hashctl::fuzz_manifest as manifest;

/// A stream of frames, split in pieces and whole.
pub fn frames(input: &[u8]) {
    wire::frames(input);
}

/// A body, read as every type of message.
pub fn messages(input: &[u8]) {
    wire::messages(input);
}

/// The first body of a connection.
pub fn handshake(input: &[u8]) {
    wire::handshake(input);
}

/// Events of the controller's core, its invariants asserted after each.
pub fn core(input: &[u8]) {
    controller::core(input);
}

/// A policy file of the controller.
pub fn policy(input: &[u8]) {
    controller::policy(input);
}

/// A schedule file.
pub fn schedule(input: &[u8]) {
    schedule_files::schedule(input);
}

/// A set of messages, hashed by every backend.
pub fn kernels(input: &[u8]) {
    kernels_of_engine::kernels(input);
}

/// A set of files, hashed together.
pub fn lanes(input: &[u8]) {
    lanes_of_engine::lanes(input);
}
