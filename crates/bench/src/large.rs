//! Files of 1 GiB, BLAKE3, page cache warm, against b3sum with as many threads.

use crate::report::{Report, Target, median};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use test_kit::{Cluster, Options, cpu_time, run_timed, write_file};

const LEN: u64 = 1 << 30;
const ROUNDS: usize = 15;
const THREADS: usize = 2;

pub(crate) fn run(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write_file(&dir.path().join("one"), LEN, 1);
    write_file(&dir.path().join("two"), LEN, 2);
    let cluster = Cluster::start(Options { workers: THREADS, ..Options::default() });
    for names in [&["one", "two"][..], &["one"][..]] {
        compare(report, &cluster, dir.path(), names);
    }
}

fn compare(report: &mut Report, cluster: &Cluster, dir: &Path, names: &[&str]) {
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    let (mut our_wall, mut their_wall) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let daemons = || cluster.pids().into_iter().map(cpu_time).sum::<Duration>();
        let before = daemons();
        let mut command = cluster.hashctl();
        let ours = command.args(["sum", "-a", "blake3"]).args(names).current_dir(dir);
        let ours = run_timed(ours.stdout(Stdio::null()));
        let our_cpu = ours.cpu + daemons() - before;
        let mut command = Command::new("b3sum");
        let theirs = command.args(["--num-threads", &THREADS.to_string()]).args(names);
        let theirs = run_timed(theirs.current_dir(dir).stdout(Stdio::null()));
        assert!(ours.status.success() && theirs.status.success());
        if round > 0 {
            walls.push(theirs.wall.as_secs_f64() / ours.wall.as_secs_f64());
            cpus.push(theirs.cpu.as_secs_f64() / our_cpu.as_secs_f64());
            our_wall.push(ours.wall.as_secs_f64() * 1e3);
            their_wall.push(theirs.wall.as_secs_f64() * 1e3);
        }
    }
    let what = format!("{} file(s) of 1 GiB, BLAKE3, {THREADS} threads", names.len());
    let (ours, theirs) = (median(our_wall), median(their_wall));
    report.note(&format!("{what}: ours {ours:.0} ms, b3sum {theirs:.0} ms on the wall"));
    report.note(&format!("{what}: CPU of b3sum over ours {:.2}x", median(cpus)));
    report.check(
        &format!("{what}, wall of b3sum over ours"),
        median(walls),
        "x",
        Target::AtLeast(0.95),
    );
}
