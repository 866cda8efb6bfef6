//! `cargo xtask installs`: the installations for many hosts in `docs/examples/`, by the programs that read them.

use crate::tools::{Failure, run};
use crate::{packages, python};
use std::path::Path;

/// Checks them against the programs in `bin_dir`.
pub(crate) fn check(bin_dir: &Path) -> Result<(), Failure> {
    packages::ensure(packages::FOR_INSTALLATIONS)?;
    let mut script = python::FOR_INSTALLATIONS.ensure()?.script("xtask/installs/check.py");
    run(script.arg(bin_dir))
}
