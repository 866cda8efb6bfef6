//! Counts for operators: each of them moves when its event happens, and only then.

use crate::tables::{CLIENT, JOB, Table, table};
use hashcluster_controller::core::tally::{
    BACKENDS, BadFrame, ClientState, CoreCounts, Hashed, PeerRole, REFUSALS, Requeue,
};
use hashcluster_controller::core::{ClientId, Event, WorkerId};
use ipc_proto::Algorithm;
use ipc_proto::message::{ClientRequest, Failure, RefuseReason, WorkerReply};
use std::time::Duration;

/// Counts for SHA-256 by a backend.
fn sha256(tally: &CoreCounts, backend: &str) -> Hashed {
    let index = BACKENDS.iter().position(|name| *name == backend).expect("a known name");
    tally.hashed[Algorithm::Sha256 as usize][index]
}

fn requeues(table: &Table) -> [u64; Requeue::ALL.len()] {
    table.core.tally().requeues
}

#[test]
fn items_and_bytes_are_counted_by_algorithm_backend_and_outcome() {
    let mut table = table();
    table.join(1, 1);
    table.now += Duration::from_secs(2);
    table.send_files(0, &[10, 20]);
    let lease = table.assigned()[0].1;
    table.now += Duration::from_secs(3);
    table.done(1, lease, 1, vec![(1, Failure::Changed)]);
    assert_eq!(table.core.timings().batches, [Duration::from_secs(3)]);
    let tally = table.core.tally();
    let want = Hashed { items: 1, items_failed: 1, bytes: 10, bytes_failed: 20 };
    assert_eq!(sha256(tally, "portable"), want);
    let others = tally.hashed.iter().flatten().filter(|hashed| **hashed != want);
    assert!(others.clone().all(|hashed| *hashed == Hashed::default()), "nothing else moves");
    assert_eq!(tally.results, [2, 0, 0]);
    assert_eq!(tally.last_digest, Duration::from_secs(5));
}

#[test]
fn an_item_that_no_worker_can_do_is_counted_without_a_backend() {
    let mut table = table();
    for worker in 1..=3 {
        table.join(worker, 1);
        if worker == 1 {
            table.send_files(0, &[10]);
        }
        table.step(Event::WorkerLeft(WorkerId(worker)));
    }
    let tally = table.core.tally();
    assert_eq!(sha256(tally, "none"), Hashed { items_failed: 1, ..Hashed::default() });
    assert_eq!((tally.retries, tally.requeues), (2, [0, 3, 0]), "{tally:?}");
    assert_eq!(tally.last_digest, Duration::ZERO);
}

#[test]
fn requeues_are_counted_by_their_reason() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    for _ in 0..15 {
        table.hear(1, WorkerReply::Heartbeat);
        table.wait(Duration::from_secs(4));
    }
    assert_eq!(requeues(&table), [1, 0, 0], "expired");
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(3, 1);
    table.step(Event::WorkerLeft(WorkerId(3)));
    assert_eq!(requeues(&table), [1, 1, 0], "disconnected");
    // What two workers were lost over is given to one alone.
    table.join(4, 1);
    let alone = table.assigned().pop().expect("it is there").1;
    table.done(4, alone, 1, vec![]);
    table.step(Event::WorkerLeft(WorkerId(4)));
    table.join(2, 2);
    table.send_files(1, &[100 << 20, 101 << 20]);
    let held = table.assigned();
    let lease = held.last().expect("two are held").1;
    table.done(2, lease, 9, vec![]);
    assert_eq!(requeues(&table)[2], 2, "a worker in quarantine gives back what it holds");
}

#[test]
fn a_wait_in_the_queue_is_measured_from_the_arrival_or_the_requeue() {
    let mut table = table();
    table.send_files(0, &[10]);
    table.now += Duration::from_secs(7);
    let backlog = table.core.backlog(table.now);
    assert_eq!((backlog.queued, backlog.leased, backlog.split), (1, 0, 0));
    assert_eq!(backlog.oldest, Duration::from_secs(7));
    table.join(1, 1);
    assert_eq!(table.core.timings().waits, [Duration::from_secs(7)]);
    let backlog = table.core.backlog(table.now);
    assert_eq!((backlog.queued, backlog.leased, backlog.split), (0, 1, 0));
    assert_eq!(backlog.oldest, Duration::ZERO);
    table.now += Duration::from_secs(1);
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.now += Duration::from_secs(2);
    assert_eq!(table.core.backlog(table.now).oldest, Duration::from_secs(2));
    table.join(2, 1);
    assert_eq!(table.core.timings().waits, [Duration::from_secs(2)]);
}

#[test]
fn a_large_file_of_which_workers_have_parts_is_split() {
    let mut table = Table::new(hashcluster_controller::core::Limits::default());
    table.open(Algorithm::Blake3);
    table.join(1, 1);
    table.join(2, 1);
    table.send_files(0, &[1 << 30]);
    let backlog = table.core.backlog(table.now);
    assert_eq!((backlog.queued, backlog.leased, backlog.split), (0, 0, 1));
}

#[test]
fn items_are_counted_by_what_became_of_their_client() {
    let mut table = table();
    table.send_files(0, &[10, 20]);
    table.say(ClientRequest::Cancel { job: JOB }, &[]);
    let results = |table: &Table| table.core.tally().results;
    assert_eq!(results(&table)[ClientState::Cancelled as usize], 2);
    table.open(Algorithm::Sha256);
    let items = crate::tables::files(crate::tables::job(1), 0, &[1, 2, 3]);
    table.say(items, &[7, 8, 9]);
    table.step(Event::ClientLeft(CLIENT));
    assert_eq!(results(&table), [0, 2, 3]);
}

#[test]
fn peers_are_counted_by_role_and_reason() {
    let mut table = table();
    table.join(1, 1);
    table.hear(1, WorkerReply::Credit { batches: 9999 });
    table.join(2, 1);
    table.wait(Duration::from_secs(6));
    table.say(ClientRequest::Finish { job: crate::tables::job(9) }, &[]);
    table.step(Event::ClientSaid(ClientId(99), ClientRequest::Status, vec![]));
    for (reason, _) in REFUSALS {
        table.core.count_refused(PeerRole::Worker, reason);
    }
    table.core.count_refused(PeerRole::Client, RefuseReason::Busy);
    table.core.count_faulty(PeerRole::Client, BadFrame::Stalled);
    let tally = table.core.tally();
    assert_eq!(tally.connections, [1, 2]);
    let closed =
        |role: PeerRole, reason: BadFrame| tally.bad_frames[role as usize][reason as usize];
    assert_eq!(closed(PeerRole::Worker, BadFrame::Protocol), 1);
    assert_eq!(closed(PeerRole::Worker, BadFrame::Silent), 1);
    assert_eq!(closed(PeerRole::Client, BadFrame::Protocol), 1);
    assert_eq!(closed(PeerRole::Client, BadFrame::Stalled), 1);
    assert_eq!(tally.bad_frames.iter().flatten().sum::<u64>(), 4);
    assert_eq!(tally.refused, [[0, 0, 0, 0, 0, 1, 0], [1; 7]]);
}
