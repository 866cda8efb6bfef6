//! Files that are named in datasets: who is given them, and who is not held up by them.

use crate::tables::{CLIENT, JOB, Table, inline, job, open};
use hashcluster_controller::core::{
    Action, ClientId, DatasetRights, Event, Fault, Limits, Principal, Rights, WorkerId,
};
use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, FileItem, FileSource, Items, JobId, LeaseId, Piece,
    Planes, RejectReason, Run, Stamp, Work, WorkerReply,
};
use ipc_proto::{Algorithm, Blob};
use std::rc::Rc;

fn planes(descriptors: bool, datasets: &[&str]) -> Planes {
    let datasets = datasets.iter().map(|&name| name.to_owned()).collect();
    Planes { descriptors, inline: true, datasets }
}

/// A file of a dataset, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    path: Blob,
    stamp: Stamp,
}

fn file(path: &str, size: u64) -> Named {
    Named { path: Blob::from(path.as_bytes()), stamp: Stamp { size, ..Stamp::default() } }
}

/// A controller that knows `a` and `b`, and a job.
fn table(algorithm: Algorithm) -> Table {
    let mut table = Table::with_datasets(Limits::default(), &["a", "b"]);
    table.open(algorithm);
    table
}

fn source(dataset: &str, files: &[Named]) -> FileSource {
    let paths = files.iter().map(|file| file.path.clone()).collect();
    FileSource::Dataset { name: dataset.to_owned(), paths }
}

fn items(files: &[Named]) -> Vec<FileItem> {
    files.iter().map(|file| file.stamp.into()).collect()
}

fn request(job: JobId, first: u64, dataset: &str, files: &[Named]) -> ClientRequest {
    let items = Items::Files { source: source(dataset, files), files: items(files) };
    ClientRequest::Items { job, first, items }
}

fn name(table: &mut Table, job: JobId, first: u64, dataset: &str, files: &[Named]) {
    table.say(request(job, first, dataset, files), &[]);
}

/// The dataset and the files of `work`.
fn named(work: &Work) -> (&str, Vec<Named>) {
    let Work::Files { source: FileSource::Dataset { name, paths }, files } = work else {
        panic!("{work:?}")
    };
    let named = |(path, item): (&Blob, &FileItem)| Named { path: path.clone(), stamp: item.stamp };
    (name, paths.iter().zip(files).map(named).collect())
}

/// Assignments since the last call.
fn works(table: &mut Table) -> Vec<(u64, (LeaseId, u32), Work)> {
    table.leased().into_iter().map(|held| (held.worker, held.lease, held.work)).collect()
}

fn names(dataset: &str, files: &[Named]) -> Work {
    Work::Files { source: source(dataset, files), files: items(files) }
}

#[test]
fn names_go_only_to_workers_that_have_the_dataset() {
    let mut table = table(Algorithm::Sha256);
    table.join_with(1, 9, planes(true, &["b"]));
    let (x, y) = (file("x", 1), file("y/z", 2));
    name(&mut table, JOB, 0, "a", &[x.clone(), y.clone()]);
    assert_eq!(works(&mut table), [], "nobody has it: they wait");
    table.join_with(2, 9, planes(false, &["c", "a"]));
    let assigned = works(&mut table);
    let want = names("a", &[x, y]);
    let [(2, (first, 1), work)] = &assigned[..] else { panic!("{assigned:?}") };
    assert_eq!(work, &want);
    table.step(Event::WorkerLeft(WorkerId(2)));
    assert_eq!(works(&mut table), [], "they wait again");
    table.join_with(3, 9, planes(false, &["a"]));
    let again = works(&mut table);
    assert!(again.iter().all(|(worker, (_, attempt), _)| (*worker, *attempt) == (3, 2)));
    let files: Vec<Named> = again.iter().flat_map(|(.., work)| named(work).1).collect();
    assert_eq!(names("a", &files), want, "the second attempt, maybe in pieces");
    table.done(2, (*first, 1), 2, vec![]);
    assert_eq!(table.told(), [], "a late answer counts for nothing");
    for (worker, lease, work) in &again {
        table.done(*worker, *lease, u8::try_from(work.items_len()).unwrap(), vec![]);
    }
    table.say(ClientRequest::Finish { job: JOB }, &[]);
    let finished = ClientReply::Finished { job: JOB, items: 2, failed: 0 };
    assert_eq!(table.told().pop(), Some(finished));
}

