//! Quarantine: how long it lasts, who may end it, and how much of it is remembered.

use crate::tables::{CLIENT, JOB, Table, inline};
use hashcluster_controller::core::{
    Action, ClientId, Event, Fault, Limits, Principal, Rights, WorkerId,
};
use ipc_proto::message::{ClientReply, ClientRequest, ReleaseOutcome, WorkerHealth, WorkerReply};
use ipc_proto::{Algorithm, Blob};
use std::rc::Rc;
use std::time::Duration;

/// Number of names that are kept: `QUARANTINED_MAX`.
const NAMES_MAX: u64 = 1024;

fn table() -> Table {
    let mut table = Table::new(Limits::default());
    let algorithm = Algorithm::Sha256;
    table.open(algorithm);
    table.told();
    table
}

/// Has worker `w`, which is the only one and has a lease, answer it in a wrong form.
fn fail(table: &mut Table, worker: u64) -> Fault {
    let held = table.assigned();
    let &(_, (lease, attempt), _) = held.iter().find(|held| held.0 == worker).expect("a lease");
    table.done(worker, (lease, attempt), 200, vec![]);
    Fault::WrongAnswer(lease)
}

/// A controller that has everything checked.
fn checked() -> Table {
    let mut table = table();
    table.core.cross_check(1, 1);
    table
}

/// Answers the batch that was assigned last with a digest of this byte.
fn digest(table: &mut Table, byte: u8) {
    let (worker, (lease, attempt), _) = table.assigned().pop().expect("a batch");
    let (outputs, failures) = (Blob(vec![byte; 32]), vec![]);
    let done = WorkerReply::Done { lease, attempt, credit: 1, busy_us: 1, outputs, failures };
    table.hear(worker, done);
}

/// Worker 1 lets its lease pass three times.
fn be_late(table: &mut Table) {
    for _ in 0..3 {
        for _ in 0..15 {
            table.hear(1, WorkerReply::Heartbeat);
            table.wait(Duration::from_secs(4));
        }
        table.hear(1, WorkerReply::Credit { batches: 1 });
    }
    assert!(table.actions.contains(&Action::Quarantined("w1".to_owned(), Fault::Overdue)));
    table.assigned();
}

fn leave(table: &mut Table, worker: u64) {
    table.step(Event::WorkerLeft(WorkerId(worker)));
}

/// Those that are listed: name, age in seconds, whether it is connected.
fn listed(table: &Table) -> Vec<(String, u64, bool)> {
    let rows = table.core.status(table.now, usize::MAX).quarantined;
    rows.into_iter().map(|row| (row.worker, row.age_ms / 1000, row.connected)).collect()
}

fn told_of(table: &Table, worker: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for action in &table.actions {
        if let Action::BackInQuarantine { worker: back, fault, .. } = action
            && back == worker
        {
            faults.push(*fault);
        }
    }
    faults
}

