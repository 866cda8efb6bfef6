//! Scheduling of messages over the lanes of a kernel.
//!
//! A kernel absorbs an equal number of blocks in each lane. So it runs for the fewest that any lane has
//! left; a lane that is done gets the next message, the longest first; and when fewer messages are left
//! than are worth it, [`run`] returns them with their states, for a narrower kernel. This serves
//! words of either length and any number of lanes.
//!
//! Invariants: each message is either finished or given back; a lane reads only its message, or that
//! of another lane while it has none.
//!
//! Not here: the kernels, and everything unsafe.

use super::merkle_damgard::{ByteOrder, Word};
use ipc_proto::Algorithm;
use std::array;
use std::cmp::Reverse;

/// The eight words of a hash, each of all lanes: as kernels take them.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Columns<W, const LANES: usize>(pub(super) [[W; LANES]; 8]);

/// The next blocks of each lane, equally many.
pub(super) type Blocks<'a, const BLOCK_LEN: usize, const LANES: usize> =
    [&'a [[u8; BLOCK_LEN]]; LANES];

/// Blocks in which any rest of a message fits with its padding (FIPS 180-4, section 5.1).
pub(super) const TAIL_BLOCKS: usize = 2;

/// Messages that a backend of many lanes takes best at once: among more than there are lanes, one of
/// any length finds others that take as long.
pub(super) const PREFERRED_BATCH: usize = 16;

/// Hashes messages until fewer than `live_min` are left, and returns those with their states.
/// `compress` absorbs the blocks of all lanes.
pub(super) fn run<'a, W: Word, const BLOCK_LEN: usize, const LANES: usize>(
    messages: impl IntoIterator<Item = Message<'a, W, BLOCK_LEN>>,
    live_min: usize,
    mut compress: impl FnMut(&mut Columns<W, LANES>, &Blocks<'_, BLOCK_LEN, LANES>),
    digests: &mut Digests<'_>,
) -> Vec<Message<'a, W, BLOCK_LEN>> {
    let mut waiting = messages.into_iter().fuse();
    let mut columns = Columns([[W::default(); LANES]; 8]);
    let mut lanes = [const { None }; LANES];
    let mut tails = [Tail::EMPTY; LANES];
    loop {
        for (lane, (slot, tail)) in lanes.iter_mut().zip(&mut tails).enumerate() {
            if let Some(message) = slot.take_if(|message: &mut Message<'_, _, _>| message.is_done())
            {
                digests.put(message.index, columns.state(lane));
            }
            if slot.is_none() {
                *slot = waiting.next();
                if let Some(message) = slot {
                    columns.set_state(lane, message.state);
                    tail.fill(message);
                }
            }
        }
        let ready: [_; LANES] =
            array::from_fn(|lane| lanes[lane].as_ref().map(|message| message.ready(&tails[lane])));
        let live = ready.iter().flatten().count();
        let fewest = ready.iter().flatten().min_by_key(|blocks| blocks.len());
        let Some(&fewest) = fewest.filter(|_| live >= live_min) else {
            let left = lanes.into_iter().enumerate().filter_map(|(lane, slot)| {
                slot.map(|message| Message { state: columns.state(lane), ..message })
            });
            return left.collect();
        };
        let len = fewest.len();
        compress(&mut columns, &ready.map(|blocks| &blocks.unwrap_or(fewest)[..len]));
        lanes.iter_mut().flatten().for_each(|message| message.advance(len));
    }
}

/// [`run`] with one lane: finishes each message before the next.
pub(super) fn run_single<'a, W: Word, const BLOCK_LEN: usize>(
    messages: impl IntoIterator<Item = Message<'a, W, BLOCK_LEN>>,
    compress: impl Fn(&mut [W; 8], &[[u8; BLOCK_LEN]]),
    digests: &mut Digests<'_>,
) {
    let mut tail = Tail::EMPTY;
    for mut message in messages {
        tail.fill(&message);
        while !message.is_done() {
            let ready = message.ready(&tail);
            compress(&mut message.state, ready);
            message.advance(ready.len());
        }
        digests.put(message.index, message.state);
    }
}

