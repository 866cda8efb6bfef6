#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-256 and SHA-224 (FIPS 180-4) by AVX-512, 16 messages at once: each vector holds the same word
//! of all of them.
//!
//! Messages that have one or two blocks with their padding are hashed in batches without a lane's
//! bookkeeping: masks cut off what is behind them, and pad them. The others have lanes. Where too few
//! are left, the SHA extensions are faster.
//!
//! Invariant: a lane reads only its message.

use super::avx512::{Avx512, transpose};
use super::cpu::Cpu;
use super::fips180::{BLOCK_LEN_256 as BLOCK_LEN, K_256, PADDING_256, initial_256};
use super::lanes::{self, Blocks, Columns, Digests, Message};
use super::portable;
use super::sha_ni_x2::{self, ShaNi};
use ipc_proto::Algorithm;
use sha2::block_api::compress256;
use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_mask_mov_epi8, _mm512_mask_set1_epi64,
    _mm512_maskz_loadu_epi8, _mm512_ror_epi32, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_set4_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi32,
    _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

/// Messages at once.
pub(super) const LANES: usize = 16;

/// Messages whose padding fits in one block or in two have at most so many bytes.
const SHORT_LENS: [usize; 2] = [BLOCK_LEN - 9, 2 * BLOCK_LEN - 9];

type Block = [u8; BLOCK_LEN];

/// A word of each lane.
type Words = [u32; LANES];

/// What hashes many messages, and what hashes those that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WideAndPairs {
    wide: Avx512,
    pairs: Option<ShaNi>,
}

impl WideAndPairs {
    pub(super) fn detect(cpu: &Cpu) -> Option<Self> {
        Avx512::detect(cpu).map(|wide| Self { wide, pairs: ShaNi::detect(cpu) })
    }

    /// What hashes two messages.
    pub(super) const fn pairs(self) -> Option<ShaNi> {
        self.pairs
    }

    /// Fewer messages are hashed faster without the wide kernel (measured on Zen 4).
    const fn live_min(self) -> usize {
        if self.pairs.is_some() { LANES } else { 2 }
    }

    /// The same for a batch of short messages.
    const fn short_min(self) -> usize {
        if self.pairs.is_some() { 12 } else { 2 }
    }

    fn hash_few(self, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
        match self.pairs {
            Some(proof) => sha_ni_x2::hash_many(proof, algorithm, inputs, out),
            None => portable::hash_many(algorithm, inputs, out),
        }
    }
}

pub(super) const fn serves(algorithm: Algorithm) -> bool {
    initial_256(algorithm).is_some()
}

pub(super) fn hash_many(
    kernels: WideAndPairs,
    algorithm: Algorithm,
    inputs: &[&[u8]],
    out: &mut Vec<u8>,
) {
    let Some(initial) = initial_256(algorithm).filter(|_| inputs.len() >= kernels.short_min())
    else {
        return kernels.hash_few(algorithm, inputs, out);
    };
    let mut digests = Digests::new(out, inputs.len(), algorithm.digest_len());
    let mut long = Vec::new();
    let mut few = Vec::new();
    let mut batches = [Batch::EMPTY; 2];
    for (index, input) in inputs.iter().enumerate() {
        let Some(class) = SHORT_LENS.iter().position(|&len_max| input.len() <= len_max) else {
            long.push(index);
            continue;
        };
        batches[class].push(index);
        if batches[class].len == LANES {
            batches[class].hash(kernels.wide, class, initial, inputs, &mut digests);
        }
    }
    for (class, batch) in batches.iter_mut().enumerate() {
        if batch.len < kernels.short_min() {
            few.extend(&batch.indices[..batch.len]);
        } else {
            batch.hash(kernels.wide, class, initial, inputs, &mut digests);
        }
    }
    if long.len() < kernels.live_min() {
        few.append(&mut long);
    } else {
        hash_long(kernels, lanes::some_longest_first(initial, inputs, long), &mut digests);
    }
    if !few.is_empty() {
        let mut values = Vec::new();
        let inputs: Vec<_> = few.iter().map(|&index| inputs[index]).collect();
        kernels.hash_few(algorithm, &inputs, &mut values);
        for (&index, value) in few.iter().zip(values.chunks_exact(algorithm.digest_len())) {
            digests.get_mut(index).copy_from_slice(value);
        }
    }
}

fn hash_long<'a>(
    kernels: WideAndPairs,
    messages: impl Iterator<Item = Message<'a, u32, BLOCK_LEN>>,
    digests: &mut Digests<'_>,
) {
    let mut left = lanes::run(
        messages,
        kernels.live_min(),
        |columns, blocks| compress_columns(kernels, columns, blocks),
        digests,
    );
    if let Some(proof) = kernels.pairs {
        left = lanes::run(
            left,
            2,
            |columns, blocks| sha_ni_x2::compress_columns(proof, columns, blocks),
            digests,
        );
    }
    lanes::run_single(left, compress256, digests);
}

