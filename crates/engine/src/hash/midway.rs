//! SHA-2 in the middle of a message: at a block border, where one worker can leave it and another go
//! on, and where it can be hashed beside others.
//!
//! What is kept is what `segment` takes and gives. A kernel of several lanes gets the eight words of
//! each message, and how many blocks they are is added here.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::fips180::Word;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::lanes::{Blocks, Columns};
use super::segment::{absorbed_len, segment};
use super::{Backend, Choice};
#[cfg(target_arch = "x86_64")]
use super::{sha_ni_x2, sha256_avx2_x8, sha256_avx512_x16, sha512_avx2_x4, sha512_avx512_x8};
#[cfg(target_arch = "aarch64")]
use super::{sha256_aarch64_x2, sha512_aarch64_x2};
use ipc_proto::Algorithm;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::array;

/// A message of which whole blocks were absorbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Midway {
    algorithm: Algorithm,
    state: Vec<u8>,
    len: u64,
}

impl Midway {
    /// Before its first byte; `None` if `algorithm` is not of the SHA-2 family.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Option<Self> {
        let state = segment(algorithm, &[], &[], false)?;
        Some(Self { algorithm, state, len: 0 })
    }

    /// Where another one was saved; `None` if the state is none of ours.
    #[must_use]
    pub fn restore(algorithm: Algorithm, state: &[u8]) -> Option<Self> {
        let len = absorbed_len(algorithm, state)?;
        Some(Self { algorithm, state: state.to_vec(), len })
    }

    /// What [`Midway::restore`] takes.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        self.state.clone()
    }

    /// How many bytes are absorbed.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte is absorbed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Absorbs `data`.
    ///
    /// # Panics
    /// If these are not whole blocks, or more than any file has.
    pub fn update(&mut self, data: &[u8]) {
        let next = segment(self.algorithm, &self.state, data, false);
        self.state = next.expect("whole blocks, behind a state of ours");
        self.len += data.len() as u64;
    }

    /// How many messages are best absorbed beside each other; one where that gains nothing.
    #[must_use]
    pub fn lanes(algorithm: Algorithm) -> usize {
        let backends = Choice::of(algorithm).for_all_long();
        backends.map(width).into_iter().max().expect("there are two")
    }

    /// Absorbs as many bytes into each of `messages`, beside each other where a kernel is faster that
    /// way.
    ///
    /// # Panics
    /// If the lengths differ, or as [`Midway::update`].
    pub fn update_beside(messages: &mut [&mut Self], data: &[&[u8]]) {
        if let Some(first) = messages.first() {
            let backend = Choice::of(first.algorithm).for_long(messages.len());
            Self::update_beside_by(backend, messages, data);
        }
    }

    /// The same by `backend`; one by one if it does not serve all of them.
    ///
    /// # Panics
    /// As [`Midway::update_beside`].
    pub fn update_beside_by(backend: Backend, messages: &mut [&mut Self], data: &[&[u8]]) {
        assert_eq!(messages.len(), data.len(), "data for each");
        assert!(data.windows(2).all(|pair| pair[0].len() == pair[1].len()), "as much of each");
        if !messages.iter().all(|message| backend.serves(message.algorithm)) {
            return one_by_one(messages, data);
        }
        let width = width(backend);
        for (messages, data) in messages.chunks_mut(width).zip(data.chunks(width)) {
            match messages {
                [_] => one_by_one(messages, data),
                _ => absorb(backend, messages, data),
            }
        }
    }

    /// The digest, if the message ends behind `rest`.
    ///
    /// # Panics
    /// If it is longer than any file.
    #[must_use]
    pub fn finish(&self, rest: &[u8]) -> Vec<u8> {
        segment(self.algorithm, &self.state, rest, true).expect("a state of ours")
    }
}

fn one_by_one(messages: &mut [&mut Midway], data: &[&[u8]]) {
    messages.iter_mut().zip(data).for_each(|(message, data)| message.update(data));
}

