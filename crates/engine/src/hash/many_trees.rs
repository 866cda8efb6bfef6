//! BLAKE3 of many small messages: fills the lanes of a kernel with chunks of any of them.
//!
//! A message is a tree of chunks (paper, section 2.1). First all chunks of a window of messages are
//! hashed, those with an equal number of blocks together; then their parents, level by level:
//! neighbours are merged, and the last of an odd number goes up as it is, which gives the tree that
//! the paper defines.
//!
//! The portable backend is as fast where the chunks of one message fill its vectors, and faster where
//! most lanes here would be idle: that is left to it, by [`Limits`] that were measured.
//!
//! Not here: the compression, and all that is unsafe, which is a [`Kernel`].

mod chunks;

pub(super) use chunks::{
    BLOCK_LEN, Block, CHUNK_START, Chunks, IV, Parents, SCHEDULE, VALUE_LEN, Value,
};

use super::backends::Row;
use super::portable;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use chunks::Chunk;
use ipc_proto::{Algorithm, Family};
use std::cmp::Reverse;

/// Bytes of a chunk.
const CHUNK_LEN: usize = 1024;

/// Most messages on their way at once, and most chunks before the last of them: what they need stays
/// in the cache.
const WINDOW: usize = 256;

/// Hashes `LANES` chunks or parents at once. A value is the proof that it may run.
pub(super) trait Kernel<const LANES: usize>: Copy + Send + Sync + 'static {
    const LIMITS: Limits;

    /// The values of idle lanes mean nothing.
    fn hash(self, chunks: &mut Chunks<'_, LANES>) -> [Value; LANES];

    /// The values of idle lanes mean nothing.
    fn merge(self, parents: &Parents<'_, LANES>) -> [Value; LANES];
}

/// Where the portable backend is faster than a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A message of this many chunks, or of a multiple.
    pub(super) chunks_even: usize,
    /// A message of this many chunks or more.
    pub(super) chunks_many: usize,
    /// Fewer messages.
    pub(super) inputs_min: usize,
    /// Cost of one block of every lane, in blocks of the portable backend.
    pub(super) step_blocks: usize,
    /// Cost of the start and end of a batch, in blocks of the portable backend.
    pub(super) batch_blocks: usize,
}

/// The row of a kernel.
pub(super) fn row<K: Kernel<LANES>, const LANES: usize>(name: &'static str, kernel: K) -> Row {
    let hash_many = move |algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>| {
        hash_many(kernel, algorithm, inputs, out);
    };
    Row {
        name,
        family: Some(Family::Blake3),
        preferred_batch: LANES,
        width: 1,
        hash_many: Box::leak(Box::new(hash_many)),
        absorb: None,
    }
}

fn hash_many<K: Kernel<LANES>, const LANES: usize>(
    kernel: K,
    algorithm: Algorithm,
    inputs: &[&[u8]],
    out: &mut Vec<u8>,
) {
    if inputs.len() < K::LIMITS.inputs_min {
        return portable::hash_many(algorithm, inputs, out);
    }
    out.reserve(inputs.len() * VALUE_LEN);
    let mut trees = Trees::new(kernel, inputs.len().min(WINDOW));
    let mut messages = inputs;
    while !messages.is_empty() {
        let (taken, rest) = messages.split_at(trees.take(messages));
        trees.hash_leaves();
        while !trees.open.is_empty() {
            trees.merge_level();
        }
        out.extend_from_slice(trees.values[..taken.len()].as_flattened());
        messages = rest;
    }
}

impl Limits {
    /// Returns true if the portable backend needs longer for `message` than its part of the lanes.
    const fn are_open_for(&self, message: &[u8]) -> bool {
        let chunks = message.len().div_ceil(CHUNK_LEN);
        chunks == 0 || (chunks < self.chunks_many && !chunks.is_multiple_of(self.chunks_even))
    }

    /// Returns true if the portable backend needs less for the `blocks` of a batch whose longest
    /// message has `steps`.
    const fn are_closed_for(&self, blocks: usize, steps: usize) -> bool {
        blocks < self.batch_blocks + self.step_blocks * steps
    }
}

/// The trees of a window of messages.
struct Trees<'a, K, const LANES: usize> {
    kernel: K,
    /// First the digest of each message, then the values of chunks and parents that are no roots.
    values: Vec<Value>,
    digests_max: usize,
    leaves: Vec<Leaf<'a>>,
    /// Messages of which more than one value is left.
    open: Vec<Open>,
    pairs: Vec<Pair>,
}

/// A chunk, and where its value goes.
struct Leaf<'a> {
    chunk: Chunk<'a>,
    to: usize,
}