#[test]
fn descriptors_go_only_to_workers_that_take_them() {
    let mut table = table(Algorithm::Sha256);
    table.join_with(1, 9, planes(false, &["a"]));
    table.join_with(2, 1, planes(true, &[]));
    table.send_files(0, &[10, 10, 10]);
    let assigned = table.assigned();
    assert!(assigned.iter().all(|(worker, ..)| *worker == 2), "{assigned:?}");
    table.step(Event::WorkerLeft(WorkerId(2)));
    let failed = table.told().into_iter().map(|reply| {
        let ClientReply::Results { failures, .. } = reply else { panic!("{reply:?}") };
        assert!(failures.iter().all(|(_, failure)| *failure == Failure::Unsupported));
        failures.len()
    });
    assert_eq!(failed.sum::<usize>(), 3, "with workers there, waiting would be for ever");
}

#[test]
fn a_dataset_that_the_controller_does_not_know_fails_at_once_and_the_job_goes_on() {
    let mut table = table(Algorithm::Sha256);
    name(&mut table, JOB, 0, "c", &[file("x", 1), file("y", 2)]);
    let failures = vec![(0, Failure::UnknownDataset), (1, Failure::UnknownDataset)];
    let (runs, outputs) = (vec![Run { first: 0, len: 2 }], Blob::default());
    assert_eq!(table.told(), [ClientReply::Results { job: JOB, runs, outputs, failures }]);
    table.join_with(1, 9, planes(false, &["a", "c"]));
    name(&mut table, JOB, 2, "a", &[file("z", 1)]);
    let assigned = works(&mut table);
    assert_eq!(assigned[0].2, names("a", &[file("z", 1)]));
    table.done(1, assigned[0].1, 1, vec![]);
    table.say(ClientRequest::Finish { job: JOB }, &[]);
    let finished = ClientReply::Finished { job: JOB, items: 3, failed: 2 };
    assert_eq!(table.told().pop(), Some(finished));
    let limits = table.core.status(table.now, 9).limits;
    assert_eq!((limits.items, limits.bytes), (0, 0));
}

#[test]
fn work_that_waits_for_a_dataset_is_in_nobodys_way() {
    let limits = Limits { items_max: 1 << 24, bytes_max: 1 << 34, ..Limits::default() };
    let mut table = Table::with_datasets(limits, &["a", "b"]);
    table.open(Algorithm::Sha256);
    table.join_with(1, 4000, planes(true, &["b"]));
    // More jobs than are looked at, of another user, before and after.
    let other = ClientId(2);
    table.step(Event::ClientJoined {
        client: other,
        principal: Principal::Uid(8),
        pid: 80,
        rights: Rc::new(Rights::ALL),
    });
    for number in 1..=64 {
        table.step(Event::ClientSaid(other, open(Algorithm::Sha256, 0), vec![]));
        let request = request(job(number), 0, "a", &vec![file("x", 1 << 30); 3]);
        table.step(Event::ClientSaid(other, request, vec![]));
    }
    for number in 65..95 {
        table.open(Algorithm::Sha256);
        name(&mut table, job(number), 0, "a", &vec![file("x", 5); 10]);
    }
    assert_eq!(works(&mut table), []);
    for (first, sizes) in [(0, [10; 100]), (100, [20; 100])] {
        table.send_files(first, &sizes);
    }
    name(&mut table, JOB, 200, "b", &[file("y", 5)]);
    table.say(inline(JOB, 201, vec![2], Blob(vec![1, 2])), &[]);
    table.say(ClientRequest::Finish { job: JOB }, &[]);
    let mut told = Vec::new();
    for _ in 0..500 {
        for (worker, lease, work) in works(&mut table) {
            let digests = u8::try_from(work.items_len()).unwrap();
            table.done(worker, lease, digests, vec![]);
        }
        told.extend(table.told());
    }
    let finished = ClientReply::Finished { job: JOB, items: 202, failed: 0 };
    assert_eq!(told.pop(), Some(finished), "everything else is done");
    table.join_with(2, 1, planes(false, &["a"]));
    assert_eq!(works(&mut table)[0].0, 2, "and what waited starts when its worker comes");
}

#[test]
fn two_planes_of_one_job_are_served_in_turn() {
    let mut table = table(Algorithm::Sha256);
    name(&mut table, JOB, 0, "a", &vec![file("x", 1 << 20); 200]);
    name(&mut table, JOB, 200, "b", &vec![file("y", 1 << 20); 200]);
    table.join_with(1, 1, planes(false, &["a", "b"]));
    let mut order = String::new();
    for _ in 0..4 {
        let (worker, lease, work) = works(&mut table).remove(0);
        let (dataset, files) = named(&work);
        order.push_str(dataset);
        table.done(worker, lease, u8::try_from(files.len()).unwrap(), vec![]);
    }
    assert!(order == "abab" || order == "abba", "{order}");
}

