#![expect(unsafe_code, reason = "loads and stores by pointer")]
//! AVX2, as the kernels use it: the proof that it is there, and vectors of words of 32 and 64 bits.

use super::vector::Integers;
use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256, _mm256_blendv_epi8,
    _mm256_cmpeq_epi32, _mm256_cmpgt_epi32, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_setr_epi8,
    _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_slli_epi64, _mm256_srli_epi32,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

proof! {
    /// Proof that AVX2 was detected; only `detect` makes one.
    Avx2: Avx2
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load<T: Integers>(from: &T) -> __m256i {
    const { assert!(size_of::<T>() == 32) }
    // SAFETY: `T` is 32 bytes that can be read, at any alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store<T: Integers>(to: &mut T, vector: __m256i) {
    const { assert!(size_of::<T>() == 32) }
    // SAFETY: `T` is 32 bytes that can be written, at any alignment.
    unsafe { _mm256_storeu_si256(std::ptr::from_mut(to).cast(), vector) }
}

/// The bits of `y` where `x` has ones, else those of `z`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn choose(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(y, z), x), z)
}

/// The bits that at least two have. The next round of SHA-2 has `x` and `y` for `y` and `z`: of the
/// differences, the compiler keeps the first for it.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn majority(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    let (xy, yz) = (_mm256_xor_si256(x, y), _mm256_xor_si256(y, z));
    _mm256_xor_si256(_mm256_and_si256(xy, yz), y)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn xor(x: __m256i, y: __m256i) -> __m256i {
    _mm256_xor_si256(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn xor3(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(x, y), z)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn and(x: __m256i, y: __m256i) -> __m256i {
    _mm256_and_si256(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn or(x: __m256i, y: __m256i) -> __m256i {
    _mm256_or_si256(x, y)
}

/// The words of `y` where those of `mask` are all ones, those of `z` where they are zero.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn select(mask: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_blendv_epi8(z, y, mask)
}

/// All ones in the words of 32 bits that are equal, else zero.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn is_equal(x: __m256i, y: __m256i) -> __m256i {
    _mm256_cmpeq_epi32(x, y)
}

/// All ones in the words of 32 bits of `x` that are greater, as signed numbers, else zero.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn is_greater(x: __m256i, y: __m256i) -> __m256i {
    _mm256_cmpgt_epi32(x, y)
}

/// The operations that differ in the length of a word only.
macro_rules! operations {
    ($word:ty, $bits:literal, $set1:ident, $add:ident, $shift_right:ident) => {
        pub(in super::super) use super::{choose, majority, xor3};

        pub(in super::super) const BITS: i32 = $bits;

        #[inline]
        #[target_feature(enable = "avx2")]
        pub(in super::super) fn splat(word: $word) -> __m256i {
            $set1(word.cast_signed())
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        pub(in super::super) fn add(x: __m256i, y: __m256i) -> __m256i {
            $add(x, y)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        pub(in super::super) fn shift_right<const BITS: i32>(x: __m256i) -> __m256i {
            $shift_right::<BITS>(x)
        }
    };
}

/// The low halves of both operands.
const LOW: i32 = 0x20;

/// The high halves of both operands.
const HIGH: i32 = 0x31;

/// Vectors of eight words of 32 bits.
pub(super) mod words32 {
    use super::*;

    pub(in super::super) use super::{and, is_equal, is_greater, or, select, xor};

    operations!(u32, 32, _mm256_set1_epi32, _mm256_add_epi32, _mm256_srli_epi32);

    /// Rotates each word right by `RIGHT` bits, which is left by `LEFT`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn rotate_right<const RIGHT: i32, const LEFT: i32>(x: __m256i) -> __m256i {
        const { assert!(RIGHT + LEFT == BITS) }
        _mm256_xor_si256(_mm256_srli_epi32::<RIGHT>(x), _mm256_slli_epi32::<LEFT>(x))
    }

    /// The 16 words of each block, the least significant byte first.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn load_little_endian(blocks: &[&[u8; 64]; 8]) -> [__m256i; 16] {
        load_words::<false>(blocks)
    }

    /// The same, the most significant byte first.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn load_big_endian(blocks: &[&[u8; 64]; 8]) -> [__m256i; 16] {
        load_words::<true>(blocks)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_words<const IS_BIG_ENDIAN: bool>(blocks: &[&[u8; 64]; 8]) -> [__m256i; 16] {
        let big_endian = _mm256_setr_epi8(
            3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, //
            3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12,
        );
        let mut words = [big_endian; 16];
        for (half, words) in words.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *words = transpose(blocks.map(|block| load(&block.as_chunks::<32>().0[half])));
            if IS_BIG_ENDIAN {
                *words = words.map(|column| _mm256_shuffle_epi8(column, big_endian));
            }
        }
        words
    }

    /// Turns 8 rows of 8 words into columns.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn transpose(
        [r0, r1, r2, r3, r4, r5, r6, r7]: [__m256i; 8],
    ) -> [__m256i; 8] {
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
}

/// Vectors of four words of 64 bits.
pub(super) mod words64 {
    use super::*;

    operations!(u64, 64, _mm256_set1_epi64x, _mm256_add_epi64, _mm256_srli_epi64);

    /// Rotates each word right by `RIGHT` bits, which is left by `LEFT`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn rotate_right<const RIGHT: i32, const LEFT: i32>(x: __m256i) -> __m256i {
        const { assert!(RIGHT + LEFT == BITS) }
        if RIGHT == 8 {
            // One instruction instead of three.
            let bytes = _mm256_setr_epi8(
                1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 8, //
                1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 8,
            );
            return _mm256_shuffle_epi8(x, bytes);
        }
        _mm256_xor_si256(_mm256_srli_epi64::<RIGHT>(x), _mm256_slli_epi64::<LEFT>(x))
    }

    /// The 16 words of each block, the most significant byte first.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn load_big_endian(blocks: &[&[u8; 128]; 4]) -> [__m256i; 16] {
        let big_endian = _mm256_setr_epi8(
            7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8, //
            7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8,
        );
        let mut words = [big_endian; 16];
        for (quarter, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let rows = blocks.map(|block| load(&block.as_chunks::<32>().0[quarter]));
            *words = transpose(rows).map(|column| _mm256_shuffle_epi8(column, big_endian));
        }
        words
    }

    /// Turns 4 rows of 4 words into columns.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose([r0, r1, r2, r3]: [__m256i; 4]) -> [__m256i; 4] {
        let (even_a, odd_a) = (_mm256_unpacklo_epi64(r0, r1), _mm256_unpackhi_epi64(r0, r1));
        let (even_b, odd_b) = (_mm256_unpacklo_epi64(r2, r3), _mm256_unpackhi_epi64(r2, r3));
        [
            _mm256_permute2x128_si256::<LOW>(even_a, even_b),
            _mm256_permute2x128_si256::<LOW>(odd_a, odd_b),
            _mm256_permute2x128_si256::<HIGH>(even_a, even_b),
            _mm256_permute2x128_si256::<HIGH>(odd_a, odd_b),
        ]
    }
}
