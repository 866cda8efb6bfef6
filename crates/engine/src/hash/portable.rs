//! The portable backend: the RustCrypto crates and `blake3`, one message at a time, which every other
//! backend is compared with; and messages that come in pieces, which no other backend serves.

use super::midstate::Midstate;
use ipc_proto::limits::SEGMENT_ALIGN;
use ipc_proto::{Algorithm, Family};
use sha2::block_api::{compress256, compress512};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_256};
use std::fmt;
use std::sync::{Arc, Mutex};

pub(super) fn hash_many(algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
    out.reserve(inputs.len() * algorithm.digest_len());
    match algorithm {
        Algorithm::Sha224 => each::<Sha224>(inputs, out),
        Algorithm::Sha256 => each::<Sha256>(inputs, out),
        Algorithm::Sha384 => each::<Sha384>(inputs, out),
        Algorithm::Sha512 => each::<Sha512>(inputs, out),
        Algorithm::Sha512_256 => each::<Sha512_256>(inputs, out),
        Algorithm::Md5 => each::<md5::Md5>(inputs, out),
        Algorithm::Sha1 => each::<sha1::Sha1>(inputs, out),
        Algorithm::Blake2b => each::<blake2::Blake2b512>(inputs, out),
        Algorithm::Blake3 => {
            inputs.iter().for_each(|input| out.extend_from_slice(blake3::hash(input).as_bytes()));
        }
    }
}

fn each<D: Digest>(inputs: &[&[u8]], out: &mut Vec<u8>) {
    inputs.iter().for_each(|input| out.extend_from_slice(&D::digest(input)));
}

/// The compression function of a family with words of 32 bits.
///
/// # Panics
/// If the words of `family` are not of 32 bits.
pub(super) fn compress_32(family: Family) -> fn(&mut [u32; 8], &[[u8; 64]]) {
    match family {
        Family::Sha256 => compress256,
        Family::Sha1 => |words, blocks| {
            let words = words.first_chunk_mut().expect("five of eight");
            sha1::block_api::compress(words, blocks);
        },
        Family::Md5 => |words, blocks| {
            let words = words.first_chunk_mut().expect("four of eight");
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            super::backends::md5_single::compress(words, blocks);
            #[cfg(any(not(target_arch = "x86_64"), miri))]
            md5::block_api::compress(words, blocks);
        },
        Family::Sha512 | Family::Blake2b | Family::Blake3 => panic!("{family:?} has other words"),
    }
}

/// The compression function of SHA-512's family.
pub(super) fn compress_64(words: &mut [u64; 8], blocks: &[[u8; 128]]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if super::backends::sha512_single::compress_if_able(words, blocks) {
        return;
    }
    compress512(words, blocks);
}

/// A message that comes in pieces of any size.
#[derive(Clone)]
pub struct Stream(State);

#[derive(Clone)]
enum State {
    /// `rest` is shorter than a block.
    Blocks {
        absorbed: Midstate,
        rest: Vec<u8>,
        /// Of the digest, the rest of which is cut off.
        digest_len: usize,
    },
    Blake3(Box<blake3::Hasher>),
    /// The output reader goes to whoever asked for it.
    Blake3Output(Box<blake3::Hasher>, OutputSlot),
}

/// The output of a BLAKE3 message of any mode, of which any part can be read once the stream is finished.
pub type OutputSlot = Arc<Mutex<Option<blake3::OutputReader>>>;

impl Stream {
    /// A message before its first byte.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        match Midstate::new(algorithm) {
            Some(absorbed) => Self::blocks(absorbed, algorithm.digest_len()),
            None => Self(State::Blake3(Box::default())),
        }
    }

    fn blocks(absorbed: Midstate, digest_len: usize) -> Self {
        let rest = Vec::with_capacity(SEGMENT_ALIGN);
        Self(State::Blocks { absorbed, rest, digest_len })
    }

    /// A message for BLAKE2b with a digest of `len` bytes (RFC 7693); `None` unless that is 1 to 64.
    #[must_use]
    pub fn blake2b(len: usize) -> Option<Self> {
        Some(Self::blocks(Midstate::blake2b(len)?, len))
    }

    /// A message for a BLAKE3 hasher of any mode. At its end `output` gets what more than the first 32
    /// bytes are read from.
    #[must_use]
    pub fn blake3(hasher: blake3::Hasher, output: OutputSlot) -> Self {
        Self(State::Blake3Output(Box::new(hasher), output))
    }

    /// Appends to the message.
    pub fn update(&mut self, mut bytes: &[u8]) {
        match &mut self.0 {
            State::Blocks { absorbed, rest, .. } => {
                if !rest.is_empty() {
                    let (head, tail) = bytes.split_at(bytes.len().min(SEGMENT_ALIGN - rest.len()));
                    rest.extend_from_slice(head);
                    bytes = tail;
                }
                if rest.len() == SEGMENT_ALIGN {
                    absorbed.update(rest);
                    rest.clear();
                }
                let (whole, end) = bytes.split_at(bytes.len() / SEGMENT_ALIGN * SEGMENT_ALIGN);
                absorbed.update(whole);
                rest.extend_from_slice(end);
            }
            State::Blake3(hasher) | State::Blake3Output(hasher, _) => {
                hasher.update(bytes);
            }
        }
    }

    /// Ends the message and appends its digest to `out`.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.0 {
            State::Blocks { absorbed, rest, digest_len } => {
                out.extend_from_slice(&absorbed.finish(&rest)[..digest_len]);
            }
            State::Blake3(hasher) => out.extend_from_slice(hasher.finalize().as_bytes()),
            State::Blake3Output(hasher, output) => {
                out.extend_from_slice(hasher.finalize().as_bytes());
                *output.lock().expect("no holder panics") = Some(hasher.finalize_xof());
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}
