//! Pages of directories: leased as batches are, and given to whoever asked.

use crate::tables::{CLIENT, Table, lease_id};
use hashcluster_controller::core::{
    Action, Event, Fault, Limits, ListTag, PageWanted, Principal, WorkerId,
};
use ipc_proto::message::{
    ClaimEntry, ClaimsWork, ClientReply, ClientRequest, DirEntry, EntryKind, Failure, LeaseId,
    ListOutcome, ListWork, Planes, Stamp, Work, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};
use std::time::Duration;

/// Failures that no worker can find in a file, or in a directory.
pub(crate) const NOT_OF_READING: [Failure; 5] = [
    Failure::WorkersLost { attempts: 1 },
    Failure::Disputed,
    Failure::Outside,
    Failure::NotAList,
    Failure::BadLines { lines: 1 },
];

const TAG: ListTag = ListTag(7);

fn table() -> Table {
    Table::with_datasets(Limits::default(), &["a", "b"])
}

fn planes(datasets: &[&str]) -> Planes {
    let datasets = datasets.iter().map(|&name| name.to_owned()).collect();
    Planes { descriptors: true, inline: true, datasets }
}

fn work(dataset: &str) -> ListWork {
    let (dir, after) = (Blob(b"x/y".to_vec()), Blob(b"m".to_vec()));
    ListWork { dataset: dataset.to_owned(), dir, after, entries_max: 2, claims: None }
}

fn want(table: &mut Table, tag: ListTag, work: ListWork) {
    let (principal, algorithms) = (Principal::Uid(7), Algorithm::Sha256.into());
    table.step(Event::List(PageWanted { tag, principal, algorithms, work }));
}

fn page(names: &[&[u8]], more: bool) -> ListOutcome {
    let (kind, stamp, inode, device) = (EntryKind::File, Stamp::default(), 1, 2);
    let entry = |name: &&[u8]| DirEntry { name: (*name).into(), kind, stamp, inode, device };
    ListOutcome::Page { entries: names.iter().map(entry).collect(), more }
}

fn answer(table: &mut Table, worker: u64, (lease, attempt): (LeaseId, u32), outcome: ListOutcome) {
    table.hear(worker, WorkerReply::Listed { lease, attempt, credit: 1, outcome });
}

/// Pages that were given since the last call.
fn listed(table: &mut Table) -> Vec<(ListTag, ListOutcome)> {
    let mut listed = Vec::new();
    table.actions.retain(|action| {
        let Action::Listed(tag, outcome) = action else { return true };
        listed.push((*tag, outcome.clone()));
        false
    });
    listed
}

#[track_caller]
fn check_nothing_is_left(table: &mut Table) {
    table.say(ClientRequest::Status, &[]);
    let Some(ClientReply::Status(status)) = table.told().pop() else { panic!("no status") };
    let leases: u32 = status.workers.iter().map(|worker| worker.leases).sum();
    assert_eq!(
        (status.jobs.len(), status.jobs_unlisted, status.limits.items, leases),
        (0, 0, 0, 0)
    );
}

#[test]
fn a_page_waits_for_a_worker_with_its_dataset_and_is_given_to_whoever_asked() {
    let mut table = table();
    table.join_with(1, 9, planes(&["b"]));
    want(&mut table, TAG, work("a"));
    assert_eq!(table.assigned(), [], "it waits");
    table.join_with(2, 9, planes(&["a"]));
    let held = table.leased().pop().expect("it is leased");
    assert_eq!((held.worker, &held.work, held.files), (2, &Work::List(work("a")), vec![]));
    answer(&mut table, 2, held.lease, page(&[b"n", b"o"], true));
    assert_eq!(listed(&mut table), [(TAG, page(&[b"n", b"o"], true))]);
    check_nothing_is_left(&mut table);
    answer(&mut table, 2, held.lease, page(&[b"n"], true));
    assert_eq!(listed(&mut table), [], "a second answer is dropped");
    want(&mut table, TAG, work("a"));
    let held = table.leased().pop().expect("the tag may be used again");
    answer(&mut table, 2, held.lease, page(&[], false));
    assert_eq!(listed(&mut table), [(TAG, page(&[], false))]);
}

