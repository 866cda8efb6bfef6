//! Settings that become flags of the programs, one row each. What is not set is left to the program,
//! and its flag is not given.

use super::kind::Kind;
use super::{Role, cluster_toml::THREADS};
use ipc_proto::limits::PROGRESS_LEN_MAX;

/// The names that a worker's `--backend` takes, on one machine or another.
pub(super) const BACKENDS: &[&str] = &[
    "portable",
    "sha_ni_x2",
    "avx512_x16",
    "avx512_x8",
    "sha256_avx512_x16",
    "avx2_x8",
    "blake3_avx2_x8",
    "avx2_x4",
    "sha256_aarch64_x2",
    "sha512_aarch64_x2",
];

/// Those of its `--reading`.
pub(super) const READINGS: &[&str] = &["auto", "uring", "plain"];

/// Bytes of a file between two checkpoints of a worker.
const REPORT_EVERY: Kind = Kind::Size { units: "KMG", min_kib: 1, max_kib: PROGRESS_LEN_MAX >> 10 };

/// A key of `[defaults]` and `[vm.NAME]`, and the flag that it becomes.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    flag: &'static str,
    /// The program that has it.
    pub(super) role: Role,
    /// True if a cluster without VMs has it, too.
    pub(super) is_local: bool,
}

const fn of_worker(key: &'static str, kind: Kind, flag: &'static str) -> Flag {
    Flag { key, kind, flag, role: Role::Worker, is_local: true }
}

/// Every flag, in the order of the command line.
pub(super) const FLAGS: [Flag; 7] = [
    Flag { is_local: false, ..of_worker("threads", THREADS, "--threads") },
    Flag { is_local: false, ..of_worker("sched", Kind::Sched, "--sched") },
    of_worker("backend", Kind::OneOf(BACKENDS), "--backend"),
    of_worker("reading", Kind::OneOf(READINGS), "--reading"),
    of_worker("report_every", REPORT_EVERY, "--report-every"),
    of_worker("drop_behind", Kind::Bool, "--drop-behind"),
    Flag { role: Role::Controller, ..of_worker("cross_check", Kind::Sample, "--cross-check") },
];

impl Flag {
    /// As it stands on the command line, for a value of its kind.
    pub(super) fn args(&self, value: &str) -> Vec<String> {
        match (self.kind, value) {
            (Kind::Bool, "true") => vec![self.flag.to_owned()],
            (Kind::Bool, _) => Vec::new(),
            _ => vec![self.flag.to_owned(), value.to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: &str = include_str!("../../../engine/src/hash.rs");
    const READING: &str = include_str!("../../../engine/src/input/reader.rs");

    /// Of the source, as a worker for one processor lacks the backends of another.
    #[test]
    fn backends_have_the_names_that_the_worker_gives_them() {
        let body = WORKER.split("pub const fn name(self)").nth(1).unwrap();
        let body = body.split("pub const fn").next().unwrap();
        let arms = body.lines().filter_map(|line| line.split_once("=> \""));
        let names: Vec<&str> = arms.map(|(_, name)| name.trim_end_matches("\",")).collect();
        assert_eq!(names, BACKENDS);
    }

    #[test]
    fn ways_of_reading_have_the_names_that_the_worker_gives_them() {
        let body = READING.split("pub enum Asked {").nth(1).unwrap();
        let body = body.split("\n}").next().unwrap();
        let variants = body.lines().filter_map(|line| line.trim().strip_suffix(','));
        let names: Vec<String> = variants.map(str::to_lowercase).collect();
        assert_eq!(names, READINGS);
    }
}
