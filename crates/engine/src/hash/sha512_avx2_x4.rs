#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-512, SHA-384 and SHA-512/256 (FIPS 180-4) by AVX2, four messages at once: each vector holds
//! the same word of all of them.
//!
//! Invariant: a lane reads only its blocks.

use super::avx2::Avx2;
use super::fips180::{BLOCK_LEN_512 as BLOCK_LEN, K_512, initial_512};
use super::lanes::{self, Blocks, Columns, Digests};
use super::portable;
use ipc_proto::Algorithm;
use sha2::block_api::compress512;
use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_loadu_si256, _mm256_permute2x128_si256,
    _mm256_set1_epi64x, _mm256_setr_epi8, _mm256_shuffle_epi8, _mm256_slli_epi64,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
    _mm256_xor_si256,
};

/// Messages at once.
pub(super) const LANES: usize = 4;

/// Fewer messages are hashed faster one after the other.
const LIVE_MIN: usize = 2;

type Block = [u8; BLOCK_LEN];

/// A word of each lane.
type Words = [u64; LANES];

pub(super) const fn serves(algorithm: Algorithm) -> bool {
    initial_512(algorithm).is_some()
}

pub(super) fn hash_many(proof: Avx2, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
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
    _proof: Avx2,
    columns: &mut Columns<u64, LANES>,
    blocks: &Blocks<'_, BLOCK_LEN, LANES>,
) {
    let len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    for at in 0..len {
        // SAFETY: an `Avx2` exists only after `detect` saw every feature that is enabled below.
        unsafe { compress_block(columns, &blocks.map(|blocks| &blocks[at])) }
    }
}

/// Absorbs a block in each lane (FIPS 180-4, section 6.4.2).
///
/// Never inline: between blocks the hash is in memory, so that the rounds have the registers.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn compress_block(columns: &mut Columns<u64, LANES>, blocks: &[&Block; LANES]) {
    let mut words = load_words(blocks);
    let mut hash = columns.0.each_ref().map(|words| load(words));
    let [first @ .., last] = &K_512;
    for constants in first {
        rounds::<true>(&mut hash, &mut words, constants);
    }
    rounds::<false>(&mut hash, &mut words, last);
    for (words, hash) in columns.0.iter_mut().zip(hash) {
        store(words, _mm256_add_epi64(load(words), hash));
    }
}

/// Does 16 rounds and, to `EXTEND`, replaces `words` by the 16 that follow.
#[inline]
#[target_feature(enable = "avx2")]
fn rounds<const EXTEND: bool>(
    hash: &mut [__m256i; 8],
    words: &mut [__m256i; 16],
    constants: &[u64; 16],
) {
    // Four at a time, which the compiler unrolls.
    four_rounds::<0, EXTEND>(hash, words, constants);
    four_rounds::<4, EXTEND>(hash, words, constants);
    four_rounds::<8, EXTEND>(hash, words, constants);
    four_rounds::<12, EXTEND>(hash, words, constants);
}

#[inline]
#[target_feature(enable = "avx2")]
fn four_rounds<const FROM: usize, const EXTEND: bool>(
    hash: &mut [__m256i; 8],
    words: &mut [__m256i; 16],
    constants: &[u64; 16],
) {
    for i in FROM..FROM + 4 {
        let [a, b, c, d, e, f, g, h] = *hash;
        let constant = _mm256_set1_epi64x(constants[i].cast_signed());
        let sum = _mm256_add_epi64(_mm256_add_epi64(words[i], constant), h);
        let sum = _mm256_add_epi64(_mm256_add_epi64(sum, choose(e, f, g)), big_sigma_1(e));
        let other = _mm256_add_epi64(big_sigma_0(a), majority(a, b, c));
        *hash = [_mm256_add_epi64(sum, other), a, b, c, _mm256_add_epi64(d, sum), e, f, g];
        if EXTEND {
            let [w0, w1, w9, w14] = [0, 1, 9, 14].map(|at| words[(i + at) % 16]);
            let sum = _mm256_add_epi64(_mm256_add_epi64(w0, w9), small_sigma_0(w1));
            words[i] = _mm256_add_epi64(sum, small_sigma_1(w14));
        }
    }
}

