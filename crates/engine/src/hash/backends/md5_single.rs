#![expect(unsafe_code, reason = "an addition that the compiler leaves where it is")]
//! One MD5 message at a time (RFC 1321, section 3.4), for streams and long files.
//!
//! Each step waits for the one before it, so that what counts is the number of operations from one `b`
//! to the next. The compiler orders additions as it likes; here the sum of all that is known early
//! comes first, and the function of `b` last.

use super::md5_rounds::K_MD5;
use std::arch::asm;

type Block = [u8; 64];

/// Absorbs `blocks`.
pub(in crate::hash) fn compress(words: &mut [u32; 4], blocks: &[Block]) {
    for block in blocks {
        let message: [u32; 16] =
            std::array::from_fn(|i| u32::from_le_bytes(block.as_chunks().0[i]));
        let mut hash = *words;
        for i in [0, 4, 8, 12] {
            hash = four_steps::<0, 7, 12, 17, 22>(hash, &message, i);
        }
        for i in [0, 4, 8, 12] {
            hash = four_steps::<1, 5, 9, 14, 20>(hash, &message, i);
        }
        for i in [0, 4, 8, 12] {
            hash = four_steps::<2, 4, 11, 16, 23>(hash, &message, i);
        }
        for i in [0, 4, 8, 12] {
            hash = four_steps::<3, 6, 10, 15, 21>(hash, &message, i);
        }
        for (word, hash) in words.iter_mut().zip(hash) {
            *word = word.wrapping_add(hash);
        }
    }
}

#[inline(always)]
fn four_steps<const ROUND: usize, const S0: u32, const S1: u32, const S2: u32, const S3: u32>(
    mut hash: [u32; 4],
    message: &[u32; 16],
    i: usize,
) -> [u32; 4] {
    hash = step::<ROUND, S0>(hash, message, i);
    hash = step::<ROUND, S1>(hash, message, i + 1);
    hash = step::<ROUND, S2>(hash, message, i + 2);
    step::<ROUND, S3>(hash, message, i + 3)
}

#[inline(always)]
fn step<const ROUND: usize, const LEFT: u32>(
    [a, b, c, d]: [u32; 4],
    message: &[u32; 16],
    i: usize,
) -> [u32; 4] {
    let (mixed, word) = match ROUND {
        0 => (((c ^ d) & b) ^ d, i),
        1 => (d & b, 5 * i + 1),
        2 => ((c ^ d) ^ b, 3 * i + 5),
        _ => ((!d | b) ^ c, 7 * i),
    };
    let mut early = a.wrapping_add(K_MD5[ROUND][i]).wrapping_add(message[word % 16]);
    if ROUND == 1 {
        // The other half of the choice by `d`: it has no bit in common with `d & b`.
        early = early.wrapping_add(!d & c);
    }
    [d, b.wrapping_add(add_last(early, mixed).rotate_left(LEFT)), b, c]
}

/// The sum, of which `early` is computed before.
#[inline(always)]
fn add_last(mut early: u32, last: u32) -> u32 {
    // SAFETY: it changes one operand and the flags.
    unsafe {
        asm!("add {0:e}, {1:e}", inout(reg) early, in(reg) last, options(pure, nomem, nostack));
    }
    early
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_kit::pattern;

    #[test]
    fn any_number_of_blocks_has_the_state_of_the_portable_kernel() {
        let bytes = pattern(64 * 20);
        let blocks = bytes.as_chunks().0;
        for len in 0..=blocks.len() {
            let mut words = [1, u32::MAX, 0x8000_0000, 0x1234_5678];
            let mut want = words;
            compress(&mut words, &blocks[..len]);
            md5::block_api::compress(&mut want, &blocks[..len]);
            assert_eq!(words, want, "{len} blocks");
        }
    }
}
