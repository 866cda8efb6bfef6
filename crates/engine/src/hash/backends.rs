//! The table of backends: one row per set of kernels, each made by the module of its kernel.
//!
//! A row has the name, the family that it serves, how many messages it takes, and its functions. The
//! functions hold the zero-sized proof that the processor has their instructions, so that a row exists
//! only where it may be called. The names are those of [`ipc_proto::backend`].

#[cfg(target_arch = "aarch64")]
#[macro_use]
mod aarch64_pairs;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[macro_use]
mod blake3_rounds;
#[cfg(target_arch = "x86_64")]
mod blake3_avx2_x8;
#[cfg(target_arch = "x86_64")]
mod blake3_avx512_x16;
#[cfg(target_arch = "aarch64")]
mod blake3_neon_x4;
#[macro_use]
mod md5_rounds;
#[macro_use]
mod sha1_rounds;
#[macro_use]
mod sha2_rounds;
#[macro_use]
mod lane_kernel;
#[cfg(target_arch = "x86_64")]
pub(super) mod md5_single;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_lanes;
#[cfg(target_arch = "aarch64")]
mod sha256_aarch64_x2;
#[cfg(target_arch = "x86_64")]
mod sha256_avx512_x16;
#[cfg(target_arch = "x86_64")]
mod sha256_sha_ni_x2;
#[cfg(target_arch = "aarch64")]
mod sha512_aarch64_x2;
#[cfg(target_arch = "x86_64")]
pub(super) mod sha512_single;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86_64_lanes;

use super::cpu::Cpu;
use super::lanes::{self, Blocks, Columns, Digests, PREFERRED_BATCH};
use super::midstate::{self, Midstate, MidstateWord};
use super::{Backend, portable};
use ipc_proto::{Algorithm, Family, backend};
use std::fmt;

/// One set of kernels.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// The family that it has a kernel for; `None` for the portable one, which serves all.
    pub(super) family: Option<Family>,
    /// Preferred number of messages per call of `hash_many`.
    pub(super) preferred_batch: usize,
    /// Maximum number of messages per call of `absorb`.
    pub(super) width: usize,
    /// Appends the digest of each message, in order.
    pub(super) hash_many: &'static HashMany,
    /// Absorbs blocks of up to `width` messages of the family, equally many of each; `None` where
    /// that gains nothing.
    pub(super) absorb: Option<&'static Absorb>,
}

pub(super) type HashMany = dyn Fn(Algorithm, &[&[u8]], &mut Vec<u8>) + Send + Sync;
pub(super) type Absorb = dyn Fn(&mut [&mut Midstate], &[&[u8]]) + Send + Sync;

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

pub(super) static PORTABLE: Row = Row {
    name: backend::PORTABLE,
    family: None,
    preferred_batch: 1,
    width: 1,
    hash_many: &portable::hash_many,
    absorb: None,
};

/// The backends of a processor. Of those that serve the same family, the one that is expected to be
/// the fastest comes first.
pub(super) fn of(cpu: &Cpu) -> Vec<Backend> {
    let rows = simd(cpu).into_iter().flatten();
    rows.map(|row| Backend(Box::leak(Box::new(row)))).chain([Backend::PORTABLE]).collect()
}

#[cfg(target_arch = "x86_64")]
fn simd(cpu: &Cpu) -> [Option<Row>; 11] {
    use x86_64_lanes as lanes;
    let (avx512, avx2) = (avx512::Avx512::detect(cpu), avx2::Avx2::detect(cpu));
    let sha_ni = sha256_sha_ni_x2::ShaNi::detect(cpu);
    [
        sha_ni.map(sha256_sha_ni_x2::row),
        avx512.map(|avx512| sha256_avx512_x16::row(avx512, sha_ni)),
        avx2.map(lanes::sha256_avx2_x8::row),
        avx512.map(lanes::sha512_avx512_x8::row),
        avx2.map(lanes::sha512_avx2_x4::row),
        avx512.map(blake3_avx512_x16::row),
        avx2.map(blake3_avx2_x8::row),
        avx512.map(lanes::md5_avx512_x16::row),
        avx2.map(lanes::md5_avx2_x8::row),
        avx512.map(lanes::sha1_avx512_x16::row),
        avx2.map(lanes::sha1_avx2_x8::row),
    ]
}

#[cfg(target_arch = "aarch64")]
fn simd(cpu: &Cpu) -> [Option<Row>; 6] {
    let neon = neon::Neon::detect(cpu);
    [
        sha256_aarch64_x2::Sha2::detect(cpu).map(sha256_aarch64_x2::row),
        neon.map(neon_lanes::sha256_neon_x4::row),
        sha512_aarch64_x2::Sha3::detect(cpu).map(sha512_aarch64_x2::row),
        neon.map(blake3_neon_x4::row),
        neon.map(neon_lanes::md5_neon_x4::row),
        neon.map(neon_lanes::sha1_neon_x4::row),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd(_: &Cpu) -> [Option<Row>; 0] {
    []
}

/// Fewer messages are hashed faster one after the other.
const LIVE_MIN: usize = 2;

/// The row of a kernel that absorbs blocks of `LANES` messages at once: `compress` takes those of all
/// lanes, equally many of each, and `compress_one` those of one message.
fn row<W, C, const BLOCK_LEN: usize, const LANES: usize>(
    name: &'static str,
    family: Family,
    compress: C,
    compress_one: fn(&mut [W; 8], &[[u8; BLOCK_LEN]]),
) -> Row
where
    W: MidstateWord + 'static,
    C: Fn(&mut Columns<W, LANES>, &Blocks<'_, BLOCK_LEN, LANES>) + Copy + Send + Sync + 'static,
{
    let hash_many = move |algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>| {
        let Some(initial) = W::initial(algorithm).filter(|_| inputs.len() >= LIVE_MIN) else {
            return portable::hash_many(algorithm, inputs, out);
        };
        let mut digests = Digests::new(out, inputs.len(), algorithm);
        let messages = lanes::longest_first(algorithm, initial, inputs);
        let left = lanes::run(messages, LIVE_MIN, compress, &mut digests);
        lanes::run_single(left, compress_one, &mut digests);
    };
    let absorb = move |messages: &mut [&mut Midstate], data: &[&[u8]]| {
        midstate::absorb(messages, data, compress);
    };
    Row {
        name,
        family: Some(family),
        preferred_batch: PREFERRED_BATCH,
        width: LANES,
        hash_many: Box::leak(Box::new(hash_many)),
        absorb: Some(Box::leak(Box::new(absorb))),
    }
}

/// Has `compress_block` absorb the blocks of all lanes, one of each after the other.
fn each_block<W, const BLOCK_LEN: usize, const LANES: usize>(
    columns: &mut Columns<W, LANES>,
    blocks: &Blocks<'_, BLOCK_LEN, LANES>,
    compress_block: impl Fn(&mut Columns<W, LANES>, &[&[u8; BLOCK_LEN]; LANES]),
) {
    let len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    for at in 0..len {
        compress_block(columns, &blocks.map(|blocks| &blocks[at]));
    }
}