/// The bits of `y` where `x` has ones, else those of `z`.
#[inline]
#[target_feature(enable = "avx2")]
fn choose(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(y, z), x), z)
}

/// What at least two have. The next round has `x` and `y` for `y` and `z`: of the differences, the
/// compiler keeps the first for it.
#[inline]
#[target_feature(enable = "avx2")]
fn majority(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    let (xy, yz) = (_mm256_xor_si256(x, y), _mm256_xor_si256(y, z));
    _mm256_xor_si256(_mm256_and_si256(xy, yz), y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma_0(x: __m256i) -> __m256i {
    xor([rotate::<28, 36>(x), rotate::<34, 30>(x), rotate::<39, 25>(x)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma_1(x: __m256i) -> __m256i {
    xor([rotate::<14, 50>(x), rotate::<18, 46>(x), rotate::<41, 23>(x)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn small_sigma_0(x: __m256i) -> __m256i {
    xor([rotate::<1, 63>(x), rotate_byte(x), _mm256_srli_epi64::<7>(x)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn small_sigma_1(x: __m256i) -> __m256i {
    xor([rotate::<19, 45>(x), rotate::<61, 3>(x), _mm256_srli_epi64::<6>(x)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor([x, y, z]: [__m256i; 3]) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(x, y), z)
}

/// Rotates each word right by `RIGHT` bits, which is left by `LEFT`.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const RIGHT: i32, const LEFT: i32>(x: __m256i) -> __m256i {
    const { assert!(RIGHT + LEFT == 64) }
    _mm256_xor_si256(_mm256_srli_epi64::<RIGHT>(x), _mm256_slli_epi64::<LEFT>(x))
}

/// The same by 8 bits, in one instruction instead of three.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate_byte(x: __m256i) -> __m256i {
    let bytes = _mm256_setr_epi8(
        1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 8, //
        1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 8,
    );
    _mm256_shuffle_epi8(x, bytes)
}

/// The 16 words of the blocks.
#[inline]
#[target_feature(enable = "avx2")]
fn load_words(blocks: &[&Block; LANES]) -> [__m256i; 16] {
    let big_endian = _mm256_setr_epi8(
        7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8, //
        7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8,
    );
    let mut words = [big_endian; 16];
    for (quarter, words) in words.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let rows = blocks.map(|block| load(&block.as_chunks().0[quarter]));
        *words = transpose(rows).map(|column| _mm256_shuffle_epi8(column, big_endian));
    }
    words
}

/// Turns 4 rows of 4 words into columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose([r0, r1, r2, r3]: [__m256i; 4]) -> [__m256i; 4] {
    let (even_a, odd_a) = (_mm256_unpacklo_epi64(r0, r1), _mm256_unpackhi_epi64(r0, r1));
    let (even_b, odd_b) = (_mm256_unpacklo_epi64(r2, r3), _mm256_unpackhi_epi64(r2, r3));
    [
        _mm256_permute2x128_si256::<LOW>(even_a, even_b),
        _mm256_permute2x128_si256::<LOW>(odd_a, odd_b),
        _mm256_permute2x128_si256::<HIGH>(even_a, even_b),
        _mm256_permute2x128_si256::<HIGH>(odd_a, odd_b),
    ]
}

/// The low halves of both operands.
const LOW: i32 = 0x20;

/// The high halves of both operands.
const HIGH: i32 = 0x31;

/// What fills a register and is valid whatever its bits.
trait Row {}
impl Row for Words {}
impl Row for [u8; 32] {}

#[inline]
#[target_feature(enable = "avx2")]
fn load<T: Row>(from: &T) -> __m256i {
    // SAFETY: a `Row` is 32 bytes that can be read, at any alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut Words, register: __m256i) {
    // SAFETY: `to` is 32 bytes that can be written, at any alignment.
    unsafe { _mm256_storeu_si256(std::ptr::from_mut(to).cast(), register) }
}
