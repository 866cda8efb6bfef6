#![expect(unsafe_code, reason = "instructions that not every processor has, and loads by pointer")]
//! One SHA-512 message at a time (FIPS 180-4, section 6.4), for streams and long files.
//!
//! The rounds are scalar, with BMI2's rotations. The message schedules of the next four blocks are
//! computed in their gaps, one block per 64-bit lane of AVX2: five rounds per step of the schedule. The
//! order of instructions matters, as a compiler moves the schedule together and nothing overlaps. So
//! each round is a piece of assembly that takes a vector of the schedule along, unchanged.

use crate::hash::cpu::Cpu;
use crate::hash::merkle_damgard::K_512;
use sha2::block_api::compress512;
use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_set_epi8,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi64,
    _mm256_srli_epi64, _mm256_store_si256, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
    _mm256_xor_si256,
};
use std::sync::OnceLock;

proof! {
    /// Proof that AVX2, BMI1 and BMI2 were detected; only `detect` makes one.
    Avx2Bmi2: Avx2, Bmi1, Bmi2
}

const ROUNDS: usize = 80;

/// Blocks whose schedules are computed together.
const GROUP: usize = 4;

type Block = [u8; 128];

/// Words of the message schedule plus the constant of their round, of a group of blocks.
#[repr(align(32))]
struct Schedule([[u64; GROUP]; ROUNDS]);

/// The last 16 words of the schedule of each block.
type Window = [__m256i; 16];

