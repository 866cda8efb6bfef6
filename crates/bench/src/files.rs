//! Files of all lengths but the longest, page cache warm: total CPU time of client, controller and workers, by
//! descriptors and by names, against the tools that people use.

use crate::report::{Report, Target, median, us};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use test_kit::{Cluster, Options, cpu_time, run_timed, write_tree};

const ROUNDS: usize = 15;

/// What the directory is called among datasets.
const DATASET: &str = "files";

/// Files of one length.
struct Files<'a> {
    dir: &'a Path,
    names: Vec<OsString>,
    /// Such as `4 KiB`.
    len: &'static str,
}

/// A program and its arguments before the names.
type Peer = (&'static str, &'static [&'static str]);

const SHA256_PEERS: [Peer; 3] =
    [("sha256sum", &[]), ("openssl", &["dgst", "-sha256"]), ("rhash", &["--sha256"])];
const SHA512_PEERS: [Peer; 3] =
    [("sha512sum", &[]), ("openssl", &["dgst", "-sha512"]), ("rhash", &["--sha512"])];
const BLAKE3_PEERS: [Peer; 1] = [("b3sum", &[])];

/// A plane, as `hashctl` calls it, and how many times the CPU time of ours the best peer is to take.
type Goal = (&'static str, f64);

pub(crate) fn run(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let small = Files::write(dir.path(), "small", 20_000, 4 << 10, "4 KiB");
    let middle = Files::write(dir.path(), "middle", 2000, 256 << 10, "256 KiB");
    let datasets = vec![(DATASET, dir.path().to_owned())];
    let cluster = Cluster::start(Options { workers: 1, datasets, ..Options::default() });
    cluster.link_datasets();
    small.compare(
        report,
        &cluster,
        "sha256",
        &SHA256_PEERS,
        [("dataset", 2.0), ("descriptors", 1.7)],
    );
    small.compare(
        report,
        &cluster,
        "blake3",
        &BLAKE3_PEERS,
        [("dataset", 1.8), ("descriptors", 1.5)],
    );
    middle.compare(
        report,
        &cluster,
        "sha256",
        &SHA256_PEERS,
        [("dataset", 1.6), ("descriptors", 1.6)],
    );
}

/// Files that are hashed while they are read.
pub(crate) fn run_longer(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let all = [
        Files::write(dir.path(), "short", 200, 2 << 20, "2 MiB"),
        Files::write(dir.path(), "long", 24, 16 << 20, "16 MiB"),
    ];
    let datasets = vec![(DATASET, dir.path().to_owned())];
    let cluster = Cluster::start(Options { workers: 1, datasets, ..Options::default() });
    cluster.link_datasets();
    for files in all {
        let goals = |goal| [("dataset", goal), ("descriptors", goal)];
        files.compare(report, &cluster, "sha256", &SHA256_PEERS, goals(1.6));
        files.compare(report, &cluster, "sha512", &SHA512_PEERS, goals(2.0));
    }
}

impl<'a> Files<'a> {
    fn write(dir: &'a Path, below: &str, files: usize, file_len: u64, len: &'static str) -> Self {
        let names = write_tree(&dir.join(below), files, file_len)
            .iter()
            .map(|path| path.strip_prefix(dir).expect("below it").as_os_str().to_owned())
            .collect();
        Self { dir, names, len }
    }

    /// All contenders by turns, so that what the machine does meanwhile hits all of them.
    fn compare<const PLANES: usize>(
        &self,
        report: &mut Report,
        cluster: &Cluster,
        algorithm: &str,
        peers: &[Peer],
        goals: [Goal; PLANES],
    ) {
        let mut ours = [const { Vec::new() }; PLANES];
        let mut our_walls = [const { Vec::new() }; PLANES];
        let mut theirs = vec![Vec::new(); peers.len()];
        for round in 0..=ROUNDS {
            let own = goals.map(|(plane, _)| self.run_ours(cluster, algorithm, plane));
            let peer_cpu: Vec<f64> = peers.iter().map(|peer| self.run_peer(*peer)).collect();
            if round > 0 {
                for (i, (cpu, wall)) in own.into_iter().enumerate() {
                    ours[i].push(cpu);
                    our_walls[i].push(wall);
                }
                theirs.iter_mut().zip(peer_cpu).for_each(|(all, one)| all.push(one));
            }
        }
        let what = format!("{algorithm} of {} files of {}", self.names.len(), self.len);
        for ((program, _), times) in peers.iter().zip(&theirs) {
            report.note(&format!("{what}: {program} {:.2} us CPU a file", median(times.clone())));
        }
        for (((plane, goal), ours), walls) in goals.iter().zip(&ours).zip(our_walls) {
            let (cpu, wall) = (median(ours.clone()), median(walls));
            report.note(&format!("{what} by {plane}: {cpu:.2} us CPU a file ({wall:.2} us wall)"));
            let ratio = |times: &Vec<f64>| {
                median(times.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect())
            };
            let best = theirs.iter().map(ratio).fold(f64::INFINITY, f64::min);
            let row = format!("{what} by {plane}, CPU of the best peer over ours");
            report.check(&row, best, "x", Target::AtLeast(*goal));
        }
    }

    fn per_file(&self, time: Duration) -> f64 {
        us(time) / self.names.len() as f64
    }

    fn run_peer(&self, (program, args): Peer) -> f64 {
        let mut command = Command::new(program);
        let command = command.args(args).args(&self.names).current_dir(self.dir);
        let spent = run_timed(command.stdout(Stdio::null()));
        assert!(spent.status.success(), "{program}");
        self.per_file(spent.cpu)
    }

    /// CPU time of all processes, and time on the wall.
    fn run_ours(&self, cluster: &Cluster, algorithm: &str, plane: &str) -> (f64, f64) {
        let daemons = || cluster.pids().into_iter().map(cpu_time).sum::<Duration>();
        let before = daemons();
        let mut command = cluster.hashctl();
        command.args(["--plane", plane, "sum", "-a", algorithm]).args(&self.names);
        let spent = run_timed(command.current_dir(self.dir).stdout(Stdio::null()));
        assert!(spent.status.success(), "hashctl");
        (self.per_file(spent.cpu + daemons() - before), self.per_file(spent.wall))
    }
}
