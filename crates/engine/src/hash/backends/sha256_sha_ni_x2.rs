#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-256 and SHA-224 (FIPS 180-4) by the SHA extensions, two messages at once.
//!
//! Each `sha256rnds2` waits for the one before it, and takes twice as long as the unit is busy with
//! it: the second message is hashed in the gaps of the first. Four messages would not fit in the 16
//! registers that these instructions can name, and are slower than two.
//!
//! Invariant: a lane reads only its message; the padded end of it is a copy.

use super::Row;
use super::vector::Integers;
use crate::hash::lanes::{Blocks, Columns, Digests, Message, PREFERRED_BATCH, Tail};
use crate::hash::merkle_damgard::{BLOCK_LEN_32 as BLOCK_LEN, ByteOrder, K_256, initial_32};
use crate::hash::midstate;
use ipc_proto::{Algorithm, Family};
use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi8, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_srli_si128,
    _mm_storeu_si128,
};
use std::cmp::Reverse;
use std::hint::black_box;

proof! {
    /// Proof that the SHA extensions were detected; only `detect` makes one.
    ShaNi: Sha, Sse41, Ssse3
}

const LANES: usize = 2;

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

pub(super) fn row(proof: ShaNi) -> Row {
    let hash_many = move |algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>| {
        hash_many(proof, algorithm, inputs, out);
    };
    let absorb = move |messages: &mut [&mut _], data: &[&[u8]]| {
        midstate::absorb(messages, data, |columns, blocks| {
            compress_columns(proof, columns, blocks);
        });
    };
    Row {
        name: "sha256_sha_ni_x2",
        family: Some(Family::Sha256),
        preferred_batch: PREFERRED_BATCH,
        width: LANES,
        hash_many: Box::leak(Box::new(hash_many)),
        absorb: Some(Box::leak(Box::new(absorb))),
    }
}

/// With a scheduler of its own: that of any number of lanes takes time that shows in messages of a
/// block or two.
///
/// # Panics
/// If `algorithm` is not of the family.
pub(super) fn hash_many<'a>(
    proof: ShaNi,
    algorithm: Algorithm,
    inputs: &[&'a [u8]],
    out: &mut Vec<u8>,
) {
    let initial = state(initial_32(algorithm).expect("an algorithm of the family"));
    let mut digests = Digests::new(out, inputs.len(), algorithm);
    let mut put = |lane: &Lane<'_>| digests.put(lane.message.index, words(lane.state));
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
            a.message.advance(len);
            b.message.advance(len);
            if a.message.is_done() {
                put(&a);
                if !start(&mut a) {
                    break &mut b;
                }
            }
            if b.message.is_done() {
                put(&b);
                if !start(&mut b) {
                    break &mut a;
                }
            }
        };
    }
    while !last.message.is_done() {
        let (state, ready) = last.parts();
        let len = ready.len();
        compress(proof, [state], [ready]);
        last.message.advance(len);
    }
    put(last);
}

/// A message and its state, as the kernel takes it.
struct Lane<'a> {
    message: Message<'a, u32, BLOCK_LEN>,
    state: State,
    tail: Tail<BLOCK_LEN>,
}

impl<'a> Lane<'a> {
    const IDLE: Self =
        Self { message: Message::done([0; 8]), state: [[0; 4]; 2], tail: Tail::EMPTY };

    fn start(&mut self, index: usize, message: &'a [u8], state: State) {
        self.state = state;
        self.message = Message::new(index, message, [0; 8], ByteOrder::Big);
        self.tail.fill(&self.message);
    }

    /// The state, and the blocks that come next: none once the message is done.
    fn parts(&mut self) -> (&mut State, &[Block]) {
        (&mut self.state, self.message.ready(&self.tail))
    }
}

/// Absorbs the blocks of `LANES` messages, equally many of each.
fn compress<const LANES: usize>(
    _proof: ShaNi,
    states: [&mut State; LANES],
    blocks: [&[Block]; LANES],
) {
    // SAFETY: a `ShaNi` exists only after `detect` saw every feature that is enabled below.
    unsafe { compress_impl(states, blocks) }
}

/// The same, of messages in columns.
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

#[inline]
#[target_feature(enable = "sse2")]
fn load<T: Integers>(from: &T) -> __m128i {
    const { assert!(size_of::<T>() == 16) }
    // SAFETY: `T` is 16 bytes that can be read, at any alignment.
    unsafe { _mm_loadu_si128(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn store(to: &mut [u32; 4], register: __m128i) {
    // SAFETY: `to` is 16 bytes that can be written, at any alignment.
    unsafe { _mm_storeu_si128(std::ptr::from_mut(to).cast(), register) }
}
