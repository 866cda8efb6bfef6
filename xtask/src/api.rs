//! `cargo xtask api`: the HTTP API against its OpenAPI document, by schemathesis.

use crate::python;
use crate::tools::{Failure, run};
use std::path::Path;

/// Seconds of a run by command, and as a step of `cargo xtask test`.
pub(crate) const LONG: &str = "300";
pub(crate) const QUICK: &str = "45";

/// Asks controllers of the programs in `bin_dir` as `args` say: `SECONDS [SEED]`.
pub(crate) fn api(bin_dir: &Path, args: &[&str]) -> Result<(), Failure> {
    let mut script = python::FOR_API.ensure()?.script("xtask/api/run.py");
    run(script.arg(bin_dir).args(args))
}
