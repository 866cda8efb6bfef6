//! Fuzz targets as tests.

use std::fs;
use std::panic;

/// Runs the fuzz target `name` over its committed seeds, a starting point for the fuzzer and what it
/// once found, and over `inputs` with their labels: every run of the tests is a short run of the
/// fuzzer.
///
/// # Panics
/// If one breaks the target, or there are no seeds.
pub fn fuzz(name: &str, target: fn(&[u8]), inputs: impl Iterator<Item = (String, Vec<u8>)>) {
    let seeds = seeds(name).into_iter();
    for (label, input) in seeds.chain(inputs) {
        if panic::catch_unwind(|| target(&input)).is_err() {
            panic!("{label} breaks the target, see the panic above: {input:02x?}");
        }
    }
}

/// The committed inputs of the fuzz target `name`, with their names.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = crate::repository("fuzz/seeds").join(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a seed"))
        })
        .collect();
    assert!(!seeds.is_empty(), "no seeds in {}", dir.display());
    seeds
}
