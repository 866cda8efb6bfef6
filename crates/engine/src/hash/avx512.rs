//! What backends with AVX-512 share: the proof that it is there, and turning rows into columns.

use super::cpu::{Cpu, Feature};
use std::arch::x86_64::{
    __m512i, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

/// Proof that AVX-512 was detected; only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// What a function with `target_feature` may enable where there is a proof.
    const FEATURES: &[Feature] = &[Feature::Avx512f, Feature::Avx512bw];

    pub(super) fn detect(cpu: &Cpu) -> Option<Self> {
        cpu.has(Self::FEATURES).then_some(Self(()))
    }
}

/// Turns 16 rows of 16 words into columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    // In each quarter of `quads[q][i]`: word `i` of that quarter of rows `4q` to `4q + 3`.
    let mut quads = [[_mm512_setzero_si512(); 4]; 4];
    for (quad, rows) in quads.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [r0, r1, r2, r3] = *rows;
        let (low_a, high_a) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
        let (low_b, high_b) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
        *quad = [
            _mm512_unpacklo_epi64(low_a, low_b),
            _mm512_unpackhi_epi64(low_a, low_b),
            _mm512_unpacklo_epi64(high_a, high_b),
            _mm512_unpackhi_epi64(high_a, high_b),
        ];
    }
    let mut columns = rows;
    for i in 0..4 {
        let [q0, q1, q2, q3] = [quads[0][i], quads[1][i], quads[2][i], quads[3][i]];
        let even_a = _mm512_shuffle_i32x4::<EVEN>(q0, q1);
        let even_b = _mm512_shuffle_i32x4::<EVEN>(q2, q3);
        let odd_a = _mm512_shuffle_i32x4::<ODD>(q0, q1);
        let odd_b = _mm512_shuffle_i32x4::<ODD>(q2, q3);
        columns[i] = _mm512_shuffle_i32x4::<EVEN>(even_a, even_b);
        columns[i + 4] = _mm512_shuffle_i32x4::<EVEN>(odd_a, odd_b);
        columns[i + 8] = _mm512_shuffle_i32x4::<ODD>(even_a, even_b);
        columns[i + 12] = _mm512_shuffle_i32x4::<ODD>(odd_a, odd_b);
    }
    columns
}

/// Quarters 0 and 2 of both operands.
const EVEN: i32 = 0b10_00_10_00;

/// Quarters 1 and 3 of both operands.
const ODD: i32 = 0b11_01_11_01;
