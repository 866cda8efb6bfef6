//! The originals and the programs under test, each as a directory of links by the tools' names.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Names a program, or a directory of programs, instead of our hashctl.
const UNDER_TEST: &str = "HASHSUM_UNDER_TEST";

/// Directories of links, and one name for the current one: what a case sees of both sides is equal.
#[derive(Debug)]
pub(crate) struct Programs {
    dir: TempDir,
}

/// Which programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Original,
    UnderTest,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Original, Self::UnderTest];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::UnderTest => "under test",
        }
    }
}

impl Programs {
    /// Links to the originals in `PATH` and to the programs under test.
    pub(crate) fn find(tools: &[&str]) -> Result<Self, String> {
        let subject = match env::var_os(UNDER_TEST) {
            Some(path) => PathBuf::from(path),
            None => env::var_os("HASHCLUSTER_BIN_DIR")
                .map(|dir| Path::new(&dir).join("hashctl"))
                .ok_or(format!(
                "set {UNDER_TEST} or HASHCLUSTER_BIN_DIR; or cargo xtask compliance"
            ))?,
        };
        let subject = subject.canonicalize().map_err(|e| format!("{}: {e}", subject.display()))?;
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        for side in Side::BOTH {
            fs::create_dir(dir.path().join(side.name())).map_err(|error| error.to_string())?;
        }
        for tool in tools {
            let path = env::var_os("PATH").unwrap_or_default();
            let mut paths = env::split_paths(&path).map(|dir| dir.join(tool));
            let original = paths.find(|path| path.is_file()).ok_or(format!("no {tool} in PATH"))?;
            let ours = if subject.is_dir() { subject.join(tool) } else { subject.clone() };
            if !ours.is_file() {
                return Err(format!("{}: no such program", ours.display()));
            }
            for (side, program) in [(Side::Original, original), (Side::UnderTest, ours)] {
                let link = dir.path().join(side.name()).join(tool);
                symlink(program, link).map_err(|error| error.to_string())?;
            }
        }
        Ok(Self { dir })
    }

    /// The directory that stands first in `PATH`, from now on with the programs of `side`.
    pub(crate) fn choose(&self, side: Side) -> PathBuf {
        let bin = self.bin();
        // Missing the first time.
        let _ = fs::remove_file(&bin);
        symlink(side.name(), &bin).expect("a link in our own directory");
        bin
    }

    /// The same directory, whoever is chosen.
    pub(crate) fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// A directory to work in.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// A file for what a command writes.
    pub(crate) fn capture(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
