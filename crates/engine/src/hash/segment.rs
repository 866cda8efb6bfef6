//! SHA-2 of a stream, one segment after the other, each on any worker: the state in between is
//! what `sha2` saves, at a block border.
//!
//! A state is the eight words of the hash (little-endian), the number of blocks absorbed, and the
//! saved buffer, which holds nothing and so is all zeroes. It comes from a peer: whatever else it
//! says is refused, because the library counts blocks without looking for an overflow.

use ipc_proto::Algorithm;
use ipc_proto::limits::SEGMENT_ALIGN;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_256};

/// Most blocks that a state may have absorbed: 2^60 bytes of SHA-256, whose length in bits, with a
/// segment more, still fits its 64-bit counter.
const BLOCKS_MAX: u128 = 1 << 54;

/// Words of the hash in a state.
const WORDS: usize = 8;

/// Absorbs `data` into `state`, which is empty for the first segment. Gives the next state or, after
/// the `last` segment, the digest; `None` if the state is none of ours, a segment that is not the
/// last is not whole blocks, or the algorithm is not of the SHA-2 family.
#[must_use]
pub fn segment(algorithm: Algorithm, state: &[u8], data: &[u8], last: bool) -> Option<Vec<u8>> {
    if !last && !data.len().is_multiple_of(SEGMENT_ALIGN) {
        return None;
    }
    match algorithm {
        Algorithm::Sha224 => step::<Sha224, 4>(state, data, last),
        Algorithm::Sha256 => step::<Sha256, 4>(state, data, last),
        Algorithm::Sha384 => step::<Sha384, 8>(state, data, last),
        Algorithm::Sha512 => step::<Sha512, 8>(state, data, last),
        Algorithm::Sha512_256 => step::<Sha512_256, 8>(state, data, last),
        Algorithm::Blake3 => None,
    }
}

fn step<D, const WORD_LEN: usize>(state: &[u8], data: &[u8], last: bool) -> Option<Vec<u8>>
where
    D: Digest + SerializableState,
{
    let mut hasher = if state.is_empty() { D::new() } else { restore::<D, WORD_LEN>(state)? };
    hasher.update(data);
    Some(if last { hasher.finalize().to_vec() } else { hasher.serialize().to_vec() })
}

/// How many bytes are absorbed into `state`; `None` if it is none of ours.
pub(super) fn absorbed_len(algorithm: Algorithm, state: &[u8]) -> Option<u64> {
    let blocks = match algorithm {
        Algorithm::Sha224 => blocks::<Sha224, 4>(state),
        Algorithm::Sha256 => blocks::<Sha256, 4>(state),
        Algorithm::Sha384 => blocks::<Sha384, 8>(state),
        Algorithm::Sha512 => blocks::<Sha512, 8>(state),
        Algorithm::Sha512_256 => blocks::<Sha512_256, 8>(state),
        Algorithm::Blake3 => None,
    };
    let block_len = match algorithm {
        Algorithm::Sha224 | Algorithm::Sha256 => 64,
        Algorithm::Sha384 | Algorithm::Sha512 | Algorithm::Sha512_256 | Algorithm::Blake3 => 128,
    };
    u64::try_from(blocks? * block_len).ok()
}

fn restore<D: SerializableState, const WORD_LEN: usize>(state: &[u8]) -> Option<D> {
    blocks::<D, WORD_LEN>(state)?;
    D::deserialize(<&SerializedState<D>>::try_from(state).ok()?).ok()
}

/// How many blocks are absorbed into `state`.
fn blocks<D: SerializableState, const WORD_LEN: usize>(state: &[u8]) -> Option<u128> {
    let saved = <&SerializedState<D>>::try_from(state).ok()?;
    // The counter is twice as long as a word.
    let (blocks, buffer) = saved[WORDS * WORD_LEN..].split_at(2 * WORD_LEN);
    let blocks = blocks.iter().rev().fold(0, |sum, &byte| sum << 8 | u128::from(byte));
    let is_ours = blocks <= BLOCKS_MAX && buffer.iter().all(|&byte| byte == 0);
    is_ours.then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Backend;
    use ipc_proto::limits::STATE_LEN_MAX;
    use std::hash::{BuildHasher, RandomState};

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

    /// Marsaglia's xorshift64.
    fn next(seed: &mut u64) -> usize {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        usize::try_from(*seed >> 33).unwrap()
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a random test prints its seed")]
    fn a_chain_of_segments_gives_the_plain_digest() {
        let mut seed = RandomState::new().hash_one(0) | 1;
        println!("seed {seed}");
        let data: Vec<u8> = (0..=250).cycle().take(20_000).collect();
        for algorithm in SHA2 {
            for _ in 0..200 {
                let input = &data[..next(&mut seed) % data.len()];
                let mut state = Vec::new();
                let mut rest = input;
                while !next(&mut seed).is_multiple_of(8) {
                    let blocks = rest.len() / SEGMENT_ALIGN;
                    let (head, tail) =
                        rest.split_at(next(&mut seed) % (blocks + 1) * SEGMENT_ALIGN);
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
    fn a_state_of_another_length_is_refused() {
        for algorithm in SHA2 {
            let good = segment(algorithm, &[], &[1; 256], false).unwrap();
            for len in (1..=STATE_LEN_MAX).filter(|&len| len != good.len()) {
                let mut state = good.clone();
                state.resize(len, 0);
                assert_eq!(segment(algorithm, &state, b"", true), None, "{algorithm}, {len}");
            }
        }
    }

    #[test]
    fn a_state_that_would_overflow_or_hides_bytes_is_refused() {
        for algorithm in SHA2 {
            let good = segment(algorithm, &[], &[1; 256], false).unwrap();
            let word_len = if good.len() < 128 { 4 } else { 8 };
            let (counter, buffer) = (8 * word_len, 10 * word_len);
            let mut full = good.clone();
            full[counter..buffer].fill(0xff);
            for last in [false, true] {
                assert_eq!(segment(algorithm, &full, &[0; 128], last), None, "{algorithm}");
            }
            for i in buffer..good.len() {
                let mut hiding = good.clone();
                hiding[i] = 1;
                assert_eq!(segment(algorithm, &hiding, b"x", true), None, "{algorithm}, byte {i}");
            }
        }
    }

    #[test]
    fn a_ragged_segment_in_the_middle_is_refused() {
        assert_eq!(segment(Algorithm::Sha256, &[], &[0; 64], false), None);
        assert_eq!(segment(Algorithm::Sha512, &[], &[0; 1], false), None);
    }

    #[test]
    fn blake3_has_no_segments() {
        assert_eq!(segment(Algorithm::Blake3, &[], b"", true), None);
    }
}
