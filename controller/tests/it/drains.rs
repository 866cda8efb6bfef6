//! Draining: a worker gets no more work, finishes or hands over what it has, and loses nothing.

use crate::tables::{CLIENT, Table, lease_id, table};
use hashcluster_controller::core::{
    Action, ClientId, Event, Fault, LastingDrain, Limits, Principal, Rights, Standing, WorkerId,
};
use ipc_proto::Algorithm;
use ipc_proto::message::{
    ClientReply, ClientRequest, DrainOutcome, Planes, WorkerHealth, WorkerReply, WorkerRequest,
};
use std::rc::Rc;
use std::time::Duration;

fn drain(table: &mut Table, worker: &str, deadline_ms: u32) {
    table.say(ClientRequest::Drain { worker: worker.to_owned(), deadline_ms, lasts: true }, &[]);
}

fn undrain(table: &mut Table, worker: &str) {
    table.say(ClientRequest::Undrain { worker: worker.to_owned() }, &[]);
}

/// Answers to `Drain` and `Undrain` since the last look.
fn drained(table: &mut Table) -> Vec<DrainOutcome> {
    let outcome = |reply| {
        let ClientReply::Drained { outcome, .. } = reply else { return None };
        Some(outcome)
    };
    table.told().into_iter().filter_map(outcome).collect()
}

#[track_caller]
fn check_health(table: &Table, worker: usize, want: WorkerHealth) {
    let status = table.core.status(table.now, 9);
    assert_eq!(status.workers[worker].health, want);
}

fn revoked(worker: u64, leases: &[u64]) -> Action<u64> {
    let leases = leases.iter().copied().map(lease_id).collect();
    Action::ToWorker(WorkerId(worker), WorkerRequest::Revoke { leases }, vec![])
}

#[test]
fn a_drained_worker_gets_no_lease_finishes_and_comes_back_when_undrained() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    let held = table.assigned();
    drain(&mut table, "w1", 30_000);
    check_health(&table, 0, WorkerHealth::Draining);
    assert_eq!(table.core.ready_workers(), 0, "it does not count as ready");
    table.send_files(1, &[10, 10]);
    assert_eq!((table.assigned(), drained(&mut table)), (vec![], vec![]));
    table.hear(1, WorkerReply::Credit { batches: 2 });
    assert_eq!(table.assigned(), [], "nor when it gives credit");
    table.done(1, held[0].1, 1, vec![]);
    assert_eq!(drained(&mut table), [DrainOutcome::Drained { passed_on: 0 }]);
    assert!(table.actions.contains(&Action::Drained("w1".to_owned())));
    // The name stays drained.
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 0);
    table.step(Event::WorkerLeft(WorkerId(2)));
    table.join(1, 9);
    check_health(&table, 0, WorkerHealth::Draining);
    assert_eq!(table.assigned(), []);
    undrain(&mut table, "w1");
    assert_eq!(drained(&mut table), [DrainOutcome::Undrained]);
    assert_eq!(table.assigned().len(), 1, "it works again");
    let counters = table.core.status(table.now, 9).counters;
    assert_eq!(counters.leases_lost, 0);
}

#[test]
fn queued_leases_go_to_others_at_once_and_the_rest_at_the_deadline_and_none_is_lost() {
    let mut table = table();
    table.join(1, 9);
    for first in 0..3 {
        table.send_files(first, &[1 << 20]);
    }
    let held = table.assigned();
    assert!(held.len() > 1, "it queues: {held:?}");
    table.join(2, 9);
    table.actions.clear();
    drain(&mut table, "w1", 2_000);
    let queued: Vec<u64> = held[1..].iter().map(|(_, (lease, _), _)| lease.number).collect();
    assert!(table.actions.contains(&revoked(1, &queued)), "{:?}", table.actions);
    assert_eq!(drained(&mut table), [], "it works on one");
    table.wait(Duration::from_millis(1_999));
    assert_eq!(drained(&mut table), []);
    table.wait(Duration::from_millis(1));
    assert_eq!(drained(&mut table), [DrainOutcome::Drained { passed_on: 1 }]);
    assert!(table.actions.contains(&revoked(1, &[0])));
    table.step(Event::WorkerLeft(WorkerId(1)));
    let status = table.core.status(table.now, 9);
    assert_eq!((status.counters.leases_lost, status.workers[0].leases_lost), (0, 0));
}

