//! The fuzz target `kernels` over the committed seeds and over seeded random inputs, so that every
//! run of the tests is a short run of the fuzzer.

use crate::kernels::kernels;
use std::fs;
use std::panic;
use std::path::Path;

const RUNS: u64 = 300;

#[track_caller]
fn check(label: &str, input: &[u8]) {
    if panic::catch_unwind(|| kernels(input)).is_err() {
        panic!("{label} breaks the target, see the panic above: {input:02x?}");
    }
}

#[test]
fn fuzzed_sets_of_messages_have_equal_digests_by_every_backend() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/kernels");
    let paths = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let paths: Vec<_> = paths.collect();
    assert!(!paths.is_empty(), "no seeds in {}", dir.display());
    for path in paths {
        check(&path.display().to_string(), &fs::read(&path).unwrap());
    }
}

#[test]
fn random_fuzz_inputs_have_equal_digests_by_every_backend() {
    for seed in 1..=RUNS {
        // Marsaglia's xorshift with 64 bits.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[5]
        };
        let input: Vec<u8> = (0..16 + 4 * usize::from(next())).map(|_| next()).collect();
        check(&format!("seed {seed}"), &input);
    }
}
