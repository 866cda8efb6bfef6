//! A tree, manifests about it, and what the commands say about the two.

use crate::program::{Outcome, hashctl_alone, run};
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::{TempDir, tempdir};

/// A directory to work in.
pub(crate) struct Site(TempDir);

impl Site {
    /// With files as `(path, content)`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let site = Self(tempdir().unwrap());
        files.iter().for_each(|(path, content)| site.write(path, content));
        site
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.at(path)).unwrap()).into_owned()
    }

    /// Writes other content of the same length and puts the time of modification back, as a disk
    /// does whose bits flip.
    pub(crate) fn rot(&self, path: &str) {
        let time = fs::metadata(self.at(path)).unwrap().modified().unwrap();
        let mut content = fs::read(self.at(path)).unwrap();
        content[0] ^= 0x40;
        fs::write(self.at(path), content).unwrap();
        self.set_time(path, time);
    }

    /// Gives the file a time of modification this long before now.
    pub(crate) fn age(&self, path: &str, by: Duration) {
        self.set_time(path, SystemTime::now() - by);
    }

    fn set_time(&self, path: &str, time: SystemTime) {
        let file = File::options().append(true).open(self.at(path)).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    /// Runs `hashctl` in the directory, without a cluster.
    #[track_caller]
    pub(crate) fn hashctl<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        run(hashctl_alone().current_dir(self.path()).arg("--embedded").args(args))
    }

    /// As [`Site::hashctl`]: sorted lines of standard output, and the exit status.
    #[track_caller]
    pub(crate) fn lines(&self, args: &[&str]) -> (Vec<String>, i32) {
        let outcome = self.hashctl(args);
        let mut lines: Vec<String> = outcome.out().lines().map(str::to_owned).collect();
        lines.sort();
        (lines, outcome.code)
    }

    /// Makes a manifest of `d` as `sum -r` does.
    pub(crate) fn sum(&self) {
        let outcome = self.hashctl(&["sum", "-r", "d"]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        self.write("m", outcome.stdout);
    }
}
