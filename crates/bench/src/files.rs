//! Files of all lengths, page cache warm: total CPU time of client, controller and workers, and wall
//! time, by descriptors and by names, against the tools that people use.

use crate::contest::{Contest, Goal, Run, Time, Way, measure};
use crate::peers::{self, Peer};
use crate::report::Report;
use crate::sides::Sides;
use std::ffi::OsString;
use std::path::Path;
use tempfile::TempDir;
use test_kit::{Cluster, Options, write_tree};

const ROUNDS: usize = 15;
const GIB_ROUNDS: usize = 9;

/// The directory's name among datasets.
const DATASET: &str = "files";

/// b3sum with as many threads as the cluster of [`run_large`] has workers.
const B3SUM: &[Peer] = &[("b3sum", &["--num-threads", "2"])];

/// Files of one length.
pub(crate) struct Files {
    dir: TempDir,
    pub(crate) names: Vec<OsString>,
    /// Such as `4 KiB`.
    len: &'static str,
}

/// The planes by their names in `hashctl`, each with its goals.
type Planes<'a> = [(&'static str, &'a [Goal])];

const fn cpu(least: f64) -> Goal {
    (Time::Cpu, None, least)
}

const fn wall(least: f64) -> Goal {
    (Time::Wall, None, least)
}

pub(crate) fn run(report: &mut Report) {
    let small = Files::write(20_000, 4 << 10, "4 KiB");
    let clusters = start(report, small.dir(), 1);
    let planes: &Planes<'_> = &[("dataset", &[cpu(2.0)]), ("descriptors", &[cpu(1.5), wall(2.5)])];
    small.compare(report, &clusters, "sha256", peers::SHA256, planes);
    let planes: &Planes<'_> = &[("dataset", &[cpu(1.8)]), ("descriptors", &[cpu(1.35), wall(2.5)])];
    small.compare(report, &clusters, "blake3", peers::BLAKE3, planes);
    let middle = Files::write(2000, 256 << 10, "256 KiB");
    let clusters = start(report, middle.dir(), 1);
    middle.compare(report, &clusters, "sha256", peers::SHA256, &both(&[cpu(1.9)]));
}

/// Files that are hashed while they are read.
pub(crate) fn run_longer(report: &mut Report) {
    for (files, file_len, len) in [(200, 2 << 20, "2 MiB"), (24, 16 << 20, "16 MiB")] {
        let files = Files::write(files, file_len, len);
        let clusters = start(report, files.dir(), 1);
        files.compare(report, &clusters, "sha256", peers::SHA256, &both(&[cpu(1.6)]));
        files.compare(report, &clusters, "sha512", peers::SHA512, &both(&[cpu(2.0)]));
    }
}

/// BLAKE3 of large files, by two workers with one thread each.
pub(crate) fn run_large(report: &mut Report) {
    for files in [2, 1] {
        let files = Files::write(files, 1 << 30, "1 GiB");
        let clusters = start(report, files.dir(), 2);
        let planes: &Planes<'_> = &[("descriptors", &[wall(0.95)])];
        files.compare(report, &clusters, "blake3", B3SUM, planes);
    }
}

/// SHA-256 of two large files by one worker with one thread.
pub(crate) fn run_pair(report: &mut Report) {
    let files = Files::write(2, 1 << 30, "1 GiB");
    let clusters = start(report, files.dir(), 1);
    let planes: &Planes<'_> = &[("descriptors", &[cpu(1.8)])];
    files.compare(report, &clusters, "sha256", peers::SHA256, planes);
}

const fn both(goals: &[Goal]) -> [(&'static str, &[Goal]); 2] {
    [("dataset", goals), ("descriptors", goals)]
}

/// A cluster of workers with one thread that share `dir`; peers have as many threads.
fn start(report: &mut Report, dir: &Path, workers: usize) -> Sides<Cluster> {
    report.note(&peers::versions());
    report.note(&format!("threads that hash: ours {workers}, peers {workers}"));
    let datasets = vec![(DATASET, dir.to_owned())];
    Sides::start(&Options { workers, threads: 1, datasets, ..Options::default() })
}

impl Files {
    pub(crate) fn write(files: usize, file_len: u64, len: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let names = write_tree(dir.path(), files, file_len)
            .iter()
            .map(|path| path.strip_prefix(dir.path()).expect("below it").as_os_str().to_owned())
            .collect();
        Self { dir, names, len }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn title(&self, algorithm: &str) -> String {
        format!("{algorithm} of {} files of {}", self.names.len(), self.len)
    }

    fn compare(
        &self,
        report: &mut Report,
        clusters: &Sides<Cluster>,
        algorithm: &str,
        peers: &[Peer],
        planes: &Planes<'_>,
    ) {
        let way = |&(plane, goals): &(&'static str, &[Goal])| Way {
            name: format!("by {plane}"),
            goals: goals.to_vec(),
            runs: clusters.iter().map(|cluster| self.ours(cluster, algorithm, plane)).collect(),
        };
        let ways = planes.iter().map(way).collect();
        let rounds = if self.names.len() > 2 { ROUNDS } else { GIB_ROUNDS };
        let (what, dir, names) = (self.title(algorithm), self.dir(), &self.names);
        Contest { what, rounds, dir, names, ways, peers }.measure(report);
    }

    fn ours<'a>(&'a self, cluster: &'a Cluster, algorithm: &'a str, plane: &'a str) -> Run<'a> {
        Box::new(move || {
            let mut command = cluster.hashctl();
            command.args(["--plane", plane, "sum", "-a", algorithm]).args(&self.names);
            measure(command.current_dir(self.dir()), &cluster.pids())
        })
    }
}
