//! `cargo fuzz run policy`: see `README.md`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hashcluster_fuzz::policy(input));
