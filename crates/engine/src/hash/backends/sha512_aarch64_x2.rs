#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-512, SHA-384 and SHA-512/256 (FIPS 180-4) by the SHA512 instructions of ARMv8.2, two messages at
//! once.

use super::{Row, row as lanes_row};
use crate::hash::lanes::{Blocks, Columns};
use crate::hash::merkle_damgard::{BLOCK_LEN_64 as BLOCK_LEN, K_512};
use crate::hash::portable::compress_64;
use ipc_proto::Family;
use std::arch::aarch64::{
    uint64x2_t, vaddq_u64, vextq_u64, vld1q_u8, vld1q_u64, vreinterpretq_u64_u8, vrev64q_u8,
    vsha512h2q_u64, vsha512hq_u64, vsha512su0q_u64, vsha512su1q_u64, vst1q_u64,
};
use std::array;

proof! {
    /// Proof that the SHA512 instructions were detected; only `detect` makes one. The standard library
    /// has no feature for these instructions alone: it means them and those of SHA-3 by `sha3`.
    Sha3: Sha3
}

aarch64_pairs! {
    "sha512_aarch64_x2": Sha512, Sha3, "sha3", compress_64,
    [u64; 2], [uint64x2_t; 4], K_512,
    vaddq_u64, vld1q_u64, vst1q_u64, |bytes| vreinterpretq_u64_u8(vrev64q_u8(bytes))
}

/// Does 16 rounds and, to `EXTEND`, replaces `words` by the 16 that follow (FIPS 180-4, 6.4.2).
#[inline]
#[target_feature(enable = "sha3")]
fn rounds<const EXTEND: bool>(
    hash: &mut [[uint64x2_t; 4]; LANES],
    words: &mut [[uint64x2_t; 8]; LANES],
    constants: &[u64; 16],
) {
    let (constants, _) = constants.as_chunks::<2>();
    for pair in 0..8 {
        for (hash, words) in hash.iter_mut().zip(&mut *words) {
            let [w0, w2, w8, w10, w14] = [0, 1, 4, 5, 7].map(|i| words[(pair + i) % 8]);
            let [ab, cd, ef, gh] = *hash;
            let sum = vaddq_u64(w0, load(&constants[pair]));
            // The first of two rounds takes the upper words: h, and what belongs to it.
            let sum = vaddq_u64(vextq_u64::<1>(sum, sum), gh);
            // T1 (section 6.4.2) of both rounds.
            let t1 = vsha512hq_u64(sum, vextq_u64::<1>(ef, gh), vextq_u64::<1>(cd, ef));
            *hash = [vsha512h2q_u64(t1, cd, ab), ab, vaddq_u64(cd, t1), ef];
            if EXTEND {
                let sum = vsha512su0q_u64(w0, w2);
                words[pair] = vsha512su1q_u64(sum, w14, vextq_u64::<1>(w8, w10));
            }
        }
    }
}
