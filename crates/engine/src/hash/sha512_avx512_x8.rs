#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-512, SHA-384 and SHA-512/256 (FIPS 180-4) by AVX-512, eight messages at once: each vector
//! holds the same word of all of them.
//!
//! Invariant: a lane reads only its blocks.

use super::avx512::Avx512;
use super::fips180::{BLOCK_LEN_512 as BLOCK_LEN, K_512, initial_512};
use super::lanes::{self, Blocks, Columns, Digests};
use super::portable;
use ipc_proto::Algorithm;
use sha2::block_api::compress512;
use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_loadu_si512, _mm512_ror_epi64, _mm512_set1_epi64,
    _mm512_set4_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i64x2, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

/// Messages at once.
pub(super) const LANES: usize = 8;

/// Fewer messages are hashed faster one after the other.
const LIVE_MIN: usize = 2;

type Block = [u8; BLOCK_LEN];

/// A word of each lane.
type Words = [u64; LANES];

pub(super) const fn serves(algorithm: Algorithm) -> bool {
    initial_512(algorithm).is_some()
}

pub(super) fn hash_many(proof: Avx512, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
    let Some(initial) = initial_512(algorithm).filter(|_| inputs.len() >= LIVE_MIN) else {
        return portable::hash_many(algorithm, inputs, out);
    };
    let mut digests = Digests::new(out, inputs.len(), algorithm.digest_len());
    let left = lanes::run(
        lanes::longest_first(initial, inputs),
        LIVE_MIN,
        |columns, blocks| compress_columns(proof, columns, blocks),
        &mut digests,
    );
    lanes::run_single(left, compress512, &mut digests);
}

/// Absorbs the blocks of all lanes.
pub(super) fn compress_columns(
    _proof: Avx512,
    columns: &mut Columns<u64, LANES>,
    blocks: &Blocks<'_, BLOCK_LEN, LANES>,
) {
    let len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    for at in 0..len {
        // SAFETY: an `Avx512` exists only after `detect` saw every feature that is enabled below.
        unsafe { compress_block(columns, &blocks.map(|blocks| &blocks[at])) }
    }
}

/// Absorbs a block in each lane (FIPS 180-4, section 6.4.2).
///
/// Never inline: between blocks the hash is in memory, so that the rounds have the registers.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress_block(columns: &mut Columns<u64, LANES>, blocks: &[&Block; LANES]) {
    let mut words = load_words(blocks);
    let mut hash = columns.0.each_ref().map(|words| load(words));
    let [first @ .., last] = &K_512;
    for constants in first {
        rounds::<true>(&mut hash, &mut words, constants);
    }
    rounds::<false>(&mut hash, &mut words, last);
    for (words, hash) in columns.0.iter_mut().zip(hash) {
        store(words, _mm512_add_epi64(load(words), hash));
    }
}