impl<W: Word, const LANES: usize> Columns<W, LANES> {
    pub(super) fn state(&self, lane: usize) -> [W; 8] {
        self.0.map(|words| words[lane])
    }

    pub(super) fn set_state(&mut self, lane: usize, state: [W; 8]) {
        for (words, word) in self.0.iter_mut().zip(state) {
            words[lane] = word;
        }
    }
}

/// A message of which some blocks are absorbed.
pub(super) struct Message<'a, W, const BLOCK_LEN: usize> {
    pub(super) index: usize,
    state: [W; 8],
    /// The blocks that are left before the tail.
    body: &'a [[u8; BLOCK_LEN]],
    /// Bytes after the last whole block, hashed from the tail.
    rest: &'a [u8],
    /// The length in bits, as the last block has it.
    bits_len: [u8; 8],
    /// Number of blocks of the tail that are unused or done.
    tail_at: usize,
}

impl<'a, W, const BLOCK_LEN: usize> Message<'a, W, BLOCK_LEN> {
    /// Bytes of the length of the message, in bits, at the end of the last block.
    const LENGTH_LEN: usize = BLOCK_LEN / 8;

    /// Longest message that is padded as a whole, so that it is hashed in one go.
    const SHORT_LEN_MAX: usize = TAIL_BLOCKS * BLOCK_LEN - Self::LENGTH_LEN - 1;

    /// A message that nothing is left of.
    #[cfg(target_arch = "x86_64")]
    pub(super) const fn done(state: [W; 8]) -> Self {
        Self { index: 0, state, body: &[], rest: &[], bits_len: [0; 8], tail_at: TAIL_BLOCKS }
    }

    pub(super) fn new(index: usize, message: &'a [u8], state: [W; 8], order: ByteOrder) -> Self {
        Self { index, ..Self::resume(state, 0, message, order) }
    }

    /// The rest of a message, after `absorbed_len` bytes that led to `state`.
    pub(super) fn resume(
        state: [W; 8],
        absorbed_len: u64,
        rest: &'a [u8],
        order: ByteOrder,
    ) -> Self {
        // The length of every message in bits fits 64 bits.
        let bits_len = (absorbed_len + rest.len() as u64) * 8;
        let bits_len = match order {
            ByteOrder::Big => bits_len.to_be_bytes(),
            ByteOrder::Little => bits_len.to_le_bytes(),
        };
        let is_short = rest.len() <= Self::SHORT_LEN_MAX;
        let (body, rest) = if is_short { (&[][..], rest) } else { rest.as_chunks() };
        let tail_at = usize::from(rest.len() + 1 + Self::LENGTH_LEN <= BLOCK_LEN);
        Self { index: 0, state, body, rest, bits_len, tail_at }
    }

    /// The blocks that come next: none once it is done.
    pub(super) fn ready<'b>(&self, tail: &'b Tail<BLOCK_LEN>) -> &'b [[u8; BLOCK_LEN]]
    where
        'a: 'b,
    {
        if self.body.is_empty() { &tail.0[self.tail_at..] } else { self.body }
    }

    pub(super) fn advance(&mut self, blocks_len: usize) {
        if self.body.is_empty() {
            self.tail_at += blocks_len;
        } else {
            self.body = &self.body[blocks_len..];
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.tail_at == TAIL_BLOCKS
    }
}

/// The last bytes of a message, with the padding, in the last of these blocks.
#[derive(Clone, Copy)]
pub(super) struct Tail<const BLOCK_LEN: usize>([[u8; BLOCK_LEN]; TAIL_BLOCKS]);

impl<const BLOCK_LEN: usize> Tail<BLOCK_LEN> {
    pub(super) const EMPTY: Self = Self([[0; BLOCK_LEN]; TAIL_BLOCKS]);

