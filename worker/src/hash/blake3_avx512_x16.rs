//! BLAKE3 of many small messages by AVX-512, 16 chunks or parents at once, of the same message or of
//! others.
//!
//! A message of up to [`LEN_MAX`] bytes is a tree of chunks (paper, section 2.1). First all chunks
//! of a window of messages are hashed, those with as many blocks beside each other; then the
//! parents, level by level: neighbours are merged, and the last of an odd number goes up as it is,
//! which gives the tree that the paper defines. Longer messages fill 16 lanes by themselves, which
//! is what the portable backend does.
//!
//! Not here: the compression, and all that is unsafe ([`kernel`]).

mod kernel;

pub use kernel::Avx512;
pub(super) use kernel::LANES;

use super::portable;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use ipc_proto::Algorithm;
use kernel::{BLOCK_LEN, Input, VALUE_LEN, Value, flags};
use std::cmp::Reverse;

/// Bytes of a chunk.
const CHUNK_LEN: usize = 1024;

/// Longest message that shares its lanes.
const LEN_MAX: usize = 16 << 10;

/// Fewer messages are left to the portable backend.
const INPUTS_MIN: usize = 3;

/// Most messages that are on their way at once: what they need stays in the cache.
const WINDOW: usize = 256;

/// The kernel takes as long for a block of every lane as the portable backend for so many blocks.
const STEP_BLOCKS: usize = 3;

pub(super) const fn serves(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::Blake3)
}

pub(super) fn hash_many(proof: Avx512, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
    if !serves(algorithm) || inputs.len() < INPUTS_MIN {
        return portable::hash_many(algorithm, inputs, out);
    }
    out.reserve(inputs.len() * VALUE_LEN);
    let mut forest = Forest::default();
    for window in inputs.chunks(WINDOW) {
        forest.plant(window);
        forest.hash_chunks(proof);
        while !forest.open.is_empty() {
            forest.merge_level(proof);
        }
        forest.digests().for_each(|digest| out.extend_from_slice(digest));
    }
}

/// The trees of a window of messages.
#[derive(Default)]
struct Forest<'a> {
    /// The values of each message that are not merged yet, from the place of its root on.
    values: Vec<Value>,
    /// Of each message, in order: where its root is, at the end, in the values.
    roots: Vec<usize>,
    chunks: Vec<Chunk<'a>>,
    /// Messages of which more than one value is left.
    open: Vec<Open>,
    pairs: Vec<Pair>,
}

struct Chunk<'a> {
    input: Input<'a>,
    /// Where its value goes.
    to: usize,
}

struct Open {
    root: usize,
    /// How many values are left.
    len: usize,
}

/// Two neighbours in the values.
struct Pair {
    from: usize,
    to: usize,
    is_root: bool,
}

impl<'a> Forest<'a> {
    fn plant(&mut self, messages: &[&'a [u8]]) {
        self.values.clear();
        self.roots.clear();
        self.chunks.clear();
        for &message in messages {
            let root = self.values.len();
            self.roots.push(root);
            if message.len() > LEN_MAX {
                self.values.push(*blake3::hash(message).as_bytes());
            } else if message.len() <= CHUNK_LEN {
                self.values.push([0; VALUE_LEN]);
                self.chunks.push(Chunk::new(message, 0, true, root));
            } else {
                for (counter, bytes) in (0..).zip(message.chunks(CHUNK_LEN)) {
                    self.chunks.push(Chunk::new(bytes, counter, false, self.values.len()));
                    self.values.push([0; VALUE_LEN]);
                }
                self.open.push(Open { root, len: self.values.len() - root });
            }
        }
    }

    fn hash_chunks(&mut self, proof: Avx512) {
        self.chunks.sort_unstable_by_key(|chunk| Reverse(chunk.blocks()));
        for chunks in self.chunks.chunks(LANES) {
            let blocks: usize = chunks.iter().map(Chunk::blocks).sum();
            if blocks < STEP_BLOCKS * chunks[0].blocks() {
                chunks.iter().for_each(|chunk| self.values[chunk.to] = chunk.hash());
                continue;
            }
            let values = kernel::hash(proof, chunks.iter().map(|chunk| chunk.input));
            for (chunk, value) in chunks.iter().zip(values) {
                self.values[chunk.to] = value;
            }
        }
    }

    fn merge_level(&mut self, proof: Avx512) {
        self.pairs.clear();
        for &Open { root, len } in &self.open {
            let pair = |i| Pair { from: root + 2 * i, to: root + i, is_root: len == 2 };
            self.pairs.extend((0..len / 2).map(pair));
        }
        // A value goes where only pairs up to its own come from.
        for pairs in self.pairs.chunks(LANES) {
            if pairs.len() < STEP_BLOCKS {
                pairs.iter().for_each(|pair| self.values[pair.to] = pair.merge(&self.values));
                continue;
            }
            let values = kernel::hash(proof, pairs.iter().map(|pair| pair.input(&self.values)));
            for (pair, value) in pairs.iter().zip(values) {
                self.values[pair.to] = value;
            }
        }
        self.open.retain_mut(|Open { root, len }| {
            if *len % 2 == 1 {
                self.values[*root + *len / 2] = self.values[*root + *len - 1];
            }
            *len = len.div_ceil(2);
            *len > 1
        });
    }

    fn digests(&self) -> impl Iterator<Item = &Value> {
        self.roots.iter().map(|&root| &self.values[root])
    }
}

impl<'a> Chunk<'a> {
    fn new(bytes: &'a [u8], counter: u32, is_root: bool, to: usize) -> Self {
        let end = flags::CHUNK_END | if is_root { flags::ROOT } else { 0 };
        Self { input: Input { bytes, counter, start: flags::CHUNK_START, end }, to }
    }

    fn blocks(&self) -> usize {
        self.input.bytes.len().div_ceil(BLOCK_LEN).max(1)
    }

    /// Alone, without the kernel.
    fn hash(&self) -> Value {
        let Input { bytes, counter, end, .. } = self.input;
        if end & flags::ROOT != 0 {
            return *blake3::hash(bytes).as_bytes();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(u64::from(counter) * CHUNK_LEN as u64);
        hasher.update(bytes);
        hasher.finalize_non_root()
    }
}

impl Pair {
    fn input<'a>(&self, values: &'a [Value]) -> Input<'a> {
        let end = if self.is_root { flags::ROOT } else { 0 };
        let bytes = values[self.from..self.from + 2].as_flattened();
        Input { bytes, counter: 0, start: flags::PARENT, end }
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
