//! Histories of one large SHA-2 file that goes from worker to worker.

use crate::tables::{JOB, Table, files, job, lease_id, open};
use hashcluster_controller::core::{
    Action, ClientId, Event, Fault, Limits, Principal, Rights, WorkerId,
};
use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, Failures, FileSource, Items, Planes, Stamp, Work,
    WorkerHealth, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};
use std::rc::Rc;
use std::time::Duration;

const SIZE: u64 = 1 << 40;
const FILE: Stamp = Stamp { size: SIZE, mtime_ns: 0, ctime_ns: 0 };

/// One file of `algorithm` waits.
fn table(algorithm: Algorithm) -> Table {
    let mut table = Table::new(Limits::default());
    table.open(algorithm);
    table.send_files(0, &[SIZE]);
    table
}

fn progress(table: &mut Table, worker: u64, number: u64, attempt: u32, offset: u64, state: u8) {
    let (lease, state) = (lease_id(number), Blob(vec![state]));
    table.hear(worker, WorkerReply::Progress { lease, attempt, file: FILE, offset, state });
}

fn answer(table: &mut Table, worker: u64, number: u64, attempt: u32, failures: Failures) {
    table.done(worker, (lease_id(number), attempt), u8::from(failures.is_empty()), failures);
}

/// Assignments since the last call: worker, attempt, start offset and state.
fn assigned(table: &mut Table) -> Vec<(u64, u32, u64, u8)> {
    let actions = std::mem::take(&mut table.actions);
    let work = |action| {
        let Action::ToWorker(worker, WorkerRequest::Assign { attempt, work, .. }, files) = action
        else {
            return None;
        };
        assert_eq!(files, [0], "the file rides along");
        if let Work::Resume { file, offset, state, .. } = work {
            assert_eq!(file, FILE.into());
            return Some((worker.0, attempt, offset, state[0]));
        }
        let source = FileSource::Descriptors;
        assert_eq!(work, Work::Files { source, files: vec![FILE.into()] });
        Some((worker.0, attempt, 0, 0))
    };
    actions.into_iter().filter_map(work).collect()
}

fn bytes_of(table: &Table, worker: usize) -> u64 {
    table.core.status(table.now, 9).workers[worker].bytes
}

#[test]
fn another_worker_goes_on_where_the_lost_one_stood() {
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    assert_eq!(assigned(&mut table), [(1, 1, 0, 0)]);
    progress(&mut table, 1, 0, 1, 1 << 33, 5);
    progress(&mut table, 1, 0, 1, 1 << 34, 6);
    assert_eq!(bytes_of(&table, 0), 1 << 34, "what is absorbed shows at once");
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 1);
    assert_eq!(assigned(&mut table), [(2, 2, 1 << 34, 6)]);
    answer(&mut table, 2, 1, 2, vec![]);
    let [ClientReply::Results { failures, .. }] = &table.told()[..] else { panic!("a digest") };
    assert_eq!(failures, &[]);
    assert_eq!(bytes_of(&table, 0), SIZE - (1 << 34), "the second read only the rest");
    assert_eq!(table.core.status(table.now, 9).counters.bytes, SIZE, "no byte counts twice");
}

#[test]
fn the_client_hears_how_far_a_long_file_is() {
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    progress(&mut table, 1, 0, 1, 1 << 33, 5);
    progress(&mut table, 1, 0, 1, 1 << 34, 6);
    assert_eq!(table.advanced(), [(0, 1 << 33), (0, 1 << 33)], "what is new");
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 1);
    progress(&mut table, 2, 1, 2, 1 << 35, 7);
    assert_eq!(table.advanced(), [(0, 1 << 34)], "by another worker");
    answer(&mut table, 2, 1, 2, vec![]);
    assert_eq!(table.advanced(), [], "the rest is its result");
}

#[test]
fn the_client_hears_of_each_part_of_a_file() {
    let mut table = Table::new(Limits::default());
    table.open(Algorithm::Blake3);
    table.join(1, 1);
    table.join(2, 1);
    table.send_files(0, &[SIZE]);
    let parts = table.leased();
    let mut lens = Vec::new();
    for part in &parts {
        let Work::Subtree { len, .. } = part.work else { panic!("{part:?}") };
        lens.push((0, len));
        table.done(part.worker, part.lease, 1, vec![]);
    }
    assert!(parts.len() == 2 && lens.iter().all(|(_, len)| *len < SIZE), "{lens:?}");
    assert_eq!(table.advanced(), lens);
}