#[test]
fn a_worker_that_shuts_down_is_told_that_it_may_leave_once_nothing_is_left() {
    let leave = Action::ToWorker(WorkerId(1), WorkerRequest::Leave, vec![]);
    let mut table = table();
    table.join(1, 1);
    table.send_files(0, &[10]);
    let held = table.assigned();
    table.hear(1, WorkerReply::Leaving { within_ms: 4_000 });
    check_health(&table, 0, WorkerHealth::Draining);
    assert!(!table.actions.contains(&leave));
    table.join(2, 9);
    table.done(1, held[0].1, 1, vec![]);
    assert_eq!(table.actions.iter().filter(|&action| *action == leave).count(), 1);
    table.hear(1, WorkerReply::Heartbeat);
    assert_eq!(table.actions.iter().filter(|&action| *action == leave).count(), 1, "once");
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(1, 1);
    check_health(&table, 0, WorkerHealth::Ready);

    // One that works on a lease for too long.
    table.actions.clear();
    table.step(Event::WorkerLeft(WorkerId(2)));
    table.send_files(1, &[10]);
    table.hear(1, WorkerReply::Leaving { within_ms: 4_000 });
    table.wait(Duration::from_secs(4));
    assert!(table.actions.contains(&leave), "its lease waits for another");
    assert_eq!(table.core.status(table.now, 9).counters.leases_lost, 0);
}

#[test]
fn who_may_not_drain_or_names_nobody_is_told_so() {
    let mut table = table();
    table.join(1, 9);
    drain(&mut table, "w2", 1);
    undrain(&mut table, "w1");
    let want = [DrainOutcome::Unknown, DrainOutcome::NotDraining];
    assert_eq!(drained(&mut table), want);
    let other = ClientId(5);
    let rights = Rc::new(Rights { drain: false, ..Rights::ALL });
    let principal = Principal::Uid(8);
    table.step(Event::ClientJoined { client: other, principal, pid: 1, rights });
    for request in [
        ClientRequest::Drain { worker: "w1".to_owned(), deadline_ms: 1, lasts: true },
        ClientRequest::Undrain { worker: "w1".to_owned() },
    ] {
        table.step(Event::ClientSaid(other, request, vec![]));
        let (worker, outcome) = ("w1".to_owned(), DrainOutcome::Forbidden);
        let reply = Action::ToClient(other, ClientReply::Drained { worker, outcome });
        assert!(table.actions.contains(&reply));
        table.actions.clear();
    }
    check_health(&table, 0, WorkerHealth::Ready);
}

#[test]
fn undraining_answers_those_who_wait_and_a_client_that_left_is_not_answered() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    drain(&mut table, "w1", 30_000);
    undrain(&mut table, "w1");
    assert_eq!(drained(&mut table), [DrainOutcome::Undrained, DrainOutcome::Undrained]);
    let held = table.assigned();
    drain(&mut table, "w1", 30_000);
    table.step(Event::ClientLeft(CLIENT));
    table.done(1, held[0].1, 1, vec![]);
    check_health(&table, 0, WorkerHealth::Draining);
}

#[test]
fn quarantine_comes_before_a_drain_and_ends_before_it() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    let held = table.assigned();
    drain(&mut table, "w1", 30_000);
    table.done(1, held[0].1, 200, vec![]);
    let fault = Fault::WrongAnswer(held[0].1.0);
    assert!(table.actions.contains(&Action::Quarantined("w1".to_owned(), fault)));
    check_health(&table, 0, WorkerHealth::Quarantined);
    table.say(ClientRequest::Release { worker: "w1".to_owned() }, &[]);
    check_health(&table, 0, WorkerHealth::Draining);
    undrain(&mut table, "w1");
    check_health(&table, 0, WorkerHealth::Ready);
}

