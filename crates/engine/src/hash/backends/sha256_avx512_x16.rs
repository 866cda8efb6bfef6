#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-256 and SHA-224 by AVX-512, 16 messages at once.
//!
//! Messages that have one or two blocks with their padding are hashed in batches without a lane's
//! bookkeeping: masks cut off the bytes behind them, and pad them. The others have lanes. Where too few
//! are left, the SHA extensions are faster.
//!
//! Invariant: a lane reads only its message.

use super::avx512::{Avx512, load, store, words32 as words};
use super::sha256_sha_ni_x2::{self, ShaNi};
use super::{HashMany, Row, each_block, portable};
use crate::hash::lanes::{self, Blocks, Columns, Digests, Message, PREFERRED_BATCH};
use crate::hash::merkle_damgard::{BLOCK_LEN_32 as BLOCK_LEN, K_256, PADDING_256, initial_32};
use crate::hash::midstate;
use ipc_proto::{Algorithm, Family};
use sha2::block_api::compress256;
use std::arch::x86_64::{
    __m512i, _mm512_mask_mov_epi8, _mm512_mask_set1_epi64, _mm512_maskz_loadu_epi8,
    _mm512_set1_epi8, _mm512_setzero_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

const LANES: usize = 16;

/// Longest messages whose padding fits in one block or in two, in bytes.
const SHORT_LENS: [usize; 2] = [BLOCK_LEN - 9, 2 * BLOCK_LEN - 9];

type Block = [u8; BLOCK_LEN];

/// The row of the kernel, which leaves a few messages to `pairs` where there are the SHA extensions.
pub(super) fn row(_proof: Avx512, pairs: Option<ShaNi>) -> Row {
    let hash_many = move |algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>| {
        hash_many(pairs, algorithm, inputs, out);
    };
    Row {
        name: "sha256_avx512_x16",
        family: Some(Family::Sha256),
        preferred_batch: PREFERRED_BATCH,
        width: LANES,
        hash_many: Box::leak(Box::new(hash_many)),
        absorb: Some(&|messages, data| midstate::absorb(messages, data, compress)),
    }
}

/// Fewer messages are hashed faster without the wide kernel (measured on Zen 4).
const fn live_min(pairs: Option<ShaNi>) -> usize {
    if pairs.is_some() { LANES } else { 2 }
}

/// The same for a batch of short messages.
const fn short_min(pairs: Option<ShaNi>) -> usize {
    if pairs.is_some() { 12 } else { 2 }
}

fn hash_many(pairs: Option<ShaNi>, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
    let few_by: &HashMany = match pairs {
        Some(proof) => &move |algorithm, inputs: &[&[u8]], out: &mut Vec<u8>| {
            sha256_sha_ni_x2::hash_many(proof, algorithm, inputs, out);
        },
        None => &portable::hash_many,
    };
    let Some(initial) = initial_32(algorithm).filter(|_| inputs.len() >= short_min(pairs)) else {
        return few_by(algorithm, inputs, out);
    };
    let mut digests = Digests::new(out, inputs.len(), algorithm);
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
            batches[class].hash(class, initial, inputs, &mut digests);
        }
    }
    for (class, batch) in batches.iter_mut().enumerate() {
        if batch.len < short_min(pairs) {
            few.extend(&batch.indices[..batch.len]);
        } else {
            batch.hash(class, initial, inputs, &mut digests);
        }
    }
    if long.len() < live_min(pairs) {
        few.append(&mut long);
    } else {
        let long = lanes::some_longest_first(algorithm, initial, inputs, long);
        hash_long(pairs, long, &mut digests);
    }
    if !few.is_empty() {
        let mut values = Vec::new();
        let inputs: Vec<_> = few.iter().map(|&index| inputs[index]).collect();
        few_by(algorithm, &inputs, &mut values);
        for (&index, value) in few.iter().zip(values.chunks_exact(algorithm.digest_len())) {
            digests.get_mut(index).copy_from_slice(value);
        }
    }
}

fn hash_long<'a>(
    pairs: Option<ShaNi>,
    messages: impl Iterator<Item = Message<'a, u32, BLOCK_LEN>>,
    digests: &mut Digests<'_>,
) {
    let mut left = lanes::run(messages, live_min(pairs), compress, digests);
    if let Some(proof) = pairs {
        left = lanes::run(
            left,
            2,
            |columns, blocks| sha256_sha_ni_x2::compress_columns(proof, columns, blocks),
            digests,
        );
    }
    lanes::run_single(left, compress256, digests);
}

/// Short messages with an equal number of blocks.
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
        class: usize,
        initial: [u32; 8],
        inputs: &[&[u8]],
        digests: &mut Digests<'_>,
    ) {
        let first = self.indices[0];
        self.indices[self.len..].fill(first);
        let messages = self.indices.map(|index| inputs[index]);
        // SAFETY: only the functions of [`row`] get here, and it took a proof.
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
fn compress(columns: &mut Columns<u32, LANES>, blocks: &Blocks<'_, BLOCK_LEN, LANES>) {
    // SAFETY: only the functions of [`row`] get here, and it took a proof.
    each_block(columns, blocks, |columns, blocks| unsafe { compress_block(columns, blocks) });
}

sha2_rounds! {
    "avx512f,avx512bw", __m512i, u32, K_256,
    // Written out: through a function of its own, the compiler would order the loads in another way.
    load: |blocks| words::each_big_endian(words::transpose(blocks.map(|block| load(block)))),
    big_sigma_0: [2, 13, 22], big_sigma_1: [6, 11, 25],
    small_sigma_0: [7, 18, 3], small_sigma_1: [17, 19, 10],
}

/// Absorbs a block in each lane that is all padding, of a message of one block: its words are known.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress_padding(columns: &mut Columns<u32, LANES>) {
    let mut message = [_mm512_setzero_si512(); 16];
    let mut hash = columns.0.each_ref().map(|column| load(column));
    for sums in &PADDING_256 {
        rounds::<false>(&mut hash, &mut message, sums);
    }
    for (column, hash) in columns.0.iter_mut().zip(hash) {
        store(column, words::add(load(column), hash));
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
    for (values, columns) in values.iter_mut().zip(columns.0.as_chunks().0) {
        let columns = columns.each_ref().map(|column| load(column));
        let [c0, c1, c2, c3] = words::each_big_endian(columns);
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
    // Even a fully masked load is very slow on an unmapped page.
    let from = if len == 0 { NOTHING.as_ptr() } else { message[start..].as_ptr() };
    // SAFETY: as many bytes are read as the mask has ones, and as many there are from `start` on.
    let row = unsafe { _mm512_maskz_loadu_epi8(end.wrapping_sub(1), from.cast()) };
    let end = if message.len() < start { 0 } else { end };
    let row = _mm512_mask_mov_epi8(row, end, _mm512_set1_epi8(0x80_u8.cast_signed()));
    let bits_len = message.len() as u64 * 8;
    let length = if is_last { 0x80 } else { 0 };
    _mm512_mask_set1_epi64(row, length, bits_len.swap_bytes().cast_signed())
}
