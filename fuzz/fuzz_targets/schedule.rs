//! `cargo fuzz run schedule`: see `README.md`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hashcluster_fuzz::schedule(input));