#[test]
fn a_page_that_cannot_be_asked_for_fails_at_once() {
    let mut table = table();
    table.join_with(1, 9, planes(&["a"]));
    let long = Blob([b"x/".repeat(2048), b"x".to_vec()].concat());
    for (work, failure) in [
        (work("c"), Failure::UnknownDataset),
        (ListWork { dir: Blob(b"../x".to_vec()), ..work("a") }, Failure::Invalid),
        (ListWork { dir: long, ..work("a") }, Failure::Invalid),
        (ListWork { after: Blob(b"x/y".to_vec()), ..work("a") }, Failure::Invalid),
        (ListWork { entries_max: 0, ..work("a") }, Failure::Invalid),
    ] {
        want(&mut table, TAG, work);
        assert_eq!(listed(&mut table), [(TAG, ListOutcome::Failed { failure })]);
    }
    want(&mut table, TAG, work("b"));
    table.step(Event::Datasets(vec!["a".to_owned()]));
    let failure = Failure::UnknownDataset;
    assert_eq!(listed(&mut table), [(TAG, ListOutcome::Failed { failure })], "it was removed");
    check_nothing_is_left(&mut table);
}

#[test]
fn a_page_is_leased_again_after_a_death_and_fails_after_the_third() {
    let mut table = table();
    want(&mut table, TAG, work("a"));
    let mut first = None;
    for worker in 1..=3 {
        table.join_with(worker, 9, planes(&["a"]));
        let held = table.leased().pop().expect("it is leased again");
        assert_eq!(u64::from(held.lease.1), worker, "the number of the attempt");
        first.get_or_insert(held.lease);
        table.step(Event::WorkerLeft(WorkerId(worker)));
    }
    let failure = Failure::WorkersLost { attempts: 3 };
    assert_eq!(listed(&mut table), [(TAG, ListOutcome::Failed { failure })]);
    table.join_with(1, 9, planes(&["a"]));
    answer(&mut table, 1, first.expect("there was one"), page(&[], false));
    assert_eq!(listed(&mut table), [], "a late answer counts for nothing");
    check_nothing_is_left(&mut table);
}

#[test]
fn a_page_has_longer_than_a_batch_and_goes_to_another_worker_at_its_deadline() {
    let mut table = table();
    table.join_with(1, 1, planes(&["a"]));
    want(&mut table, TAG, work("a"));
    let late = table.leased().pop().expect("it is leased").lease;
    table.join_with(2, 1, planes(&["a"]));
    for second in 1..=300 {
        assert_eq!(table.assigned(), [], "after {second} s");
        (1..=2).for_each(|worker| table.hear(worker, WorkerReply::Heartbeat));
        table.wait(Duration::from_secs(1));
    }
    let held = table.leased().pop().expect("it is leased again");
    assert_eq!((held.worker, held.lease.1), (2, 2));
    let leases = vec![late.0];
    let revoked = Action::ToWorker(WorkerId(1), WorkerRequest::Revoke { leases }, vec![]);
    assert!(table.actions.contains(&revoked));
    answer(&mut table, 1, late, page(&[b"z"], false));
    answer(&mut table, 2, held.lease, page(&[b"n"], false));
    assert_eq!(listed(&mut table), [(TAG, page(&[b"n"], false))], "fenced");
}

#[test]
fn a_page_in_the_wrong_form_puts_its_worker_into_quarantine_and_is_asked_of_another() {
    let failed = NOT_OF_READING.map(|failure| ListOutcome::Failed { failure });
    let wrong_pages = [
        page(&[b"o", b"n"], false),
        page(&[b"n", b"n"], false),
        page(&[b"m"], false),
        page(&[b"a"], false),
        page(&[b""], false),
        page(&[b"n/x"], false),
        page(&[b"n\0"], false),
        page(&[b"n", b"o", b"p"], true),
        page(&[], true),
    ];
    for wrong in wrong_pages.into_iter().chain(failed) {
        let mut table = table();
        table.join_with(1, 9, planes(&["a"]));
        want(&mut table, TAG, work("a"));
        let held = table.leased().pop().expect("it is leased");
        table.join_with(2, 9, planes(&["a"]));
        answer(&mut table, 1, held.lease, wrong.clone());
        let quarantined = Action::Quarantined("w1".to_owned(), Fault::WrongAnswer(held.lease.0));
        assert!(table.actions.contains(&quarantined), "{wrong:?}");
        let held = table.leased().pop().expect("it is leased again");
        assert_eq!(held.worker, 2);
        answer(&mut table, 2, held.lease, page(&[b"n"], false));
        assert_eq!(listed(&mut table), [(TAG, page(&[b"n"], false))]);
    }
}