/// How many messages `backend` absorbs at once.
fn width(backend: Backend) -> usize {
    match backend {
        Backend::Portable => 1,
        #[cfg(target_arch = "x86_64")]
        Backend::Avx512X16(_) | Backend::Blake3Avx2X8(_) => 1,
        #[cfg(target_arch = "x86_64")]
        Backend::ShaNiX2(_) => 2,
        // Where there are pairs, 16 lanes are hardly faster, and rarely full.
        #[cfg(target_arch = "x86_64")]
        Backend::Sha256Avx512X16(kernels) => {
            if kernels.pairs().is_some() {
                2
            } else {
                sha256_avx512_x16::LANES
            }
        }
        #[cfg(target_arch = "x86_64")]
        Backend::Sha256Avx2X8(_) => sha256_avx2_x8::LANES,
        #[cfg(target_arch = "x86_64")]
        Backend::Sha512Avx512X8(_) => sha512_avx512_x8::LANES,
        #[cfg(target_arch = "x86_64")]
        Backend::Sha512Avx2X4(_) => sha512_avx2_x4::LANES,
        #[cfg(target_arch = "aarch64")]
        Backend::Sha256Aarch64X2(_) | Backend::Sha512Aarch64X2(_) => 2,
    }
}

/// Absorbs as many whole blocks into each of up to [`width`] messages that `backend` serves.
fn absorb(backend: Backend, messages: &mut [&mut Midway], data: &[&[u8]]) {
    match backend {
        Backend::Portable => one_by_one(messages, data),
        #[cfg(target_arch = "x86_64")]
        Backend::Avx512X16(_) | Backend::Blake3Avx2X8(_) => one_by_one(messages, data),
        #[cfg(target_arch = "x86_64")]
        Backend::ShaNiX2(proof) => beside(messages, data, |columns, blocks| {
            sha_ni_x2::compress_columns(proof, columns, blocks);
        }),
        #[cfg(target_arch = "x86_64")]
        Backend::Sha256Avx512X16(kernels) => match kernels.pairs() {
            Some(proof) => absorb(Backend::ShaNiX2(proof), messages, data),
            None => beside(messages, data, |columns, blocks| {
                sha256_avx512_x16::compress_columns(kernels, columns, blocks);
            }),
        },
        #[cfg(target_arch = "x86_64")]
        Backend::Sha256Avx2X8(proof) => beside(messages, data, |columns, blocks| {
            sha256_avx2_x8::compress_columns(proof, columns, blocks);
        }),
        #[cfg(target_arch = "x86_64")]
        Backend::Sha512Avx512X8(proof) => beside(messages, data, |columns, blocks| {
            sha512_avx512_x8::compress_columns(proof, columns, blocks);
        }),
        #[cfg(target_arch = "x86_64")]
        Backend::Sha512Avx2X4(proof) => beside(messages, data, |columns, blocks| {
            sha512_avx2_x4::compress_columns(proof, columns, blocks);
        }),
        #[cfg(target_arch = "aarch64")]
        Backend::Sha256Aarch64X2(proof) => beside(messages, data, |columns, blocks| {
            sha256_aarch64_x2::compress_columns(proof, columns, blocks);
        }),
        #[cfg(target_arch = "aarch64")]
        Backend::Sha512Aarch64X2(proof) => beside(messages, data, |columns, blocks| {
            sha512_aarch64_x2::compress_columns(proof, columns, blocks);
        }),
    }
}