#[test]
fn what_came_forward_may_be_lost_on_more_than_three_workers_but_not_for_ever() {
    let mut table = table(Algorithm::Sha512);
    let mut told = Vec::new();
    let mut lost = 0;
    while told.is_empty() {
        table.join(lost + 1, 1);
        let attempt = u32::try_from(lost + 1).unwrap();
        assert_eq!(assigned(&mut table).len(), 1, "attempt {attempt}");
        progress(&mut table, lost + 1, lost, attempt, 128 * (lost + 1), 1);
        table.step(Event::WorkerLeft(WorkerId(lost + 1)));
        lost += 1;
        told = table.told();
    }
    let failed = Failure::WorkersLost { attempts: 16 };
    assert!(
        matches!(&told[..], [ClientReply::Death { losses, .. }, ClientReply::Results { failures, .. }]
        if losses.len() == 16 && *failures == [(0, failed)])
    );
    assert_eq!(lost, 16);
}

#[test]
fn progress_renews_the_deadline_which_a_silent_lease_passes_however_large_its_file_is() {
    // 60 s, and 4 GiB at 4 MB/s.
    let deadline = Duration::from_secs(60 + 1073);
    let beat = |table: &mut Table, time: Duration| {
        for _ in 0..time.as_secs() / 4 {
            table.hear(1, WorkerReply::Heartbeat);
            table.wait(Duration::from_secs(4));
        }
    };
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    for round in 1..=3 {
        beat(&mut table, deadline - Duration::from_secs(60));
        progress(&mut table, 1, 0, 1, round << 32, 9);
    }
    assert_eq!(assigned(&mut table).len(), 1, "the first worker still has it");
    beat(&mut table, deadline + Duration::from_secs(8));
    table.hear(1, WorkerReply::Credit { batches: 1 });
    assert_eq!(assigned(&mut table), [(1, 2, 3 << 32, 9)], "where it stood, again");
}

#[test]
fn a_lease_that_creeps_ends_as_one_that_is_silent() {
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    assert_eq!(assigned(&mut table), [(1, 1, 0, 0)]);
    table.join(2, 1);
    let rounds = (1..).take_while(|&round| {
        progress(&mut table, 1, 0, 1, 128 * round, 9);
        table.hear(2, WorkerReply::Heartbeat);
        table.wait(Duration::from_secs(4));
        assigned(&mut table).is_empty()
    });
    assert_eq!(rounds.count(), (60 + 1073) / 4, "60 s, and 4 GiB at 4 MB/s");
}

