#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-256 and SHA-224 (FIPS 180-4) by the SHA extensions, two messages at once.
//!
//! Each `sha256rnds2` waits for the one before it, and takes twice as long as the unit is busy with
//! it: the second message is hashed in the gaps of the first. Four messages would not fit in the 16
//! registers that these instructions can name, and are slower than two.
//!
//! Invariant: a lane reads only its message; the padded end of it is a copy.

use super::cpu::{Cpu, Feature};
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

/// Bytes of a block.
const BLOCK_LEN: usize = 64;

/// Bytes of the length of the message, in bits, at the end of the last block.
const LENGTH_LEN: usize = 8;

/// Blocks in which any rest of a message fits with its padding (FIPS 180-4, 5.1.1).
const TAIL_BLOCKS: usize = 2;

/// Longest message that is padded as a whole, so that it is hashed in one go.
const SHORT_LEN_MAX: usize = TAIL_BLOCKS * BLOCK_LEN - LENGTH_LEN - 1;

type Block = [u8; BLOCK_LEN];

/// The words f, e, b, a and h, g, d, c: as `sha256rnds2` takes them.
type State = [[u32; 4]; 2];

const fn initial_state(algorithm: Algorithm) -> Option<State> {
    match algorithm {
        Algorithm::Sha224 => Some([
            [0x6858_1511, 0xffc0_0b31, 0x367c_d507, 0xc105_9ed8],
            [0xbefa_4fa4, 0x64f9_8fa7, 0xf70e_5939, 0x3070_dd17],
        ]),
        Algorithm::Sha256 => Some([
            [0x9b05_688c, 0x510e_527f, 0xbb67_ae85, 0x6a09_e667],
            [0x5be0_cd19, 0x1f83_d9ab, 0xa54f_f53a, 0x3c6e_f372],
        ]),
        Algorithm::Sha384 | Algorithm::Sha512 | Algorithm::Sha512_256 | Algorithm::Blake3 => None,
    }
}

pub(super) const fn serves(algorithm: Algorithm) -> bool {
    initial_state(algorithm).is_some()
}

pub(super) fn hash_many<'a>(
    proof: ShaNi,
    algorithm: Algorithm,
    inputs: &[&'a [u8]],
    out: &mut Vec<u8>,
) {
    let Some(initial) = initial_state(algorithm) else {
        return portable::hash_many(algorithm, inputs, out);
    };
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
        let [[f, e, b, a], [h, g, d, c]] = self.state;
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip([a, b, c, d, e, f, g, h]) {
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
        let [first @ .., last] = &K;
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
    constants: &[[u32; 4]; 4],
) {
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

/// The constants of the 64 rounds (FIPS 180-4, 4.2.2).
static K: [[[u32; 4]; 4]; 4] = [
    [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    ],
    [
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    ],
    [
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    ],
    [
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ],
];
