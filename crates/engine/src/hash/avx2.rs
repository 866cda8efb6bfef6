//! What backends with AVX2 share: the proof that it is there, and turning rows into columns.

use super::cpu::{Cpu, Feature};
use std::arch::x86_64::{
    __m256i, _mm256_permute2x128_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

/// Proof that AVX2 was detected; only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// What a function with `target_feature` may enable where there is a proof.
    const FEATURES: &[Feature] = &[Feature::Avx2];

    pub(super) fn detect(cpu: &Cpu) -> Option<Self> {
        cpu.has(Self::FEATURES).then_some(Self(()))
    }
}

/// Turns 8 rows of 8 words into columns.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose([r0, r1, r2, r3, r4, r5, r6, r7]: [__m256i; 8]) -> [__m256i; 8] {
    // In each half of `a[i]`: word `i` of that half of the first four rows; `b`: of the others.
    let (a, b) = (transpose_halves([r0, r1, r2, r3]), transpose_halves([r4, r5, r6, r7]));
    let mut columns = [r0; 8];
    for i in 0..4 {
        columns[i] = _mm256_permute2x128_si256::<LOW>(a[i], b[i]);
        columns[i + 4] = _mm256_permute2x128_si256::<HIGH>(a[i], b[i]);
    }
    columns
}

/// Turns 4 rows of 4 words into columns, in each half for itself.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_halves([r0, r1, r2, r3]: [__m256i; 4]) -> [__m256i; 4] {
    let (low_a, high_a) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
    let (low_b, high_b) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
    [
        _mm256_unpacklo_epi64(low_a, low_b),
        _mm256_unpackhi_epi64(low_a, low_b),
        _mm256_unpacklo_epi64(high_a, high_b),
        _mm256_unpackhi_epi64(high_a, high_b),
    ]
}

/// The low halves of both operands.
const LOW: i32 = 0x20;

/// The high halves of both operands.
const HIGH: i32 = 0x31;