    /// Takes the end of `message`, however much of that is absorbed.
    pub(super) fn fill<W>(&mut self, message: &Message<'_, W, BLOCK_LEN>) {
        let rest = message.rest;
        let blocks_len = (rest.len() + 1 + BLOCK_LEN / 8).div_ceil(BLOCK_LEN);
        let padded = self.0[TAIL_BLOCKS - blocks_len..].as_flattened_mut();
        padded.fill(0);
        padded[..rest.len()].copy_from_slice(rest);
        padded[rest.len()] = 0x80;
        *padded.last_chunk_mut().expect("the tail has a block") = message.bits_len;
    }
}

/// All of `inputs`, the longest first.
pub(super) fn longest_first<'a, W: Word, const BLOCK_LEN: usize>(
    algorithm: Algorithm,
    initial: [W; 8],
    inputs: &[&'a [u8]],
) -> impl Iterator<Item = Message<'a, W, BLOCK_LEN>> {
    some_longest_first(algorithm, initial, inputs, (0..inputs.len()).collect())
}

/// Those of `inputs` with these indices, the longest first.
pub(super) fn some_longest_first<'a, W: Word, const BLOCK_LEN: usize>(
    algorithm: Algorithm,
    initial: [W; 8],
    inputs: &[&'a [u8]],
    mut indices: Vec<usize>,
) -> impl Iterator<Item = Message<'a, W, BLOCK_LEN>> {
    let order = ByteOrder::of(algorithm);
    indices.sort_unstable_by_key(|&index| Reverse(inputs[index].len() / BLOCK_LEN));
    indices.into_iter().map(move |index| Message::new(index, inputs[index], initial, order))
}

/// Where digests go.
pub(super) struct Digests<'a> {
    bytes: &'a mut [u8],
    digest_len: usize,
    order: ByteOrder,
}

impl<'a> Digests<'a> {
    /// Makes room for `len` digests at the end of `out`.
    pub(super) fn new(out: &'a mut Vec<u8>, len: usize, algorithm: Algorithm) -> Self {
        let (before_len, digest_len) = (out.len(), algorithm.digest_len());
        out.resize(before_len + len * digest_len, 0);
        Self { bytes: &mut out[before_len..], digest_len, order: ByteOrder::of(algorithm) }
    }

    /// The digest of a message: the start of its last state.
    pub(super) fn put<W: Word>(&mut self, index: usize, state: [W; 8]) {
        let order = self.order;
        for (bytes, word) in self.get_mut(index).chunks_exact_mut(size_of::<W>()).zip(state) {
            word.put(order, bytes);
        }
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index * self.digest_len..][..self.digest_len]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Backend;
    use super::super::merkle_damgard::{BLOCK_LEN_32, BLOCK_LEN_64, initial_32, initial_64};
    use super::*;
    use sha2::block_api::{compress256, compress512};

    /// The cost of a run.
    #[derive(Debug, Default)]
    struct Cost {
        /// Blocks that the messages have, with their padding.
        needed: usize,
        /// Blocks that were absorbed in the wide kernel, over all lanes, used or not.
        wide: usize,
        /// Messages that it returned.
        left: usize,
    }

    impl Cost {
        fn assert_fill(&self, percent_min: usize) {
            assert!(self.needed * 100 >= self.wide * percent_min, "{self:?}");
        }
    }

