//! Due times of random cron expressions, compared with those of croniter.

use crate::oldest::cargo_of_tests;
use crate::python;
use crate::tools::{Failure, run, target_dir};

/// Expressions of a test run, and their seed.
pub(crate) const QUICK: [&str; 2] = ["1000", "16"];

/// Compares as many expressions, and from that seed, as `args` say: `[EXPRESSIONS [SEED]]`.
pub(crate) fn croniter(args: &[&str]) -> Result<(), Failure> {
    run(&mut cargo_of_tests(&["build", "--quiet", "-p", "schedule", "--example", "instants"]))?;
    let program = target_dir()?.join("debug/examples/instants");
    let mut script = python::FOR_SCHEDULES.ensure()?.script("xtask/schedule/croniter_compare.py");
    run(script.arg(program).args(args))
}