#[test]
fn progress_that_cannot_be_is_a_wrong_answer() {
    type Case = (&'static str, Algorithm, u64, Stamp);
    let cases: [Case; 4] = [
        ("not forward", Algorithm::Sha256, 1024, FILE),
        ("back", Algorithm::Sha256, 896, FILE),
        ("of another stamp", Algorithm::Sha256, 2048, Stamp { mtime_ns: 1, ..FILE }),
        ("no SHA-2", Algorithm::Blake3, 2048, FILE),
    ];
    for (what, algorithm, offset, file) in cases {
        let mut table = table(algorithm);
        table.join(1, 1);
        table.actions.clear();
        if algorithm != Algorithm::Blake3 {
            progress(&mut table, 1, 0, 1, 1024, 5);
        }
        let advanced = if algorithm == Algorithm::Blake3 { vec![] } else { vec![(0, 1024)] };
        assert_eq!(table.advanced(), advanced, "{what}");
        assert_eq!(table.actions, [], "{what}: the first is good");
        let (lease, state) = (lease_id(0), Blob(vec![5]));
        table.hear(1, WorkerReply::Progress { lease, attempt: 1, file, offset, state });
        let fault = Fault::WrongAnswer(lease);
        assert!(table.actions.contains(&Action::Quarantined("w1".to_owned(), fault)), "{what}");
        table.actions.clear();
        if algorithm != Algorithm::Blake3 {
            table.join(2, 1);
            assert_eq!(assigned(&mut table), [(2, 2, 0, 0)], "{what}: from the start");
        }
    }
}

#[test]
fn progress_of_several_files_or_of_another_than_was_named_is_a_wrong_answer() {
    let mut table = Table::with_datasets(Limits::default(), &["d"]);
    let algorithm = Algorithm::Sha256;
    table.open(algorithm);
    table.send_files(0, &[1000, 1000]);
    table.join(1, 1);
    let file = Stamp { size: 1000, ..Stamp::default() };
    let (lease, attempt, state) = (lease_id(0), 1, Blob(vec![1]));
    table.hear(1, WorkerReply::Progress { lease, attempt, file, offset: 128, state });
    let health = |table: &Table, i: usize| table.core.status(table.now, 9).workers[i].health;
    assert_eq!(health(&table, 0), WorkerHealth::Quarantined);

    for (mtime_ns, ctime_ns, want) in [
        (7, 8, WorkerHealth::Ready),
        (8, 8, WorkerHealth::Ready),
        (8, 1, WorkerHealth::Quarantined),
        (6, 8, WorkerHealth::Quarantined),
    ] {
        let mut table = Table::with_datasets(Limits::default(), &["d"]);
        table.open(algorithm);
        let stamp = Stamp { size: SIZE, mtime_ns: 7, ctime_ns: 1 };
        let source = FileSource::Dataset { name: "d".to_owned(), paths: vec![b"f"[..].into()] };
        let items = Items::Files { source, files: vec![stamp.into()] };
        table.say(ClientRequest::Items { job: JOB, first: 0, items }, &[]);
        let datasets = vec!["d".to_owned()];
        table.join_with(1, 1, Planes { descriptors: false, inline: true, datasets });
        let file = Stamp { size: SIZE, mtime_ns, ctime_ns };
        let (lease, attempt, state) = (lease_id(0), 1, Blob(vec![1]));
        table.hear(1, WorkerReply::Progress { lease, attempt, file, offset: 128, state });
        assert_eq!(health(&table, 0), want, "modified at {mtime_ns}");
    }
}

#[test]
fn progress_of_a_lease_that_passed_on_is_dropped_and_of_a_foreign_one_closes() {
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    progress(&mut table, 1, 0, 2, 1024, 5);
    assert_eq!(table.core.status(table.now, 9).counters.answers_fenced, 1, "another attempt");
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 1);
    table.join(3, 1);
    table.actions.clear();
    progress(&mut table, 2, 0, 1, 1024, 5);
    assert_eq!(table.core.status(table.now, 9).counters.answers_fenced, 2, "a lease of before");
    assert_eq!(bytes_of(&table, 0), 0);
    progress(&mut table, 3, 1, 2, 1024, 5);
    let closed = Action::CloseWorker(WorkerId(3), Fault::ForeignLease(lease_id(1)));
    assert!(table.actions.contains(&closed), "{:?}", table.actions);
}

#[test]
fn what_depends_on_a_worker_in_quarantine_is_begun_again() {
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    progress(&mut table, 1, 0, 1, 1024, 5);
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 1);
    progress(&mut table, 2, 1, 2, 2048, 6);
    table.actions.clear();
    // The first one comes back under its name, and is found out over another file.
    table.join_with(1, 1, Planes { descriptors: true, inline: true, datasets: vec![] });
    table.send_files(1, &[SIZE]);
    table.done(1, (lease_id(2), 1), 3, vec![]);
    let revoke = WorkerRequest::Revoke { leases: vec![lease_id(1)] };
    assert!(table.actions.contains(&Action::ToWorker(WorkerId(2), revoke, vec![])));
    table.actions.clear();
    answer(&mut table, 2, 1, 2, vec![]);
    assert_eq!(table.told(), [], "the digest that began with it does not count");
}

#[test]
fn a_state_that_the_next_worker_does_not_take_is_forgotten() {
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    progress(&mut table, 1, 0, 1, 1024, 5);
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 1);
    assert_eq!(assigned(&mut table), [(1, 1, 0, 0), (2, 2, 1024, 5)]);
    answer(&mut table, 2, 1, 2, vec![(0, Failure::Invalid)]);
    assert_eq!(assigned(&mut table), [(2, 3, 0, 0)], "from the start");
    answer(&mut table, 2, 2, 3, vec![(0, Failure::Invalid)]);
    assert_eq!(table.told().len(), 1, "what is invalid from the start is a failure");
}

