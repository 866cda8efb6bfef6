//! `cargo xtask status-page`: the controller's page in headless Chromium, on a cluster that runs.

use crate::packages::{self, FOR_BROWSER};
use crate::tools::{Failure, root, run, target_dir};
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `page.mjs` with the programs in `bin_dir`; its screenshots stay in the target directory.
pub(crate) fn check(bin_dir: &Path) -> Result<(), Failure> {
    packages::ensure(FOR_BROWSER)?;
    let work = target_dir()?.join("status-page");
    let wrong = |error: io::Error| Failure::Wrong(format!("{}: {error}", work.display()));
    fs::create_dir_all(&work).map_err(wrong)?;
    let sources = root().join("xtask/status-page");
    for file in ["package.json", "package-lock.json"] {
        fs::copy(sources.join(file), work.join(file)).map_err(wrong)?;
    }
    // `ci` installs what the lock file has, and checks its digests.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&work);
    run(npm.stdin(Stdio::null()))?;
    let mut node = Command::new("node");
    run(node.arg(sources.join("page.mjs")).arg(bin_dir).current_dir(&work))?;
    println!("screenshots are in {}", work.display());
    Ok(())
}
