#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! SHA-256 and SHA-224 (FIPS 180-4) by the SHA2 instructions of ARMv8, two messages at once. Of both,
//! hash and words fit in the 32 registers.

use super::{Row, row as lanes_row};
use crate::hash::lanes::{Blocks, Columns};
use crate::hash::merkle_damgard::{BLOCK_LEN_32 as BLOCK_LEN, K_256};
use crate::hash::portable::compress_32;
use ipc_proto::Family;
use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vld1q_u8, vld1q_u32, vreinterpretq_u32_u8, vrev32q_u8, vsha256h2q_u32,
    vsha256hq_u32, vsha256su0q_u32, vsha256su1q_u32, vst1q_u32,
};
use std::array;

proof! {
    /// Proof that the SHA2 instructions were detected; only `detect` makes one.
    Sha2: Sha2
}

aarch64_pairs! {
    "sha256_aarch64_x2": Sha256, Sha2, "sha2", compress_32(Family::Sha256),
    [u32; 4], [uint32x4_t; 2], K_256,
    vaddq_u32, vld1q_u32, vst1q_u32, |bytes| vreinterpretq_u32_u8(vrev32q_u8(bytes))
}

/// Does 16 rounds and, to `EXTEND`, replaces `words` by the 16 that follow (FIPS 180-4, 6.2.2).
#[inline]
#[target_feature(enable = "sha2")]
fn rounds<const EXTEND: bool>(
    hash: &mut [[uint32x4_t; 2]; LANES],
    words: &mut [[uint32x4_t; 4]; LANES],
    constants: &[u32; 16],
) {
    let (constants, _) = constants.as_chunks::<4>();
    for quad in 0..4 {
        for ([abcd, efgh], words) in hash.iter_mut().zip(&mut *words) {
            let [w0, w4, w8, w12] = [0, 1, 2, 3].map(|i| words[(quad + i) % 4]);
            let sum = vaddq_u32(w0, load(&constants[quad]));
            let before = *abcd;
            *abcd = vsha256hq_u32(before, *efgh, sum);
            *efgh = vsha256h2q_u32(*efgh, before, sum);
            if EXTEND {
                words[quad] = vsha256su1q_u32(vsha256su0q_u32(w0, w4), w8, w12);
            }
        }
    }
}