/// Has `compress` absorb `data` into `messages`, at most `LANES`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn beside<W: Word, const BLOCK_LEN: usize, const LANES: usize>(
    messages: &mut [&mut Midway],
    data: &[&[u8]],
    compress: impl FnOnce(&mut Columns<W, LANES>, &Blocks<'_, BLOCK_LEN, LANES>),
) {
    let mut columns = Columns([[W::default(); LANES]; 8]);
    // A lane without a message reads that of the first.
    let mut blocks = [whole_blocks(data[0]); LANES];
    for (lane, (message, data)) in messages.iter().zip(data).enumerate() {
        columns.set_state(lane, message.words());
        blocks[lane] = whole_blocks(data);
    }
    compress(&mut columns, &blocks);
    for (lane, message) in messages.iter_mut().enumerate() {
        message.advance(
            columns.state(lane),
            blocks[lane].as_flattened().len() as u64,
            BLOCK_LEN as u64,
        );
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn whole_blocks<const BLOCK_LEN: usize>(data: &[u8]) -> &[[u8; BLOCK_LEN]] {
    let (blocks, rest) = data.as_chunks();
    assert!(rest.is_empty(), "whole blocks");
    blocks
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Midway {
    fn words<W: Word>(&self) -> [W; 8] {
        array::from_fn(|i| W::restore(&self.state[i * size_of::<W>()..]))
    }

    /// `len` bytes, of blocks of `block_len`, gave these words.
    fn advance<W: Word>(&mut self, words: [W; 8], len: u64, block_len: u64) {
        let (saved, rest) = self.state.split_at_mut(8 * size_of::<W>());
        for (bytes, word) in saved.chunks_exact_mut(size_of::<W>()).zip(words) {
            word.save(bytes);
        }
        self.len += len;
        // The low half of the counter, or all of it: no file has more blocks.
        rest[..8].copy_from_slice(&(self.len / block_len).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Backend;

    const SHA2: [Algorithm; 5] = [
        Algorithm::Sha224,
        Algorithm::Sha256,
        Algorithm::Sha384,
        Algorithm::Sha512,
        Algorithm::Sha512_256,
    ];

    fn plain(algorithm: Algorithm, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Backend::Portable.hash_many(algorithm, &[data], &mut out);
        out
    }

    #[test]
    fn a_message_goes_on_where_it_was_saved_alone_or_beside_another() {
        let data: Vec<u8> = (0..=250).cycle().take(100_000).collect();
        for algorithm in SHA2 {
            for other in SHA2 {
                let mut a = Midway::new(algorithm).unwrap();
                let mut b = Midway::new(other).unwrap();
                b.update(&data[..1280]);
                let (mut at, mut b_at) = (0, 1280);
                for (step, len) in [128, 0, 256, 12_800, 128, 40_960].into_iter().enumerate() {
                    Midway::update_beside(
                        &mut [&mut a, &mut b],
                        &[&data[at..][..len], &data[b_at..][..len]],
                    );
                    (at, b_at) = (at + len, b_at + len);
                    if step == 2 {
                        a.update(&data[at..][..384]);
                        at += 384;
                    }
                    for (midway, algorithm, at) in [(&mut a, algorithm, at), (&mut b, other, b_at)]
                    {
                        assert_eq!(midway.len(), at as u64);
                        *midway = Midway::restore(algorithm, &midway.save()).unwrap();
                        let rest = &data[at..at + step * 77];
                        let want = plain(algorithm, &data[..at + step * 77]);
                        assert_eq!(midway.finish(rest), want, "{algorithm} beside {other}, {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_backend_absorbs_as_many_messages_as_it_is_given() {
        let data: Vec<u8> = (0..=250).cycle().take(40_000).collect();
        for &backend in Backend::available() {
            for algorithm in SHA2.into_iter().filter(|algorithm| backend.serves(*algorithm)) {
                for count in 2..=width(backend) {
                    let mut messages: Vec<Midway> = (0..count)
                        .map(|i| {
                            let mut midway = Midway::new(algorithm).unwrap();
                            midway.update(&data[..i * 128]);
                            midway
                        })
                        .collect();
                    for len in [128, 0, 1280, 4096] {
                        let next: Vec<&[u8]> = messages
                            .iter()
                            .map(|midway| &data[usize::try_from(midway.len()).unwrap()..][..len])
                            .collect();
                        absorb(backend, &mut messages.iter_mut().collect::<Vec<_>>(), &next);
                    }
                    for (i, midway) in messages.iter().enumerate() {
                        let len = i * 128 + 128 + 1280 + 4096;
                        let name = backend.name();
                        let is = format!("{algorithm}, message {i} of {count} by {name}");
                        assert_eq!(midway.len(), len as u64, "{is}");
                        let mut alone = Midway::new(algorithm).unwrap();
                        alone.update(&data[..len]);
                        assert_eq!(midway.save(), alone.save(), "{is}");
                        let want = plain(algorithm, &data[..len + i]);
                        assert_eq!(midway.finish(&data[len..len + i]), want, "{is}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_state_says_how_many_bytes_it_is_and_a_bad_one_is_refused() {
        for algorithm in SHA2 {
            let mut midway = Midway::new(algorithm).unwrap();
            midway.update(&[1; 1280]);
            let state = midway.save();
            assert_eq!(Midway::restore(algorithm, &state).unwrap().len(), 1280);
            assert_eq!(Midway::restore(algorithm, &state[1..]), None);
            assert_eq!(Midway::restore(algorithm, &[]), None);
            assert_eq!(Midway::restore(algorithm, &vec![0xff; state.len()]), None);
        }
        assert_eq!(Midway::new(Algorithm::Blake3), None);
    }

    #[test]
    #[should_panic(expected = "as much of each")]
    fn unequal_lengths_are_a_bug() {
        let [mut a, mut b] = [Algorithm::Sha256; 2].map(|a| Midway::new(a).unwrap());
        Midway::update_beside(&mut [&mut a, &mut b], &[&[0; 128], &[0; 256]]);
    }
}
