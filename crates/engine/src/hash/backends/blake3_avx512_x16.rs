#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! The compression of BLAKE3 (paper, section 2.2) for 16 chunks or parents at once: each vector holds
//! the same word of all of them.
//!
//! Invariants: a lane reads only its input, whose last block is padded in a copy; a lane that is
//! done keeps its value while the longer ones go on.

use super::Row;
use super::avx512::words32::{self, splat, transpose};
use super::avx512::{Avx512, load};
use crate::hash::many_trees::{
    self, BLOCK_LEN, Block, CHUNK_START, Chunks, IV, Kernel, Limits, Parents, SCHEDULE, VALUE_LEN,
    Value,
};
use std::arch::x86_64::{
    __m512i, _mm256_storeu_si256, _mm512_castsi512_si256, _mm512_cmpeq_epi32_mask,
    _mm512_cmpge_epu32_mask, _mm512_mask_mov_epi32, _mm512_mask_or_epi32, _mm512_mask_xor_epi32,
    _mm512_maskz_loadu_epi8, _mm512_max_epu32, _mm512_setzero_si512, _mm512_slli_epi32,
    _mm512_srli_epi32, _mm512_storeu_si512, _mm512_sub_epi32,
};
use std::array;
use std::hint::black_box;

const LANES: usize = 16;

pub(super) fn row(proof: Avx512) -> Row {
    many_trees::row("blake3_avx512_x16", proof)
}

impl Kernel<LANES> for Avx512 {
    /// Measured on Zen 4.
    const LIMITS: Limits =
        Limits { chunks_even: 8, chunks_many: 32, inputs_min: 3, step_blocks: 2, batch_blocks: 3 };

    #[inline]
    fn hash(self, chunks: &mut Chunks<'_, LANES>) -> [Value; LANES] {
        // SAFETY: an `Avx512` exists only after `detect` saw every feature that is enabled below.
        unsafe { hash_chunks(chunks) }
    }

    #[inline]
    fn merge(self, parents: &Parents<'_, LANES>) -> [Value; LANES] {
        // SAFETY: as above.
        unsafe { hash_parents(parents) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn hash_chunks(chunks: &mut Chunks<'_, LANES>) -> [Value; LANES] {
    let Chunks { bodies, rests, lens, counters, ends, tails } = chunks;
    // Only where it is needed: a masked load from an unmapped page is very slow.
    for ((tail, body), rest) in tails.iter_mut().zip(&*bodies).zip(rests) {
        if body.is_empty() || !rest.is_empty() {
            *tail = padded(rest);
        }
    }
    let longest = lens.iter().max().map_or(0, |&len| len);
    let [lens, counters, ends] = [lens, counters, ends].map(|words| load(words));
    let [one, whole] = [1, 64].map(|word| splat(word));
    let lasts = _mm512_srli_epi32::<6>(_mm512_sub_epi32(_mm512_max_epu32(lens, one), one));
    let last_lens = _mm512_sub_epi32(lens, _mm512_slli_epi32::<6>(lasts));
    let mut value = IV.map(|word| splat(word));
    let mut flags = splat(CHUNK_START);
    for at in 0..longest.div_ceil(64).max(1) {
        let blocks = array::from_fn(|lane| bodies[lane].get(at as usize).unwrap_or(&tails[lane]));
        let now = splat(at);
        let is_last = _mm512_cmpeq_epi32_mask(lasts, now);
        let is_going = _mm512_cmpge_epu32_mask(lasts, now);
        let lens = _mm512_mask_mov_epi32(whole, is_last, last_lens);
        flags = _mm512_mask_or_epi32(flags, is_last, flags, ends);
        compress(&mut value, is_going, &blocks, [counters, lens, flags]);
        flags = _mm512_setzero_si512();
    }
    values(value)
}

#[target_feature(enable = "avx512f,avx512bw")]
fn hash_parents(Parents { blocks, flags }: &Parents<'_, LANES>) -> [Value; LANES] {
    let mut value = IV.map(|word| splat(word));
    compress(&mut value, !0, blocks, [splat(0), splat(64), load(flags)]);
    values(value)
}

/// Absorbs a block in the lanes of `mask`. The last three are the end of the state.
///
/// Never inline: with the value in memory, the state has the registers for itself.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress(value: &mut [__m512i; 8], mask: u16, blocks: &[&Block; LANES], ends: [__m512i; 3]) {
    let operands = Operands { words: words32::load_little_endian(blocks) };
    let mut state = state(value, ends);
    rounds(&mut state, &operands);
    let [a, b, c, d] = state;
    for i in 0..4 {
        value[i] = _mm512_mask_xor_epi32(value[i], mask, a[i], c[i]);
        value[i + 4] = _mm512_mask_xor_epi32(value[i + 4], mask, b[i], d[i]);
    }
}

/// Takes the lanes apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn values(value: [__m512i; 8]) -> [Value; LANES] {
    let zero = _mm512_setzero_si512();
    let rows = transpose(array::from_fn(|word| *value.get(word).unwrap_or(&zero)));
    let mut values = [[0; VALUE_LEN]; LANES];
    for (value, row) in values.iter_mut().zip(rows) {
        store_low(value, row);
    }
    values
}

/// Operands that every round uses.
struct Operands {
    words: [__m512i; 16],
}

blake3_rounds! { "avx512f,avx512bw", __m512i }

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rotate_d<const IS_FIRST: bool>(x: __m512i, _: &Operands) -> __m512i {
    if IS_FIRST { words32::rotate_right::<16, 16>(x) } else { words32::rotate_right::<8, 24>(x) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rotate_b<const IS_FIRST: bool>(x: __m512i) -> __m512i {
    if IS_FIRST { words32::rotate_right::<12, 20>(x) } else { words32::rotate_right::<7, 25>(x) }
}

/// `rest`, which is shorter than a block, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn padded(rest: &[u8]) -> Block {
    if rest.is_empty() {
        return [0; BLOCK_LEN];
    }
    let mask = (1 << (rest.len() % BLOCK_LEN)) - 1;
    let mut block = [0; BLOCK_LEN];
    // SAFETY: as many bytes as `rest` has are read, because the mask has no more ones, and 64 are
    // written to `block`, at any alignment.
    unsafe {
        let row = _mm512_maskz_loadu_epi8(mask, rest.as_ptr().cast());
        _mm512_storeu_si512(block.as_mut_ptr().cast(), row);
    }
    block
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_low(to: &mut Value, row: __m512i) {
    // SAFETY: `to` is 32 bytes that can be written, at any alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_castsi512_si256(row)) }
}
