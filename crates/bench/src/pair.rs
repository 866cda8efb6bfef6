//! Two files of 1 GiB, SHA-256, page cache warm, on one core: total CPU time of client, controller
//! and a worker of one thread, against the tools that people use run over both.

use crate::report::{Report, Target, median};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use test_kit::{Cluster, Options, cpu_time, run_timed, write_file};

const LEN: u64 = 1 << 30;
const ROUNDS: usize = 7;
const NAMES: [&str; 2] = ["one", "two"];
const TARGET: f64 = 1.8;

pub(crate) fn run(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, seed) in NAMES.into_iter().zip(1..) {
        write_file(&dir.path().join(name), LEN, seed);
    }
    let cluster = Cluster::start(Options { workers: 1, threads: 1, ..Options::default() });
    let peers: [(&str, &[&str]); 3] =
        [("sha256sum", &[]), ("openssl", &["dgst", "-sha256"]), ("rhash", &["--sha256"])];
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    let mut theirs = vec![Vec::new(); peers.len()];
    for round in 0..=ROUNDS {
        let pair = run_ours(&cluster, dir.path(), &NAMES);
        let one = run_ours(&cluster, dir.path(), &NAMES[..1]);
        let peer_cpu = peers.map(|(program, args)| {
            let mut command = Command::new(program);
            command.args(args).args(NAMES).current_dir(dir.path()).stdout(Stdio::null());
            let spent = run_timed(&mut command);
            assert!(spent.status.success(), "{program}");
            ms(spent.cpu)
        });
        if round > 0 {
            ours.push(pair);
            alone.push(2.0 * one);
            theirs.iter_mut().zip(peer_cpu).for_each(|(all, one)| all.push(one));
        }
    }
    report.note(&format!(
        "ours {:.0} ms CPU for both, twice one alone {:.0} ms",
        median(ours.clone()),
        median(alone)
    ));
    let mut best = f64::INFINITY;
    for ((program, _), times) in peers.iter().zip(&theirs) {
        report.note(&format!("{program} {:.0} ms CPU for both", median(times.clone())));
        let ratios = times.iter().zip(&ours).map(|(theirs, ours)| theirs / ours).collect();
        best = best.min(median(ratios));
    }
    report.check(
        "2 files of 1 GiB, SHA-256, on one core, CPU of the best peer over ours",
        best,
        "x",
        Target::AtLeast(TARGET),
    );
}

fn run_ours(cluster: &Cluster, dir: &Path, names: &[&str]) -> f64 {
    let daemons = || cluster.pids().into_iter().map(cpu_time).sum::<Duration>();
    let before = daemons();
    let mut command = cluster.hashctl();
    command.args(["sum", "-a", "sha256"]).args(names).current_dir(dir).stdout(Stdio::null());
    let spent = run_timed(&mut command);
    assert!(spent.status.success(), "hashctl");
    ms(spent.cpu + daemons() - before)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
