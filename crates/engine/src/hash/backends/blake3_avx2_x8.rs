#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! The compression of BLAKE3 (paper, section 2.2) by AVX2 for 8 chunks or parents at once: each
//! vector holds the same word of all of them.
//!
//! Invariants: a lane reads only its input, whose last block is padded in a copy; a lane that is
//! done keeps its value while the longer ones go on.
//!
//! Not here: which chunks these are ([`many_trees`](crate::hash::many_trees)).

use super::Row;
use super::avx2::words32::{self, and, is_equal, is_greater, or, select, splat, xor};
use super::avx2::{Avx2, load, store};
use crate::hash::many_trees::{
    self, BLOCK_LEN, Block, CHUNK_START, Chunks, IV, Kernel, Limits, Parents, SCHEDULE, VALUE_LEN,
    Value,
};
use std::arch::x86_64::{__m256i, _mm256_shuffle_epi8};
use std::array;
use std::hint::black_box;

const LANES: usize = 8;

pub(super) fn row(proof: Avx2) -> Row {
    many_trees::row("blake3_avx2_x8", proof)
}

impl Kernel<LANES> for Avx2 {
    /// Measured on Zen 4.
    const LIMITS: Limits =
        Limits { chunks_even: 8, chunks_many: 24, inputs_min: 3, step_blocks: 2, batch_blocks: 3 };

    #[inline]
    fn hash(self, chunks: &mut Chunks<'_, LANES>) -> [Value; LANES] {
        // SAFETY: an `Avx2` exists only after `detect` saw the feature that is enabled below.
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
#[target_feature(enable = "avx2")]
fn values(value: [__m256i; 8]) -> [Value; LANES] {
    let mut values = [[0; VALUE_LEN]; LANES];
    for (value, row) in values.iter_mut().zip(words32::transpose(value)) {
        store(value, row);
    }
    values
}

/// Operands that every round uses.
struct Operands {
    words: [__m256i; 16],
    /// For a shuffle that rotates each word right by one byte, and by two.
    by_bytes: [__m256i; 2],
}

blake3_rounds! { "avx2", __m256i }

blake3_lanes! { "avx2", __m256i }

/// Those of some blocks.
#[inline]
#[target_feature(enable = "avx2")]
fn operands(blocks: &[&Block; LANES]) -> Operands {
    Operands {
        words: words32::load_little_endian(blocks),
        by_bytes: [load(&rotation(1)), load(&rotation(2))],
    }
}

/// Rotates each word right by 16 bits, or by 8: the compiler would use more instructions.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate_d<const IS_FIRST: bool>(x: __m256i, operands: &Operands) -> __m256i {
    _mm256_shuffle_epi8(x, operands.by_bytes[usize::from(IS_FIRST)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_b<const IS_FIRST: bool>(x: __m256i) -> __m256i {
    if IS_FIRST { words32::rotate_right::<12, 20>(x) } else { words32::rotate_right::<7, 25>(x) }
}

/// Where each byte comes from if words are rotated right by `bytes`.
const fn rotation(bytes: u8) -> [u8; 32] {
    let mut from = [0; 32];
    let mut at = 0;
    while at < 32 {
        from[at as usize] = at & 0b1100 | (at + bytes) & 0b11;
        at += 1;
    }
    from
}
