//! `cargo xtask bench`: the static release binaries, measured by the bench program of
//! `system-tests` against what people use today.

use crate::packages;
use crate::release;
use crate::tools::{Failure, cargo, run};

/// Builds, and passes `groups` on to the bench program.
pub(crate) fn bench(groups: &[&str]) -> Result<(), Failure> {
    packages::ensure(packages::FOR_BENCHES)?;
    let bin_dir = release::build()?;
    let mut bench = cargo(&["run", "--release", "-p", "system-tests", "--bin", "bench", "--"]);
    run(bench.args(groups).env("HASHCLUSTER_BIN_DIR", bin_dir))
}
