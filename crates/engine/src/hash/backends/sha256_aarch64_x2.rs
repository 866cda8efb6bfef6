#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-256 and SHA-224 (FIPS 180-4) by the SHA2 instructions of ARMv8, two messages at once.
//!
//! `sha256h` and `sha256h2` each wait for the ones before them: the second message is hashed in the
//! gaps of the first. Of both, hash and words fit in the 32 registers.
//!
//! Invariant: a lane reads only its blocks.

use super::{Row, row as lanes_row};
use crate::hash::cpu::{Cpu, Feature};
use crate::hash::lanes::{Blocks, Columns};
use crate::hash::merkle_damgard::{BLOCK_LEN_32 as BLOCK_LEN, K_256};
use crate::hash::portable::compress_32;
use ipc_proto::Family;
use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vld1q_u8, vld1q_u32, vreinterpretq_u32_u8, vrev32q_u8, vsha256h2q_u32,
    vsha256hq_u32, vsha256su0q_u32, vsha256su1q_u32, vst1q_u32,
};

/// Proof that the SHA2 instructions were detected; only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sha2(());

impl Sha2 {
    /// The features that every function here with `target_feature` enables.
    const FEATURES: &[Feature] = &[Feature::Sha2];

    pub(super) fn detect(cpu: &Cpu) -> Option<Self> {
        cpu.has(Self::FEATURES).then_some(Self(()))
    }
}

const LANES: usize = 2;

type Block = [u8; BLOCK_LEN];

type State = [u32; 8];

pub(super) fn row(proof: Sha2) -> Row {
    let compress = move |columns: &mut Columns<u32, LANES>, blocks: &Blocks<'_, _, LANES>| {
        compress_columns(proof, columns, blocks);
    };
    lanes_row("sha256_aarch64_x2", Family::Sha256, compress, compress_32(Family::Sha256))
}

/// Absorbs the blocks of both lanes, equally many of each.
fn compress_columns(
    _proof: Sha2,
    columns: &mut Columns<u32, LANES>,
    blocks: &Blocks<'_, BLOCK_LEN, LANES>,
) {
    let mut states = [columns.state(0), columns.state(1)];
    // SAFETY: a `Sha2` exists only after `detect` saw every feature that is enabled below.
    unsafe { compress(&mut states, *blocks) }
    states.into_iter().enumerate().for_each(|(lane, state)| columns.set_state(lane, state));
}

#[target_feature(enable = "sha2")]
fn compress(states: &mut [State; LANES], blocks: [&[Block]; LANES]) {
    let mut hash = states.each_ref().map(|state| halves(state));
    let blocks_len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    for i in 0..blocks_len {
        let before = hash;
        let mut words = blocks.map(|blocks| load_words(&blocks[i]));
        let [first @ .., last] = &K_256;
        for constants in first {
            rounds::<true>(&mut hash, &mut words, constants);
        }
        rounds::<false>(&mut hash, &mut words, last);
        for (hash, before) in hash.as_flattened_mut().iter_mut().zip(before.as_flattened()) {
            *hash = vaddq_u32(*hash, *before);
        }
    }
    for (state, hash) in states.iter_mut().zip(hash) {
        state.as_chunks_mut().0.iter_mut().zip(hash).for_each(|(to, half)| store(to, half));
    }
}

/// Does 16 rounds and, to `EXTEND`, replaces `words` by the 16 that follow (FIPS 180-4, 6.2.2).
#[inline]
#[target_feature(enable = "sha2")]
fn rounds<const EXTEND: bool>(
    hash: &mut [[uint32x4_t; 2]; LANES],
    words: &mut [[uint32x4_t; 4]; LANES],
    constants: &[u32; 16],
) {
    let (constants, _) = constants.as_chunks::<4>();
    for quad in 0..4 {
        for ([abcd, efgh], words) in hash.iter_mut().zip(&mut *words) {
            let [w0, w4, w8, w12] = [0, 1, 2, 3].map(|i| words[(quad + i) % 4]);
            let sum = vaddq_u32(w0, load(&constants[quad]));
            let before = *abcd;
            *abcd = vsha256hq_u32(before, *efgh, sum);
            *efgh = vsha256h2q_u32(*efgh, before, sum);
            if EXTEND {
                words[quad] = vsha256su1q_u32(vsha256su0q_u32(w0, w4), w8, w12);
            }
        }
    }
}

/// The words a to d, and e to h.
#[inline]
#[target_feature(enable = "sha2")]
fn halves([a, b, c, d, e, f, g, h]: &State) -> [uint32x4_t; 2] {
    [load(&[*a, *b, *c, *d]), load(&[*e, *f, *g, *h])]
}

/// The 16 words of a block.
#[inline]
#[target_feature(enable = "sha2")]
fn load_words(block: &Block) -> [uint32x4_t; 4] {
    let (quads, _) = block.as_chunks::<16>();
    // SAFETY: each of the four is 16 bytes that can be read, at any alignment.
    let bytes = [0, 1, 2, 3].map(|quad| unsafe { vld1q_u8(quads[quad].as_ptr()) });
    bytes.map(|bytes| vreinterpretq_u32_u8(vrev32q_u8(bytes)))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[u32; 4]) -> uint32x4_t {
    // SAFETY: `from` is 16 bytes that can be read.
    unsafe { vld1q_u32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [u32; 4], register: uint32x4_t) {
    // SAFETY: `to` is 16 bytes that can be written.
    unsafe { vst1q_u32(to.as_mut_ptr(), register) }
}
