//! `cargo xtask monitoring`: `monitoring/` by the programs that read it, on a cluster that runs.

use crate::packages::{self, FOR_MONITORING};
use crate::steps;
use crate::tools::Failure;
use std::path::Path;

/// Runs the tests of the test target `monitoring`.
pub(crate) fn check(bin_dir: &Path) -> Result<(), Failure> {
    packages::ensure(FOR_MONITORING)?;
    steps::tests(bin_dir, &["--test", "monitoring"])
}
