//! `cargo xtask compliance`: the program of `tests/compliance` compares hashctl's personalities with the
//! installed originals.

use crate::bench;
use crate::tools::{self, Failure, run};
use std::path::Path;

/// Arguments of a test run: all cases, and random ones from one seed.
pub(crate) const FIXED: [&str; 2] = ["--seed", "1"];

/// Compares the programs in `bin_dir`; all cases without arguments.
pub(crate) fn compliance(bin_dir: &Path, args: &[&str]) -> Result<(), Failure> {
    let mut suite = tools::program_of_tests("compliance")?;
    suite.args(args).env("HASHCLUSTER_BIN_DIR", bin_dir).env("PATH", bench::path_with_b3sum()?);
    run(&mut suite)
}
