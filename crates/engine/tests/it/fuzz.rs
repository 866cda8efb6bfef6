//! The fuzz targets `kernels` and `lanes` over their seeds and over random inputs.

use crate::kernels::kernels;
use crate::lanes::lanes;
use test_kit::{Random, fuzz};

fn random(runs: u64, len_max: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..runs).map(move |seed| {
        let mut random = Random::new(seed);
        let len = 16 + 4 * random.index(len_max / 4);
        (format!("seed {seed}"), random.bytes(len))
    })
}

#[test]
fn fuzzed_sets_of_messages_have_equal_digests_by_every_backend() {
    fuzz("kernels", kernels, random(300, 1024));
}

#[test]
fn fuzzed_sets_of_files_that_are_hashed_together_have_the_digests_that_each_has_alone() {
    fuzz("lanes", lanes, random(150, 80));
}