fn release(table: &mut Table, worker: &str) -> ReleaseOutcome {
    table.told();
    table.say(ClientRequest::Release { worker: worker.to_owned() }, &[]);
    match &table.told()[..] {
        [ClientReply::Released { worker: named, outcome }] if named == worker => *outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_gave_a_wrong_answer_gets_no_work_however_often_it_connects() {
    let mut table = table();
    table.send_files(0, &[10]);
    table.join(1, 4);
    let fault = fail(&mut table, 1);
    for round in 1..=3 {
        leave(&mut table, 1);
        table.now += Duration::from_secs(100);
        assert_eq!(listed(&table), [("w1".to_owned(), round * 100, false)]);
        table.actions.clear();
        table.join(1, 4);
        let age = Duration::from_secs(round * 100);
        let back = Action::BackInQuarantine { worker: "w1".to_owned(), fault, age };
        assert_eq!(table.actions, [back], "it is told, and given nothing");
        assert_eq!(listed(&table), [("w1".to_owned(), round * 100, true)]);
    }
    let status = table.core.status(table.now, 9);
    assert_eq!(status.workers[0].health, WorkerHealth::Quarantined);
    assert_eq!(status.quarantined[0].reason, fault.to_string());
    assert_eq!(status.counters.workers_quarantined, 1, "it is one, however often it comes");
    table.join(2, 1);
    assert_eq!(table.assigned()[0].0, 2, "another worker does its work");
}

#[test]
fn a_lie_that_comes_out_after_its_worker_left_is_not_forgotten() {
    let mut table = checked();
    table.join(1, 4);
    table.say(inline(JOB, 0, vec![1], Blob(vec![0])), &[]);
    digest(&mut table, 1);
    leave(&mut table, 1);
    table.join(2, 1);
    table.join(3, 1);
    digest(&mut table, 2);
    digest(&mut table, 2);
    let quarantined = Action::Quarantined("w1".to_owned(), Fault::Contradicted);
    assert!(table.actions.contains(&quarantined), "{:?}", table.actions);
    assert_eq!(listed(&table), [("w1".to_owned(), 0, false)]);
    table.join(1, 4);
    assert_eq!(told_of(&table, "w1"), [Fault::Contradicted]);
    table.send_files(1, &[10]);
    assert_ne!(table.assigned()[0].0, 1);
}

#[test]
fn a_released_worker_is_given_work_at_once_or_when_it_connects() {
    for is_there in [true, false] {
        let mut table = table();
        table.send_files(0, &[10]);
        table.join(1, 4);
        fail(&mut table, 1);
        if !is_there {
            leave(&mut table, 1);
        }
        assert_eq!(table.assigned(), []);
        assert_eq!(release(&mut table, "w1"), ReleaseOutcome::Released);
        if !is_there {
            table.join(1, 4);
        }
        assert_eq!(table.assigned()[0].0, 1, "is it there: {is_there}");
        assert_eq!(listed(&table), []);
        assert_eq!(told_of(&table, "w1"), []);
        assert_eq!(table.core.status(table.now, 9).workers[0].health, WorkerHealth::Ready);
        assert_eq!(release(&mut table, "w1"), ReleaseOutcome::NotQuarantined);
    }
}

#[test]
fn only_who_administers_the_controller_may_release() {
    let mut table = table();
    table.send_files(0, &[10]);
    table.join(1, 4);
    fail(&mut table, 1);
    let other = ClientId(9);
    table.step(Event::ClientJoined {
        client: other,
        principal: Principal::Uid(8),
        pid: 80,
        rights: Rc::new(Rights::jobs()),
    });
    table.actions.clear();
    let worker = "w1".to_owned();
    table.step(Event::ClientSaid(other, ClientRequest::Release { worker: worker.clone() }, vec![]));
    let outcome = ReleaseOutcome::Forbidden;
    let told = ClientReply::Released { worker: worker.clone(), outcome };
    assert_eq!(
        table.actions,
        [
            Action::ReleaseAsked { worker, by: Principal::Uid(8), outcome },
            Action::ToClient(other, told)
        ]
    );
    assert_eq!(listed(&table).len(), 1);
    assert_eq!(table.assigned(), []);
}

#[test]
fn who_was_only_late_starts_anew_with_a_new_connection() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    be_late(&mut table);
    assert_eq!(listed(&table).len(), 1);
    leave(&mut table, 1);
    assert_eq!(listed(&table), []);
    table.join(1, 9);
    assert_eq!(table.assigned()[0].0, 1);
}

#[test]
fn a_late_worker_whose_lie_comes_out_stays() {
    let mut table = checked();
    table.join(1, 9);
    table.say(inline(JOB, 0, vec![1], Blob(vec![0])), &[]);
    digest(&mut table, 1);
    be_late(&mut table);
    table.join(2, 1);
    table.join(3, 1);
    digest(&mut table, 2);
    digest(&mut table, 2);
    assert!(table.actions.contains(&Action::Quarantined("w1".to_owned(), Fault::Contradicted)));
    leave(&mut table, 1);
    let status = table.core.status(table.now, 9);
    assert_eq!(status.quarantined[0].reason, Fault::Contradicted.to_string());
    assert_eq!(status.counters.workers_quarantined, 1, "it is still one");
}

/// Workers with ever new names that each give a wrong answer.
fn flood(table: &mut Table, names: impl Iterator<Item = u64>) {
    for name in names {
        table.join(name, 1);
        fail(table, name);
        leave(table, name);
        table.actions.clear();
    }
}

#[test]
fn many_liars_push_nobody_out_and_what_is_remembered_is_bounded() {
    let mut table = table();
    table.send_files(0, &[10]);
    table.join(5000, 1);
    fail(&mut table, 5000);
    leave(&mut table, 5000);
    flood(&mut table, 1..NAMES_MAX);
    assert_eq!(listed(&table).len() as u64, NAMES_MAX);
    // There is no room for one more: it could come back as anybody.
    table.join(4000, 1);
    table.join(4001, 1);
    fail(&mut table, 4000);
    assert_eq!(table.assigned()[0].0, 4001, "who was here before goes on");
    leave(&mut table, 4000);
    assert_eq!(listed(&table).len() as u64, NAMES_MAX);
    leave(&mut table, 4001);
    for name in [4000, 4002] {
        table.join(name, 1);
        assert_eq!(told_of(&table, &format!("w{name}")), [Fault::Unnamed]);
        leave(&mut table, name);
    }
    table.join(5000, 1);
    assert!(matches!(told_of(&table, "w5000")[..], [Fault::WrongAnswer(_)]), "the first is kept");
    assert_eq!(table.assigned(), []);
    assert_eq!(listed(&table).len() as u64, NAMES_MAX);
    // An operator who vouches for one has it work.
    table.join(4003, 1);
    assert_eq!(release(&mut table, "w4003"), ReleaseOutcome::Released);
    assert_eq!(table.assigned()[0].0, 4003);
}

#[test]
fn a_status_lists_as_many_as_fit_and_counts_the_rest() {
    let mut table = table();
    table.send_files(0, &[10]);
    flood(&mut table, 1..=5);
    let status = table.core.status(table.now, 2);
    let names: Vec<&str> = status.quarantined.iter().map(|row| &*row.worker).collect();
    assert_eq!((&names[..], status.quarantined_unlisted), (&["w1", "w2"][..], 3));
}

#[test]
fn a_client_is_told_what_became_of_its_wish_and_the_operator_too() {
    let mut table = table();
    table.send_files(0, &[10]);
    table.join(1, 1);
    fail(&mut table, 1);
    table.actions.clear();
    assert_eq!(release(&mut table, "nobody"), ReleaseOutcome::NotQuarantined);
    assert_eq!(release(&mut table, "w1"), ReleaseOutcome::Released);
    let asked = |worker: &str, outcome| Action::<u64>::ReleaseAsked {
        worker: worker.to_owned(),
        by: Principal::Uid(7),
        outcome,
    };
    assert!(table.actions.contains(&asked("nobody", ReleaseOutcome::NotQuarantined)));
    assert!(table.actions.contains(&asked("w1", ReleaseOutcome::Released)));
    let to_others =
        |action: &&Action<u64>| matches!(action, Action::ToClient(id, _) if *id != CLIENT);
    assert_eq!(table.actions.iter().filter(to_others).count(), 0);
}
