//! Items of durable jobs whose workers are lost: the journal keeps the reasons until they have another result.

use crate::played::Played;
use hashcluster_controller::journal::Storage;
use ipc_proto::message::{
    DeadItem, Failure, JobAct, LossCause, ServiceReply, ServiceRequest, WorkerLoss,
};

fn losses() -> Vec<WorkerLoss> {
    let loss = |worker: &str, cause| WorkerLoss { worker: worker.to_owned(), cause };
    vec![
        loss("w1", LossCause::Disconnected),
        loss("w2", LossCause::Expired),
        loss("w3", LossCause::Silent),
    ]
}

fn dead(index: u64, name: &[u8]) -> DeadItem {
    DeadItem { index, name: name.into(), losses: losses() }
}

const LOST: Failure = Failure::WorkersLost { attempts: 3 };

#[test]
fn the_reasons_of_dead_items_outlive_the_controller_until_a_retry_finds_their_digest() {
    let mut played = Played::new();
    let job = played.submit();
    played.die(0, losses());
    played.die(2, losses());
    played.resolve(vec![(0, LOST), (2, LOST)]);
    let both = vec![dead(0, b"a"), dead(2, b"c")];
    assert_eq!(played.dead(job, 0, 9), (both.clone(), false));
    played.restart();
    assert_eq!(played.dead(job, 0, 9), (both, false));
    // Read in pages.
    assert_eq!(played.dead(job, 0, 1), (vec![dead(0, b"a")], true));
    assert_eq!(played.dead(job, 1, 1), (vec![dead(2, b"c")], false));
    // The first of the two has a digest now, the other one is dead again.
    played.ask(ServiceRequest::Act { job, act: JobAct::Retry });
    assert_eq!(played.handed, 2);
    played.die(1, losses());
    played.resolve(vec![(1, LOST)]);
    assert_eq!(played.dead(job, 0, 9), (vec![dead(2, b"c")], false));
    // Another failure is no death.
    played.ask(ServiceRequest::Act { job, act: JobAct::Retry });
    played.resolve(vec![(0, Failure::Io { errno: 5 })]);
    assert_eq!(played.dead(job, 0, 9), (vec![], false));
}

#[test]
fn a_removed_job_leaves_no_reasons_behind() {
    let mut played = Played::new();
    let job = played.submit();
    played.die(0, losses());
    played.resolve(vec![(0, LOST)]);
    played.ask(ServiceRequest::Act { job, act: JobAct::Remove });
    let table = hashcluster_controller::journal::TableId::Deaths;
    let rows = played.storage.snapshot().unwrap().range(table, &[], &[], 1 << 20).unwrap();
    assert_eq!(rows.rows, []);
    let ServiceReply::Refused { .. } =
        played.ask(ServiceRequest::Deaths { job, from: 0, limit: 1 })
    else {
        panic!("there is no such job")
    };
}
