//! Cross-checks with real workers, and one that lies.

use ipc_proto::message::{WorkerHealth, WorkerStatus};
use serde_json::Value;
use std::path::Path;
use std::thread;
use std::time::Duration;
use test_kit::{Cluster, FakeWorker, Options, oracle, output, text, until, write_file, write_tree};

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Hashes everything in `dir`, all of it checked, beside a worker that lies, and holds it against the
/// tool; how many batches the liar was given.
fn sum_beside_a_liar(cluster: &Cluster, dir: &Path) -> u64 {
    let mut liar = FakeWorker::join(cluster, "liar");
    liar.give_credit(4);
    until("the liar to be there", || liar_row(cluster).map(drop));
    thread::scope(|scope| {
        let sum = scope.spawn(|| {
            // Nobody can change bytes inside messages: a wrong digest of them is a lie.
            let args = ["sum", "-r", "--plane", "inline", "--cross-check", "1/1", "."];
            output(cluster.hashctl().args(args).current_dir(dir))
        });
        let batches = liar.serve(0xee, Duration::from_millis(20), || {
            let is_over = sum.is_finished();
            let health = || liar_row(cluster).map(|row| row.health);
            assert!(!is_over || health() == Some(WorkerHealth::Quarantined));
            is_over
        });
        let sum = sum.join().unwrap();
        assert_eq!(
            sorted(&text(&sum.stdout)),
            sorted(&text(&oracle("sha256sum", dir, ".").stdout))
        );
        assert_eq!((sum.status.code(), text(&sum.stderr)), (Some(0), String::new()));
        batches
    })
}

fn liar_row(cluster: &Cluster) -> Option<WorkerStatus> {
    cluster.status().workers.into_iter().find(|worker| worker.name == "liar")
}

/// The liar in what `hashctl status --json` says of quarantine.
fn quarantined(cluster: &Cluster) -> Option<Value> {
    let status = output(cluster.hashctl().args(["status", "--json"]));
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let rows = status["quarantined"].as_array().unwrap();
    rows.iter().find(|row| row["worker"] == "liar").cloned()
}

#[test]
fn a_worker_that_lies_is_found_and_gets_no_work_until_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let _ = write_tree(dir.path(), 400, 3000);
    let cluster = Cluster::start(Options::default());
    assert!(sum_beside_a_liar(&cluster, dir.path()) > 0, "nobody knows it yet");
    let status = cluster.status();
    let healthy = status.workers.iter().filter(|worker| worker.health == WorkerHealth::Ready);
    assert_eq!(healthy.count(), 2, "the workers that were contradicted are not blamed");
    assert!(status.counters.items_contradicted > 0);
    let row = quarantined(&cluster).expect("it is in quarantine");
    assert!(row["reason"].as_str().unwrap().contains("a cross-check contradicts it"), "{row}");
    until("the liar to leave", || liar_row(&cluster).is_none().then_some(()));
    assert_eq!(quarantined(&cluster).expect("it stays")["connected"], false);

    assert_eq!(sum_beside_a_liar(&cluster, dir.path()), 0, "it came back, and is known");
    let logs = cluster.logs();
    assert!(logs.contains("worker liar connects again and is given no work"), "{logs}");
    until("the liar to leave", || liar_row(&cluster).is_none().then_some(()));

    let release = || output(cluster.hashctl().args(["release", "liar"]));
    let released = release();
    assert_eq!(
        (text(&released.stdout), released.status.code()),
        ("liar is released\n".into(), Some(0))
    );
    assert_eq!(quarantined(&cluster), None);
    assert!(cluster.logs().contains("worker liar is released by uid "), "{}", cluster.logs());
    assert_eq!(release().status.code(), Some(1), "it is in no quarantine any more");
    assert!(sum_beside_a_liar(&cluster, dir.path()) > 0, "it is given work, and lies again");
    assert!(quarantined(&cluster).is_some());
}

#[test]
fn a_cross_check_of_everything_agrees_whatever_the_algorithm_and_the_length() {
    let dir = tempfile::tempdir().unwrap();
    for len in 0..150 {
        write_file(&dir.path().join(len.to_string()), len * len, len);
    }
    write_file(&dir.path().join("large"), (24 << 20) + 77, 5);
    let controller_args = vec!["--cross-check=1/1".to_owned()];
    let options = Options { controller_args, ..Options::default() };
    let cluster = Cluster::start(options);
    for (algorithm, tool) in [("sha256", "sha256sum"), ("sha512", "sha512sum"), ("blake3", "b3sum")]
    {
        let args = ["sum", "-r", "-a", algorithm, "."];
        let sum = output(cluster.hashctl().args(args).current_dir(dir.path()));
        let want = text(&oracle(tool, dir.path(), ".").stdout);
        assert_eq!(sorted(&text(&sum.stdout)), sorted(&want), "{}", text(&sum.stderr));
        assert_eq!(sum.status.code(), Some(0));
    }
    let counters = cluster.status().counters;
    assert!(counters.items_checked >= 3 * 151, "{counters:?}");
    assert_eq!((counters.items_contradicted, counters.workers_quarantined), (0, 0));
}
