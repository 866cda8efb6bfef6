#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! The compression of BLAKE3 (paper, section 2.2) for 16 inputs at once: each vector holds the same
//! word of all of them.
//!
//! An input is a chunk, or the two chaining values below a parent. Which of the two, and whether it
//! is the root, is for the flags to say.
//!
//! Invariants: a lane reads only its input, whose last block is padded in a copy; a lane that is
//! done keeps its value while the longer ones go on.

use super::super::cpu::{Cpu, Feature};
use std::arch::x86_64::{
    __m512i, _mm256_storeu_si256, _mm512_add_epi32, _mm512_castsi512_si256,
    _mm512_cmpeq_epi32_mask, _mm512_cmpge_epu32_mask, _mm512_loadu_si512, _mm512_mask_mov_epi32,
    _mm512_mask_or_epi32, _mm512_mask_xor_epi32, _mm512_maskz_loadu_epi8, _mm512_ror_epi32,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};
use std::array;

/// Proof that AVX-512 was detected; only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// What every function here with `target_feature` enables.
    const FEATURES: &[Feature] = &[Feature::Avx512f, Feature::Avx512bw];

    pub(in super::super) fn detect(cpu: &Cpu) -> Option<Self> {
        cpu.has(Self::FEATURES).then_some(Self(()))
    }
}

/// Inputs at once.
pub(in super::super) const LANES: usize = 16;

/// Bytes of a block.
pub(super) const BLOCK_LEN: usize = 64;

/// Bytes of a chaining value, and of a digest.
pub(super) const VALUE_LEN: usize = 32;

type Block = [u8; BLOCK_LEN];

/// What an input hashes to.
pub(super) type Value = [u8; VALUE_LEN];

/// Flags of a block (paper, table 3).
pub(super) mod flags {
    pub(in super::super) const CHUNK_START: u32 = 1;
    pub(in super::super) const CHUNK_END: u32 = 1 << 1;
    pub(in super::super) const PARENT: u32 = 1 << 2;
    pub(in super::super) const ROOT: u32 = 1 << 3;
}

/// What a lane hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    /// The chunk's place in its message.
    pub(super) counter: u32,
    /// Flags of the first block.
    pub(super) start: u32,
    /// Flags of the last block, which may be the first one.
    pub(super) end: u32,
}

/// Hashes up to 16 inputs. What the values of the other lanes are means nothing.
pub(super) fn hash<'a>(
    _proof: Avx512,
    inputs: impl IntoIterator<Item = Input<'a>>,
) -> [Value; LANES] {
    let mut lanes = Lanes::IDLE;
    inputs.into_iter().take(LANES).enumerate().for_each(|(lane, input)| lanes.set(lane, input));
    // SAFETY: an `Avx512` exists only after `detect` saw every feature that is enabled below.
    unsafe { hash_impl(&lanes) }
}

/// A word of each lane.
type Words = [u32; LANES];

