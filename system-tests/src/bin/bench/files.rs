//! 20,000 files of 4 KiB, page cache warm: total CPU time of client, controller and workers,
//! against the tools that people use.

use crate::report::{Report, Target, median, us};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use system_tests::{Cluster, Options, cpu_time, run_timed, write_tree};

const FILES: usize = 20_000;
const FILE_LEN: u64 = 4096;
const ROUNDS: usize = 15;

pub(crate) fn run(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let names: Vec<OsString> = write_tree(dir.path(), FILES, FILE_LEN)
        .iter()
        .map(|path| path.strip_prefix(dir.path()).expect("below it").as_os_str().to_owned())
        .collect();
    let cluster = Cluster::start(Options::default());
    let peers: [(&str, &[&str]); 3] =
        [("sha256sum", &[]), ("openssl", &["dgst", "-sha256"]), ("rhash", &["--sha256"])];
    compare(report, &cluster, dir.path(), &names, "sha256", &peers, 1.3);
    compare(report, &cluster, dir.path(), &names, "blake3", &[("b3sum", &[])], 1.2);
}

fn compare(
    report: &mut Report,
    cluster: &Cluster,
    dir: &Path,
    names: &[OsString],
    algorithm: &str,
    peers: &[(&str, &[&str])],
    target: f64,
) {
    let mut ours = Vec::new();
    let mut our_walls = Vec::new();
    let mut theirs = vec![Vec::new(); peers.len()];
    for round in 0..=ROUNDS {
        let (cpu, wall) = run_ours(cluster, dir, names, algorithm);
        let peer_cpu: Vec<f64> = peers
            .iter()
            .map(|(program, args)| {
                let mut command = Command::new(program);
                command.args(*args);
                per_file(run_peer(&mut command, dir, names))
            })
            .collect();
        if round > 0 {
            ours.push(cpu);
            our_walls.push(wall);
            theirs.iter_mut().zip(peer_cpu).for_each(|(all, one)| all.push(one));
        }
    }
    report.note(&format!(
        "{algorithm}: ours {:.2} us CPU a file ({:.2} us wall)",
        median(ours.clone()),
        median(our_walls)
    ));
    let mut best = f64::INFINITY;
    for ((program, _), times) in peers.iter().zip(&theirs) {
        report.note(&format!("{algorithm}: {program} {:.2} us CPU a file", median(times.clone())));
        let ratios = times.iter().zip(&ours).map(|(theirs, ours)| theirs / ours).collect();
        best = best.min(median(ratios));
    }
    report.check(
        &format!("{algorithm} of {FILES} files of 4 KiB, CPU of the best peer over ours"),
        best,
        "x",
        Target::AtLeast(target),
    );
}

fn per_file(time: Duration) -> f64 {
    us(time) / FILES as f64
}

fn run_peer(command: &mut Command, dir: &Path, names: &[OsString]) -> Duration {
    let spent = run_timed(command.args(names).current_dir(dir).stdout(Stdio::null()));
    assert!(spent.status.success(), "{:?}", command.get_program());
    spent.cpu
}

fn run_ours(cluster: &Cluster, dir: &Path, names: &[OsString], algorithm: &str) -> (f64, f64) {
    let daemons = || cluster.pids().into_iter().map(cpu_time).sum::<Duration>();
    let before = daemons();
    let mut command = cluster.hashctl();
    command.args(["sum", "-a", algorithm]).args(names).current_dir(dir).stdout(Stdio::null());
    let spent = run_timed(&mut command);
    assert!(spent.status.success(), "hashctl");
    (per_file(spent.cpu + daemons() - before), per_file(spent.wall))
}
