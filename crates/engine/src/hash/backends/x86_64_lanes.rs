#![expect(unsafe_code, reason = "instructions that not every processor has")]
//! The lane kernels of x86-64.

use super::md5_rounds::K_MD5;
use super::sha1_rounds::K_SHA1;
use super::{Row, avx2, avx512, each_block, row as lanes_row};
use crate::hash::lanes::{Blocks, Columns};
use crate::hash::merkle_damgard::{BLOCK_LEN_32, BLOCK_LEN_64, K_256, K_512};
use crate::hash::portable::{compress_32, compress_64};
use ipc_proto::Family;
use std::arch::x86_64::{__m256i, __m512i};

lane_kernel! {
    /// SHA-256 and SHA-224 by AVX2, eight messages at once.
    sha256_avx2_x8: Sha256, avx2::Avx2, words32,
    [[u32; BLOCK_LEN_32]; 8], compress_32(Family::Sha256),
    sha2_rounds! {
        "avx2", __m256i, u32, K_256,
        load: |blocks| words::load_big_endian(blocks),
        big_sigma_0: [2, 13, 22], big_sigma_1: [6, 11, 25],
        small_sigma_0: [7, 18, 3], small_sigma_1: [17, 19, 10],
    }
}

lane_kernel! {
    /// SHA-512, SHA-384 and SHA-512/256 by AVX2, four messages at once.
    sha512_avx2_x4: Sha512, avx2::Avx2, words64,
    [[u64; BLOCK_LEN_64]; 4], compress_64,
    sha2_rounds! {
        "avx2", __m256i, u64, K_512,
        load: |blocks| words::load_big_endian(blocks),
        big_sigma_0: [28, 34, 39], big_sigma_1: [14, 18, 41],
        small_sigma_0: [1, 8, 7], small_sigma_1: [19, 61, 6],
    }
}

lane_kernel! {
    /// SHA-512, SHA-384 and SHA-512/256 by AVX-512, eight messages at once.
    sha512_avx512_x8: Sha512, avx512::Avx512, words64,
    [[u64; BLOCK_LEN_64]; 8], compress_64,
    sha2_rounds! {
        "avx512f,avx512bw", __m512i, u64, K_512,
        load: |blocks| words::load_big_endian(blocks),
        big_sigma_0: [28, 34, 39], big_sigma_1: [14, 18, 41],
        small_sigma_0: [1, 8, 7], small_sigma_1: [19, 61, 6],
    }
}

lane_kernel! {
    /// MD5 by AVX2, eight messages at once.
    md5_avx2_x8: Md5, avx2::Avx2, words32,
    [[u32; BLOCK_LEN_32]; 8], compress_32(Family::Md5),
    md5_rounds! { "avx2", __m256i }
}

lane_kernel! {
    /// MD5 by AVX-512, 16 messages at once.
    md5_avx512_x16: Md5, avx512::Avx512, words32,
    [[u32; BLOCK_LEN_32]; 16], compress_32(Family::Md5),
    md5_rounds! { "avx512f,avx512bw", __m512i }
}

lane_kernel! {
    /// SHA-1 by AVX2, eight messages at once.
    sha1_avx2_x8: Sha1, avx2::Avx2, words32,
    [[u32; BLOCK_LEN_32]; 8], compress_32(Family::Sha1),
    sha1_rounds! { "avx2", __m256i }
}

lane_kernel! {
    /// SHA-1 by AVX-512, 16 messages at once.
    sha1_avx512_x16: Sha1, avx512::Avx512, words32,
    [[u32; BLOCK_LEN_32]; 16], compress_32(Family::Sha1),
    sha1_rounds! { "avx512f,avx512bw", __m512i }
}
