//! BLAKE2b (RFC 7693) without a key, so that it can stop at a block
//! border: the `blake2` crate does not give away its state.
//!
//! The last block of a message is compressed in another way than the others, also if it is full. So
//! the block that was absorbed last is kept until it is known whether more follows.

use super::merkle_damgard::initial_64;
use ipc_proto::Algorithm;

/// Bytes of a block.
pub(super) const BLOCK_LEN: usize = 128;

/// The initialization vector (section 2.6): that of SHA-512.
const IV: [u64; 8] = initial_64(Algorithm::Sha512).expect("it has such words");

/// Which word of the block comes at which place of a round (section 2.7).
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

const ROUNDS: usize = 12;

/// A message of which whole blocks were absorbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blake2b {
    /// Of all blocks but the last.
    pub(super) words: [u64; 8],
    /// The last block; zeros if there is none.
    pub(super) last: [u8; BLOCK_LEN],
}

impl Blake2b {
    pub(super) fn new() -> Self {
        Self::with_digest_len(64).expect("the usual length")
    }

    /// A message with another length of the digest, in bytes; `None` unless that is 1 to 64.
    pub(super) fn with_digest_len(len: usize) -> Option<Self> {
        let mut words = IV;
        // The parameter block (section 2.5): digest length, no key, fanout and depth of 1.
        let len = u64::try_from(len).ok().filter(|len| (1..=64).contains(len))?;
        words[0] ^= 0x0101_0000 | len;
        Some(Self { words, last: [0; BLOCK_LEN] })
    }

    /// Absorbs `blocks` behind the `len` bytes before them.
    pub(super) fn update(&mut self, mut len: u64, blocks: &[[u8; BLOCK_LEN]]) {
        let Some((last, blocks)) = blocks.split_last() else { return };
        if len > 0 {
            compress(&mut self.words, &self.last, len, false);
        }
        for block in blocks {
            len += BLOCK_LEN as u64;
            compress(&mut self.words, block, len, false);
        }
        self.last = *last;
    }

    /// The digest, if the message ends with `rest` behind `len` bytes.
    pub(super) fn finish(&self, len: u64, rest: &[u8]) -> [u8; 64] {
        let mut hash = self.clone();
        let (blocks, end) = rest.as_chunks();
        hash.update(len, blocks);
        if !end.is_empty() {
            let mut padded = [0; BLOCK_LEN];
            padded[..end.len()].copy_from_slice(end);
            hash.update(len + (rest.len() - end.len()) as u64, &[padded]);
        }
        compress(&mut hash.words, &hash.last, len + rest.len() as u64, true);
        let mut digest = [0; 64];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(hash.words) {
            *bytes = word.to_le_bytes();
        }
        digest
    }
}

/// The compression function (section 3.2), for a block with which the message has `len` bytes.
fn compress(hash: &mut [u64; 8], block: &[u8; BLOCK_LEN], len: u64, is_last: bool) {
    let words: [u64; 16] = std::array::from_fn(|i| u64::from_le_bytes(block.as_chunks().0[i]));
    let mut state = [0; 16];
    state[..8].copy_from_slice(hash);
    state[8..].copy_from_slice(&IV);
    state[12] ^= len;
    if is_last {
        state[14] = !state[14];
    }
    for round in 0..ROUNDS {
        let order = &SIGMA[round % SIGMA.len()];
        let word = |i: usize| words[order[i]];
        mix(&mut state, [0, 4, 8, 12], [word(0), word(1)]);
        mix(&mut state, [1, 5, 9, 13], [word(2), word(3)]);
        mix(&mut state, [2, 6, 10, 14], [word(4), word(5)]);
        mix(&mut state, [3, 7, 11, 15], [word(6), word(7)]);
        mix(&mut state, [0, 5, 10, 15], [word(8), word(9)]);
        mix(&mut state, [1, 6, 11, 12], [word(10), word(11)]);
        mix(&mut state, [2, 7, 8, 13], [word(12), word(13)]);
        mix(&mut state, [3, 4, 9, 14], [word(14), word(15)]);
    }
    for i in 0..8 {
        hash[i] ^= state[i] ^ state[i + 8];
    }
}

/// The mixing function G (section 3.1).
#[inline(always)]
fn mix(state: &mut [u64; 16], [a, b, c, d]: [usize; 4], [x, y]: [u64; 2]) {
    state[a] = state[a].wrapping_add(state[b]).wrapping_add(x);
    state[d] = (state[d] ^ state[a]).rotate_right(32);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_right(24);
    state[a] = state[a].wrapping_add(state[b]).wrapping_add(y);
    state[d] = (state[d] ^ state[a]).rotate_right(16);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_right(63);
}
