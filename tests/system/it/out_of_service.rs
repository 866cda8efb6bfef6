//! Workers that are drained or in quarantine, and controllers that are killed meanwhile.

use serde_json::Value;
use std::fs;
use test_kit::{Cluster, DEADLINE, FakeWorker, Options, Running, output, text, until};

/// The workers of `hashctl get workers --json`: their names, with `health`, `connected` and the whole row.
fn workers(cluster: &Cluster) -> Vec<Value> {
    let listed = output(cluster.hashctl().args(["get", "workers", "--json"]));
    assert!(listed.status.success(), "{listed:?}");
    text(&listed.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn restart(cluster: &mut Cluster) {
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    cluster.restart_controller();
}

#[test]
fn drained_and_quarantined_workers_are_so_for_the_next_controller_when_one_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let mut cluster = Cluster::start(Options {
        workers: 0,
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    let done = |cluster: &Cluster, args: &[&str]| {
        let done = output(cluster.hashctl().args(args));
        assert_eq!(done.status.code(), Some(0), "{args:?}: {done:?}");
        text(&done.stdout)
    };

    // Its answers have the length of SHA-256.
    let mut liar = FakeWorker::join(&cluster, "liar");
    let sum = Running::start(
        cluster.hashctl().args(["--plane", "inline", "sum", "-a", "sha512"]).arg(&file),
        DEADLINE,
    );
    liar.give_credit(1);
    let lease = liar.next_lease();
    liar.finish(lease, 7);
    until("the quarantine", || (!cluster.status().quarantined.is_empty()).then_some(()));
    drop((sum, liar));
    let worker = cluster.spawn_worker(0);
    cluster.workers.push(worker);
    cluster.wait_ready(1);
    // The answer comes when it is durable, with all that was before.
    assert_eq!(done(&cluster, &["drain", "--deadline", "1h", "w0"]), "w0 is drained\n");
    cluster.workers[0].kill().unwrap();
    cluster.workers[0].wait().unwrap();
    restart(&mut cluster);

    let [liar, drained] = &workers(&cluster)[..] else { panic!("{:?}", workers(&cluster)) };
    assert_eq!((&liar["name"], &liar["health"]), (&"liar".into(), &"quarantined".into()));
    let reason = liar["quarantine"]["reason"].as_str().unwrap();
    assert!(reason.contains("has the wrong form"), "{reason}");
    assert_eq!((&drained["name"], &drained["health"]), (&"w0".into(), &"draining".into()));
    assert!(drained["drain"]["by"].as_str().unwrap().starts_with("uid "), "{drained}");
    let left_ms = drained["drain"]["left_ms"].as_u64().unwrap();
    assert!(
        (3_500_000..=3_600_000).contains(&left_ms),
        "the deadline is that of before: {left_ms}"
    );
    for row in [liar, drained] {
        assert_eq!(row["connected"], false, "{row}");
    }
    let table = done(&cluster, &["get", "workers"]);
    assert!(table.contains("quarantined, away") && table.contains("drained, away"), "{table}");

    cluster.workers[0] = cluster.spawn_worker(0);
    until("the worker to be back", || (!cluster.status().workers.is_empty()).then_some(()));
    let sum = cluster.hashctl().args(["sum", "--timeout", "1"]).arg(&file).output().unwrap();
    assert_eq!(sum.status.code(), Some(3), "nobody is given work: {sum:?}");
    assert_eq!(done(&cluster, &["undrain", "w0"]), "w0 is given work again\n");
    assert_eq!(done(&cluster, &["release", "liar"]), "liar is released\n");
    restart(&mut cluster);
    cluster.wait_ready(1);
    let [ready] = &workers(&cluster)[..] else { panic!("{:?}", workers(&cluster)) };
    assert_eq!((&ready["name"], &ready["health"]), (&"w0".into(), &"ready".into()));
    done(&cluster, &["sum", file.to_str().unwrap()]);
}
