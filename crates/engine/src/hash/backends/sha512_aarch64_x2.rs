#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-512, SHA-384 and SHA-512/256 (FIPS 180-4) by the SHA512 instructions of ARMv8.2, two messages
//! at once: the second is hashed while the first waits for its last instruction.
//!
//! Invariant: a lane reads only its blocks.

use super::{Row, row as lanes_row};
use crate::hash::cpu::{Cpu, Feature};
use crate::hash::lanes::{Blocks, Columns};
use crate::hash::merkle_damgard::{BLOCK_LEN_64 as BLOCK_LEN, K_512};
use crate::hash::portable::compress_64;
use ipc_proto::Family;
use std::arch::aarch64::{
    uint64x2_t, vaddq_u64, vextq_u64, vld1q_u8, vld1q_u64, vreinterpretq_u64_u8, vrev64q_u8,
    vsha512h2q_u64, vsha512hq_u64, vsha512su0q_u64, vsha512su1q_u64, vst1q_u64,
};

/// Proof that the SHA512 instructions were detected; only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sha3(());

impl Sha3 {
    /// The features that every function here with `target_feature` enables. The standard library has no feature
    /// for these instructions alone: it means them and those of SHA-3 by `sha3`.
    const FEATURES: &[Feature] = &[Feature::Sha3];

    pub(super) fn detect(cpu: &Cpu) -> Option<Self> {
        cpu.has(Self::FEATURES).then_some(Self(()))
    }
}

const LANES: usize = 2;

type Block = [u8; BLOCK_LEN];

type State = [u64; 8];

pub(super) fn row(proof: Sha3) -> Row {
    let compress = move |columns: &mut Columns<u64, LANES>, blocks: &Blocks<'_, _, LANES>| {
        compress_columns(proof, columns, blocks);
    };
    lanes_row("sha512_aarch64_x2", Family::Sha512, compress, compress_64)
}

/// Absorbs the blocks of both lanes, equally many of each.
fn compress_columns(
    _proof: Sha3,
    columns: &mut Columns<u64, LANES>,
    blocks: &Blocks<'_, BLOCK_LEN, LANES>,
) {
    let mut states = [columns.state(0), columns.state(1)];
    // SAFETY: a `Sha3` exists only after `detect` saw every feature that is enabled below.
    unsafe { compress(&mut states, *blocks) }
    states.into_iter().enumerate().for_each(|(lane, state)| columns.set_state(lane, state));
}

#[target_feature(enable = "sha3")]
fn compress(states: &mut [State; LANES], blocks: [&[Block]; LANES]) {
    let mut hash = states.each_ref().map(|state| quarters(state));
    let blocks_len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    for i in 0..blocks_len {
        let before = hash;
        let mut words = blocks.map(|blocks| load_words(&blocks[i]));
        let [first @ .., last] = &K_512;
        for constants in first {
            rounds::<true>(&mut hash, &mut words, constants);
        }
        rounds::<false>(&mut hash, &mut words, last);
        for (hash, before) in hash.as_flattened_mut().iter_mut().zip(before.as_flattened()) {
            *hash = vaddq_u64(*hash, *before);
        }
    }
    for (state, hash) in states.iter_mut().zip(hash) {
        state.as_chunks_mut().0.iter_mut().zip(hash).for_each(|(to, pair)| store(to, pair));
    }
}

/// Does 16 rounds and, to `EXTEND`, replaces `words` by the 16 that follow (FIPS 180-4, 6.4.2).
#[inline]
#[target_feature(enable = "sha3")]
fn rounds<const EXTEND: bool>(
    hash: &mut [[uint64x2_t; 4]; LANES],
    words: &mut [[uint64x2_t; 8]; LANES],
    constants: &[u64; 16],
) {
    let (constants, _) = constants.as_chunks::<2>();
    for pair in 0..8 {
        for (hash, words) in hash.iter_mut().zip(&mut *words) {
            let [w0, w2, w8, w10, w14] = [0, 1, 4, 5, 7].map(|i| words[(pair + i) % 8]);
            let [ab, cd, ef, gh] = *hash;
            let sum = vaddq_u64(w0, load(&constants[pair]));
            // The first of two rounds takes the upper words: h, and what belongs to it.
            let sum = vaddq_u64(vextq_u64::<1>(sum, sum), gh);
            // T1 (section 6.4.2) of both rounds.
            let t1 = vsha512hq_u64(sum, vextq_u64::<1>(ef, gh), vextq_u64::<1>(cd, ef));
            *hash = [vsha512h2q_u64(t1, cd, ab), ab, vaddq_u64(cd, t1), ef];
            if EXTEND {
                let sum = vsha512su0q_u64(w0, w2);
                words[pair] = vsha512su1q_u64(sum, w14, vextq_u64::<1>(w8, w10));
            }
        }
    }
}

/// The words a and b, c and d, e and f, g and h.
#[inline]
#[target_feature(enable = "sha3")]
fn quarters([a, b, c, d, e, f, g, h]: &State) -> [uint64x2_t; 4] {
    [load(&[*a, *b]), load(&[*c, *d]), load(&[*e, *f]), load(&[*g, *h])]
}

/// The 16 words of a block.
#[inline]
#[target_feature(enable = "sha3")]
fn load_words(block: &Block) -> [uint64x2_t; 8] {
    let (pairs, _) = block.as_chunks::<16>();
    // SAFETY: each of the eight is 16 bytes that can be read, at any alignment.
    let bytes = [0, 1, 2, 3, 4, 5, 6, 7].map(|pair| unsafe { vld1q_u8(pairs[pair].as_ptr()) });
    bytes.map(|bytes| vreinterpretq_u64_u8(vrev64q_u8(bytes)))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[u64; 2]) -> uint64x2_t {
    // SAFETY: `from` is 16 bytes that can be read.
    unsafe { vld1q_u64(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [u64; 2], register: uint64x2_t) {
    // SAFETY: `to` is 16 bytes that can be written.
    unsafe { vst1q_u64(to.as_mut_ptr(), register) }
}
