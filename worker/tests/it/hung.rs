//! Files that never answer a read.

use crate::controller::{Controller, Worker, file, stamp};
use ipc_proto::Algorithm;
use ipc_proto::message::{WorkerReply, WorkerRequest};
use std::fs::File;
use std::thread;
use test_kit::HungFile;

#[test]
fn a_file_that_never_answers_costs_one_thread_and_a_worker_without_any_ends() {
    let hung_files = [HungFile::new(), HungFile::new()];
    let opened = hung_files.each_ref().map(|hung| File::open(hung.path()).unwrap());
    let controller = Controller::new();
    let mut worker = Worker::start(&controller, &["--threads", "2"]);
    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    let (small, algorithm) = (file(b"small"), Algorithm::Sha256);
    let first = peer.assign_files(algorithm, &[(stamp(&opened[0]), &opened[0])]);
    hung_files[0].wait_for_read();
    peer.send(&WorkerRequest::Revoke { leases: vec![first] }, &[]);
    let lease = peer.assign_files(algorithm, &[(stamp(&small), &small)]);
    assert_eq!(peer.done(lease).0.len(), 32, "the other thread works");
    let second = peer.assign_files(algorithm, &[(stamp(&opened[1]), &opened[1])]);
    hung_files[1].wait_for_read();
    peer.send(&WorkerRequest::Revoke { leases: vec![first, second] }, &[]);
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Some(reply) = peer.any_reply() {
                assert_eq!(reply, WorkerReply::Heartbeat, "their credit stays out");
                peer.send(&WorkerRequest::Heartbeat, &[]);
            }
        });
        for _ in 0..2 {
            worker.says("hangs: it is at a revoked lease after 5 seconds");
        }
        worker.says("all 2 hashing threads hang");
    });
    drop(hung_files);
    assert_eq!(worker.exit().code(), Some(3));
}

#[test]
fn a_thread_that_comes_back_works_again() {
    let hung_file = HungFile::new();
    let hung = File::open(hung_file.path()).unwrap();
    let controller = Controller::new();
    let worker = Worker::start(&controller, &["--threads", "2"]);
    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    let lease = peer.assign_files(Algorithm::Sha256, &[(stamp(&hung), &hung)]);
    hung_file.wait_for_read();
    peer.send(&WorkerRequest::Revoke { leases: vec![lease] }, &[]);
    thread::scope(|scope| {
        let credit = scope.spawn(|| peer.credit());
        worker.says("hangs");
        drop(hung_file);
        assert_eq!(credit.join().unwrap(), 1, "what it held back is given");
    });
    worker.says("works again");
}