/// The standing that was kept last of the worker of this name.
#[track_caller]
fn kept(table: &Table, worker: &str) -> Standing {
    let of = |action: &Action<u64>| {
        let Action::Keep(name, standing) = action else { return None };
        (name == worker).then_some(*standing)
    };
    table.actions.iter().rev().find_map(of).expect("something was kept")
}

#[test]
fn another_controller_goes_on_with_what_was_kept() {
    let mut first = table();
    first.join(1, 9);
    first.join(2, 9);
    drain(&mut first, "w1", 30_000);
    let by = Principal::Uid(7);
    let (age, left) = (Duration::ZERO, Duration::from_secs(30));
    let drained = Some(LastingDrain { by, age, left });
    assert_eq!(kept(&first, "w1"), Standing { quarantined: None, drained });
    first.send_files(0, &[10]);
    let held = first.assigned();
    first.done(2, held[0].1, 200, vec![]);
    let fault = Fault::WrongAnswer(held[0].1.0);
    let quarantined = Some((fault, Duration::ZERO));
    assert_eq!(kept(&first, "w2"), Standing { quarantined, drained: None });

    let (age, left) = (Duration::from_secs(9), Duration::from_secs(21));
    let mut second = Table::new(Limits::default());
    let drained = Some(LastingDrain { by, age, left });
    second.core.restore("w1", Standing { quarantined: None, drained });
    let quarantined = Some((fault, Duration::from_secs(8)));
    second.core.restore("w2", Standing { quarantined, drained: None });
    second.open(Algorithm::Sha256);
    second.now += Duration::from_secs(2);
    let status = second.core.status(second.now, 9);
    let row = &status.drained[0];
    assert_eq!((&*row.worker, &*row.by, row.connected), ("w1", "uid 7", false));
    assert_eq!((row.age_ms, row.left_ms), (11_000, 19_000));
    let row = &status.quarantined[0];
    assert_eq!((&*row.worker, row.age_ms, row.connected), ("w2", 10_000, false));
    assert_eq!(row.reason, fault.to_string());
    second.join(1, 9);
    second.join(2, 9);
    second.send_files(0, &[10]);
    assert_eq!(second.assigned(), [], "neither is given work");
    second.core.check_invariants();
    undrain(&mut second, "w1");
    assert_eq!(kept(&second, "w1"), Standing::default());
    assert_eq!(second.assigned().len(), 1);
    second.say(ClientRequest::Release { worker: "w2".to_owned() }, &[]);
    assert_eq!(kept(&second, "w2"), Standing::default());
}

#[test]
fn a_drain_that_does_not_last_is_not_kept_but_takes_nothing_from_one_that_does() {
    let mut table = table();
    table.join(1, 9);
    let passing = || {
        let (worker, deadline_ms) = ("w1".to_owned(), 0);
        ClientRequest::Drain { worker, deadline_ms, lasts: false }
    };
    table.say(passing(), &[]);
    let is_kept = |action: &Action<u64>| matches!(action, Action::Keep(..));
    assert!(!table.actions.iter().any(is_kept), "{:?}", table.actions);
    drain(&mut table, "w1", 0);
    table.say(passing(), &[]);
    assert!(kept(&table, "w1").drained.is_some());
}

/// Others are there, but cannot do it: it comes back.
#[test]
fn work_waits_for_the_only_worker_that_can_do_it_while_that_is_drained() {
    let mut table = Table::with_datasets(Limits::default(), &["a"]);
    table.open(Algorithm::Sha256);
    let planes = Planes { descriptors: false, inline: true, datasets: vec!["a".to_owned()] };
    table.join_with(2, 9, planes);
    table.join(1, 9);
    drain(&mut table, "w1", 1_000);
    assert_eq!(drained(&mut table), [DrainOutcome::Drained { passed_on: 0 }]);
    table.send_files(0, &[10]);
    assert_eq!((table.told(), table.assigned()), (vec![], vec![]));
    undrain(&mut table, "w1");
    assert_eq!(table.assigned().len(), 1);
}
