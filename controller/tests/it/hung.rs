//! Files that never answer a read, and the workers that read them.

use crate::tables::{JOB, Table, files, job, results, table};
use hashcluster_controller::core::Core;
use ipc_proto::Algorithm;
use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, LossCause, Run, WorkerHealth, WorkerReply,
};

/// Time passes, and these workers live.
fn pass(table: &mut Table, seconds: u64, workers: &[u64]) {
    for _ in 0..4 * seconds {
        workers.iter().for_each(|&worker| table.hear(worker, WorkerReply::Heartbeat));
        table.wait(Core::<u64>::TICK);
    }
}

#[test]
fn a_worker_that_does_not_come_back_from_a_revoked_lease_gets_no_work_and_is_suspended() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    assert_eq!(table.assigned().len(), 1);
    table.say(ClientRequest::Cancel { job: JOB }, &[]);
    table.open(Algorithm::Sha256);
    table.say(files(job(1), 0, &[10]), &[0]);
    let health = |table: &Table| table.core.status(table.now, 9).workers[0].health;
    assert_eq!(health(&table), WorkerHealth::Ready, "it may come back at once");
    pass(&mut table, 3, &[1]);
    assert_eq!((table.assigned().len(), health(&table)), (0, WorkerHealth::Suspended));
    table.hear(1, WorkerReply::Credit { batches: 1 });
    table.wait(Core::<u64>::TICK);
    assert_eq!((table.assigned().len(), health(&table)), (1, WorkerHealth::Ready));
}

#[test]
fn a_file_behind_one_that_never_answers_goes_to_another_worker_within_seconds() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    table.send_files(1, &[10]);
    let both: Vec<_> =
        table.assigned().into_iter().map(|(worker, _, files)| (worker, files)).collect();
    assert_eq!(both, [(1, vec![0]), (1, vec![1])], "the second waits for the first");
    table.join(2, 1);
    pass(&mut table, 3, &[1, 2]);
    let [(2, lease, files)] = &table.assigned()[..] else { panic!("the other worker has it") };
    assert_eq!(files, &[1]);
    table.done(2, *lease, 1, vec![]);
    table.send_files(2, &[10]);
    table.hear(1, WorkerReply::Credit { batches: 1 });
    assert_eq!(table.assigned()[0].0, 2, "nothing queues at a worker that answers nothing");
    assert_eq!(table.core.status(table.now, 9).counters.leases_lost, 0, "nobody is to blame");
}

#[test]
fn a_file_that_never_answers_fails_after_four_leases_however_many_workers_try() {
    let mut table = table();
    for worker in [1, 2] {
        table.join(worker, 2);
    }
    table.send_files(0, &[10]);
    for _ in 0..4 {
        let (worker, ..) = table.assigned().pop().expect("another attempt");
        assert_eq!(table.told(), []);
        pass(&mut table, 60, &[1, 2]);
        table.hear(worker, WorkerReply::Credit { batches: 1 });
    }
    let lost = Failure::WorkersLost { attempts: 4 };
    let [death, failed] = table.told().try_into().expect("the reasons, and the result");
    assert!(matches!(death, ClientReply::Death { index: 0, losses, .. }
        if losses.len() == 4 && losses.iter().all(|loss| loss.cause == LossCause::Expired)));
    assert_eq!(failed, results(Run { first: 0, len: 1 }, 0, vec![(0, lost)]));
}