/// Short messages with as many blocks.
#[derive(Clone, Copy)]
struct Batch {
    indices: [usize; LANES],
    len: usize,
}

impl Batch {
    const EMPTY: Self = Self { indices: [0; LANES], len: 0 };

    fn push(&mut self, index: usize) {
        self.indices[self.len] = index;
        self.len += 1;
    }

    /// Hashes and forgets them. Lanes that have none do the first again.
    fn hash(
        &mut self,
        _proof: Avx512,
        class: usize,
        initial: [u32; 8],
        inputs: &[&[u8]],
        digests: &mut Digests<'_>,
    ) {
        let first = self.indices[0];
        self.indices[self.len..].fill(first);
        let messages = self.indices.map(|index| inputs[index]);
        // SAFETY: an `Avx512` exists only after `detect` saw every feature that is enabled below.
        let values = unsafe {
            if class == 0 {
                hash_short::<1>(initial, &messages)
            } else {
                hash_short::<2>(initial, &messages)
            }
        };
        for (lane, &index) in self.indices[..self.len].iter().enumerate() {
            let digest = digests.get_mut(index);
            let (first, second) = digest.split_at_mut(16);
            first.copy_from_slice(&values[0][lane % 4][lane / 4]);
            second.copy_from_slice(&values[1][lane % 4][lane / 4][..second.len()]);
        }
        self.len = 0;
    }
}

/// Absorbs the blocks of all lanes.
pub(super) fn compress_columns(
    _proof: WideAndPairs,
    columns: &mut Columns<u32, LANES>,
    blocks: &Blocks<'_, BLOCK_LEN, LANES>,
) {
    let len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    for at in 0..len {
        // SAFETY: kernels are wide only with an `Avx512`, as above.
        unsafe { compress_block(columns, &blocks.map(|blocks| &blocks[at])) }
    }
}

/// Absorbs a block in each lane (FIPS 180-4, section 6.2.2).
///
/// Never inline: between blocks the hash is in memory, so that the rounds have the registers.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress_block(columns: &mut Columns<u32, LANES>, blocks: &[&Block; LANES]) {
    let mut words = each_big_endian(transpose(blocks.map(|block| load(block))));
    let mut hash = columns.0.each_ref().map(|words| load(words));
    let [first @ .., last] = &K_256;
    for constants in first {
        rounds::<true>(&mut hash, &mut words, constants);
    }
    rounds::<false>(&mut hash, &mut words, last);
    for (words, hash) in columns.0.iter_mut().zip(hash) {
        store(words, _mm512_add_epi32(load(words), hash));
    }
}

/// The same, where all blocks are the padding of a message of one block: their words are known.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress_padding(columns: &mut Columns<u32, LANES>) {
    let mut words = [_mm512_setzero_si512(); 16];
    let mut hash = columns.0.each_ref().map(|words| load(words));
    for sums in &PADDING_256 {
        rounds::<false>(&mut hash, &mut words, sums);
    }
    for (words, hash) in columns.0.iter_mut().zip(hash) {
        store(words, _mm512_add_epi32(load(words), hash));
    }
}

/// For each half of the digest, and lane modulo 4, and lane divided by 4: the bytes.
type Values = [[[[u8; 16]; 4]; 4]; 2];

/// Hashes messages that have `BLOCKS` blocks with their padding.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
fn hash_short<const BLOCKS: usize>(initial: [u32; 8], messages: &[&[u8]; LANES]) -> Values {
    let mut columns = Columns(initial.map(|word| [word; LANES]));
    let is_whole = messages.iter().all(|message| message.len() == BLOCK_LEN);
    for block in 0..BLOCKS {
        if block == 1 && is_whole {
            compress_padding(&mut columns);
            continue;
        }
        let mut rows = [[0; BLOCK_LEN]; LANES];
        for (row, message) in rows.iter_mut().zip(messages) {
            store(row, padded(message, block, block + 1 == BLOCKS));
        }
        compress_block(&mut columns, &rows.each_ref());
    }
    let mut values = Values::default();
    for (values, words) in values.iter_mut().zip(columns.0.as_chunks().0) {
        let [c0, c1, c2, c3] = each_big_endian(words.each_ref().map(|words| load(words)));
        let (low_a, high_a) = (_mm512_unpacklo_epi32(c0, c1), _mm512_unpackhi_epi32(c0, c1));
        let (low_b, high_b) = (_mm512_unpacklo_epi32(c2, c3), _mm512_unpackhi_epi32(c2, c3));
        store(&mut values[0], _mm512_unpacklo_epi64(low_a, low_b));
        store(&mut values[1], _mm512_unpackhi_epi64(low_a, low_b));
        store(&mut values[2], _mm512_unpacklo_epi64(high_a, high_b));
        store(&mut values[3], _mm512_unpackhi_epi64(high_a, high_b));
    }
    values
}

