//! A hash in the middle of a message, at a block border: where it can be saved and resumed by another
//! worker, and where several messages can be hashed interleaved.
//!
//! A saved state is the words of the hash and the number of bytes absorbed, all little-endian; BLAKE2b
//! adds the last block. It comes from a peer: [`Midstate::restore`] checks all that can be checked.

use super::blake2b::{self, Blake2b};
use super::lanes::{self, Blocks, Columns, Digests, Message};
use super::merkle_damgard::{BLOCK_LEN_32, BLOCK_LEN_64, ByteOrder, Word, initial_32, initial_64};
use super::portable::{compress_32, compress_64};
use super::{Backend, Choice};
use ipc_proto::limits::SEGMENT_ALIGN;
use ipc_proto::{Algorithm, Family};

/// Most bytes that a restored state may have absorbed: no file has more, and with what is read
/// afterwards the length in bits still fits 64 bits.
const LEN_MAX: u64 = 1 << 60;

/// A message of which whole blocks were absorbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Midstate {
    algorithm: Algorithm,
    hash: Hash,
    len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Words32([u32; 8]),
    Words64([u64; 8]),
    Blake2b(Box<Blake2b>),
}

impl Midstate {
    /// A message before its first byte; `None` if `algorithm` has no midstate.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Option<Self> {
        let hash = match algorithm.family() {
            Family::Sha256 | Family::Md5 | Family::Sha1 => Hash::Words32(initial_32(algorithm)?),
            Family::Sha512 => Hash::Words64(initial_64(algorithm)?),
            Family::Blake2b => Hash::Blake2b(Box::new(Blake2b::new())),
            Family::Blake3 => return None,
        };
        Some(Self { algorithm, hash, len: 0 })
    }

    /// A message for BLAKE2b, whose digest is the first `len` bytes of what [`Self::finish`] gives; `None`
    /// unless that is 1 to 64.
    pub(super) fn blake2b(len: usize) -> Option<Self> {
        let hash = Hash::Blake2b(Box::new(Blake2b::with_digest_len(len)?));
        Some(Self { algorithm: Algorithm::Blake2b, hash, len: 0 })
    }

    /// A message that was [saved](Self::save); `None` if the state is invalid.
    #[must_use]
    pub fn restore(algorithm: Algorithm, state: &[u8]) -> Option<Self> {
        let mut restored = Self::new(algorithm)?;
        let rest = match &mut restored.hash {
            Hash::Words32(words) => restore_words(words, state)?,
            Hash::Words64(words) => restore_words(words, state)?,
            Hash::Blake2b(hash) => restore_words(&mut hash.words, state)?,
        };
        let (len, rest) = rest.split_first_chunk()?;
        restored.len = u64::from_le_bytes(*len);
        let (block_len, rest) = match &mut restored.hash {
            Hash::Words32(_) => (BLOCK_LEN_32, rest),
            Hash::Words64(_) => (BLOCK_LEN_64, rest),
            Hash::Blake2b(hash) => {
                let (last, rest) = rest.split_first_chunk()?;
                hash.last = *last;
                (blake2b::BLOCK_LEN, rest)
            }
        };
        let is_valid = rest.is_empty()
            && restored.len <= LEN_MAX
            && restored.len.is_multiple_of(block_len as u64)
            && (restored.len > 0 || Some(&restored) == Self::new(algorithm).as_ref());
        is_valid.then_some(restored)
    }

    /// The state, as [`Midstate::restore`] takes it.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut state = Vec::new();
        match &self.hash {
            Hash::Words32(words) => state.extend(words.iter().flat_map(|word| word.to_le_bytes())),
            Hash::Words64(words) => state.extend(words.iter().flat_map(|word| word.to_le_bytes())),
            Hash::Blake2b(hash) => {
                state.extend(hash.words.iter().flat_map(|word| word.to_le_bytes()));
            }
        }
        state.extend(self.len.to_le_bytes());
        if let Hash::Blake2b(hash) = &self.hash {
            state.extend(hash.last);
        }
        state
    }

    /// Number of bytes absorbed.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if no byte is absorbed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Absorbs `data`.
    ///
    /// # Panics
    /// If `data` is not whole blocks.
    pub fn update(&mut self, data: &[u8]) {
        let family = self.algorithm.family();
        match &mut self.hash {
            Hash::Words32(words) => compress_32(family)(words, whole_blocks(data)),
            Hash::Words64(words) => compress_64(words, whole_blocks(data)),
            Hash::Blake2b(hash) => hash.update(self.len, whole_blocks(data)),
        }
        self.len += data.len() as u64;
    }

    /// Best number of messages to interleave; 1 where interleaving gains nothing.
    #[must_use]
    pub fn interleave_max(algorithm: Algorithm) -> usize {
        Choice::of(algorithm).interleave_max()
    }

    /// Absorbs data of equal length into each of `messages`, interleaved where that is faster.
    ///
    /// # Panics
    /// If the lengths differ, or as [`Midstate::update`].
    pub fn update_many(messages: &mut [&mut Self], data: &[&[u8]]) {
        if let Some(first) = messages.first() {
            let backend = Choice::of(first.algorithm).for_interleaving(messages.len());
            Self::update_many_by(backend, messages, data);
        }
    }

    /// The same by `backend`; one by one if it does not serve all of them.
    ///
    /// # Panics
    /// As [`Midstate::update_many`].
    pub fn update_many_by(backend: Backend, messages: &mut [&mut Self], data: &[&[u8]]) {
        assert_eq!(messages.len(), data.len(), "data for each message");
        assert!(data.windows(2).all(|pair| pair[0].len() == pair[1].len()), "equal lengths");
        let absorb =
            backend.absorb().filter(|_| messages.iter().all(|m| backend.serves(m.algorithm)));
        let width = backend.width();
        for (messages, data) in messages.chunks_mut(width).zip(data.chunks(width)) {
            match absorb {
                Some(absorb) if messages.len() > 1 => absorb(messages, data),
                _ => messages.iter_mut().zip(data).for_each(|(message, data)| message.update(data)),
            }
        }
    }

    /// The digest, if the message ends with `rest`.
    #[must_use]
    pub fn finish(&self, rest: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.hash {
            Hash::Words32(words) => {
                self.pad(*words, rest, compress_32(self.algorithm.family()), &mut out);
            }
            Hash::Words64(words) => self.pad(*words, rest, compress_64, &mut out),
            Hash::Blake2b(hash) => out.extend(hash.finish(self.len, rest)),
        }
        out
    }

    fn pad<W: Word, const BLOCK_LEN: usize>(
        &self,
        words: [W; 8],
        rest: &[u8],
        compress: fn(&mut [W; 8], &[[u8; BLOCK_LEN]]),
        out: &mut Vec<u8>,
    ) {
        let order = ByteOrder::of(self.algorithm);
        let message = Message::resume(words, self.len, rest, order);
        let mut digests = Digests::new(out, 1, self.algorithm);
        lanes::run_single([message], compress, &mut digests);
    }
}

