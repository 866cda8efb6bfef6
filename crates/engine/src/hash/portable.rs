//! The portable backend: the `sha2` and `blake3` crates, which are also what every other backend is
//! held against.

use ipc_proto::Algorithm;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_256};
use std::fmt;

pub(super) fn hash_many(algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
    out.reserve(inputs.len() * algorithm.digest_len());
    match algorithm {
        Algorithm::Sha224 => each::<Sha224>(inputs, out),
        Algorithm::Sha256 => each::<Sha256>(inputs, out),
        Algorithm::Sha384 => each::<Sha384>(inputs, out),
        Algorithm::Sha512 => each::<Sha512>(inputs, out),
        Algorithm::Sha512_256 => each::<Sha512_256>(inputs, out),
        Algorithm::Blake3 => {
            inputs.iter().for_each(|input| out.extend_from_slice(blake3::hash(input).as_bytes()));
        }
    }
}

fn each<D: Digest>(inputs: &[&[u8]], out: &mut Vec<u8>) {
    inputs.iter().for_each(|input| out.extend_from_slice(&D::digest(input)));
}

/// A message that comes in pieces of any size.
#[derive(Clone)]
pub struct Stream(State);

#[derive(Clone)]
enum State {
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    Sha512_256(Sha512_256),
    Blake3(Box<blake3::Hasher>),
}

impl Stream {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha224 => State::Sha224(Sha224::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha384 => State::Sha384(Sha384::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
            Algorithm::Sha512_256 => State::Sha512_256(Sha512_256::new()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// Appends to the message.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha224(hasher) => hasher.update(bytes),
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha384(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
            State::Sha512_256(hasher) => hasher.update(bytes),
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// Ends the message and appends its digest to `out`.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.0 {
            State::Sha224(hasher) => out.extend_from_slice(&hasher.finalize()),
            State::Sha256(hasher) => out.extend_from_slice(&hasher.finalize()),
            State::Sha384(hasher) => out.extend_from_slice(&hasher.finalize()),
            State::Sha512(hasher) => out.extend_from_slice(&hasher.finalize()),
            State::Sha512_256(hasher) => out.extend_from_slice(&hasher.finalize()),
            State::Blake3(hasher) => out.extend_from_slice(hasher.finalize().as_bytes()),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}
