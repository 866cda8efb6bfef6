#![expect(unsafe_code, reason = "instructions that not every processor has")]
//! SHA-512, SHA-384 and SHA-512/256 by AVX-512, eight messages at once.

use super::avx512::{Avx512, load, store, words64 as words};
use super::{Row, each_block, row as lanes_row};
use crate::hash::lanes::{Blocks, Columns};
use crate::hash::merkle_damgard::{BLOCK_LEN_64, K_512};
use crate::hash::portable::compress_64;
use ipc_proto::Family;
use std::arch::x86_64::__m512i;

const LANES: usize = 8;

type Block = [u8; BLOCK_LEN_64];

pub(super) fn row(_proof: Avx512) -> Row {
    let compress = move |columns: &mut Columns<u64, LANES>, blocks: &Blocks<'_, _, LANES>| {
        // SAFETY: an `Avx512` exists only after `detect` saw every feature that is enabled below.
        each_block(columns, blocks, |columns, blocks| unsafe { compress_block(columns, blocks) });
    };
    lanes_row("sha512_avx512_x8", Family::Sha512, compress, compress_64)
}

sha2_rounds! {
    "avx512f,avx512bw", __m512i, u64, K_512,
    load: |blocks| words::load_big_endian(blocks),
    big_sigma_0: [28, 34, 39], big_sigma_1: [14, 18, 41],
    small_sigma_0: [1, 8, 7], small_sigma_1: [19, 61, 6],
}