/// Which files which worker is given, as these lengths of `algorithm` come.
fn shared_out(algorithm: Algorithm, workers: u64, sizes: &[u64]) -> Vec<(u64, u64)> {
    let mut table = Table::new(Limits::default());
    table.open(algorithm);
    for worker in 1..=workers {
        table.join(worker, 9);
    }
    for (first, size) in (0..).zip(sizes) {
        table.send_files(first, &[*size]);
    }
    table.assigned().into_iter().map(|(worker, _, files)| (worker, files[0])).collect()
}

/// A thread here has two lanes for SHA-256 and SHA-224, and four for the longer ones.
#[test]
fn long_files_go_beside_each_other_only_where_no_thread_is_idle() {
    let long = 1 << 30;
    let of = |workers, sizes: &[u64]| shared_out(Algorithm::Sha256, workers, sizes);
    assert_eq!(of(1, &[long; 3]), [(1, 0), (1, 1)], "two and no more");
    assert_eq!(of(2, &[long; 2]), [(1, 0), (2, 1)], "one each");
    assert_eq!(of(2, &[long; 5]), [(1, 0), (2, 1), (1, 2), (2, 3)]);
    assert_eq!(of(1, &[long, 4 << 20]), [(1, 0), (1, 1)]);
    assert_eq!(of(1, &[long, 3 << 20]), [(1, 0)], "too short");
    assert_eq!(of(1, &[long, 10, long]), [(1, 0)], "what is short must not wait for ever");
    for algorithm in [Algorithm::Sha384, Algorithm::Sha512_256] {
        let given = shared_out(algorithm, 1, &[long; 9]);
        assert_eq!(given, [(1, 0), (1, 1), (1, 2), (1, 3)], "{algorithm}: four and no more");
    }
    assert_eq!(shared_out(Algorithm::Blake3, 1, &[long; 2]), [(1, 0)], "nothing is gained");
}

#[test]
fn a_long_file_does_not_go_beside_one_of_the_other_half_of_sha2() {
    for (first, other, want) in [
        (Algorithm::Sha256, Algorithm::Sha224, &[0, 9][..]),
        (Algorithm::Sha512, Algorithm::Sha384, &[0, 9]),
        (Algorithm::Sha256, Algorithm::Sha512, &[0]),
        (Algorithm::Sha512, Algorithm::Sha256, &[0]),
    ] {
        let mut table = Table::new(Limits::default());
        table.join(1, 9);
        for (id, algorithm, descriptor) in [(JOB, first, 0), (job(1), other, 9)] {
            table.open(algorithm);
            table.say(files(id, 0, &[1 << 30]), &[descriptor]);
        }
        let given: Vec<u64> = table.assigned().into_iter().map(|(_, _, files)| files[0]).collect();
        assert_eq!(given, want, "{other} beside {first}");
    }
}

#[test]
fn what_a_worker_was_lost_over_goes_alone() {
    let mut table = Table::new(Limits::default());
    table.open(Algorithm::Sha256);
    table.join(1, 9);
    table.send_files(0, &[1 << 30, 1 << 30]);
    let files = |table: &mut Table| -> Vec<u64> {
        table.assigned().into_iter().map(|(_, _, files)| files[0]).collect()
    };
    assert_eq!(files(&mut table), [0, 1]);
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 9);
    assert_eq!(files(&mut table), [0], "either may have been the reason");
    table.send_files(2, &[1 << 30]);
    assert!(files(&mut table).is_empty(), "so nothing is risked beside it");
    table.done(2, (lease_id(2), 2), 1, vec![]);
    assert_eq!(files(&mut table), [1]);
    table.done(2, (lease_id(3), 2), 1, vec![]);
    assert_eq!(files(&mut table), [2]);
}

/// The second job is another user's, and has a file that waits.
fn other_user_waits(table: &mut Table, size: u64) {
    let client = ClientId(2);
    let (principal, rights) = (Principal::Uid(8), Rc::new(Rights::ALL));
    table.step(Event::ClientJoined { client, principal, pid: 71, rights });
    table.step(Event::ClientSaid(client, open(Algorithm::Sha256, 0), vec![]));
    table.step(Event::ClientSaid(client, files(job(1), 0, &[size]), vec![9]));
}

/// Files that were assigned since the last call, and leases that were revoked.
fn handed_over(table: &mut Table) -> (Vec<u64>, Vec<u64>) {
    let (mut given, mut revoked) = (Vec::new(), Vec::new());
    for action in std::mem::take(&mut table.actions) {
        let Action::ToWorker(_, request, files) = action else { continue };
        given.extend(files);
        if let WorkerRequest::Revoke { leases } = request {
            revoked.extend(leases.iter().map(|lease| lease.number));
        }
    }
    (given, revoked)
}

