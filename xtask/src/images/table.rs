//! Runs of images: the file that has all of them, and the table of the newest ones.

use crate::tools::{Failure, output, root};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::Command;

const RUNS: &str = "docs/images/runs.tsv";
const TABLE: &str = "docs/images.md";

const ARCHES: [&str; 2] = ["x86_64", "aarch64"];
const LIBCS: [&str; 2] = ["glibc", "musl"];
const KERNELS: [&str; 2] = ["Debian's", "the layer's"];
const ROOTS: [&str; 2] = ["initramfs", "disk"];

const HEAD: &str = "\
# Images that were tried

The newest run per kind of image: it was built, VMs booted it, and their digests were compared with those of
`sha256sum`, also after a worker was killed, or the power of a device with a disk was cut. The commit is the newest one
in the tree that ran. `cargo xtask images report` writes this table from `docs/images/runs.tsv`, to which
`cargo xtask images try` and `cargo xtask yocto kernel` append. The development image for x86-64 with Debian's kernel is
booted by every `cargo xtask test`, with both C libraries.

| architecture | C library | kernel | root | built, booted, hashed |
|---|---|---|---|---|
";

/// An image that hashed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImageRun {
    date: String,
    commit: String,
    /// Architecture, C library, kernel, root.
    image: [String; 4],
}

impl ImageRun {
    /// A run of today, on the commit that is checked out.
    pub(super) fn now(arch: &str, libc: &str, kernel: &str, kind: &str) -> Result<Self, Failure> {
        let mut git = Command::new("git");
        git.args(["rev-parse", "--short=12", "HEAD"]).current_dir(root());
        let date = output(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned();
        let commit = output(&mut git)?.trim().to_owned();
        Ok(Self { date, commit, image: [arch, libc, kernel, kind].map(str::to_owned) })
    }

    pub(super) fn append(&self) -> Result<(), Failure> {
        let path = root().join(RUNS);
        let line = format!("{}\t{}\t{}\n", self.date, self.commit, self.image.join("\t"));
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))
    }
}

/// Reads the file of all runs.
fn parse(text: &str) -> Result<Vec<ImageRun>, Failure> {
    let dims = [&ARCHES, &LIBCS, &KERNELS, &ROOTS];
    let run = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[date, commit, ref image @ ..] = &fields[..] else { return None };
        let image = <[&str; 4]>::try_from(image).ok()?;
        let is_known = image.iter().zip(dims).all(|(word, known)| known.contains(word));
        is_known.then(|| ImageRun {
            date: date.to_owned(),
            commit: commit.to_owned(),
            image: image.map(str::to_owned),
        })
    };
    let wrong = |line: &str| Failure::Wrong(format!("{RUNS}: not a run: {line}"));
    text.lines().map(|line| run(line).ok_or_else(|| wrong(line))).collect()
}

/// All kinds of images, each with its newest run; later lines are newer.
fn table(runs: &[ImageRun]) -> String {
    let mut text = HEAD.to_owned();
    for arch in ARCHES {
        for libc in LIBCS {
            for kernel in KERNELS {
                for kind in ROOTS {
                    let image = [arch, libc, kernel, kind];
                    let newest = runs.iter().rfind(|run| run.image == image);
                    let said = newest.map_or("*not run*".to_owned(), |run| {
                        format!("{}, commit {}", run.date, run.commit)
                    });
                    text += &format!("| {} | {said} |\n", image.join(" | "));
                }
            }
        }
    }
    text
}

/// Writes the table of the runs so far.
pub(super) fn write() -> Result<(), Failure> {
    let read = |path: &str| {
        let text = fs::read_to_string(root().join(path));
        text.map_err(|error| Failure::Wrong(format!("{path}: {error}")))
    };
    let text = table(&parse(&read(RUNS)?)?);
    fs::write(root().join(TABLE), text).map_err(|e| Failure::Wrong(format!("{TABLE}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_runs() {
        let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
        let want = table(&parse(&read(RUNS)).unwrap());
        assert!(read(TABLE) == want, "{TABLE} is not up to date: cargo xtask images report");
    }

    #[test]
    fn the_newest_run_counts_and_what_has_none_was_not_run() {
        let runs = "2026-11-01\taaaa\tx86_64\tmusl\tthe layer's\tinitramfs\n\
                    2026-11-02\tbbbb\tx86_64\tmusl\tthe layer's\tinitramfs\n";
        let table = table(&parse(runs).unwrap());
        let rows: Vec<&str> = table.lines().filter(|line| line.contains("86_64")).collect();
        assert_eq!(rows.len(), 8);
        let row = "| x86_64 | musl | the layer's | initramfs | 2026-11-02, commit bbbb |";
        assert!(rows.contains(&row), "{rows:?}");
        assert_eq!(rows.iter().filter(|row| row.ends_with("| *not run* |")).count(), 7);
    }

    #[test]
    fn a_line_that_is_no_run_is_an_error() {
        for line in ["", "2026-11-01\taaaa", "2026-11-01\taaaa\tx86_64\tnewlib\tDebian's\tdisk"] {
            let error = parse(&format!("{line}\n")).unwrap_err().to_string();
            assert_eq!(error, format!("docs/images/runs.tsv: not a run: {line}"));
        }
    }
}
