//! Workers for programs, connected or not.

use ipc_proto::Algorithm;
use ipc_proto::message::{
    AlgorithmSpeed, DrainStatus, QuarantineStatus, Status, WorkerHealth, WorkerStatus,
};
use overview::worker_objects;
use serde_json::json;

#[test]
fn workers_that_are_out_of_service_are_listed_while_they_are_away() {
    let speeds = vec![AlgorithmSpeed { algorithm: Algorithm::Sha256, bytes_per_s: 7 }];
    let here = WorkerStatus {
        name: "w1".to_owned(),
        health: WorkerHealth::Draining,
        host: "h".to_owned(),
        speeds,
        ..WorkerStatus::default()
    };
    let drain = |worker: &str, connected| DrainStatus {
        worker: worker.to_owned(),
        by: "uid 0".to_owned(),
        connected,
        ..DrainStatus::default()
    };
    let liar = QuarantineStatus {
        worker: "w3".to_owned(),
        reason: "it lied".to_owned(),
        ..QuarantineStatus::default()
    };
    let status = Status {
        workers: vec![here],
        drained: vec![drain("w1", true), drain("w2", false), drain("w3", false)],
        quarantined: vec![liar],
        ..Status::default()
    };
    let objects = worker_objects(&status);
    let of = |key: &str| objects.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("name"), ["w1", "w2", "w3"]);
    assert_eq!(of("connected"), [true, false, false]);
    assert_eq!(of("health"), ["draining", "draining", "quarantined"]);
    assert!(of("drain").iter().all(|drain| drain["by"] == "uid 0"), "{objects:?}");
    assert_eq!(objects[2]["quarantine"]["reason"], "it lied");
    assert_eq!(
        (&objects[0]["host"], &objects[0]["speeds"]),
        (&json!("h"), &json!({ "sha256": 7 }))
    );
}
