//! SHA-2 in the middle of a message: at a block border, where one worker can leave it and another go
//! on, and where it can be hashed beside another one.
//!
//! What is kept is what `segment` takes and gives. A kernel that hashes two messages at once gets the
//! eight words of each, and how many blocks they are is added here.

#[cfg(target_arch = "x86_64")]
use super::lanes::Columns;
use super::segment::{absorbed_len, segment};
#[cfg(target_arch = "x86_64")]
use super::{Choice, ShaNi, sha_ni_x2};
use ipc_proto::Algorithm;

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

    /// Absorbs as many bytes of `data` into each message, beside each other where a kernel is faster
    /// that way.
    ///
    /// # Panics
    /// If the lengths differ, or as [`Midway::update`].
    pub fn update_pair(both: [&mut Self; 2], data: [&[u8]; 2]) {
        assert_eq!(data[0].len(), data[1].len(), "as much of each");
        let [a, b] = both;
        #[cfg(target_arch = "x86_64")]
        if let (Some(proof), Some(_)) =
            (Choice::of(a.algorithm).pairs(), Choice::of(b.algorithm).pairs())
        {
            return update_beside(proof, [a, b], data);
        }
        a.update(data[0]);
        b.update(data[1]);
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

/// Bytes of the words of a SHA-256 state; how many blocks they are follows.
#[cfg(target_arch = "x86_64")]
const WORDS_LEN: usize = 32;

#[cfg(target_arch = "x86_64")]
fn update_beside(proof: ShaNi, both: [&mut Midway; 2], data: [&[u8]; 2]) {
    let (one, other) = (data[0].as_chunks(), data[1].as_chunks());
    assert!(one.1.is_empty() && other.1.is_empty(), "whole blocks");
    let mut columns = Columns([[0; 2]; 8]);
    for (lane, midway) in both.iter().enumerate() {
        let (words, _) = midway.state[..WORDS_LEN].as_chunks();
        let words: &[[u8; 4]; 8] = words.try_into().expect("eight words");
        columns.set_state(lane, words.map(u32::from_le_bytes));
    }
    sha_ni_x2::compress_columns(proof, &mut columns, &[one.0, other.0]);
    for (lane, midway) in both.into_iter().enumerate() {
        let words = columns.state(lane).map(u32::to_le_bytes);
        midway.state[..WORDS_LEN].copy_from_slice(words.as_flattened());
        midway.len += data[lane].len() as u64;
        let blocks = midway.len / sha_ni_x2::BLOCK_LEN as u64;
        midway.state[WORDS_LEN..][..8].copy_from_slice(&blocks.to_le_bytes());
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
                    Midway::update_pair(
                        [&mut a, &mut b],
                        [&data[at..][..len], &data[b_at..][..len]],
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
        Midway::update_pair([&mut a, &mut b], [&[0; 128], &[0; 256]]);
    }
}