#[test]
fn claims_are_refused_for_what_a_worker_can_find_and_for_nothing_else() {
    let claims =
        ClaimsWork { path: b"SUMS"[..].into(), offset: 0, seen: None, state: Blob::default() };
    for (refused, is_wrong) in [
        (Failure::Outside, false),
        (Failure::Unsupported, false),
        (Failure::Io { errno: 36 }, false),
        (Failure::NotAList, true),
        (Failure::Disputed, true),
    ] {
        let mut table = table();
        table.join_with(1, 9, planes(&["a"]));
        want(
            &mut table,
            TAG,
            ListWork { after: Blob::default(), claims: Some(claims.clone()), ..work("a") },
        );
        let held = table.leased().pop().expect("it is leased");
        let entry = ClaimEntry {
            name: b"n"[..].into(),
            path: Blob::default(),
            algorithm: Algorithm::Sha256,
            digest: vec![0; 32].into(),
            stamp: Stamp::default(),
            refused: Some(refused),
        };
        let outcome = ListOutcome::Claims {
            stamp: Stamp::default(),
            entries: vec![entry],
            bad_lines: 0,
            offset: 5,
            state: Blob::default(),
            more: false,
        };
        answer(&mut table, 1, held.lease, outcome.clone());
        let fault = Fault::WrongAnswer(held.lease.0);
        let quarantined = table.actions.contains(&Action::Quarantined("w1".to_owned(), fault));
        assert_eq!(quarantined, is_wrong, "{refused:?}");
        let given = if is_wrong { vec![] } else { vec![(TAG, outcome)] };
        assert_eq!(listed(&mut table), given, "{refused:?}");
    }
}

#[test]
fn an_answer_of_the_wrong_kind_puts_its_worker_into_quarantine() {
    let mut table = table();
    table.join_with(1, 9, planes(&["a"]));
    want(&mut table, TAG, work("a"));
    table.assigned();
    table.done(1, (lease_id(0), 1), 0, vec![(0, Failure::Io { errno: 2 })]);
    let quarantined = Action::Quarantined("w1".to_owned(), Fault::WrongAnswer(lease_id(0)));
    assert!(table.actions.contains(&quarantined), "digests for a page");
    table.join_with(2, 9, planes(&["b"]));
    table.open(Algorithm::Sha256);
    table.say(crate::tables::files(crate::tables::job(1), 0, &[5]), &[1]);
    let held = table.leased().pop().expect("a file is leased");
    answer(&mut table, 2, held.lease, page(&[], false));
    let quarantined = Action::Quarantined("w2".to_owned(), Fault::WrongAnswer(held.lease.0));
    assert!(table.actions.contains(&quarantined), "a page for digests");
}

#[test]
fn a_page_that_is_not_wanted_any_more_is_revoked_and_charged_to_nobody() {
    let mut table = table();
    table.join_with(1, 1, planes(&["a"]));
    want(&mut table, TAG, work("a"));
    want(&mut table, ListTag(8), work("a"));
    let held = table.leased().pop().expect("one of them is leased");
    table.step(Event::Unlist(TAG));
    table.step(Event::Unlist(ListTag(8)));
    table.step(Event::Unlist(ListTag(9)));
    let leases = vec![held.lease.0];
    let revoked = Action::ToWorker(WorkerId(1), WorkerRequest::Revoke { leases }, vec![]);
    assert!(table.actions.contains(&revoked));
    answer(&mut table, 1, held.lease, page(&[b"n"], false));
    assert_eq!(listed(&mut table), []);
    check_nothing_is_left(&mut table);
    table.step(Event::ClientLeft(CLIENT));
}
