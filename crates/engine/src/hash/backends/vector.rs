#![expect(unsafe_code, reason = "says which values a vector may be loaded from")]
//! Values that fill a vector; each `load` and `store` asserts their size.

/// A value of integers only.
///
/// # Safety
/// None of its bytes is padding, and any bits are valid.
pub(super) unsafe trait Integers {}
// SAFETY: an integer.
unsafe impl Integers for u8 {}
// SAFETY: an integer.
unsafe impl Integers for u32 {}
// SAFETY: an integer.
unsafe impl Integers for u64 {}
// SAFETY: there is no padding between elements.
unsafe impl<T: Integers, const LEN: usize> Integers for [T; LEN] {}