/// Absorbs `blocks`, unless this processor lacks the instructions: then it returns false.
pub(in crate::hash) fn compress_if_able(words: &mut [u64; 8], blocks: &[Block]) -> bool {
    static PROOF: OnceLock<Option<Avx2Bmi2>> = OnceLock::new();
    let proof = PROOF.get_or_init(|| Avx2Bmi2::detect(&Cpu::of_environment().ok()?));
    if proof.is_some() {
        // SAFETY: the proof says that the features were detected.
        unsafe { compress(words, blocks) };
    }
    proof.is_some()
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn compress(words: &mut [u64; 8], blocks: &[Block]) {
    let (groups, rest) = blocks.as_chunks::<GROUP>();
    let mut schedules = [Schedule([[0; GROUP]; ROUNDS]), Schedule([[0; GROUP]; ROUNDS])];
    let mut window = [_mm256_setzero_si256(); 16];
    let [mut now, mut next] = schedules.each_mut();
    if let Some(first) = groups.first() {
        start_schedule(&mut window, now, first);
        for t in 16..ROUNDS {
            extend_schedule(&mut window, now, t);
        }
    }
    for at in 0..groups.len() {
        let following = groups.get(at + 1);
        if let Some(following) = following {
            start_schedule(&mut window, next, following);
        }
        for block in 0..GROUP {
            match following {
                Some(_) => absorb_and_extend(words, now, block, &mut window, next),
                None => absorb(words, now, block),
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    compress512(words, rest);
}

/// Loads 16 words of each block.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn start_schedule(window: &mut Window, schedule: &mut Schedule, blocks: &[Block; GROUP]) {
    let swap = _mm256_set_epi8(
        8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1,
        2, 3, 4, 5, 6, 7,
    );
    for quarter in 0..4 {
        let load = |block: &Block| {
            // SAFETY: 32 bytes from one of four quarters of 128 bytes on.
            let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().add(quarter * 32).cast()) };
            _mm256_shuffle_epi8(bytes, swap)
        };
        let [a, b, c, d] = blocks.each_ref().map(load);
        let low = [_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d)];
        let high = [_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d)];
        let words = [
            _mm256_permute2x128_si256::<0x20>(low[0], low[1]),
            _mm256_permute2x128_si256::<0x20>(high[0], high[1]),
            _mm256_permute2x128_si256::<0x31>(low[0], low[1]),
            _mm256_permute2x128_si256::<0x31>(high[0], high[1]),
        ];
        for (t, word) in (quarter * 4..).zip(words) {
            window[t] = word;
            store(schedule, t, _mm256_add_epi64(word, constant(t)));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn constant(t: usize) -> __m256i {
    _mm256_set1_epi64x(K_512[t / 16][t % 16].cast_signed())
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn store(schedule: &mut Schedule, t: usize, words: __m256i) {
    // SAFETY: a row is 32 bytes and aligned to them, as the first one is.
    unsafe { _mm256_store_si256(schedule.0[t].as_mut_ptr().cast(), words) }
}

/// The words of round `t`, in five parts of which each one but the last is followed by `$between`.
macro_rules! extend {
    ($window:ident, $schedule:ident, $t:expr, $at:expr, $between:ident) => {{
        let rotate_8 = _mm256_set_epi8(
            8, 15, 14, 13, 12, 11, 10, 9, 0, 7, 6, 5, 4, 3, 2, 1, 8, 15, 14, 13, 12, 11, 10, 9, 0,
            7, 6, 5, 4, 3, 2, 1,
        );
        // σ0 of the word 15 rounds before.
        let x = $window[($at + 1) % 16];
        let mut word = _mm256_xor_si256(_mm256_srli_epi64::<1>(x), _mm256_slli_epi64::<63>(x));
        $between!(0, word);
        word = _mm256_xor_si256(word, _mm256_shuffle_epi8(x, rotate_8));
        word = _mm256_xor_si256(word, _mm256_srli_epi64::<7>(x));
        $between!(1, word);
        word = _mm256_add_epi64(word, $window[$at % 16]);
        word = _mm256_add_epi64(word, $window[($at + 9) % 16]);
        // σ1 of the word 2 rounds before.
        let x = $window[($at + 14) % 16];
        let mut sigma = _mm256_xor_si256(_mm256_srli_epi64::<19>(x), _mm256_slli_epi64::<45>(x));
        $between!(2, sigma);
        sigma = _mm256_xor_si256(sigma, _mm256_srli_epi64::<61>(x));
        sigma = _mm256_xor_si256(sigma, _mm256_slli_epi64::<3>(x));
        $between!(3, sigma);
        word = _mm256_add_epi64(word, _mm256_xor_si256(sigma, _mm256_srli_epi64::<6>(x)));
        $window[$at % 16] = word;
        let mut sum = _mm256_add_epi64(word, constant($t));
        $between!(4, sum);
        store($schedule, $t, sum);
    }};
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn extend_schedule(window: &mut Window, schedule: &mut Schedule, t: usize) {
    macro_rules! nothing {
        ($part:literal, $vector:ident) => {
            $vector = $vector;
        };
    }
    #[expect(clippy::self_assignment, reason = "nothing stands between the parts here")]
    {
        extend!(window, schedule, t, t, nothing);
    }
}

/// The place of the variable `index` (a is 0) in round `t`: they move by one from round to round.
const fn place(index: usize, t: usize) -> usize {
    (index + ROUNDS - t) % 8
}

/// One round. `$ab` is b ^ c of it, which is a ^ b of the one before: maj(a, b, c) is
/// b ^ ((a ^ b) & (b ^ c)).
macro_rules! round {
    ($words:ident, $ab:ident, $schedule:ident, $t:expr, $vector:ident) => {{
        let next_ab: u64;
        // SAFETY: it reads 8 bytes of row `t` of a schedule, and changes only its operands and flags.
        unsafe {
            asm!(
                "add {h}, [{schedule} + {row}] /* {vector} */",
                "rorx {x}, {e}, 41",
                "rorx {y}, {e}, 18",
                "andn {z}, {e}, {g}",
                "xor {x}, {y}",
                "add {h}, {z}",
                "rorx {y}, {e}, 14",
                "mov {z}, {e}",
                "and {z}, {f}",
                "xor {x}, {y}",
                "add {h}, {z}",
                "add {h}, {x}",
                "rorx {x}, {a}, 39",
                "rorx {y}, {a}, 34",
                "add {d}, {h}",
                "mov {z}, {a}",
                "xor {x}, {y}",
                "xor {z}, {b}",
                "rorx {y}, {a}, 28",
                "and {ab}, {z}",
                "xor {x}, {y}",
                "xor {ab}, {b}",
                "add {h}, {x}",
                "add {h}, {ab}",
                schedule = in(reg) $schedule,
                row = const $t * size_of::<[u64; GROUP]>(),
                a = in(reg) $words[place(0, $t)],
                b = in(reg) $words[place(1, $t)],
                d = inout(reg) $words[place(3, $t)],
                e = in(reg) $words[place(4, $t)],
                f = in(reg) $words[place(5, $t)],
                g = in(reg) $words[place(6, $t)],
                h = inout(reg) $words[place(7, $t)],
                ab = inout(reg) $ab => _,
                x = out(reg) _,
                y = out(reg) _,
                z = out(reg) next_ab,
                vector = inout(ymm_reg) $vector,
                options(pure, readonly, nostack),
            );
        }
        $ab = next_ab;
    }};
}

/// The rounds of one block, with `$step` (0 to 15) for each five of them.
macro_rules! absorb {
    ($words:ident, $step:ident) => {
        let before = *$words;
        $step!(0);
        $step!(1);
        $step!(2);
        $step!(3);
        $step!(4);
        $step!(5);
        $step!(6);
        $step!(7);
        $step!(8);
        $step!(9);
        $step!(10);
        $step!(11);
        $step!(12);
        $step!(13);
        $step!(14);
        $step!(15);
        for (word, before) in $words.iter_mut().zip(before) {
            *word = word.wrapping_add(before);
        }
    };
}

/// Absorbs one of the blocks of `schedule`.
#[expect(unused_assignments, reason = "what the last round hands on is for nobody")]
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn absorb(state: &mut [u64; 8], schedule: &Schedule, block: usize) {
    let (mut words, mut vector) = (*state, _mm256_setzero_si256());
    let mut ab = words[1] ^ words[2];
    let schedule = &raw const schedule.0[0][block];
    let own = &mut words;
    macro_rules! step {
        ($step:literal) => {
            round!(own, ab, schedule, $step * 5, vector);
            round!(own, ab, schedule, $step * 5 + 1, vector);
            round!(own, ab, schedule, $step * 5 + 2, vector);
            round!(own, ab, schedule, $step * 5 + 3, vector);
            round!(own, ab, schedule, $step * 5 + 4, vector);
        };
    }
    absorb!(own, step);
    *state = words;
}

/// Absorbs one of the blocks of `schedule`, and computes a quarter of the `next` schedule meanwhile.
#[expect(unused_assignments, reason = "what the last round hands on is for nobody")]
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn absorb_and_extend(
    state: &mut [u64; 8],
    schedule: &Schedule,
    block: usize,
    window: &mut Window,
    next: &mut Schedule,
) {
    let mut words = *state;
    let mut ab = words[1] ^ words[2];
    let schedule = &raw const schedule.0[0][block];
    let own = &mut words;
    macro_rules! step {
        ($step:literal) => {
            macro_rules! one_round {
                ($part:literal, $vector:ident) => {
                    round!(own, ab, schedule, $step * 5 + $part, $vector)
                };
            }
            extend!(window, next, 16 * (block + 1) + $step, $step, one_round);
        };
    }
    absorb!(own, step);
    *state = words;
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_kit::pattern;

    #[test]
    fn any_number_of_blocks_has_the_state_of_the_portable_kernel() {
        let bytes = pattern(128 * 41);
        let blocks = bytes.as_chunks().0;
        for len in 0..=blocks.len() {
            let mut words = std::array::from_fn(|i| u64::MAX / (i as u64 + 3));
            let mut want = words;
            if !compress_if_able(&mut words, &blocks[..len]) {
                compress512(&mut words, &blocks[..len]);
            }
            compress512(&mut want, &blocks[..len]);
            assert_eq!(words, want, "{len} blocks");
        }
    }
}
