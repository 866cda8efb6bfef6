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
    __m512i, _mm256_storeu_si256, _mm512_add_epi32, _mm512_castsi512_si256,
    _mm512_cmpeq_epi32_mask, _mm512_cmpge_epu32_mask, _mm512_mask_mov_epi32, _mm512_mask_or_epi32,
    _mm512_mask_xor_epi32, _mm512_maskz_loadu_epi8, _mm512_max_epu32, _mm512_ror_epi32,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_si512,
    _mm512_sub_epi32, _mm512_xor_si512,
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
fn compress(
    value: &mut [__m512i; 8],
    mask: u16,
    blocks: &[&Block; LANES],
    [counters, lens, flags]: [__m512i; 3],
) {
    let words = words32::load_little_endian(blocks);
    let [h0, h1, h2, h3, h4, h5, h6, h7] = *value;
    let [iv0, iv1, iv2, iv3, ..] = IV.map(|word| splat(word));
    let mut state = [
        [h0, h1, h2, h3],
        [h4, h5, h6, h7],
        [iv0, iv1, iv2, iv3],
        [counters, _mm512_setzero_si512(), lens, flags],
    ];
    rounds(&mut state, &words);
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

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounds(state: &mut [[__m512i; 4]; 4], words: &[__m512i; 16]) {
    round::<0>(state, words);
    round::<1>(state, words);
    round::<2>(state, words);
    round::<3>(state, words);
    round::<4>(state, words);
    round::<5>(state, words);
    round::<6>(state, words);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn round<const ROUND: usize>(state: &mut [[__m512i; 4]; 4], words: &[__m512i; 16]) {
    let schedule = &SCHEDULE[ROUND];
    // In memory from round to round: there are too few registers for the state and all words.
    let words = black_box(words);
    half::<0, 16, 12>(state, array::from_fn(|i| words[schedule[2 * i]]));
    half::<0, 8, 7>(state, array::from_fn(|i| words[schedule[2 * i + 1]]));
    half::<1, 16, 12>(state, array::from_fn(|i| words[schedule[8 + 2 * i]]));
    half::<1, 8, 7>(state, array::from_fn(|i| words[schedule[8 + 2 * i + 1]]));
}

/// Half of the quarter-round, on the four columns, or with `DIAGONAL` 1 on the diagonals:
/// interleaved, because each step waits for the one before it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn half<const DIAGONAL: usize, const D_BITS: i32, const B_BITS: i32>(
    [a, b, c, d]: &mut [[__m512i; 4]; 4],
    words: [__m512i; 4],
) {
    for i in 0..4 {
        a[i] = _mm512_add_epi32(_mm512_add_epi32(a[i], words[i]), b[(i + DIAGONAL) % 4]);
    }
    for i in 0..4 {
        let d = &mut d[(i + 3 * DIAGONAL) % 4];
        *d = _mm512_ror_epi32::<D_BITS>(_mm512_xor_si512(*d, a[i]));
    }
    for i in 0..4 {
        let c = &mut c[(i + 2 * DIAGONAL) % 4];
        *c = _mm512_add_epi32(*c, d[(i + 3 * DIAGONAL) % 4]);
    }
    for i in 0..4 {
        let b = &mut b[(i + DIAGONAL) % 4];
        *b = _mm512_ror_epi32::<B_BITS>(_mm512_xor_si512(*b, c[(i + 2 * DIAGONAL) % 4]));
    }
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
