#![expect(unsafe_code, reason = "loads and stores by pointer")]
//! NEON (Advanced SIMD), as the kernels use it: the proof that it is there, and vectors of four words of
//! 32 bits.

use super::vector::Integers;
use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vandq_u32, vbslq_u32, vceqq_u32, vcgtq_u32, vdupq_n_u32, veorq_u32,
    vld1q_u32, vorrq_u32, vreinterpretq_u8_u32, vreinterpretq_u32_u8, vreinterpretq_u32_u64,
    vreinterpretq_u64_u32, vrev32q_u8, vshlq_n_u32, vshrq_n_u32, vsriq_n_u32, vst1q_u32,
    vtrn1q_u32, vtrn1q_u64, vtrn2q_u32, vtrn2q_u64,
};

proof! {
    /// Proof that NEON was detected; only `detect` makes one.
    Neon: Neon
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load<T: Integers>(from: &T) -> uint32x4_t {
    const { assert!(size_of::<T>() == 16) }
    // SAFETY: `T` is 16 bytes that can be read, at any alignment.
    unsafe { vld1q_u32(std::ptr::from_ref(from).cast()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store<T: Integers>(to: &mut T, vector: uint32x4_t) {
    const { assert!(size_of::<T>() == 16) }
    // SAFETY: `T` is 16 bytes that can be written, at any alignment.
    unsafe { vst1q_u32(std::ptr::from_mut(to).cast(), vector) }
}

pub(super) mod words32 {
    use super::*;

    pub(in super::super) const BITS: i32 = 32;

    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn splat(word: u32) -> uint32x4_t {
        vdupq_n_u32(word)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn add(x: uint32x4_t, y: uint32x4_t) -> uint32x4_t {
        vaddq_u32(x, y)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn and(x: uint32x4_t, y: uint32x4_t) -> uint32x4_t {
        vandq_u32(x, y)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn or(x: uint32x4_t, y: uint32x4_t) -> uint32x4_t {
        vorrq_u32(x, y)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn xor(x: uint32x4_t, y: uint32x4_t) -> uint32x4_t {
        veorq_u32(x, y)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn xor3(x: uint32x4_t, y: uint32x4_t, z: uint32x4_t) -> uint32x4_t {
        veorq_u32(veorq_u32(x, y), z)
    }

    /// The bits of `y` where `x` has ones, else those of `z`.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn choose(x: uint32x4_t, y: uint32x4_t, z: uint32x4_t) -> uint32x4_t {
        vbslq_u32(x, y, z)
    }

    /// The same; each word of `mask` is all ones or zero.
    pub(in super::super) use choose as select;

    /// The bits that at least two have.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn majority(x: uint32x4_t, y: uint32x4_t, z: uint32x4_t) -> uint32x4_t {
        vbslq_u32(veorq_u32(x, y), z, y)
    }

    /// All ones in the words that are equal, else zero.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn is_equal(x: uint32x4_t, y: uint32x4_t) -> uint32x4_t {
        vceqq_u32(x, y)
    }

    /// All ones in the words of `x` that are greater, else zero.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn is_greater(x: uint32x4_t, y: uint32x4_t) -> uint32x4_t {
        vcgtq_u32(x, y)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn shift_right<const BITS: i32>(x: uint32x4_t) -> uint32x4_t {
        vshrq_n_u32::<BITS>(x)
    }

    /// Rotates each word right by `RIGHT` bits, which is left by `LEFT`.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn rotate_right<const RIGHT: i32, const LEFT: i32>(
        x: uint32x4_t,
    ) -> uint32x4_t {
        const { assert!(RIGHT + LEFT == BITS) }
        vsriq_n_u32::<RIGHT>(vshlq_n_u32::<LEFT>(x), x)
    }

    /// The 16 words of each block, the least significant byte first.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn load_little_endian(blocks: &[&[u8; 64]; 4]) -> [uint32x4_t; 16] {
        let mut words = [splat(0); 16];
        for (quarter, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *words = transpose(blocks.map(|block| load(&block.as_chunks::<16>().0[quarter])));
        }
        words
    }

    /// The same, the most significant byte first.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn load_big_endian(blocks: &[&[u8; 64]; 4]) -> [uint32x4_t; 16] {
        load_little_endian(blocks)
            .map(|words| vreinterpretq_u32_u8(vrev32q_u8(vreinterpretq_u8_u32(words))))
    }

    /// Turns 4 rows of 4 words into columns.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in super::super) fn transpose([r0, r1, r2, r3]: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
        let [even_a, odd_a, even_b, odd_b] =
            [vtrn1q_u32(r0, r1), vtrn2q_u32(r0, r1), vtrn1q_u32(r2, r3), vtrn2q_u32(r2, r3)]
                .map(|vector| vreinterpretq_u64_u32(vector));
        [
            vtrn1q_u64(even_a, even_b),
            vtrn1q_u64(odd_a, odd_b),
            vtrn2q_u64(even_a, even_b),
            vtrn2q_u64(odd_a, odd_b),
        ]
        .map(|vector| vreinterpretq_u32_u64(vector))
    }
}
