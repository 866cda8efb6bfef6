//! Input of a BLAKE3 kernel: a chunk or a parent for each lane, and the constants of the
//! compression (paper, section 2.2).

use crate::hash::merkle_damgard::initial_32;
use ipc_proto::Algorithm;

/// Bytes of a block.
pub(in crate::hash) const BLOCK_LEN: usize = 64;

/// Bytes of a chaining value, and of a digest.
pub(in crate::hash) const VALUE_LEN: usize = 32;

pub(in crate::hash) type Block = [u8; BLOCK_LEN];

/// Chaining value of a chunk or parent.
pub(in crate::hash) type Value = [u8; VALUE_LEN];

/// Flags of a block (paper, table 3).
pub(in crate::hash) const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 1 << 1;
const PARENT: u32 = 1 << 2;
const ROOT: u32 = 1 << 3;

/// The words of the initial state, before the counter, length and flags: those of SHA-256.
pub(in crate::hash) const IV: [u32; 8] = initial_32(Algorithm::Sha256).expect("it has such words");

/// Where each word of the message comes from in the next round (paper, table 2).
const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

const ROUNDS: usize = 7;

/// Which word of the message comes at which place of a round.
pub(in crate::hash) const SCHEDULE: [[usize; 16]; ROUNDS] = {
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

/// A chunk, or a shorter one at the end of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) bytes: &'a [u8],
    /// Its place in the message.
    pub(super) counter: u32,
    /// It is the whole message.
    pub(super) is_root: bool,
}

/// A chunk for each lane, and where their ends are padded.
#[derive(Debug)]
pub(in crate::hash) struct Chunks<'a, const LANES: usize> {
    /// The whole blocks.
    pub(in crate::hash) bodies: [&'a [Block]; LANES],
    /// Bytes that follow them.
    pub(in crate::hash) rests: [&'a [u8]; LANES],
    /// Bytes; 0 in a lane that is idle.
    pub(in crate::hash) lens: [u32; LANES],
    pub(in crate::hash) counters: [u32; LANES],
    /// Flags of the last block.
    pub(in crate::hash) ends: [u32; LANES],
    /// For the kernel: the rests, padded.
    pub(in crate::hash) tails: [Block; LANES],
}

impl<'a, const LANES: usize> Chunks<'a, LANES> {
    pub(super) const IDLE: Self = Self {
        bodies: [&[]; LANES],
        rests: [&[]; LANES],
        lens: [0; LANES],
        counters: [0; LANES],
        ends: [0; LANES],
        tails: [[0; BLOCK_LEN]; LANES],
    };

    /// Puts up to `LANES` chunks in the place of those that were there.
    #[inline]
    pub(super) fn load(&mut self, chunks: impl IntoIterator<Item = Chunk<'a>>) {
        self.lens = [0; LANES];
        for (lane, Chunk { bytes, counter, is_root }) in chunks.into_iter().take(LANES).enumerate()
        {
            (self.bodies[lane], self.rests[lane]) = bytes.as_chunks();
            self.lens[lane] = u32::try_from(bytes.len()).expect("a chunk is short");
            self.counters[lane] = counter;
            self.ends[lane] = CHUNK_END | if is_root { ROOT } else { 0 };
        }
    }
}

/// A parent for each lane.
#[derive(Debug)]
pub(in crate::hash) struct Parents<'a, const LANES: usize> {
    /// The two chaining values below each.
    pub(in crate::hash) blocks: [&'a Block; LANES],
    pub(in crate::hash) flags: [u32; LANES],
}

impl<'a, const LANES: usize> Parents<'a, LANES> {
    /// Up to `LANES` pairs of chaining values, with whether their parent is the root.
    #[inline]
    pub(super) fn new(pairs: impl IntoIterator<Item = (&'a Block, bool)>) -> Self {
        let mut parents = Self { blocks: [&[0; BLOCK_LEN]; LANES], flags: [PARENT; LANES] };
        for (lane, (block, is_root)) in pairs.into_iter().take(LANES).enumerate() {
            parents.blocks[lane] = block;
            parents.flags[lane] = PARENT | if is_root { ROOT } else { 0 };
        }
        parents
    }
}
