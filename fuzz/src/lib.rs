//! The bodies of the fuzz targets. They belong to the tests of `ipc-proto` and of the engine, which
//! run them too.

#[path = "../../ipc-proto/tests/it/targets.rs"]
mod targets;

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

/// A set of messages, hashed by every backend.
pub fn kernels(input: &[u8]) {
    worker_kernels::kernels(input);
}