/// Does 16 rounds and, to `EXTEND`, replaces `words` by the 16 that follow.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounds<const EXTEND: bool>(
    hash: &mut [__m512i; 8],
    words: &mut [__m512i; 16],
    constants: &[u64; 16],
) {
    // Four at a time, which the compiler unrolls: then all words are in registers.
    four_rounds::<0, EXTEND>(hash, words, constants);
    four_rounds::<4, EXTEND>(hash, words, constants);
    four_rounds::<8, EXTEND>(hash, words, constants);
    four_rounds::<12, EXTEND>(hash, words, constants);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn four_rounds<const FROM: usize, const EXTEND: bool>(
    hash: &mut [__m512i; 8],
    words: &mut [__m512i; 16],
    constants: &[u64; 16],
) {
    for i in FROM..FROM + 4 {
        let [a, b, c, d, e, f, g, h] = *hash;
        let constant = _mm512_set1_epi64(constants[i].cast_signed());
        let sum = _mm512_add_epi64(_mm512_add_epi64(words[i], constant), h);
        let sum = _mm512_add_epi64(_mm512_add_epi64(sum, choose(e, f, g)), big_sigma_1(e));
        let other = _mm512_add_epi64(big_sigma_0(a), majority(a, b, c));
        *hash = [_mm512_add_epi64(sum, other), a, b, c, _mm512_add_epi64(d, sum), e, f, g];
        if EXTEND {
            let [w0, w1, w9, w14] = [0, 1, 9, 14].map(|at| words[(i + at) % 16]);
            let sum = _mm512_add_epi64(_mm512_add_epi64(w0, w9), small_sigma_0(w1));
            words[i] = _mm512_add_epi64(sum, small_sigma_1(w14));
        }
    }
}

/// Three operands xor-ed, as `vpternlogq` numbers its functions.
const XOR: i32 = 0x96;

/// The second operand where the first has ones, else the third.
const CHOOSE: i32 = 0xca;

/// What at least two of the operands have.
const MAJORITY: i32 = 0xe8;

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<CHOOSE>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<MAJORITY>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma_0(x: __m512i) -> __m512i {
    let [r0, r1, r2] =
        [_mm512_ror_epi64::<28>(x), _mm512_ror_epi64::<34>(x), _mm512_ror_epi64::<39>(x)];
    _mm512_ternarylogic_epi64::<XOR>(r0, r1, r2)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma_1(x: __m512i) -> __m512i {
    let [r0, r1, r2] =
        [_mm512_ror_epi64::<14>(x), _mm512_ror_epi64::<18>(x), _mm512_ror_epi64::<41>(x)];
    _mm512_ternarylogic_epi64::<XOR>(r0, r1, r2)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma_0(x: __m512i) -> __m512i {
    let [r0, r1, r2] =
        [_mm512_ror_epi64::<1>(x), _mm512_ror_epi64::<8>(x), _mm512_srli_epi64::<7>(x)];
    _mm512_ternarylogic_epi64::<XOR>(r0, r1, r2)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma_1(x: __m512i) -> __m512i {
    let [r0, r1, r2] =
        [_mm512_ror_epi64::<19>(x), _mm512_ror_epi64::<61>(x), _mm512_srli_epi64::<6>(x)];
    _mm512_ternarylogic_epi64::<XOR>(r0, r1, r2)
}

/// The 16 words of the blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_words(blocks: &[&Block; LANES]) -> [__m512i; 16] {
    let [first, second] =
        [0, 1].map(|half| transpose(blocks.map(|block| load(&block.as_chunks().0[half]))));
    let big_endian = _mm512_set4_epi32(0x0809_0a0b, 0x0c0d_0e0f, 0x0001_0203, 0x0405_0607);
    let mut words = [big_endian; 16];
    for (words, columns) in words.as_chunks_mut::<LANES>().0.iter_mut().zip([first, second]) {
        *words = columns.map(|column| _mm512_shuffle_epi8(column, big_endian));
    }
    words
}

/// Turns 8 rows of 8 words into columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; 8]) -> [__m512i; 8] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    let mut columns = rows;
    // Word 0 or 1 of each quarter of two neighbours, then quarters.
    let pairs = [
        [(r0, r1), (r2, r3), (r4, r5), (r6, r7)].map(|(r, s)| _mm512_unpacklo_epi64(r, s)),
        [(r0, r1), (r2, r3), (r4, r5), (r6, r7)].map(|(r, s)| _mm512_unpackhi_epi64(r, s)),
    ];
    for (i, [p0, p1, p2, p3]) in pairs.into_iter().enumerate() {
        let even_a = _mm512_shuffle_i64x2::<EVEN>(p0, p1);
        let even_b = _mm512_shuffle_i64x2::<EVEN>(p2, p3);
        let odd_a = _mm512_shuffle_i64x2::<ODD>(p0, p1);
        let odd_b = _mm512_shuffle_i64x2::<ODD>(p2, p3);
        columns[i] = _mm512_shuffle_i64x2::<EVEN>(even_a, even_b);
        columns[i + 2] = _mm512_shuffle_i64x2::<EVEN>(odd_a, odd_b);
        columns[i + 4] = _mm512_shuffle_i64x2::<ODD>(even_a, even_b);
        columns[i + 6] = _mm512_shuffle_i64x2::<ODD>(odd_a, odd_b);
    }
    columns
}

/// Quarters 0 and 2 of both operands.
const EVEN: i32 = 0b10_00_10_00;

/// Quarters 1 and 3 of both operands.
const ODD: i32 = 0b11_01_11_01;

/// What fills a register and is valid whatever its bits.
trait Row {}
impl Row for Words {}
impl Row for [u8; 64] {}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<T: Row>(from: &T) -> __m512i {
    // SAFETY: a `Row` is 64 bytes that can be read, at any alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut Words, register: __m512i) {
    // SAFETY: `to` is 64 bytes that can be written, at any alignment.
    unsafe { _mm512_storeu_si512(std::ptr::from_mut(to).cast(), register) }
}