/// One segment of a stream, each on any worker: absorbs `data` into `state`, which is empty for the
/// first segment. Gives the next state or, after the `last` segment, the digest; `None` if the state is
/// invalid, a segment that is not the last is not whole blocks, or the algorithm has no midstate.
#[must_use]
pub fn segment(algorithm: Algorithm, state: &[u8], data: &[u8], last: bool) -> Option<Vec<u8>> {
    let mut midstate = match state {
        [] => Midstate::new(algorithm)?,
        state => Midstate::restore(algorithm, state)?,
    };
    if last {
        return Some(midstate.finish(data));
    }
    data.len().is_multiple_of(SEGMENT_ALIGN).then(|| {
        midstate.update(data);
        midstate.save()
    })
}

/// Has `compress` absorb `data` into `messages`, at most `LANES` and all with words of this kind.
pub(super) fn absorb<W: MidstateWord, const BLOCK_LEN: usize, const LANES: usize>(
    messages: &mut [&mut Midstate],
    data: &[&[u8]],
    compress: impl FnOnce(&mut Columns<W, LANES>, &Blocks<'_, BLOCK_LEN, LANES>),
) {
    let mut columns = Columns([[W::default(); LANES]; 8]);
    // A lane without a message reads that of the first.
    let mut blocks = [whole_blocks(data[0]); LANES];
    for (lane, (message, data)) in messages.iter_mut().zip(data).enumerate() {
        columns.set_state(lane, *W::words(&mut message.hash));
        blocks[lane] = whole_blocks(data);
    }
    compress(&mut columns, &blocks);
    for (lane, message) in messages.iter_mut().enumerate() {
        *W::words(&mut message.hash) = columns.state(lane);
        message.len += data[lane].len() as u64;
    }
}

/// A word of which a [`Midstate`] may consist.
pub(super) trait MidstateWord: Word {
    /// # Panics
    /// If the hash has other words.
    fn words(hash: &mut Hash) -> &mut [Self; 8];
}

impl MidstateWord for u32 {
    fn words(hash: &mut Hash) -> &mut [Self; 8] {
        let Hash::Words32(words) = hash else { panic!("a family of 32-bit words") };
        words
    }
}

impl MidstateWord for u64 {
    fn words(hash: &mut Hash) -> &mut [Self; 8] {
        let Hash::Words64(words) = hash else { panic!("a family of 64-bit words") };
        words
    }
}

/// Takes the words from the start of `state` and returns what follows them. A word that the family does
/// not have, which is zero before the first byte, has to be zero.
fn restore_words<'a, W: Word>(words: &mut [W; 8], state: &'a [u8]) -> Option<&'a [u8]> {
    let (saved, rest) = state.split_at_checked(8 * size_of::<W>())?;
    for (word, bytes) in words.iter_mut().zip(saved.chunks_exact(size_of::<W>())) {
        let saved = W::from_le(bytes);
        if *word == W::default() && saved != W::default() {
            return None;
        }
        *word = saved;
    }
    Some(rest)
}

