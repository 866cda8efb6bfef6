#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! The compression of BLAKE3 (paper, section 2.2) by AVX2 for 8 chunks or parents at once: each
//! vector holds the same word of all of them.
//!
//! Invariants: a lane reads only its input, whose last block is padded in a copy; a lane that is
//! done keeps its value while the longer ones go on.
//!
//! Not here: which chunks these are ([`many_trees`](crate::hash::many_trees)).

use super::Row;
use super::avx2::words32::{self, splat};
use super::avx2::{Avx2, load, store};
use crate::hash::many_trees::{
    self, BLOCK_LEN, Block, CHUNK_START, Chunks, IV, Kernel, Limits, Parents, SCHEDULE, VALUE_LEN,
    Value,
};
use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_blendv_epi8, _mm256_cmpeq_epi32, _mm256_cmpgt_epi32,
    _mm256_or_si256, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32,
    _mm256_sub_epi32, _mm256_xor_si256,
};
use std::array;
use std::hint::black_box;

const LANES: usize = 8;

/// A word of each lane.
type Words = [u32; LANES];

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

#[target_feature(enable = "avx2")]
fn hash_chunks(chunks: &mut Chunks<'_, LANES>) -> [Value; LANES] {
    let Chunks { bodies, rests, lens, counters, ends, tails } = chunks;
    for ((tail, body), rest) in tails.iter_mut().zip(&*bodies).zip(rests) {
        if body.is_empty() || !rest.is_empty() {
            *tail = [0; BLOCK_LEN];
            tail[..rest.len()].copy_from_slice(rest);
        }
    }
    let lasts: Words = lens.map(|len| len.div_ceil(64).max(1) - 1);
    let longest = lasts.iter().max().map_or(0, |&last| last);
    let [lasts, lens, counters, ends] = [&lasts, lens, counters, ends].map(|words| load(words));
    let last_lens = _mm256_sub_epi32(lens, _mm256_slli_epi32::<6>(lasts));
    let mut value = IV.map(|word| splat(word));
    let mut flags = splat(CHUNK_START);
    for at in 0..=longest {
        let blocks = array::from_fn(|lane| bodies[lane].get(at as usize).unwrap_or(&tails[lane]));
        let now = splat(at);
        let is_last = _mm256_cmpeq_epi32(lasts, now);
        let is_done = _mm256_cmpgt_epi32(now, lasts);
        let lens = _mm256_blendv_epi8(splat(64), last_lens, is_last);
        flags = _mm256_or_si256(flags, _mm256_and_si256(ends, is_last));
        compress(&mut value, is_done, &blocks, [counters, lens, flags]);
        flags = _mm256_setzero_si256();
    }
    values(value)
}

#[target_feature(enable = "avx2")]
fn hash_parents(Parents { blocks, flags }: &Parents<'_, LANES>) -> [Value; LANES] {
    let mut value = IV.map(|word| splat(word));
    compress(&mut value, splat(0), blocks, [splat(0), splat(64), load(flags)]);
    values(value)
}

/// Absorbs a block in the lanes that are not done. The last three are the end of the state.
///
/// Never inline: with the value in memory, the state has the registers for itself.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn compress(
    value: &mut [__m256i; 8],
    is_done: __m256i,
    blocks: &[&Block; LANES],
    ends: [__m256i; 3],
) {
    let operands = Operands {
        words: words32::load_little_endian(blocks),
        by_bytes: [load(&rotation(1)), load(&rotation(2))],
    };
    let mut state = state(value, ends);
    rounds(&mut state, &operands);
    let [a, b, c, d] = state;
    for i in 0..4 {
        let [low, high] = [_mm256_xor_si256(a[i], c[i]), _mm256_xor_si256(b[i], d[i])];
        value[i] = _mm256_blendv_epi8(low, value[i], is_done);
        value[i + 4] = _mm256_blendv_epi8(high, value[i + 4], is_done);
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
