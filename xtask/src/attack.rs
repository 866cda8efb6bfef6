//! `cargo xtask attack`: the program of `tests/attack` against the static release binaries.

use crate::tools::{self, Failure, output, run};
use std::path::Path;
use std::process::Command;

/// Runs attacks on the programs in `bin_dir`; all of them without arguments.
pub(crate) fn attack(bin_dir: &Path, args: &[&str]) -> Result<(), Failure> {
    let mut attack = tools::program_of_tests("attack")?;
    run(attack.args(args).env("HASHCLUSTER_BIN_DIR", bin_dir))
}

/// Fails for users other than root, who cannot act as others.
pub(crate) fn needs_root() -> Result<(), Failure> {
    if output(Command::new("id").arg("-u"))?.trim() == "0" {
        return Ok(());
    }
    let what = "attackers are users of their own, and files hang on FUSE, which needs root";
    Err(Failure::Unavailable { what: what.into(), how: "`cargo xtask attack` as root".into() })
}
