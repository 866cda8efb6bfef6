//! `cargo xtask attack`: the program of `tests/attack` against the static release binaries.

use crate::tools::{Failure, cargo, run};
use std::path::Path;

/// Runs attacks on the programs in `bin_dir`; all of them without arguments.
pub(crate) fn attack(bin_dir: &Path, args: &[&str]) -> Result<(), Failure> {
    let mut attack = cargo(&["run", "--quiet", "-p", "attack", "--"]);
    run(attack.args(args).env("HASHCLUSTER_BIN_DIR", bin_dir))
}
