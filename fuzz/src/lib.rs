//! The bodies of the fuzz targets. They belong to the tests of `ipc-proto`, which run them too.

#[path = "../../ipc-proto/tests/it/targets.rs"]
mod targets;

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
