//! What becomes flags of the programs: how a worker hashes and reads, and how much of it the controller
//! has checked. What is none is left to the program, and its flag is not given.
//!
//! Both kinds of clusters have them: the supervisor of VMs gives each guest its own, a local cluster
//! gives all its processes those of `[defaults]`.

use ipc_proto::sample::Sample;

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

/// A worker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkerFlags {
    pub(crate) backend: Option<String>,
    pub(crate) reading: Option<String>,
    pub(crate) drop_behind: bool,
    /// In KiB.
    pub(crate) report_every_kib: Option<u64>,
}

impl WorkerFlags {
    /// As they stand on its command line.
    pub(crate) fn args(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
        if let Some(backend) = &self.backend {
            option("--backend", backend.clone());
        }
        if let Some(reading) = &self.reading {
            option("--reading", reading.clone());
        }
        if let Some(kib) = self.report_every_kib {
            option("--report-every", (kib << 10).to_string());
        }
        if self.drop_behind {
            args.push("--drop-behind".to_owned());
        }
        args
    }
}

/// The controller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControllerFlags {
    pub(crate) cross_check: Option<Sample>,
}

impl ControllerFlags {
    /// As they stand on its command line.
    pub(crate) fn args(self) -> Vec<String> {
        let sample =
            self.cross_check.map(|sample| ["--cross-check".to_owned(), sample.to_string()]);
        sample.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: &str = include_str!("../../../engine/src/hash.rs");
    const READING: &str = include_str!("../../../engine/src/input/reader.rs");

    #[test]
    fn each_setting_is_a_flag_and_what_is_not_set_is_none() {
        let all = WorkerFlags {
            backend: Some("portable".to_owned()),
            reading: Some("uring".to_owned()),
            drop_behind: true,
            report_every_kib: Some(3 << 20),
        };
        let want = "--backend portable --reading uring --report-every 3221225472 --drop-behind";
        assert_eq!(all.args().join(" "), want);
        assert_eq!(WorkerFlags::default().args(), [""; 0]);
        let checked = ControllerFlags { cross_check: "1/100".parse().ok() };
        assert_eq!(checked.args(), ["--cross-check", "1/100"]);
        assert_eq!(ControllerFlags::default().args(), [""; 0]);
    }

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