    /// Hashes messages of these lengths with a kernel that does one lane after the other, and those
    /// left one by one; the digests have to be those of the portable backend.
    #[track_caller]
    fn check<W: Word, const BLOCK_LEN: usize, const LANES: usize>(
        algorithm: Algorithm,
        initial: Option<[W; 8]>,
        compress_one: fn(&mut [W; 8], &[[u8; BLOCK_LEN]]),
        live_min: usize,
        lens: &[usize],
    ) -> Cost {
        let data: Vec<u8> =
            (0..=250).cycle().take(lens.iter().max().map_or(0, |len| len + 8)).collect();
        let inputs: Vec<_> =
            lens.iter().enumerate().map(|(i, &len)| &data[i % 8..][..len]).collect();
        let blocks_len = |len: usize| (len + 1 + BLOCK_LEN / 8).div_ceil(BLOCK_LEN);
        let mut cost =
            Cost { needed: lens.iter().map(|&len| blocks_len(len)).sum(), ..Cost::default() };
        let mut out = b"before".to_vec();
        let mut digests = Digests::new(&mut out, inputs.len(), algorithm);
        let messages = longest_first(algorithm, initial.unwrap(), &inputs);
        let wide = |columns: &mut Columns<W, LANES>, blocks: &Blocks<'_, BLOCK_LEN, LANES>| {
            assert!(!blocks[0].is_empty());
            for (lane, blocks) in blocks.iter().enumerate() {
                let mut state = columns.state(lane);
                compress_one(&mut state, blocks);
                columns.set_state(lane, state);
                cost.wide += blocks.len();
            }
        };
        let left = run(messages, live_min, wide, &mut digests);
        assert!(left.len() < live_min.max(1));
        cost.left = left.len();
        let mut indices: Vec<_> = left.iter().map(|message| message.index).collect();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), left.len(), "given back twice");
        for &index in &indices {
            assert!(
                digests.get_mut(index).iter().all(|&byte| byte == 0),
                "finished and given back"
            );
        }
        run_single(left, compress_one, &mut digests);
        let mut want = b"before".to_vec();
        Backend::PORTABLE.hash_many(algorithm, &inputs, &mut want);
        assert!(out == want, "{algorithm} in {LANES} lanes, at least {live_min}: {lens:?}");
        cost
    }

    fn check_256<const LANES: usize>(live_min: usize, lens: &[usize]) -> Cost {
        let algorithm = Algorithm::Sha256;
        check::<_, BLOCK_LEN_32, LANES>(
            algorithm,
            initial_32(algorithm),
            compress256,
            live_min,
            lens,
        )
    }

    fn check_512<const LANES: usize>(live_min: usize, lens: &[usize]) -> Cost {
        let algorithm = Algorithm::Sha384;
        check::<_, BLOCK_LEN_64, LANES>(
            algorithm,
            initial_64(algorithm),
            compress512,
            live_min,
            lens,
        )
    }

    #[test]
    fn hashes_every_length_once_in_any_number_of_lanes() {
        let lens: Vec<_> = (0..=600).collect();
        check_256::<1>(1, &lens);
        check_256::<2>(2, &lens);
        check_256::<8>(3, &lens);
        check_256::<16>(14, &lens);
        check_512::<4>(1, &lens);
        check_512::<8>(2, &lens);
    }

    #[test]
    fn hashes_any_number_of_messages_once() {
        for len in 0..=40 {
            let lens: Vec<_> = (0..len).map(|i| i * 37 % 300).collect();
            for live_min in [0, 1, 5, 8] {
                check_256::<8>(live_min, &lens);
                check_512::<8>(live_min, &lens);
            }
        }
    }

    #[test]
    fn fills_the_lanes_with_equal_messages() {
        let cost = check_512::<8>(1, &[1000; 64]);
        assert_eq!(cost.wide, cost.needed);
    }

    #[test]
    fn nearly_fills_the_lanes_with_mixed_messages() {
        let mut state = 1;
        let mut below = |limit: usize| {
            state = (state * 75 + 74) % 65_537;
            state * limit / 65_537
        };
        let lens: Vec<_> = (0..128).map(|_| 1 << below(16) | below(1 << 10)).collect();
        check_256::<16>(1, &lens).assert_fill(97);
        check_512::<8>(1, &lens).assert_fill(97);
    }

    #[test]
    fn returns_a_huge_message_when_it_is_alone() {
        let mut lens = [500; 40];
        lens[17] = 100_000;
        let cost = check_256::<16>(2, &lens);
        assert_eq!(cost.left, 1);
        assert!(cost.wide < 2 * 40 * 9, "{cost:?}");
    }

    #[test]
    fn interleaves_two_huge_messages_to_their_end() {
        let cost = check_512::<2>(2, &[100_000, 10, 100_000, 10, 10]);
        assert_eq!(cost.left, 1);
        cost.assert_fill(100);
    }

    #[test]
    fn returns_too_few_messages_untouched() {
        let cost = check_256::<16>(14, &[1000; 13]);
        assert_eq!((cost.left, cost.wide), (13, 0));
    }
}
