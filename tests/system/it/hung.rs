//! A file that never answers a read, through the real programs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_kit::{Cluster, DEADLINE, HungFile, Options, Running, bin, output, repository, until};

#[test]
fn a_file_that_never_answers_holds_up_no_other_job_and_its_worker_ends() {
    let hung = HungFile::new();
    let mut cluster = Cluster::start(Options::default());
    let mut stuck =
        cluster.hashctl().arg("sum").arg(hung.path()).stdout(Stdio::null()).spawn().unwrap();
    hung.wait_for_read();
    let sum = |cluster: &Cluster| {
        let start = Instant::now();
        let sum = output(cluster.hashctl().args(["sum", "/etc/passwd"]));
        assert!(sum.status.success() && start.elapsed() < Duration::from_secs(5), "{sum:?}");
    };
    (0..8).for_each(|_| sum(&cluster));
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    (0..8).for_each(|_| sum(&cluster));
    // The kernel does not end its process before the read ends, but its connection is closed.
    until("a worker leaves", || (cluster.status().workers.len() == 1).then_some(()));
    sum(&cluster);
    drop(hung);
    let [one, other] = &mut cluster.workers[..] else { panic!("two workers") };
    let ended =
        until("its process ends", || one.try_wait().unwrap().or_else(|| other.try_wait().unwrap()));
    assert_eq!(ended.code(), Some(3), "{}", cluster.logs());
}

#[test]
fn a_worker_in_a_file_that_never_answers_is_replaced() {
    let hung = HungFile::new();
    let dir = tempfile::tempdir().unwrap();
    let with_run = |command: &mut Command| {
        command.env("HASHCLUSTER_RUNTIME_DIR", dir.path().join("run"));
    };
    let mut up = Command::new(repository("run.sh"));
    with_run(up.args(["--local", "1"]));
    let mut up = Running::start(&mut up, DEADLINE);
    up.wait_for("are ready in");
    let hashctl = |args: &[&str]| {
        let mut hashctl = Command::new(bin("hashctl"));
        with_run(hashctl.args(args));
        hashctl
    };
    let path = hung.path().to_str().unwrap().to_owned();
    let stuck = Running::start(&mut hashctl(&["sum", &path]), DEADLINE);
    hung.wait_for_read();
    drop(stuck);
    up.wait_for("the system does not end its killed process");
    let sum = Running::start(&mut hashctl(&["sum", "/etc/passwd"]), DEADLINE).end();
    assert!(sum.status.success(), "{}", sum.stderr);
    let mut stop = Command::new(repository("scripts/stop.sh"));
    with_run(&mut stop);
    let stop = Running::start(&mut stop, DEADLINE).end();
    assert!(stop.status.success(), "{}", stop.stderr);
    assert!(up.end().status.success());
}
