//! The Python programs of the checks, in an environment of their own below the target directory.

use crate::packages;
use crate::tools::{Failure, root, run};
use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Pinned packages, and the programs beside them.
const FOLDER: &str = "xtask/yocto";
const REQUIREMENTS: &str = "xtask/yocto/requirements.txt";

/// The directory of what `cargo xtask yocto` keeps.
pub(super) fn work_dir() -> Result<PathBuf, Failure> {
    let exe =
        env::current_exe().map_err(|error| Failure::Wrong(format!("our program: {error}")))?;
    // TARGET/debug/xtask
    let target = exe.ancestors().nth(2).expect("a program of cargo is two levels deep");
    Ok(target.join("yocto"))
}

/// An environment with what `requirements.txt` names.
#[derive(Debug)]
pub(super) struct Environment {
    bin: PathBuf,
}

impl Environment {
    /// Makes it if it is not there, or is of other requirements.
    pub(super) fn ensure() -> Result<Self, Failure> {
        let work = work_dir()?;
        let wrong = |error: io::Error| Failure::Wrong(format!("{}: {error}", work.display()));
        fs::create_dir_all(&work).map_err(wrong)?;
        // One at a time; the lock ends with this function.
        let lock = File::create(work.join("lock")).map_err(wrong)?;
        lock.lock().map_err(wrong)?;
        let venv = work.join("venv");
        let wanted = fs::read(root().join(REQUIREMENTS)).map_err(wrong)?;
        let mark = venv.join("made-of.txt");
        if fs::read(&mark).ok().as_ref() != Some(&wanted) {
            packages::ensure(packages::FOR_YOCTO)?;
            packages::ensure_python_venv()?;
            make(&venv)?;
            fs::write(&mark, &wanted).map_err(wrong)?;
        }
        Ok(Self { bin: venv.join("bin") })
    }

    /// A program of ours.
    pub(super) fn script(&self, name: &str) -> Command {
        let mut command = self.program("python");
        command.arg(root().join(FOLDER).join(name));
        command
    }

    /// A program of a package.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        // A cache in our own tree would be a file that nobody tracks.
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        command
    }
}

fn make(venv: &Path) -> Result<(), Failure> {
    println!("installing {REQUIREMENTS} into {}", venv.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]);
    run(pip.arg("--requirement").arg(root().join(REQUIREMENTS)))
}