fn whole_blocks<const BLOCK_LEN: usize>(data: &[u8]) -> &[[u8; BLOCK_LEN]] {
    let (blocks, rest) = data.as_chunks();
    assert!(rest.is_empty(), "whole blocks");
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::limits::STATE_LEN_MAX;
    use test_kit::{Random, pattern};

    fn algorithms() -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(|algorithm| algorithm.has_midstate())
    }

    fn plain(algorithm: Algorithm, data: &[u8]) -> Vec<u8> {
        Backend::PORTABLE.digests(algorithm, &[data])
    }

    #[test]
    fn a_message_resumes_where_it_was_saved_alone_or_interleaved() {
        let data = pattern(100_000);
        for (algorithm, other) in algorithms().flat_map(|a| algorithms().map(move |b| (a, b))) {
            let mut a = Midstate::new(algorithm).unwrap();
            let mut b = Midstate::new(other).unwrap();
            b.update(&data[..1280]);
            let (mut at, mut b_at) = (0, 1280);
            for (step, len) in [128, 0, 256, 12_800, 128, 40_960].into_iter().enumerate() {
                let next = [&data[at..][..len], &data[b_at..][..len]];
                Midstate::update_many(&mut [&mut a, &mut b], &next);
                (at, b_at) = (at + len, b_at + len);
                if step == 2 {
                    a.update(&data[at..][..384]);
                    at += 384;
                }
                for (midstate, algorithm, at) in [(&mut a, algorithm, at), (&mut b, other, b_at)] {
                    assert_eq!(midstate.len(), at as u64);
                    *midstate = Midstate::restore(algorithm, &midstate.save()).unwrap();
                    let rest = &data[at..at + step * 77];
                    let want = plain(algorithm, &data[..at + step * 77]);
                    assert_eq!(midstate.finish(rest), want, "{algorithm} with {other}, {at}");
                }
            }
        }
    }

    #[test]
    fn every_backend_absorbs_any_number_of_messages() {
        let data = pattern(40_000);
        for &backend in Backend::available() {
            for algorithm in algorithms().filter(|algorithm| backend.serves(*algorithm)) {
                for count in 1..=2 * backend.width() + 1 {
                    let start = |i| {
                        let mut midstate = Midstate::new(algorithm).unwrap();
                        midstate.update(&data[..i * 128]);
                        midstate
                    };
                    let mut messages: Vec<Midstate> = (0..count).map(start).collect();
                    let mut added = 0;
                    for len in [128, 0, 1280, 4096] {
                        let next: Vec<&[u8]> =
                            (0..count).map(|i| &data[i * 128 + added..][..len]).collect();
                        let mut messages: Vec<_> = messages.iter_mut().collect();
                        Midstate::update_many_by(backend, &mut messages, &next);
                        added += len;
                    }
                    for (i, midstate) in messages.iter().enumerate() {
                        let len = i * 128 + added;
                        let name = backend.name();
                        let is = format!("{algorithm}, message {i} of {count} by {name}");
                        let mut alone = Midstate::new(algorithm).unwrap();
                        alone.update(&data[..len]);
                        assert_eq!(*midstate, alone, "{is}");
                        let want = plain(algorithm, &data[..len + i]);
                        assert_eq!(midstate.finish(&data[len..len + i]), want, "{is}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_chain_of_segments_gives_the_plain_digest() {
        let mut random = Random::from_entropy();
        let data = pattern(20_000);
        for algorithm in algorithms() {
            for _ in 0..200 {
                let input = &data[..random.index(data.len())];
                let mut state = Vec::new();
                let mut rest = input;
                while random.index(8) > 0 {
                    let blocks = rest.len() / SEGMENT_ALIGN;
                    let (head, tail) = rest.split_at(random.index(blocks + 1) * SEGMENT_ALIGN);
                    state = segment(algorithm, &state, head, false).unwrap();
                    assert!(state.len() <= STATE_LEN_MAX);
                    rest = tail;
                }
                let digest = segment(algorithm, &state, rest, true).unwrap();
                assert_eq!(digest, plain(algorithm, input), "{algorithm}, {} bytes", input.len());
            }
        }
    }

    #[test]
    fn rejects_a_state_of_another_length() {
        for algorithm in algorithms() {
            let good = segment(algorithm, &[], &[1; 256], false).unwrap();
            for len in (1..=STATE_LEN_MAX).filter(|&len| len != good.len()) {
                let mut state = good.clone();
                state.resize(len, 0);
                assert_eq!(segment(algorithm, &state, b"", true), None, "{algorithm}, {len}");
            }
        }
    }

    /// Whatever a peer claims to have absorbed, nothing overflows afterwards.
    #[test]
    fn rejects_a_state_of_too_many_bytes_or_of_half_a_block() {
        for algorithm in algorithms() {
            let good = segment(algorithm, &[], &[1; 256], false).unwrap();
            let words_len = if good.len() == 40 { 32 } else { 64 };
            let with_len = |len: u64| {
                let mut state = good.clone();
                state[words_len..][..8].copy_from_slice(&len.to_le_bytes());
                state
            };
            for (len, is_good) in [
                (1, false),
                (63, false),
                (LEN_MAX - 128, true),
                (LEN_MAX, true),
                (LEN_MAX + 128, false),
                (u64::MAX - 127, false),
            ] {
                for last in [false, true] {
                    let next = segment(algorithm, &with_len(len), &[0; 128], last);
                    assert_eq!(next.is_some(), is_good, "{algorithm}, {len} bytes");
                }
            }
        }
    }

    #[test]
    fn rejects_a_state_without_bytes_that_is_not_the_first_and_words_that_are_not_there() {
        for algorithm in algorithms() {
            let mut state = Midstate::new(algorithm).unwrap().save();
            assert!(Midstate::restore(algorithm, &state).unwrap().is_empty());
            state[0] ^= 1;
            assert_eq!(Midstate::restore(algorithm, &state), None, "{algorithm}");
        }
        for (algorithm, words) in [(Algorithm::Md5, 4), (Algorithm::Sha1, 5)] {
            let good = segment(algorithm, &[], &[1; 128], false).unwrap();
            for i in 4 * words..32 {
                let mut hiding = good.clone();
                hiding[i] = 1;
                assert_eq!(segment(algorithm, &hiding, b"x", true), None, "{algorithm}, byte {i}");
            }
        }
    }

    #[test]
    fn rejects_a_ragged_segment_before_the_last_and_blake3() {
        assert_eq!(segment(Algorithm::Sha256, &[], &[0; 64], false), None);
        assert_eq!(segment(Algorithm::Sha512, &[], &[0; 1], false), None);
        assert_eq!(segment(Algorithm::Blake3, &[], b"", true), None);
        assert_eq!(Midstate::new(Algorithm::Blake3), None);
    }

    #[test]
    #[should_panic(expected = "equal lengths")]
    fn panics_where_lengths_differ() {
        let [mut a, mut b] = [Algorithm::Sha256; 2].map(|a| Midstate::new(a).unwrap());
        Midstate::update_many(&mut [&mut a, &mut b], &[&[0; 128], &[0; 256]]);
    }
}
