//! `cargo xtask api`: the HTTP API against its OpenAPI document, by schemathesis.

use crate::python;
use crate::tools::{Failure, run};
use std::path::Path;

/// Seconds of a run by command.
pub(crate) const LONG: &str = "300";
/// Seconds of a test run, and its seed.
pub(crate) const QUICK: [&str; 2] = ["45", "1"];

/// Asks controllers of the programs in `bin_dir` as `args` say: `SECONDS [SEED]`.
pub(crate) fn api(bin_dir: &Path, args: &[&str]) -> Result<(), Failure> {
    let mut script = python::FOR_API.ensure()?.script("xtask/api/run.py");
    run(script.arg(bin_dir).args(args))
}
