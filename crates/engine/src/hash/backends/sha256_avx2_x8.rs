#![expect(unsafe_code, reason = "instructions that not every processor has")]
//! SHA-256 and SHA-224 by AVX2, eight messages at once.

use super::avx2::{Avx2, load, store, words32 as words};
use super::{Row, each_block, row as lanes_row};
use crate::hash::lanes::{Blocks, Columns};
use crate::hash::merkle_damgard::{BLOCK_LEN_32, K_256};
use crate::hash::portable::compress_32;
use ipc_proto::Family;
use std::arch::x86_64::__m256i;

const LANES: usize = 8;

type Block = [u8; BLOCK_LEN_32];

pub(super) fn row(_proof: Avx2) -> Row {
    let compress = move |columns: &mut Columns<u32, LANES>, blocks: &Blocks<'_, _, LANES>| {
        // SAFETY: an `Avx2` exists only after `detect` saw every feature that is enabled below.
        each_block(columns, blocks, |columns, blocks| unsafe { compress_block(columns, blocks) });
    };
    lanes_row("sha256_avx2_x8", Family::Sha256, compress, compress_32(Family::Sha256))
}

sha2_rounds! {
    "avx2", __m256i, u32, K_256,
    load: |blocks| words::load_big_endian(blocks),
    big_sigma_0: [2, 13, 22], big_sigma_1: [6, 11, 25],
    small_sigma_0: [7, 18, 3], small_sigma_1: [17, 19, 10],
}