/// A block of a short message with its padding (FIPS 180-4, section 5.1.1).
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn padded(message: &[u8], block: usize, is_last: bool) -> __m512i {
    static NOTHING: Block = [0; BLOCK_LEN];
    let start = block * BLOCK_LEN;
    let len = message.len().saturating_sub(start).min(BLOCK_LEN);
    let end: u64 = if len == BLOCK_LEN { 0 } else { 1 << len };
    // A load of nothing takes very long too where there is no page.
    let from = if len == 0 { NOTHING.as_ptr() } else { message[start..].as_ptr() };
    // SAFETY: as many bytes are read as the mask has ones, and as many there are from `start` on.
    let row = unsafe { _mm512_maskz_loadu_epi8(end.wrapping_sub(1), from.cast()) };
    let end = if message.len() < start { 0 } else { end };
    let row = _mm512_mask_mov_epi8(row, end, _mm512_set1_epi8(0x80_u8.cast_signed()));
    let bits_len = message.len() as u64 * 8;
    let length = if is_last { 0x80 } else { 0 };
    _mm512_mask_set1_epi64(row, length, bits_len.swap_bytes().cast_signed())
}

/// Does 16 rounds and, to `EXTEND`, replaces `words` by the 16 that follow.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounds<const EXTEND: bool>(
    hash: &mut [__m512i; 8],
    words: &mut [__m512i; 16],
    constants: &[u32; 16],
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
    constants: &[u32; 16],
) {
    for i in FROM..FROM + 4 {
        let [a, b, c, d, e, f, g, h] = *hash;
        let constant = _mm512_set1_epi32(constants[i].cast_signed());
        let sum = _mm512_add_epi32(_mm512_add_epi32(words[i], constant), h);
        let sum = _mm512_add_epi32(_mm512_add_epi32(sum, choose(e, f, g)), big_sigma_1(e));
        let other = _mm512_add_epi32(big_sigma_0(a), majority(a, b, c));
        *hash = [_mm512_add_epi32(sum, other), a, b, c, _mm512_add_epi32(d, sum), e, f, g];
        if EXTEND {
            let [w0, w1, w9, w14] = [0, 1, 9, 14].map(|at| words[(i + at) % 16]);
            let sum = _mm512_add_epi32(_mm512_add_epi32(w0, w9), small_sigma_0(w1));
            words[i] = _mm512_add_epi32(sum, small_sigma_1(w14));
        }
    }
}

/// Three operands xor-ed, as `vpternlogd` numbers its functions.
const XOR: i32 = 0x96;

/// The second operand where the first has ones, else the third.
const CHOOSE: i32 = 0xca;

/// What at least two of the operands have.
const MAJORITY: i32 = 0xe8;

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<CHOOSE>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<MAJORITY>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma_0(x: __m512i) -> __m512i {
    let [r0, r1, r2] =
        [_mm512_ror_epi32::<2>(x), _mm512_ror_epi32::<13>(x), _mm512_ror_epi32::<22>(x)];
    _mm512_ternarylogic_epi32::<XOR>(r0, r1, r2)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma_1(x: __m512i) -> __m512i {
    let [r0, r1, r2] =
        [_mm512_ror_epi32::<6>(x), _mm512_ror_epi32::<11>(x), _mm512_ror_epi32::<25>(x)];
    _mm512_ternarylogic_epi32::<XOR>(r0, r1, r2)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma_0(x: __m512i) -> __m512i {
    let [r0, r1, r2] =
        [_mm512_ror_epi32::<7>(x), _mm512_ror_epi32::<18>(x), _mm512_srli_epi32::<3>(x)];
    _mm512_ternarylogic_epi32::<XOR>(r0, r1, r2)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma_1(x: __m512i) -> __m512i {
    let [r0, r1, r2] =
        [_mm512_ror_epi32::<17>(x), _mm512_ror_epi32::<19>(x), _mm512_srli_epi32::<10>(x)];
    _mm512_ternarylogic_epi32::<XOR>(r0, r1, r2)
}

/// Reverses the bytes of each word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn each_big_endian<const LEN: usize>(words: [__m512i; LEN]) -> [__m512i; LEN] {
    let bytes = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    words.map(|words| _mm512_shuffle_epi8(words, bytes))
}

/// What fills a register and is valid whatever its bits.
trait Row {}
impl Row for Words {}
impl Row for Block {}
impl Row for [[u8; 16]; 4] {}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<T: Row>(from: &T) -> __m512i {
    // SAFETY: a `Row` is 64 bytes that can be read, at any alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<T: Row>(to: &mut T, register: __m512i) {
    // SAFETY: a `Row` is 64 bytes that can be written, at any alignment.
    unsafe { _mm512_storeu_si512(std::ptr::from_mut(to).cast(), register) }
}
