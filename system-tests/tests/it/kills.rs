//! Workers that die at any moment while a tree is hashed.

use crate::support::{DEADLINE, finish, output, spawn, text, until};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::process::{Command, Stdio};
use system_tests::{Cluster, Options, Random, signal, wait_for, write_file, write_tree};

const KILLS: usize = 100;

/// Two, as losing three different workers is a verdict on the item: with more of them a hundred
/// kills within seconds would meet some file three times, and rightly be reported.
const WORKERS: u64 = 2;

/// Items that are resolved between two kills, at most.
const ITEMS_BETWEEN: u64 = 200;

#[test]
fn a_hundred_kills_while_a_tree_is_hashed_lose_nothing_and_falsify_nothing() {
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut paths = write_tree(dir.path(), 4000, 3000);
    for i in 0..4 {
        let path = dir.path().join(format!("large{i}"));
        write_file(&path, 24 << 20, i);
        paths.insert(usize::try_from(random.below(4000)).unwrap(), path);
    }
    let want = output(Command::new("sha256sum").args(&paths)).stdout;
    let workers = usize::try_from(WORKERS).unwrap();
    let mut cluster = Cluster::start(Options { workers, ..Options::default() });
    let mut kills = 0;
    while kills < KILLS {
        let out = dir.path().join("out");
        let mut sum = cluster.hashctl();
        let mut run = spawn(sum.arg("sum").args(&paths).stdout(File::create(&out).unwrap()));
        loop {
            let items = cluster.status().counters.items + random.below(ITEMS_BETWEEN);
            let is_over = until("progress", || {
                let is_over = run.try_wait().unwrap().is_some();
                (is_over || cluster.status().counters.items > items).then_some(is_over)
            });
            if is_over {
                break;
            }
            cluster.replace_worker(usize::try_from(random.below(WORKERS)).unwrap());
            kills += 1;
        }
        let run = finish(run);
        assert_eq!(run.status.code(), Some(0), "after {kills} kills: {}", text(&run.stderr));
        let is_same = fs::read(&out).unwrap() == want;
        assert!(is_same, "wrong or lost lines after {kills} kills");
    }
    assert!(cluster.status().counters.attempts_lost > 10);
}

#[test]
fn a_worker_that_is_told_to_stop_leaves_its_work_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_tree(dir.path(), 10_000, 2000);
    let want = text(&output(Command::new("sha256sum").args(&paths)).stdout);
    let mut cluster = Cluster::start(Options { workers: 3, ..Options::default() });
    let mut sum = cluster.hashctl();
    // More than the pipe and the job's window take: it cannot be over before its output is read.
    let run = spawn(sum.arg("sum").args(&paths).stdout(Stdio::piped()));
    until("progress", || (cluster.status().counters.items > 0).then_some(()));
    for worker in &cluster.workers[..2] {
        signal(worker, Signal::SIGTERM);
    }
    let run = finish(run);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(text(&run.stdout) == want, "wrong or lost lines");
    for worker in &mut cluster.workers[..2] {
        assert!(wait_for(worker, DEADLINE).success());
    }
    assert_eq!(cluster.status().workers.len(), 1);
}
