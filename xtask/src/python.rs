//! Python packages for checks, each set in its own virtual environment below the target directory.

use crate::packages;
use crate::tools::{Failure, root, run, target_dir};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A set of pinned packages.
#[derive(Debug)]
pub(crate) struct Requirements {
    /// Directory of the environment, below the target directory.
    pub(crate) dir: &'static str,
    /// Requirements file of pip, relative to the workspace.
    pub(crate) file: &'static str,
}

/// Checks of the Yocto layer and the kas files.
pub(crate) const FOR_YOCTO: Requirements =
    Requirements { dir: "yocto", file: "xtask/yocto/requirements.txt" };

/// Checks of the workspace.
pub(crate) const FOR_LINT: Requirements =
    Requirements { dir: "lint", file: "xtask/lint-requirements.txt" };

/// Comparison of due times.
pub(crate) const FOR_SCHEDULES: Requirements =
    Requirements { dir: "schedule", file: "xtask/schedule/requirements.txt" };

/// The test of the HTTP API.
pub(crate) const FOR_API: Requirements =
    Requirements { dir: "api", file: "xtask/api/requirements.txt" };

/// Checks of the installations for many hosts.
pub(crate) const FOR_INSTALLATIONS: Requirements =
    Requirements { dir: "installs", file: "xtask/installs/requirements.txt" };

impl Requirements {
    /// The working directory of these checks.
    pub(crate) fn work_dir(&self) -> Result<PathBuf, Failure> {
        Ok(target_dir()?.join(self.dir))
    }

    /// Installs the packages if they are missing or outdated.
    pub(crate) fn ensure(&self) -> Result<Environment, Failure> {
        let work = self.work_dir()?;
        let wrong = |error: io::Error| Failure::Wrong(format!("{}: {error}", work.display()));
        fs::create_dir_all(&work).map_err(wrong)?;
        // One at a time; the lock ends with this function.
        let lock = File::create(work.join("lock")).map_err(wrong)?;
        lock.lock().map_err(wrong)?;
        let venv = work.join("venv");
        let wanted = fs::read(root().join(self.file)).map_err(wrong)?;
        let mark = venv.join("made-of.txt");
        if fs::read(&mark).ok().as_ref() != Some(&wanted) {
            packages::ensure(packages::FOR_PYTHON)?;
            packages::ensure_python_venv()?;
            self.install(&venv)?;
            fs::write(&mark, &wanted).map_err(wrong)?;
        }
        Ok(Environment { bin: venv.join("bin") })
    }

    fn install(&self, venv: &Path) -> Result<(), Failure> {
        println!("installing {} into {}", self.file, venv.display());
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]);
        run(pip.arg("--requirement").arg(root().join(self.file)))
    }
}

/// Installed packages.
#[derive(Debug)]
pub(crate) struct Environment {
    bin: PathBuf,
}

impl Environment {
    /// A Python script of ours that imports the packages.
    pub(crate) fn script(&self, path: &str) -> Command {
        let mut command = self.program("python");
        command.arg(root().join(path));
        command
    }

    /// A program of a package.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        // A cache in the tree would be an untracked file.
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        command
    }
}
