//! The tracked files, in the form that the rules read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tracked text file.
#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The directory of this package. It is not compiled in: cargo takes the tests of a copied tree for fresh.
fn package() -> String {
    std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests")
}

/// The program under test.
pub(crate) fn xtask() -> Command {
    Command::new(std::env::var("CARGO_BIN_EXE_xtask").expect("cargo runs the tests"))
}

/// The directory of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(&package()).parent().unwrap().to_owned()
}

/// Every tracked text file that exists.
pub(crate) fn files() -> Vec<File> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = listed.expect("the rules read what git tracks; install git");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).unwrap();
    let read = |path: &str| {
        let text = String::from_utf8(fs::read(root().join(path)).ok()?).ok()?;
        Some(File { path: path.to_owned(), text })
    };
    let files: Vec<File> = paths.split_terminator('\0').filter_map(read).collect();
    assert!(files.len() > 20, "only {} tracked files: not the workspace", files.len());
    files
}

/// The tracked Rust files.
pub(crate) fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// The text of a file that must exist.
#[track_caller]
pub(crate) fn read(path: &str) -> String {
    match fs::read_to_string(root().join(path)) {
        Ok(text) => text,
        Err(error) => panic!("{path} has to exist: {error}"),
    }
}

/// Fails with one line per violation of a rule.
#[track_caller]
pub(crate) fn refuse(broken: &[String], reason: &str) {
    assert!(broken.is_empty(), "{reason}\n  {}", broken.join("\n  "));
}

impl File {
    /// The lines above the module of tests, which is the last item of a file.
    pub(crate) fn untested_lines(&self) -> impl Iterator<Item = &str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_tests = |pair: &[&str]| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        };
        let len = lines.windows(2).position(is_tests).unwrap_or(lines.len());
        // A module of tests may be a file of its own.
        let len = if self.path.ends_with("/tests.rs") { 0 } else { len };
        lines.into_iter().take(len)
    }

    /// Numbered lines of code, without comments and tests.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.untested_lines().enumerate().map(|(i, line)| (i + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Lines of code for which `what` is true, as `path:line: text`.
    pub(crate) fn broken(&self, what: impl Fn(&str) -> bool) -> Vec<String> {
        self.shown(self.code().filter(|(_, line)| what(line)))
    }

    /// Lines of text for which `what` is true, in the same form.
    pub(crate) fn lines_with(&self, what: impl Fn(&str) -> bool) -> Vec<String> {
        self.shown((1..).zip(self.text.lines()).filter(|(_, line)| what(line)))
    }

    fn shown<'a>(&self, lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<String> {
        lines.map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim())).collect()
    }

    pub(crate) fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }

    /// True if the file is built only for tests and benches.
    pub(crate) fn is_test(&self) -> bool {
        let in_folder = |folder: &str| self.path.contains(&format!("/{folder}/"));
        in_folder("tests")
            || in_folder("benches")
            || self.is_in(&["tests/", "crates/bench/", "fuzz/"])
    }
}

/// True if `line` contains `name`, not as the end of a longer name.
pub(crate) fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn a_name_inside_a_longer_one_does_not_count() {
    assert!(names("use std::fs::File;", "fs::"));
    assert!(names("fs::read(x)", "fs::"));
    assert!(!names("use nix::sys::statfs::statfs;", "fs::"));
}

#[test]
fn comments_and_tests_are_no_code() {
    let text =
        "#[cfg(test)]\nmod far;\n// b\n    /// c\nd\n#[cfg(test)]\nmod tests {\n}\n".to_owned();
    let file = File { path: "x/src/y.rs".into(), text };
    assert_eq!(file.code().collect::<Vec<_>>(), [(1, "#[cfg(test)]"), (2, "mod far;"), (5, "d")]);
}