#[test]
fn a_long_file_yields_at_a_checkpoint_when_another_user_waits() {
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    progress(&mut table, 1, 0, 1, 1 << 29, 5);
    assert_eq!(handed_over(&mut table), (vec![0], vec![]), "nobody waits");
    other_user_waits(&mut table, 10);
    assert_eq!(handed_over(&mut table), (vec![], vec![]), "it waits for a checkpoint");
    progress(&mut table, 1, 0, 1, 2 << 29, 6);
    assert_eq!(handed_over(&mut table), (vec![], vec![0]));
    table.hear(1, WorkerReply::Credit { batches: 1 });
    assert_eq!(handed_over(&mut table), (vec![9], vec![]), "another user's file is next");
    answer(&mut table, 1, 1, 1, vec![]);
    assert_eq!(assigned(&mut table), [(1, 2, 2 << 29, 6)], "the long file resumes");
    progress(&mut table, 1, 2, 2, 3 << 29, 7);
    answer(&mut table, 1, 2, 2, vec![]);
    let [ClientReply::Results { failures, .. }] = &table.told()[..] else { panic!("a digest") };
    assert_eq!((failures.len(), table.core.status(table.now, 9).counters.leases_lost), (0, 0));
}

#[test]
fn long_files_of_two_users_advance_alike() {
    let mut table = table(Algorithm::Sha256);
    table.join(1, 1);
    other_user_waits(&mut table, SIZE);
    let mut lens = [0_u64; 2];
    let (mut number, mut attempts) = (0, [1, 0]);
    for _ in 0..40 {
        let (given, revoked) = handed_over(&mut table);
        if !revoked.is_empty() {
            table.hear(1, WorkerReply::Credit { batches: 1 });
            table.actions.clear();
            number += 1;
            let at = usize::from(number % 2 == 1);
            attempts[at] += 1;
            continue;
        }
        assert!(given.len() <= 1);
        let at = usize::from(number % 2 == 1);
        lens[at] += 1 << 29;
        progress(&mut table, 1, number, attempts[at], lens[at], 1);
    }
    assert!(lens[0].abs_diff(lens[1]) <= 2 << 29, "{lens:?}");
    assert!(lens[0] > 4 << 29, "{lens:?}");
}

#[test]
fn a_short_file_of_another_user_goes_beside_long_ones_that_have_no_checkpoints() {
    let mut table = table(Algorithm::Blake3);
    table.join(1, 9);
    assert_eq!(handed_over(&mut table), (vec![0], vec![]), "one worker thread, one whole file");
    table.send_files(1, &[10]);
    assert_eq!(handed_over(&mut table), (vec![], vec![]), "of the same job");
    other_user_waits(&mut table, 10);
    assert_eq!(handed_over(&mut table), (vec![9], vec![]), "at once");
    table.step(Event::ClientSaid(ClientId(2), files(job(1), 1, &[10]), vec![10]));
    assert_eq!(handed_over(&mut table), (vec![], vec![]), "one at a time");
    answer(&mut table, 1, 1, 1, vec![]);
    assert_eq!(handed_over(&mut table), (vec![10], vec![]));
    table.step(Event::ClientSaid(ClientId(2), files(job(1), 2, &[SIZE]), vec![11]));
    answer(&mut table, 1, 2, 1, vec![]);
    assert_eq!(handed_over(&mut table), (vec![], vec![]), "a long one waits");
}

#[test]
fn who_kills_a_worker_beside_long_files_is_among_those_it_may_have_been() {
    let mut table = table(Algorithm::Blake3);
    for worker in 1..=4 {
        table.join(worker, 9);
        if worker == 1 {
            other_user_waits(&mut table, 10);
        }
        table.step(Event::WorkerLeft(WorkerId(worker)));
    }
    let failed = |action: &&Action<u64>| {
        matches!(action, Action::ToClient(_, ClientReply::Results { failures, .. })
            if *failures == [(0, Failure::WorkersLost { attempts: 3 })])
    };
    let failed_len = table.actions.iter().filter(failed).count();
    assert_eq!(failed_len, 2, "each was lost three times: {:?}", table.actions);
}