/// Values of a message that are not merged yet.
struct Open {
    message: usize,
    first: usize,
    len: usize,
}

/// Two neighbours in the values, and where their parent's goes.
struct Pair {
    from: usize,
    is_root: bool,
    to: usize,
}

impl<'a, K: Kernel<LANES>, const LANES: usize> Trees<'a, K, LANES> {
    fn new(kernel: K, messages_max: usize) -> Self {
        Self {
            kernel,
            values: vec![[0; VALUE_LEN]; messages_max],
            digests_max: messages_max,
            leaves: Vec::with_capacity(messages_max),
            open: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Takes messages as long as there is room, and returns how many.
    fn take(&mut self, messages: &[&'a [u8]]) -> usize {
        self.values.truncate(self.digests_max);
        self.leaves.clear();
        let mut taken = 0;
        for &bytes in messages.iter().take(self.digests_max) {
            if self.leaves.len() >= WINDOW {
                break;
            }
            if !K::LIMITS.are_open_for(bytes) {
                self.values[taken] = *blake3::hash(bytes).as_bytes();
            } else if bytes.len() <= CHUNK_LEN {
                let chunk = Chunk { bytes, counter: 0, is_root: true };
                self.leaves.push(Leaf { chunk, to: taken });
            } else {
                let first = self.values.len();
                let leaf = |(counter, bytes)| {
                    let chunk = Chunk { bytes, counter, is_root: false };
                    Leaf { chunk, to: first + counter as usize }
                };
                self.leaves.extend((0..).zip(bytes.chunks(CHUNK_LEN)).map(leaf));
                let len = bytes.len().div_ceil(CHUNK_LEN);
                self.values.resize(first + len, [0; VALUE_LEN]);
                self.open.push(Open { message: taken, first, len });
            }
            taken += 1;
        }
        taken
    }

    fn hash_leaves(&mut self) {
        self.leaves.sort_unstable_by_key(|leaf| Reverse(leaf.blocks()));
        let mut chunks = Chunks::IDLE;
        for leaves in self.leaves.chunks(LANES) {
            let blocks = leaves.iter().map(Leaf::blocks).sum();
            if K::LIMITS.are_closed_for(blocks, leaves[0].blocks()) {
                leaves.iter().for_each(|leaf| self.values[leaf.to] = leaf.hash());
                continue;
            }
            chunks.load(leaves.iter().map(|leaf| leaf.chunk));
            for (leaf, value) in leaves.iter().zip(self.kernel.hash(&mut chunks)) {
                self.values[leaf.to] = value;
            }
        }
    }

    fn merge_level(&mut self) {
        self.pairs.clear();
        for &Open { message, first, len } in &self.open {
            let pair = |i| {
                let is_root = len == 2;
                Pair { from: first + 2 * i, is_root, to: if is_root { message } else { first + i } }
            };
            self.pairs.extend((0..len / 2).map(pair));
        }
        // No value goes where a later pair comes from.
        for pairs in self.pairs.chunks(LANES) {
            if K::LIMITS.are_closed_for(pairs.len(), 1) {
                pairs.iter().for_each(|pair| self.values[pair.to] = pair.merge(&self.values));
                continue;
            }
            let parents = Parents::new(pairs.iter().map(|pair| pair.block(&self.values)));
            for (pair, value) in pairs.iter().zip(self.kernel.merge(&parents)) {
                self.values[pair.to] = value;
            }
        }
        self.open.retain_mut(|Open { first, len, .. }| {
            if *len % 2 == 1 {
                self.values[*first + *len / 2] = self.values[*first + *len - 1];
            }
            *len = len.div_ceil(2);
            *len > 1
        });
    }
}

impl Leaf<'_> {
    fn blocks(&self) -> usize {
        self.chunk.bytes.len().div_ceil(BLOCK_LEN).max(1)
    }

    /// Alone, without the kernel.
    fn hash(&self) -> Value {
        let Chunk { bytes, counter, is_root } = self.chunk;
        if is_root {
            return *blake3::hash(bytes).as_bytes();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(u64::from(counter) * CHUNK_LEN as u64);
        hasher.update(bytes);
        hasher.finalize_non_root()
    }
}

impl Pair {
    fn block<'a>(&self, values: &'a [Value]) -> (&'a Block, bool) {
        let bytes = values[self.from..self.from + 2].as_flattened();
        (bytes.try_into().expect("two values are a block"), self.is_root)
    }

    /// Alone, without the kernel.
    fn merge(&self, values: &[Value]) -> Value {
        let [left, right] = [&values[self.from], &values[self.from + 1]];
        if self.is_root {
            *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
        } else {
            merge_subtrees_non_root(left, right, Mode::Hash)
        }
    }
}