#[test]
fn paths_count_against_the_byte_window_until_their_result() {
    let window_bytes = 8 << 20;
    let mut table = table(Algorithm::Sha256);
    let path = "p".repeat(4095);
    let files = vec![file(&path, 1); 128];
    for first in 0..window_bytes / (128 * 4095) {
        name(&mut table, JOB, first * 128, "a", &files);
    }
    let first = window_bytes / (128 * 4095) * 128;
    let held = table.core.status(table.now, 9).limits.bytes;
    assert_eq!(held, first * 4095);
    table.join_with(1, 1, planes(false, &["a"]));
    let (worker, lease, work) = works(&mut table).remove(0);
    table.done(worker, lease, u8::try_from(work.items_len()).unwrap(), vec![]);
    let less = table.core.status(table.now, 9).limits.bytes;
    assert_eq!(held - less, 4095 * work.items_len() as u64, "a result frees its paths");
    for i in 0..3 {
        name(&mut table, JOB, first + 128 * i, "a", &files);
    }
    let closed = Action::CloseClient(CLIENT, Fault::WindowExceeded(JOB));
    assert!(table.actions.contains(&closed), "sent beyond the window");
    let limits = table.core.status(table.now, 9).limits;
    assert_eq!((limits.items, limits.bytes), (0, 0), "and everything is let go");
}

#[test]
fn a_batch_of_names_fits_its_frame() {
    let mut table = table(Algorithm::Sha256);
    let short: Vec<Named> = (0..1024).map(|i| file(&format!("{i}"), 0)).collect();
    for part in [0..128, 128..512, 512..1024] {
        name(&mut table, JOB, part.start as u64, "a", &short[part]);
    }
    let long = vec![file(&"l".repeat(4095), 0); 128];
    for first in [1024, 1152, 1280] {
        name(&mut table, JOB, first, "a", &long);
    }
    table.join_with(1, 1, planes(false, &["a"]));
    let mut lens = Vec::new();
    while let Some((worker, lease, work)) = works(&mut table).pop() {
        let (_, files) = named(&work);
        let paths_len: usize = files.iter().map(|file| file.path.len()).sum();
        assert!(files.len() <= 512 && paths_len <= 512 << 10);
        lens.push(files.len());
        let (outputs, (lease, attempt)) = (Blob(vec![1; 32 * files.len()]), lease);
        let failures = vec![];
        let done = WorkerReply::Done { lease, attempt, credit: 1, busy_us: 1, outputs, failures };
        table.hear(worker, done);
    }
    assert_eq!(lens.iter().sum::<usize>(), 1024 + 384);
    assert!(lens.contains(&512) || lens.iter().any(|&len| len > 253), "{lens:?}");
}

#[test]
fn a_large_named_file_is_split_over_the_workers_that_have_it() {
    let mut table = table(Algorithm::Blake3);
    let large = file("large", 40 << 20);
    table.join_with(1, 9, planes(true, &[]));
    table.join_with(2, 1, planes(false, &["a"]));
    table.join_with(3, 1, planes(false, &["a", "b"]));
    name(&mut table, JOB, 0, "a", std::slice::from_ref(&large));
    let (mut next, mut busy) = (0, [0, 0]);
    let merge = loop {
        let assigned = works(&mut table);
        for (worker, (lease, attempt), work) in assigned {
            if let Work::Piece(Piece::Merge { values, root: true }) = work {
                assert_eq!(values.len(), 10 * 32);
                assert_eq!(next, 40 << 20);
                table.done(worker, (lease, attempt), 1, vec![]);
                return assert!(busy.iter().all(|&parts| parts >= 4), "{busy:?}");
            }
            let (files, len) = (std::slice::from_ref(&large), 4 << 20);
            let (source, file) = (source("a", files), large.stamp.into());
            assert_eq!(work, Work::Subtree { source, file, offset: next, len });
            next += len;
            busy[usize::try_from(worker - 2).expect("worker 1 has no dataset")] += 1;
            table.done(worker, (lease, attempt), 1, vec![]);
        }
        if next > 40 << 20 {
            break next;
        }
    };
    panic!("no merge after {merge} bytes");
}

/// Another client of the table, with these rights.
fn join_with_rights(table: &mut Table, rights: Rights) -> ClientId {
    let (client, principal) = (ClientId(9), Principal::Uid(8));
    table.step(Event::ClientJoined { client, principal, pid: 80, rights: Rc::new(rights) });
    table.actions.clear();
    client
}

