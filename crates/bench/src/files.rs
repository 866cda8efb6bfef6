//! Files of all lengths but the longest, page cache warm: total CPU time of client, controller and
//! workers, and wall time, by descriptors and by names, against the tools that people use.

use crate::contest::{Run, interleave, measure_on};
use crate::peers::{self, Peer};
use crate::report::{Report, Target};
use crate::sides::Sides;
use std::ffi::OsString;
use std::path::Path;
use test_kit::{Cluster, Options, write_tree};

const ROUNDS: usize = 15;

/// The directory's name among datasets.
const DATASET: &str = "files";

/// Files of one length.
struct Files<'a> {
    dir: &'a Path,
    names: Vec<OsString>,
    /// Such as `4 KiB`.
    len: &'static str,
}

/// A plane by its name in `hashctl`, with the least ratios of the best peer's times over ours.
struct Goal {
    plane: &'static str,
    cpu: f64,
    wall: Option<f64>,
}

const fn cpu(plane: &'static str, cpu: f64) -> Goal {
    Goal { plane, cpu, wall: None }
}

pub(crate) fn run(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let small = Files::write(dir.path(), "small", 20_000, 4 << 10, "4 KiB");
    let middle = Files::write(dir.path(), "middle", 2000, 256 << 10, "256 KiB");
    let clusters = start(report, dir.path());
    let goals = [cpu("dataset", 2.0), Goal { plane: "descriptors", cpu: 1.5, wall: Some(2.5) }];
    small.compare(report, &clusters, "sha256", peers::SHA256, &goals);
    let goals = [cpu("dataset", 1.8), Goal { plane: "descriptors", cpu: 1.35, wall: Some(2.5) }];
    small.compare(report, &clusters, "blake3", peers::BLAKE3, &goals);
    let goals = ["dataset", "descriptors"].map(|plane| cpu(plane, 1.9));
    middle.compare(report, &clusters, "sha256", peers::SHA256, &goals);
}

/// Files that are hashed while they are read.
pub(crate) fn run_longer(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let all = [
        Files::write(dir.path(), "short", 200, 2 << 20, "2 MiB"),
        Files::write(dir.path(), "long", 24, 16 << 20, "16 MiB"),
    ];
    let clusters = start(report, dir.path());
    for files in all {
        let goals = |ratio| ["dataset", "descriptors"].map(|plane| cpu(plane, ratio));
        files.compare(report, &clusters, "sha256", peers::SHA256, &goals(1.6));
        files.compare(report, &clusters, "sha512", peers::SHA512, &goals(2.0));
    }
}

/// A cluster of one worker with one thread, as peers have one, that shares `dir`.
fn start(report: &mut Report, dir: &Path) -> Sides<Cluster> {
    report.note(&peers::versions());
    report.note("threads that hash: ours 1, peers 1");
    let datasets = vec![(DATASET, dir.to_owned())];
    Sides::start(&Options { workers: 1, threads: 1, datasets, ..Options::default() })
}

impl<'a> Files<'a> {
    fn write(dir: &'a Path, below: &str, files: usize, file_len: u64, len: &'static str) -> Self {
        let names = write_tree(&dir.join(below), files, file_len)
            .iter()
            .map(|path| path.strip_prefix(dir).expect("below it").as_os_str().to_owned())
            .collect();
        Self { dir, names, len }
    }

    fn compare(
        &self,
        report: &mut Report,
        clusters: &Sides<Cluster>,
        algorithm: &'static str,
        peers: &'static [Peer],
        goals: &[Goal],
    ) {
        let mut runs: Vec<Run<'_>> = Vec::new();
        for cluster in clusters.iter() {
            runs.extend(goals.iter().map(|goal| self.ours(cluster, algorithm, goal.plane)));
        }
        for &peer in peers {
            runs.push(Box::new(move || peers::run(peer, self.dir, &self.names)));
        }
        let series = interleave(ROUNDS, &mut runs);
        let (ours, rest) = series.split_at(goals.len());
        let (others, theirs) = rest.split_at(rest.len() - peers.len());
        let (files, len) = (self.names.len(), self.len);
        let what = format!("{algorithm} of {files} files of {len}");
        peers::note(report, &what, peers, theirs, files);
        for (i, (goal, ours)) in goals.iter().zip(ours).enumerate() {
            let what = format!("{what} by {}", goal.plane);
            report.note(&format!("{what}: {}", peers::per_file(ours, files)));
            let (cpu, wall) = peers::best_over(ours, theirs);
            let row = format!("{what}, CPU of the best peer over ours");
            report.check(&row, cpu, "x", Target::AtLeast(goal.cpu));
            if let Some(least) = goal.wall {
                let row = format!("{what}, wall of the best peer over ours");
                report.check(&row, wall, "x", Target::AtLeast(least));
            }
            if let Some(other) = others.get(i) {
                report.compare_series(&what, other, ours);
            }
        }
    }

    fn ours<'b>(&'b self, cluster: &'b Cluster, algorithm: &'b str, plane: &'b str) -> Run<'b> {
        Box::new(move || {
            let mut command = cluster.hashctl();
            command.args(["--plane", plane, "sum", "-a", algorithm]).args(&self.names);
            measure_on(cluster, command.current_dir(self.dir))
        })
    }
}
