#![expect(unsafe_code, reason = "instructions that a processor may be said not to have")]
//! The compression of BLAKE3 (paper, section 2.2) by NEON for 4 chunks or parents at once: each vector
//! holds the same word of all of them.
//!
//! Invariants: a lane reads only its input, whose last block is padded in a copy; a lane that is
//! done keeps its value while the longer ones go on.

use super::Row;
use super::neon::words32::{self, and, is_equal, is_greater, or, select, splat, xor};
use super::neon::{Neon, load, store};
use crate::hash::many_trees::{
    self, BLOCK_LEN, Block, CHUNK_START, Chunks, IV, Kernel, Limits, Parents, SCHEDULE, VALUE_LEN,
    Value,
};
use std::arch::aarch64::{uint32x4_t, vreinterpretq_u16_u32, vreinterpretq_u32_u16, vrev32q_u16};
use std::array;
use std::hint::black_box;

const LANES: usize = 4;

pub(super) fn row(proof: Neon) -> Row {
    many_trees::row("blake3_neon_x4", proof)
}

impl Kernel<LANES> for Neon {
    /// Not measured on a processor: the limits of AVX2, for half as many lanes. The portable backend
    /// has four lanes as well, for the chunks of one message.
    const LIMITS: Limits =
        Limits { chunks_even: 4, chunks_many: 12, inputs_min: 3, step_blocks: 2, batch_blocks: 3 };

    #[inline]
    fn hash(self, chunks: &mut Chunks<'_, LANES>) -> [Value; LANES] {
        // SAFETY: a `Neon` exists only after `detect` saw the feature that is enabled below.
        unsafe { hash_chunks(chunks) }
    }

    #[inline]
    fn merge(self, parents: &Parents<'_, LANES>) -> [Value; LANES] {
        // SAFETY: as above.
        unsafe { hash_parents(parents) }
    }
}

/// Takes the lanes apart.
#[inline]
#[target_feature(enable = "neon")]
fn values([v0, v1, v2, v3, v4, v5, v6, v7]: [uint32x4_t; 8]) -> [Value; LANES] {
    let (low, high) = (words32::transpose([v0, v1, v2, v3]), words32::transpose([v4, v5, v6, v7]));
    let mut values = [[0; VALUE_LEN]; LANES];
    for (value, halves) in values.iter_mut().zip(low.into_iter().zip(high)) {
        let [first, last] = value.as_chunks_mut::<16>().0 else { continue };
        store(first, halves.0);
        store(last, halves.1);
    }
    values
}

/// Operands that every round uses.
struct Operands {
    words: [uint32x4_t; 16],
}

/// Those of some blocks.
#[inline]
#[target_feature(enable = "neon")]
fn operands(blocks: &[&Block; LANES]) -> Operands {
    Operands { words: words32::load_little_endian(blocks) }
}

blake3_rounds! { "neon", uint32x4_t }

blake3_lanes! { "neon", uint32x4_t }

/// Rotates each word right by 16 bits, or by 8.
#[inline]
#[target_feature(enable = "neon")]
fn rotate_d<const IS_FIRST: bool>(x: uint32x4_t, _operands: &Operands) -> uint32x4_t {
    if IS_FIRST {
        return vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(x)));
    }
    words32::rotate_right::<8, 24>(x)
}

#[inline]
#[target_feature(enable = "neon")]
fn rotate_b<const IS_FIRST: bool>(x: uint32x4_t) -> uint32x4_t {
    if IS_FIRST { words32::rotate_right::<12, 20>(x) } else { words32::rotate_right::<7, 25>(x) }
}
