//! Settings that become flags of the programs, one row each. What is not set is left to the program,
//! and its flag is not given.

use super::kind::Kind;
use super::{Role, cluster_toml::THREADS};
use ipc_proto::backend;
use ipc_proto::limits::PROGRESS_LEN_MAX;

/// The names that a worker's `--reading` takes.
pub(super) const READINGS: &[&str] = &["auto", "uring", "plain"];

/// The names that `--sandbox` takes.
const ENFORCEMENTS: &[&str] = &["enforce", "best-effort", "off"];

/// Bytes of a file between two checkpoints of a worker.
const REPORT_EVERY: Kind = Kind::Size { units: "KMG", min_kib: 1, max_kib: PROGRESS_LEN_MAX >> 10 };

/// Bytes of the controller's journal; the smallest is that of the controller.
const JOURNAL_MAX: Kind = Kind::Size { units: "MG", min_kib: 64 << 10, max_kib: 1 << 30 };

/// A key of `[defaults]` and `[vm.NAME]`, which becomes a flag of the same name.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    /// The program that has it; both if none.
    pub(super) role: Option<Role>,
    /// True if a cluster without VMs has it, too.
    pub(super) is_local: bool,
}

const fn of_worker(key: &'static str, kind: Kind) -> Flag {
    Flag { key, kind, role: Some(Role::Worker), is_local: true }
}

/// Every flag, in the order of the command line.
pub(super) const FLAGS: [Flag; 9] = [
    Flag { is_local: false, ..of_worker("threads", THREADS) },
    Flag { is_local: false, ..of_worker("sched", Kind::Sched) },
    of_worker("backend", Kind::OneOf(&backend::NAMES)),
    of_worker("reading", Kind::OneOf(READINGS)),
    Flag { role: None, ..of_worker("sandbox", Kind::OneOf(ENFORCEMENTS)) },
    of_worker("report_every", REPORT_EVERY),
    of_worker("drop_behind", Kind::Bool),
    Flag { role: Some(Role::Controller), ..of_worker("cross_check", Kind::Sample) },
    Flag { role: Some(Role::Controller), ..of_worker("journal_max", JOURNAL_MAX) },
];

impl Flag {
    /// Returns true if the program of that role has it.
    pub(super) fn is_of(&self, role: Role) -> bool {
        self.role.is_none_or(|of| of == role)
    }

    /// As it stands on the command line, for a value of its kind.
    pub(super) fn args(&self, value: &str) -> Vec<String> {
        let flag = format!("--{}", self.key.replace('_', "-"));
        match (self.kind, value) {
            (Kind::Bool, "true") => vec![flag],
            (Kind::Bool, _) => Vec::new(),
            _ => vec![flag, value.to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: &str = include_str!("../../../engine/src/input/reader.rs");

    #[test]
    fn ways_of_reading_have_the_names_that_the_worker_gives_them() {
        let body = READING.split("pub enum Asked {").nth(1).unwrap();
        let body = body.split("\n}").next().unwrap();
        let variants = body.lines().filter_map(|line| line.trim().strip_suffix(','));
        let names: Vec<String> = variants.map(str::to_lowercase).collect();
        assert_eq!(names, READINGS);
    }
}
