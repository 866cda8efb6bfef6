#![expect(unsafe_code, reason = "loads and stores by pointer")]
//! AVX-512, as the kernels use it: the proof that it is there, and vectors of words of 32 and 64 bits.

use super::vector::Integers;
use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_add_epi64, _mm512_loadu_si512, _mm512_ror_epi32,
    _mm512_ror_epi64, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_set4_epi32,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_shuffle_i64x2,
    _mm512_srli_epi32, _mm512_srli_epi64, _mm512_storeu_si512, _mm512_ternarylogic_epi32,
    _mm512_ternarylogic_epi64, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

proof! {
    /// Proof that AVX-512 was detected; only `detect` makes one.
    Avx512: Avx512f, Avx512bw
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load<T: Integers>(from: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) }
    // SAFETY: `T` is 64 bytes that can be read, at any alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store<T: Integers>(to: &mut T, vector: __m512i) {
    const { assert!(size_of::<T>() == 64) }
    // SAFETY: `T` is 64 bytes that can be written, at any alignment.
    unsafe { _mm512_storeu_si512(std::ptr::from_mut(to).cast(), vector) }
}

/// Three operands xor-ed, as `vpternlog` numbers its functions.
const XOR: i32 = 0x96;

/// The second operand where the first has ones, else the third.
const CHOOSE: i32 = 0xca;

/// The bits that at least two of the operands have.
const MAJORITY: i32 = 0xe8;

/// Quarters 0 and 2 of both operands.
const EVEN: i32 = 0b10_00_10_00;

/// Quarters 1 and 3 of both operands.
const ODD: i32 = 0b11_01_11_01;

/// The operations that differ in the length of a word only.
macro_rules! operations {
    (
        $word:ty, $bits:literal, $set1:ident, $add:ident, $shift_right:ident, $rotate_right:ident,
        $ternary_logic:ident
    ) => {
        pub(in super::super) const BITS: i32 = $bits;

        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn splat(word: $word) -> __m512i {
            $set1(word.cast_signed())
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn add(x: __m512i, y: __m512i) -> __m512i {
            $add(x, y)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn shift_right<const BITS: u32>(x: __m512i) -> __m512i {
            $shift_right::<BITS>(x)
        }

        /// Rotates each word right by `RIGHT` bits, which is left by `LEFT`.
        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn rotate_right<const RIGHT: i32, const LEFT: i32>(
            x: __m512i,
        ) -> __m512i {
            const { assert!(RIGHT + LEFT == BITS) }
            $rotate_right::<RIGHT>(x)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn choose(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
            $ternary_logic::<CHOOSE>(x, y, z)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn majority(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
            $ternary_logic::<MAJORITY>(x, y, z)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn xor3(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
            $ternary_logic::<XOR>(x, y, z)
        }
    };
}

/// Vectors of 16 words of 32 bits.
pub(super) mod words32 {
    use super::*;

    operations!(
        u32,
        32,
        _mm512_set1_epi32,
        _mm512_add_epi32,
        _mm512_srli_epi32,
        _mm512_ror_epi32,
        _mm512_ternarylogic_epi32
    );

    /// The 16 words of each block, the least significant byte first.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in super::super) fn load_little_endian(blocks: &[&[u8; 64]; 16]) -> [__m512i; 16] {
        transpose(blocks.map(|block| load(block)))
    }

    /// The same, the most significant byte first.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in super::super) fn load_big_endian(blocks: &[&[u8; 64]; 16]) -> [__m512i; 16] {
        each_big_endian(load_little_endian(blocks))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn xor(x: __m512i, y: __m512i) -> __m512i {
        _mm512_xor_si512(x, y)
    }

    /// Reverses the bytes of each word.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in super::super) fn each_big_endian<const LEN: usize>(
        words: [__m512i; LEN],
    ) -> [__m512i; LEN] {
        let bytes = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
        words.map(|words| _mm512_shuffle_epi8(words, bytes))
    }

    /// Turns 16 rows of 16 words into columns.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in super::super) fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
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
}

/// Vectors of eight words of 64 bits.
pub(super) mod words64 {
    use super::*;

    operations!(
        u64,
        64,
        _mm512_set1_epi64,
        _mm512_add_epi64,
        _mm512_srli_epi64,
        _mm512_ror_epi64,
        _mm512_ternarylogic_epi64
    );

    /// The 16 words of each block, the most significant byte first.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in super::super) fn load_big_endian(blocks: &[&[u8; 128]; 8]) -> [__m512i; 16] {
        let [first, second] = [0, 1]
            .map(|half| transpose(blocks.map(|block| load(&block.as_chunks::<64>().0[half]))));
        let big_endian = _mm512_set4_epi32(0x0809_0a0b, 0x0c0d_0e0f, 0x0001_0203, 0x0405_0607);
        let mut words = [big_endian; 16];
        for (words, columns) in words.as_chunks_mut::<8>().0.iter_mut().zip([first, second]) {
            *words = columns.map(|column| _mm512_shuffle_epi8(column, big_endian));
        }
        words
    }

    /// Turns 8 rows of 8 words into columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transpose(rows: [__m512i; 8]) -> [__m512i; 8] {
        let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
        let mut columns = rows;
        // Word 0 or 1 of each quarter of two neighbours, then quarters.
        let pairs = [
            [(r0, r1), (r2, r3), (r4, r5), (r6, r7)].map(|(r, s)| _mm512_unpacklo_epi64(r, s)),
            [(r0, r1), (r2, r3), (r4, r5), (r6, r7)].map(|(r, s)| _mm512_unpackhi_epi64(r, s)),
        ];
        for (i, [p0, p1, p2, p3]) in pairs.into_iter().enumerate() {
            let even_a = _mm512_shuffle_i64x2::<EVEN>(p0, p1);
            let even_b = _mm512_shuffle_i64x2::<EVEN>(p2, p3);
            let odd_a = _mm512_shuffle_i64x2::<ODD>(p0, p1);
            let odd_b = _mm512_shuffle_i64x2::<ODD>(p2, p3);
            columns[i] = _mm512_shuffle_i64x2::<EVEN>(even_a, even_b);
            columns[i + 2] = _mm512_shuffle_i64x2::<EVEN>(odd_a, odd_b);
            columns[i + 4] = _mm512_shuffle_i64x2::<ODD>(even_a, even_b);
            columns[i + 6] = _mm512_shuffle_i64x2::<ODD>(odd_a, odd_b);
        }
        columns
    }
}
