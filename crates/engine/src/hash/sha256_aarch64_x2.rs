#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-256 and SHA-224 (FIPS 180-4) by the SHA2 instructions of ARMv8, two messages at once.
//!
//! `sha256h` and `sha256h2` each wait for the ones before them: the second message is hashed in the
//! gaps of the first. Of both, hash and words fit in the 32 registers.
//!
//! Invariant: a lane reads only its blocks.

use super::cpu::{Cpu, Feature};
use super::fips180::{BLOCK_LEN_256 as BLOCK_LEN, K_256, initial_256};
use super::lanes::{self, Blocks, Columns, Digests};
use super::portable;
use ipc_proto::Algorithm;
use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vld1q_u8, vld1q_u32, vreinterpretq_u32_u8, vrev32q_u8, vsha256h2q_u32,
    vsha256hq_u32, vsha256su0q_u32, vsha256su1q_u32, vst1q_u32,
};

/// Proof that the SHA2 instructions were detected; only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha2(());

impl Sha2 {
    /// What every function here with `target_feature` enables.
    const FEATURES: &[Feature] = &[Feature::Sha2];

    pub(super) fn detect(cpu: &Cpu) -> Option<Self> {
        cpu.has(Self::FEATURES).then_some(Self(()))
    }
}

/// Messages at once.
const LANES: usize = 2;

type Block = [u8; BLOCK_LEN];

type State = [u32; 8];

pub(super) const fn serves(algorithm: Algorithm) -> bool {
    initial_256(algorithm).is_some()
}

pub(super) fn hash_many(proof: Sha2, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
    let Some(initial) = initial_256(algorithm) else {
        return portable::hash_many(algorithm, inputs, out);
    };
    let mut digests = Digests::new(out, inputs.len(), algorithm.digest_len());
    let left = lanes::run(
        lanes::longest_first(initial, inputs),
        LANES,
        |columns, blocks| compress_columns(proof, columns, blocks),
        &mut digests,
    );
    let alone =
        |state: &mut State, blocks: &[_]| compress(proof, std::array::from_mut(state), [blocks]);
    lanes::run_single(left, alone, &mut digests);
}

/// Absorbs the blocks of both lanes.
pub(super) fn compress_columns(
    proof: Sha2,
    columns: &mut Columns<u32, LANES>,
    blocks: &Blocks<'_, BLOCK_LEN, LANES>,
) {
    let mut states = [columns.state(0), columns.state(1)];
    compress(proof, &mut states, *blocks);
    states.into_iter().enumerate().for_each(|(lane, state)| columns.set_state(lane, state));
}

/// Absorbs the blocks of `N` messages, as many of each.
fn compress<const N: usize>(_proof: Sha2, states: &mut [State; N], blocks: [&[Block]; N]) {
    // SAFETY: a `Sha2` exists only after `detect` saw every feature that is enabled below.
    unsafe { compress_impl(states, blocks) }
}

#[target_feature(enable = "sha2")]
fn compress_impl<const N: usize>(states: &mut [State; N], blocks: [&[Block]; N]) {
    let mut hash = states.each_ref().map(|state| halves(state));
    let blocks_len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    for i in 0..blocks_len {
        let before = hash;
        let mut words = blocks.map(|blocks| load_words(&blocks[i]));
        let [first @ .., last] = &K_256;
        for constants in first {
            rounds::<N, true>(&mut hash, &mut words, constants);
        }
        rounds::<N, false>(&mut hash, &mut words, last);
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
fn rounds<const N: usize, const EXTEND: bool>(
    hash: &mut [[uint32x4_t; 2]; N],
    words: &mut [[uint32x4_t; 4]; N],
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