#[test]
fn a_dataset_that_is_not_granted_looks_like_one_that_there_is_not() {
    let limits = Limits::default();
    for (name, want) in
        [("a", None), ("b", Some(Failure::UnknownDataset)), ("c", Some(Failure::UnknownDataset))]
    {
        let mut table = Table::with_datasets(limits, &["a", "b"]);
        table.join_with(1, 4, planes(true, &["a", "b"]));
        let datasets = DatasetRights::Named(["a".to_owned()].into());
        let client = join_with_rights(&mut table, Rights { datasets, ..Rights::jobs() });
        table.step(Event::ClientSaid(client, open(Algorithm::Sha256, 0), vec![]));
        let request = request(job(0), 0, name, &[file("x", 5)]);
        table.step(Event::ClientSaid(client, request, vec![]));
        let failed = table.actions.iter().find_map(|action| {
            let Action::ToClient(_, ClientReply::Results { failures, .. }) = action else {
                return None;
            };
            failures.first().copied()
        });
        assert_eq!(failed.map(|(_, failure)| failure), want, "{name}");
        let is_assigned = table.actions.iter().any(|action| matches!(action, Action::ToWorker(..)));
        assert_eq!(is_assigned, want.is_none(), "{name}");
    }
}

#[test]
fn a_client_without_the_right_to_submit_is_told_so_and_stays_connected() {
    let mut table = Table::with_datasets(Limits::default(), &[]);
    let client = join_with_rights(&mut table, Rights { submit: false, ..Rights::ALL });
    table.step(Event::ClientSaid(client, open(Algorithm::Sha256, 0), vec![]));
    let [Action::ToClient(_, ClientReply::Rejected { reason, .. })] = &table.actions[..] else {
        panic!("{:?}", table.actions)
    };
    assert_eq!(*reason, RejectReason::Forbidden);
    table.actions.clear();
    table.step(Event::ClientSaid(client, ClientRequest::Status, vec![]));
    assert!(matches!(table.actions[..], [Action::ToClient(_, ClientReply::Status(_))]));
}

#[test]
fn the_jobs_of_others_are_shown_only_to_those_who_may_see_them() {
    for (see_jobs, want) in [(false, vec![8]), (true, vec![7, 8])] {
        let mut table = Table::with_datasets(Limits::default(), &[]);
        table.open(Algorithm::Sha256);
        let client = join_with_rights(&mut table, Rights { see_jobs, ..Rights::ALL });
        table.step(Event::ClientSaid(client, open(Algorithm::Sha256, 0), vec![]));
        for (rows_max, unlisted) in [(9, 0), (0, want.len())] {
            let status = table.core.status_for(client, table.now, rows_max);
            let uids: Vec<u32> = status.jobs.iter().map(|job| job.uid).collect();
            assert_eq!(uids, &want[..want.len() - unlisted]);
            assert_eq!(usize::try_from(status.jobs_unlisted).unwrap(), unlisted);
        }
    }
}

#[test]
fn a_dataset_that_is_added_is_served_and_one_that_is_removed_fails_what_waits_in_it() {
    let mut table = table(Algorithm::Sha256);
    let unknown = |items: &[u32]| -> Vec<(u32, Failure)> {
        items.iter().map(|&item| (item, Failure::UnknownDataset)).collect()
    };
    let names_of = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    table.step(Event::Datasets(names_of(&["a", "c"])));
    name(&mut table, JOB, 0, "b", &[file("x", 1)]);
    let (runs, outputs) = (vec![Run { first: 0, len: 1 }], Blob::default());
    let failures = unknown(&[0]);
    assert_eq!(table.told(), [ClientReply::Results { job: JOB, runs, outputs, failures }]);

    table.join_with(1, 1, planes(false, &["a", "c"]));
    name(&mut table, JOB, 1, "c", &[file("y", 1)]);
    let assigned = works(&mut table);
    assert_eq!(assigned[0].2, names("c", &[file("y", 1)]));
    // More than the worker takes at once: some of it waits when the dataset goes.
    name(&mut table, JOB, 2, "c", &[file("z", 1), file("zz", 2)]);
    table.step(Event::Datasets(names_of(&["a"])));
    let failed = table.told().into_iter().map(|reply| {
        let ClientReply::Results { failures, .. } = reply else { panic!("{reply:?}") };
        failures.len()
    });
    assert_eq!(failed.sum::<usize>(), 2, "what waits");
    // What the worker had answers all the same, and what it loses is not handed out again.
    table.step(Event::WorkerLeft(WorkerId(1)));
    let lost = table.told();
    assert!(
        matches!(&lost[..], [ClientReply::Results { failures, .. }] if *failures == unknown(&[0])),
        "{lost:?}"
    );
    table.say(ClientRequest::Finish { job: JOB }, &[]);
    let finished = ClientReply::Finished { job: JOB, items: 4, failed: 4 };
    assert_eq!(table.told().pop(), Some(finished));
}
