//! The bodies of the fuzz targets. They belong to the tests of `ipc-proto`, of the controller and of
//! the engine, which run them too.

#[path = "../../ipc-proto/tests/it/targets.rs"]
mod targets;

#[path = "../../controller/tests/it/targets.rs"]
mod core_targets;

#[path = "../../crates/engine/tests/it/kernels.rs"]
mod worker_kernels;

/// A stream of frames, split in pieces and whole.
pub fn frames(input: &[u8]) {
    targets::frames(input);
}

/// A body, read as every type of message.
pub fn messages(input: &[u8]) {
    targets::messages(input);
}

/// The first body of a connection.
pub fn handshake(input: &[u8]) {
    targets::handshake(input);
}

/// Events of the controller's core, its invariants asserted after each.
pub fn core(input: &[u8]) {
    core_targets::core(input);
}

/// A set of messages, hashed by every backend.
pub fn kernels(input: &[u8]) {
    worker_kernels::kernels(input);
}
