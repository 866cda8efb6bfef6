#![expect(unsafe_code, reason = "instructions that a processor may be said not to have")]
//! The lane kernels of 64-bit ARM. SHA-256 is for processors without its instructions.

use super::md5_rounds::K_MD5;
use super::sha1_rounds::K_SHA1;
use super::{Row, each_block, neon, row as lanes_row};
use crate::hash::lanes::{Blocks, Columns};
use crate::hash::merkle_damgard::{BLOCK_LEN_32, K_256};
use crate::hash::portable::compress_32;
use ipc_proto::Family;
use std::arch::aarch64::uint32x4_t;

lane_kernel! {
    /// SHA-256 and SHA-224 by NEON, four messages at once.
    sha256_neon_x4: Sha256, neon::Neon, words32,
    [[u32; BLOCK_LEN_32]; 4], compress_32(Family::Sha256),
    sha2_rounds! {
        "neon", uint32x4_t, u32, K_256,
        load: |blocks| words::load_big_endian(blocks),
        big_sigma_0: [2, 13, 22], big_sigma_1: [6, 11, 25],
        small_sigma_0: [7, 18, 3], small_sigma_1: [17, 19, 10],
    }
}

lane_kernel! {
    /// MD5 by NEON, four messages at once.
    md5_neon_x4: Md5, neon::Neon, words32,
    [[u32; BLOCK_LEN_32]; 4], compress_32(Family::Md5),
    md5_rounds! { "neon", uint32x4_t }
}

lane_kernel! {
    /// SHA-1 by NEON, four messages at once.
    sha1_neon_x4: Sha1, neon::Neon, words32,
    [[u32; BLOCK_LEN_32]; 4], compress_32(Family::Sha1),
    sha1_rounds! { "neon", uint32x4_t }
}
