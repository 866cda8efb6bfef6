//! A file that never answers a read, through the real programs.

use std::process::Stdio;
use std::time::{Duration, Instant};
use test_kit::{Cluster, HungFile, Options, output, until};

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
