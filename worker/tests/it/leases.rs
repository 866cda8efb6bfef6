//! Credit, revoked leases, and leaving in order.

use crate::controller::{
    Controller, Peer, Worker, assign, endless, file, read_only, stamp, welcome,
};
use ipc_proto::message::{LeaseId, Piece, Work, WorkerReply, WorkerRequest};
use ipc_proto::{Algorithm, Blob};
use nix::sys::signal::{Signal, kill};
use std::fs::File;

fn short() -> Work {
    Work::Piece(Piece::Segment { state: Blob::default(), data: Blob::default(), last: true })
}

/// Assigns a file that takes days, and waits until a thread has it: a short file behind it on the
/// only thread could not be done, one before it could.
fn occupy(peer: &mut Peer, endless: &File) -> LeaseId {
    // BLAKE3 reports no checkpoints.
    peer.assign_files(Algorithm::Blake3, &[(stamp(endless), endless)])
}

/// A worker's request to be given no more work.
const LEAVING: WorkerReply = WorkerReply::Leaving { within_ms: 4_000 };

#[test]
fn credit_covers_every_interleaved_batch_and_one_more() {
    for threads in [1, 3] {
        let controller = Controller::new();
        let _worker = Worker::start(&controller, &["--threads", &threads.to_string()]);
        let mut peer = controller.accept();
        let backends = peer.hello().backends;
        let per_thread =
            backends.iter().map(|backend| u16::from(backend.interleave_max)).max().unwrap();
        peer.send(&welcome(), &[]);
        assert_eq!(peer.credit(), per_thread * threads + 1);
    }
}

#[test]
fn revoked_leases_are_not_answered_and_their_credit_returns() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    let before = worker.open_descriptors();
    let (days, small) = (endless(), file(b"small"));
    for _ in 0..3 {
        let running = occupy(&mut peer, &days);
        // Long ones: a short one could be answered before the revocation arrives.
        let queued: Vec<_> = (0..2)
            .map(|_| peer.assign_files(Algorithm::Sha256, &[(stamp(&days), &days)]))
            .collect();
        let leases = vec![running, queued[0], queued[1], LeaseId { epoch: 1, number: u64::MAX }];
        peer.send(&WorkerRequest::Revoke { leases }, &[]);
        let mut credit = 0;
        while credit < 3 {
            credit += peer.credit();
        }
        assert_eq!(credit, 3);
        worker.awaits_open_descriptors(before);
        let lease = peer.assign_files(Algorithm::Sha256, &[(stamp(&small), &small)]);
        assert_eq!(peer.done(lease).0.len(), 32, "it works on");
    }
}

#[test]
fn a_short_batch_does_not_wait_for_a_long_one() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    occupy(&mut peer, &endless());
    let lease = peer.assign(Algorithm::Sha256, short(), &[]);
    assert_eq!(peer.done(lease).0.len(), 32);
}

#[test]
fn exceeding_credit_or_repeating_a_lease_ends_the_connection() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &["--threads", "1"]);
    let days = endless();
    let (mut peer, credit) = controller.welcome();
    worker.says("connected");
    for _ in 0..=credit {
        occupy(&mut peer, &days);
    }
    peer.closed();
    worker.says("a batch beyond the credit given");

    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    let lease = occupy(&mut peer, &days);
    peer.send(&assign(lease, 2, Algorithm::Sha256, short()), &[]);
    peer.closed();
    worker.says("lease 1-1 twice");

    let (mut peer, again) = controller.welcome();
    assert_eq!(again, credit, "a new connection starts afresh");
    let lease = peer.assign(Algorithm::Sha256, short(), &[]);
    assert_eq!(peer.done(lease).0.len(), 32);
}

#[test]
fn a_signal_ends_an_idle_worker_at_once() {
    let controller = Controller::new();
    let mut worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    kill(worker.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(peer.reply(), LEAVING);
    peer.send(&WorkerRequest::Leave, &[]);
    peer.closed();
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn a_signal_lets_leases_be_answered_without_new_credit() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let controller = Controller::new();
        let mut worker = Worker::start(&controller, &["--threads", "1"]);
        let (mut peer, _) = controller.welcome();
        worker.says("connected");
        let source = read_only(&file(&vec![1; 100_000_000]));
        let lease = peer.assign_files(Algorithm::Sha512, &[(stamp(&source), &source)]);
        // The link thread has read the batch before this one.
        let marker = peer.assign(Algorithm::Sha256, short(), &[]);
        peer.done(marker);
        kill(worker.pid(), signal).unwrap();
        worker.says("stopping");
        assert_eq!(peer.reply(), LEAVING);
        // What crossed it is answered, too.
        let crossed = peer.assign(Algorithm::Sha256, short(), &[]);
        let mut answers = [peer.answer(), peer.answer()];
        answers.sort_by_key(|answer| answer.lease);
        let [answer, other] = answers;
        assert_eq!((other.lease, other.credit), (crossed, 0));
        assert_eq!((answer.lease, answer.credit, answer.outputs.len()), (lease, 0, 64));
        peer.send(&WorkerRequest::Leave, &[]);
        peer.closed();
        assert_eq!(worker.exit().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_controller_that_says_leave_without_being_asked_changes_nothing() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    peer.send(&WorkerRequest::Leave, &[]);
    let lease = peer.assign(Algorithm::Sha256, short(), &[]);
    assert_eq!(peer.done(lease).0.len(), 32);
}

#[test]
fn a_signal_ends_a_worker_whose_leases_were_taken_back_although_a_thread_works_on_one() {
    let controller = Controller::new();
    let mut worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    let lease = occupy(&mut peer, &endless());
    kill(worker.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(peer.reply(), LEAVING);
    peer.send(&WorkerRequest::Revoke { leases: vec![lease] }, &[]);
    peer.send(&WorkerRequest::Leave, &[]);
    peer.closed();
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait_for_leases() {
    let controller = Controller::new();
    let mut worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    occupy(&mut peer, &endless());
    let marker = peer.assign(Algorithm::Sha256, short(), &[]);
    peer.done(marker);
    kill(worker.pid(), Signal::SIGTERM).unwrap();
    worker.says("stopping");
    kill(worker.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(worker.exit().code(), Some(0));
}
