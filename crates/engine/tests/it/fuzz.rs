//! The fuzz target `kernels` over its seeds and over random inputs.

use crate::kernels::kernels;
use test_kit::{Random, fuzz};

const RUNS: u64 = 300;

#[test]
fn fuzzed_sets_of_messages_have_equal_digests_by_every_backend() {
    let random = (0..RUNS).map(|seed| {
        let mut random = Random::new(seed);
        let len = 16 + 4 * random.index(256);
        (format!("seed {seed}"), random.bytes(len))
    });
    fuzz("kernels", kernels, random);
}
