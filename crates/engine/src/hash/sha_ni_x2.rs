#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-256 and SHA-224 (FIPS 180-4) by the SHA extensions, two messages at once.
//!
//! Each `sha256rnds2` waits for the one before it, and takes twice as long as the unit is busy with
//! it: the second message is hashed in the gaps of the first. Four messages would not fit in the 16
//! registers that these instructions can name, and are slower than two.
//!
//! Invariant: a lane reads only its message; the padded end of it is a copy.

use super::cpu::{Cpu, Feature};
pub(super) use super::fips180::BLOCK_LEN_256 as BLOCK_LEN;
use super::fips180::{K_256, initial_256};
use super::lanes::{Blocks, Columns};
use super::portable;
use ipc_proto::Algorithm;
use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi8, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_srli_si128,
    _mm_storeu_si128,
};
use std::cmp::Reverse;
use std::hint::black_box;

/// Proof that the SHA extensions were detected; only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShaNi(());

impl ShaNi {
    /// What every function here with `target_feature` enables.
    const FEATURES: &[Feature] = &[Feature::Sha, Feature::Sse41, Feature::Ssse3];

    pub(super) fn detect(cpu: &Cpu) -> Option<Self> {
        cpu.has(Self::FEATURES).then_some(Self(()))
    }
}

/// Bytes of the length of the message, in bits, at the end of the last block.
const LENGTH_LEN: usize = 8;

/// Blocks in which any rest of a message fits with its padding (FIPS 180-4, 5.1.1).
const TAIL_BLOCKS: usize = 2;

/// Longest message that is padded as a whole, so that it is hashed in one go.
const SHORT_LEN_MAX: usize = TAIL_BLOCKS * BLOCK_LEN - LENGTH_LEN - 1;

type Block = [u8; BLOCK_LEN];

/// The words f, e, b, a and h, g, d, c: as `sha256rnds2` takes them.
type State = [[u32; 4]; 2];

/// A hash value in the order of the standard, as kernels take it.
const fn state([a, b, c, d, e, f, g, h]: [u32; 8]) -> State {
    [[f, e, b, a], [h, g, d, c]]
}

const fn words([[f, e, b, a], [h, g, d, c]]: State) -> [u32; 8] {
    [a, b, c, d, e, f, g, h]
}

pub(super) const fn serves(algorithm: Algorithm) -> bool {
    initial_256(algorithm).is_some()
}

pub(super) fn hash_many<'a>(
    proof: ShaNi,
    algorithm: Algorithm,
    inputs: &[&'a [u8]],
    out: &mut Vec<u8>,
) {
    let Some(initial) = initial_256(algorithm) else {
        return portable::hash_many(algorithm, inputs, out);
    };
    let initial = state(initial);
    let digest_len = algorithm.digest_len();
    let before_len = out.len();
    out.resize(before_len + inputs.len() * digest_len, 0);
    let digests = &mut out[before_len..];
    let mut put = |lane: &Lane<'_>| {
        let digest = &mut digests[lane.index * digest_len..][..digest_len];
        digest.copy_from_slice(&lane.digest()[..digest_len]);
    };
    // The longest first, so that both lanes end at about the same time.
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_unstable_by_key(|&index| Reverse(inputs[index].len() / BLOCK_LEN));
    let mut order = order.into_iter();
    let mut start = |lane: &mut Lane<'a>| {
        order.next().map(|index| lane.start(index, inputs[index], initial)).is_some()
    };
    let (mut a, mut b) = (Lane::IDLE, Lane::IDLE);
    if !start(&mut a) {
        return;
    }
    let mut last = &mut a;
    if start(&mut b) {
        last = loop {
            let (state_a, ready_a) = a.parts();
            let (state_b, ready_b) = b.parts();
            let len = ready_a.len().min(ready_b.len());
            compress(proof, [state_a, state_b], [&ready_a[..len], &ready_b[..len]]);
            a.advance(len);
            b.advance(len);
            if a.is_done() {
                put(&a);
                if !start(&mut a) {
                    break &mut b;
                }
            }
            if b.is_done() {
                put(&b);
                if !start(&mut b) {
                    break &mut a;
                }
            }
        };
    }
    while !last.is_done() {
        let (state, ready) = last.parts();
        let len = ready.len();
        compress(proof, [state], [ready]);
        last.advance(len);
    }
    put(last);
}

/// Where a message is on its way.
struct Lane<'a> {
    /// Of the message.
    index: usize,
    state: State,
    /// What is left of it before the tail.
    body: &'a [Block],
    tail: [Block; TAIL_BLOCKS],
    /// How many blocks of the tail are unused or done.
    tail_at: usize,
}

impl<'a> Lane<'a> {
    const IDLE: Self = Self {
        index: 0,
        state: [[0; 4]; 2],
        body: &[],
        tail: [[0; BLOCK_LEN]; TAIL_BLOCKS],
        tail_at: TAIL_BLOCKS,
    };

