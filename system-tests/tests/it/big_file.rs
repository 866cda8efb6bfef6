//! One large file over all workers.

use crate::support::{finish, output, spawn, text, until};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use system_tests::{Cluster, Options, write_file};

const MIB: u64 = 1 << 20;

fn b3sum(path: &Path) -> String {
    let sum = output(Command::new("b3sum").arg(path));
    assert!(sum.status.success(), "{}", text(&sum.stderr));
    text(&sum.stdout)
}

#[test]
fn a_large_file_is_split_over_all_workers_and_its_root_is_the_plain_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    for (workers, len) in [(3, 300 * MIB + 12_345), (2, 256 * MIB)] {
        write_file(&path, len, len);
        let want = b3sum(&path);
        let cluster = Cluster::start(Options { workers, ..Options::default() });
        let sum = output(cluster.hashctl().args(["sum", "-a", "blake3"]).arg(&path));
        assert_eq!(text(&sum.stdout), want, "{}", text(&sum.stderr));
        let status = cluster.status();
        let is_used = status.workers.iter().all(|worker| worker.bytes > 16 * MIB);
        assert!(is_used, "{:?}", status.workers);
    }
}

#[test]
fn a_file_with_holes_has_the_root_of_its_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holes");
    let mut file = File::create(&path).unwrap();
    for (position, bytes) in [(0, "start"), (150 * MIB - 2, "over a border"), (700 * MIB, "end")] {
        file.seek(SeekFrom::Start(position)).unwrap();
        file.write_all(bytes.as_bytes()).unwrap();
    }
    let cluster = Cluster::start(Options::default());
    let sum = output(cluster.hashctl().args(["sum", "-a", "blake3"]).arg(&path));
    assert_eq!(text(&sum.stdout), b3sum(&path), "{}", text(&sum.stderr));
}

#[test]
fn a_worker_killed_in_the_middle_of_a_large_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    write_file(&path, 600 * MIB + 1, 7);
    let want = b3sum(&path);
    let mut cluster = Cluster::start(Options { workers: 3, ..Options::default() });
    let mut runs = 0;
    // A kill can come just after the last answer of its worker: then it took nothing.
    while cluster.status().counters.attempts_lost < 3 {
        let before = cluster.status().counters.leases;
        let mut sum = cluster.hashctl();
        let run = spawn(sum.args(["sum", "-a", "blake3"]).arg(&path).stdout(Stdio::piped()));
        until("work", || (cluster.status().counters.leases > before + 3).then_some(()));
        cluster.replace_worker(runs % 3);
        let run = finish(run);
        assert_eq!((run.status.code(), text(&run.stdout)), (Some(0), want.clone()));
        runs += 1;
        assert!(runs < 30, "no kill in {runs} runs took a lease");
    }
}