struct Lanes<'a> {
    /// The whole blocks.
    bodies: [&'a [Block]; LANES],
    /// What comes after them.
    rests: [&'a [u8]; LANES],
    /// The number of the last block.
    lasts: Words,
    last_lens: Words,
    counters: Words,
    starts: Words,
    ends: Words,
}

impl<'a> Lanes<'a> {
    const IDLE: Self = Self {
        bodies: [&[]; LANES],
        rests: [&[]; LANES],
        lasts: [0; LANES],
        last_lens: [0; LANES],
        counters: [0; LANES],
        starts: [0; LANES],
        ends: [0; LANES],
    };

    fn set(&mut self, lane: usize, Input { bytes, counter, start, end }: Input<'a>) {
        let last = bytes.len().saturating_sub(1) / BLOCK_LEN;
        let word = |len: usize| u32::try_from(len).expect("an input is no longer than a chunk");
        (self.bodies[lane], self.rests[lane]) = bytes.as_chunks();
        self.lasts[lane] = word(last);
        self.last_lens[lane] = word(bytes.len() - last * BLOCK_LEN);
        (self.counters[lane], self.starts[lane], self.ends[lane]) = (counter, start, end);
    }
}

/// The words of the initial state, before the counter, length and flags.
const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Where each word of the message comes from in the next round (paper, table 2).
const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

const ROUNDS: usize = 7;

/// Which word of the message comes at which place of a round.
const SCHEDULE: [[usize; 16]; ROUNDS] = {
    let mut schedule = [[0; 16]; ROUNDS];
    let mut word = 0;
    while word < 16 {
        let mut from = word;
        let mut round = 0;
        while round < ROUNDS {
            schedule[round][word] = from;
            from = PERMUTATION[from];
            round += 1;
        }
        word += 1;
    }
    schedule
};

#[target_feature(enable = "avx512f,avx512bw")]
fn hash_impl(lanes: &Lanes<'_>) -> [Value; LANES] {
    let mut tails = [[0; BLOCK_LEN]; LANES];
    for (tail, rest) in tails.iter_mut().zip(lanes.rests) {
        *tail = padded(rest);
    }
    let [lasts, last_lens, counters, starts, ends] =
        [&lanes.lasts, &lanes.last_lens, &lanes.counters, &lanes.starts, &lanes.ends]
            .map(|words| load(words));
    let iv = IV.map(|word| splat(word));
    let mut value = iv;
    let mut first_flags = starts;
    for at in 0..=lanes.lasts.into_iter().max().unwrap_or(0) {
        let blocks =
            array::from_fn(|lane| lanes.bodies[lane].get(at as usize).unwrap_or(&tails[lane]));
        let now = splat(at);
        let is_last = _mm512_cmpeq_epi32_mask(lasts, now);
        let is_going = _mm512_cmpge_epu32_mask(lasts, now);
        let lens = _mm512_mask_mov_epi32(splat(64), is_last, last_lens);
        let flags = _mm512_mask_or_epi32(first_flags, is_last, first_flags, ends);
        first_flags = _mm512_setzero_si512();
        let [h0, h1, h2, h3, h4, h5, h6, h7] = value;
        let mut state = [
            [h0, h1, h2, h3],
            [h4, h5, h6, h7],
            [iv[0], iv[1], iv[2], iv[3]],
            [counters, _mm512_setzero_si512(), lens, flags],
        ];
        rounds(&mut state, &transpose(blocks.map(|block| load(block))));
        for (word, value) in value.iter_mut().enumerate() {
            let [low, high] = [0, 2].map(|row| state[row + word / 4][word % 4]);
            *value = _mm512_mask_xor_epi32(*value, is_going, low, high);
        }
    }
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
    half::<0, 16, 12>(state, array::from_fn(|i| words[schedule[2 * i]]));
    half::<0, 8, 7>(state, array::from_fn(|i| words[schedule[2 * i + 1]]));
    half::<1, 16, 12>(state, array::from_fn(|i| words[schedule[8 + 2 * i]]));
    half::<1, 8, 7>(state, array::from_fn(|i| words[schedule[8 + 2 * i + 1]]));
}

/// Half of the quarter-round, on the four columns, or with `DIAGONAL` 1 on the diagonals: beside
/// each other, because each step waits for the one before it.
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

/// Turns 16 rows of 16 words into columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    // In each quarter of `quads[q][i]`: word `i` of that quarter of rows `4q` to `4q + 3`.
    let mut quads = [[_mm512_setzero_si512(); 4]; 4];
    for (quad, rows) in quads.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [r0, r1, r2, r3] = *rows;
        let (low_a, high_a) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
        let (low_b, high_b) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
        *quad = [
            _mm512_unpacklo_epi64(low_a, low_b),
            _mm512_unpackhi_epi64(low_a, low_b),
            _mm512_unpacklo_epi64(high_a, high_b),
            _mm512_unpackhi_epi64(high_a, high_b),
        ];
    }
    let mut columns = rows;
    for i in 0..4 {
        let [q0, q1, q2, q3] = [quads[0][i], quads[1][i], quads[2][i], quads[3][i]];
        let even_a = _mm512_shuffle_i32x4::<EVEN>(q0, q1);
        let even_b = _mm512_shuffle_i32x4::<EVEN>(q2, q3);
        let odd_a = _mm512_shuffle_i32x4::<ODD>(q0, q1);
        let odd_b = _mm512_shuffle_i32x4::<ODD>(q2, q3);
        columns[i] = _mm512_shuffle_i32x4::<EVEN>(even_a, even_b);
        columns[i + 4] = _mm512_shuffle_i32x4::<EVEN>(odd_a, odd_b);
        columns[i + 8] = _mm512_shuffle_i32x4::<ODD>(even_a, even_b);
        columns[i + 12] = _mm512_shuffle_i32x4::<ODD>(odd_a, odd_b);
    }
    columns
}

/// Quarters 0 and 2 of both operands.
const EVEN: i32 = 0b10_00_10_00;

/// Quarters 1 and 3 of both operands.
const ODD: i32 = 0b11_01_11_01;

/// `rest`, which is shorter than a block, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn padded(rest: &[u8]) -> Block {
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
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// What fills a register and is valid whatever its bits.
trait Row {}
impl Row for Words {}
impl Row for Block {}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<T: Row>(from: &T) -> __m512i {
    // SAFETY: a `Row` is 64 bytes that can be read, at any alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_low(to: &mut Value, row: __m512i) {
    // SAFETY: `to` is 32 bytes that can be written, at any alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_castsi512_si256(row)) }
}