    fn start(&mut self, index: usize, message: &'a [u8], state: State) {
        (self.index, self.state) = (index, state);
        let rest;
        (self.body, rest) =
            if message.len() <= SHORT_LEN_MAX { (&[][..], message) } else { message.as_chunks() };
        self.tail = [[0; BLOCK_LEN]; TAIL_BLOCKS];
        self.tail_at = usize::from(rest.len() + 1 + LENGTH_LEN <= BLOCK_LEN);
        let padded = self.tail[self.tail_at..].as_flattened_mut();
        padded[..rest.len()].copy_from_slice(rest);
        padded[rest.len()] = 0x80;
        let bits_len = message.len() as u64 * 8;
        *padded.last_chunk_mut().expect("the tail has a block") = bits_len.to_be_bytes();
    }

    /// The state, and the blocks that come next: none once the message is done.
    fn parts(&mut self) -> (&mut State, &[Block]) {
        let tail = &self.tail[self.tail_at..];
        (&mut self.state, if self.body.is_empty() { tail } else { self.body })
    }

    fn advance(&mut self, blocks_len: usize) {
        if self.body.is_empty() {
            self.tail_at += blocks_len;
        } else {
            self.body = &self.body[blocks_len..];
        }
    }

    fn is_done(&self) -> bool {
        self.tail_at == TAIL_BLOCKS
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(words(self.state)) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

/// Absorbs the blocks of `LANES` messages, as many of each.
fn compress<const LANES: usize>(
    _proof: ShaNi,
    states: [&mut State; LANES],
    blocks: [&[Block]; LANES],
) {
    // SAFETY: a `ShaNi` exists only after `detect` saw every feature that is enabled below.
    unsafe { compress_impl(states, blocks) }
}

/// The same, where a wider backend had them before.
pub(super) fn compress_columns(
    proof: ShaNi,
    columns: &mut Columns<u32, 2>,
    blocks: &Blocks<'_, BLOCK_LEN, 2>,
) {
    let [mut first, mut second] = [0, 1].map(|lane| state(columns.state(lane)));
    compress(proof, [&mut first, &mut second], *blocks);
    for (lane, state) in [first, second].into_iter().enumerate() {
        columns.set_state(lane, words(state));
    }
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress_impl<const LANES: usize>(mut states: [&mut State; LANES], blocks: [&[Block]; LANES]) {
    let big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    let mut hash = states.each_ref().map(|[abef, cdgh]| [load(abef), load(cdgh)]);
    let blocks_len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    for i in 0..blocks_len {
        // In memory: there are too few registers, and the compiler would choose to spill `hash`,
        // which every round waits for.
        let before = hash;
        let before = black_box(&before);
        let mut words = blocks.map(|blocks| {
            let (quads, _) = blocks[i].as_chunks::<16>();
            [0, 1, 2, 3].map(|quad| _mm_shuffle_epi8(load(&quads[quad]), big_endian))
        });
        let [first @ .., last] = &K_256;
        for constants in first {
            rounds::<LANES, true>(&mut hash, &mut words, constants);
        }
        rounds::<LANES, false>(&mut hash, &mut words, last);
        for (hash, before) in hash.as_flattened_mut().iter_mut().zip(before.as_flattened()) {
            *hash = _mm_add_epi32(*hash, *before);
        }
    }
    for ([abef, cdgh], hash) in states.iter_mut().zip(hash) {
        store(abef, hash[0]);
        store(cdgh, hash[1]);
    }
}

/// Does 16 rounds and, to `EXTEND`, replaces `words` by the 16 that follow (FIPS 180-4, 6.2.2).
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn rounds<const LANES: usize, const EXTEND: bool>(
    hash: &mut [[__m128i; 2]; LANES],
    words: &mut [[__m128i; 4]; LANES],
    constants: &[u32; 16],
) {
    let (constants, _) = constants.as_chunks::<4>();
    for quad in 0..4 {
        for ([abef, cdgh], words) in hash.iter_mut().zip(&mut *words) {
            let [w0, w4, w8, w12] = [0, 1, 2, 3].map(|i| words[(quad + i) % 4]);
            let sum = _mm_add_epi32(w0, load(&constants[quad]));
            *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
            *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_srli_si128::<8>(sum));
            if EXTEND {
                let sum =
                    _mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8::<4>(w12, w8));
                words[quad] = _mm_sha256msg2_epu32(sum, w12);
            }
        }
    }
}

/// What fills a register and is valid whatever its bits.
trait Quad {}
impl Quad for [u32; 4] {}
impl Quad for [u8; 16] {}

#[inline]
#[target_feature(enable = "sse2")]
fn load<T: Quad>(from: &T) -> __m128i {
    // SAFETY: a `Quad` is 16 bytes that can be read, at any alignment.
    unsafe { _mm_loadu_si128(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn store(to: &mut [u32; 4], register: __m128i) {
    // SAFETY: `to` is 16 bytes that can be written, at any alignment.
    unsafe { _mm_storeu_si128(std::ptr::from_mut(to).cast(), register) }
}
