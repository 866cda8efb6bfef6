//! Cross-checks: what is hashed again, by whom, and what follows when two do not agree.

use crate::tables::{CLIENT, JOB, Leased, Table, files, inline, job, open};
use hashcluster_controller::core::{Action, Fault, Limits};
use ipc_proto::message::{ClientReply, ClientRequest, Failure, Failures, Work, WorkerReply};
use ipc_proto::{Algorithm, Blob};

const SEED: u64 = 1;

/// A controller with `workers` idle workers and one open job, of which one item in `every` is checked.
fn table(every: u32, workers: u64) -> Table {
    let mut table = Table::new(Limits::default());
    table.core.cross_check(every, SEED);
    (1..=workers).for_each(|worker| table.join(worker, 4));
    table.open(Algorithm::Sha256);
    table
}

#[track_caller]
fn only(table: &mut Table) -> Leased {
    let mut held = table.leased();
    assert_eq!(held.len(), 1, "{held:?}");
    held.remove(0)
}

/// Answers with one digest for each of `bytes`, made of it.
fn answer(table: &mut Table, held: &Leased, bytes: &[u8], failures: Failures) {
    let outputs = Blob(bytes.iter().flat_map(|&byte| [byte; 32]).collect());
    let (lease, attempt) = held.lease;
    let done = WorkerReply::Done { lease, attempt, credit: 1, busy_us: 10, outputs, failures };
    table.hear(held.worker, done);
}

/// The digests that the client was given, by the byte that they are made of, and the failures.
fn results(table: &mut Table) -> Vec<(u64, Result<u8, Failure>)> {
    let mut all = Vec::new();
    for reply in table.told() {
        let ClientReply::Results { runs, outputs, failures, .. } = reply else { continue };
        let mut digests = outputs.chunks(32);
        let indexes = runs.iter().flat_map(|run| run.first..run.first + u64::from(run.len));
        for (position, index) in (0..).zip(indexes) {
            let failure = failures.iter().find(|(failed, _)| *failed == position);
            let outcome = match failure {
                Some((_, failure)) => Err(*failure),
                None => Ok(digests.next().expect("a digest for each")[0]),
            };
            all.push((index, outcome));
        }
    }
    all
}

/// Sends items whose bytes nobody can change, or files.
fn send(table: &mut Table, is_proof: bool, count: usize) {
    if is_proof {
        table.say(inline(JOB, 0, vec![1; count], Blob(vec![0; count])), &[]);
    } else {
        table.send_files(0, &vec![10; count]);
    }
}

fn doubted(table: &Table) -> Vec<String> {
    let mut doubted = Vec::new();
    for action in &table.actions {
        if let Action::Doubted(worker) = action {
            doubted.push(worker.clone());
        }
    }
    doubted
}

fn quarantined(table: &Table) -> Vec<String> {
    let mut quarantined = Vec::new();
    for action in &table.actions {
        if let Action::Quarantined(worker, Fault::Contradicted) = action {
            quarantined.push(worker.clone());
        }
    }
    quarantined
}

#[test]
fn a_checked_item_waits_for_another_workers_word() {
    let mut table = table(1, 2);
    table.send_files(0, &[10]);
    let first = only(&mut table);
    assert!(!first.check);
    answer(&mut table, &first, &[7], vec![]);
    assert_eq!(results(&mut table), [], "nobody agreed yet");
    let second = only(&mut table);
    assert!(second.check && second.worker != first.worker, "{second:?}");
    assert_eq!(second.files, [0]);
    answer(&mut table, &second, &[7], vec![]);
    assert_eq!(results(&mut table), [(0, Ok(7))]);
    let counters = table.core.status(table.now, 9).counters;
    assert_eq!((counters.items_checked, counters.items_contradicted), (1, 0));
    assert_eq!(quarantined(&table), [""; 0]);
}

#[test]
fn a_check_waits_for_another_worker_that_is_busy_and_holds_up_nothing_else() {
    let mut table = table(1, 0);
    (1..=2).for_each(|worker| table.join(worker, 1));
    table.send_files(0, &[10]);
    let first = only(&mut table);
    table.send_files(1, &[10]);
    let second = only(&mut table);
    assert_ne!(first.worker, second.worker);
    answer(&mut table, &first, &[7], vec![]);
    assert_eq!(table.leased().len(), 0, "the other worker is busy");
    table.send_files(2, &[10]);
    let next = only(&mut table);
    assert_eq!((next.worker, next.check, &next.files[..]), (first.worker, false, &[2][..]));
    answer(&mut table, &second, &[8], vec![]);
    let check = table.leased().into_iter().find(|held| held.files == [0]).expect("a check");
    assert_eq!((check.worker, check.check), (second.worker, true));
}

#[test]
fn a_check_does_not_wait_for_a_worker_that_gives_no_credit() {
    let mut table = table(1, 1);
    table.join(2, 0);
    table.send_files(0, &[10]);
    let first = only(&mut table);
    answer(&mut table, &first, &[7], vec![]);
    let check = only(&mut table);
    assert_eq!((check.worker, check.check), (1, true));
}

#[test]
fn a_worker_alone_checks_itself_and_one_that_contradicts_itself_is_given_no_more_work() {
    let mut table = table(1, 1);
    send(&mut table, true, 1);
    for byte in [1, 2] {
        let held = only(&mut table);
        assert_eq!((held.worker, held.check), (1, byte == 2));
        answer(&mut table, &held, &[byte], vec![]);
    }
    let third = only(&mut table);
    answer(&mut table, &third, &[2], vec![]);
    assert_eq!(results(&mut table), [(0, Ok(2))]);
    assert_eq!(quarantined(&table), ["w1"]);
}

#[test]
fn a_third_worker_decides_and_one_that_stands_alone_is_blamed_for_unchangeable_bytes_only() {
    let cases = [(2, true, true), (1, false, true), (2, true, false), (1, false, false)];
    for (third_says, liar_is_first, is_proof) in cases {
        let mut table = table(1, 3);
        send(&mut table, is_proof, 1);
        let first = only(&mut table);
        answer(&mut table, &first, &[1], vec![]);
        let second = only(&mut table);
        answer(&mut table, &second, &[2], vec![]);
        assert_eq!(results(&mut table), []);
        let third = only(&mut table);
        assert!(third.check && ![first.worker, second.worker].contains(&third.worker));
        answer(&mut table, &third, &[third_says], vec![]);
        assert_eq!(results(&mut table), [(0, Ok(third_says))]);
        let liar = if liar_is_first { first.worker } else { second.worker };
        let name = [format!("w{liar}")];
        let (blamed, not_blamed) =
            if is_proof { (&name[..], &[][..]) } else { (&[][..], &name[..]) };
        assert_eq!(quarantined(&table), blamed);
        assert_eq!(doubted(&table), not_blamed);
        let counters = table.core.status(table.now, 9).counters;
        assert_eq!((counters.items_checked, counters.items_contradicted), (1, 1));
    }
}

#[test]
fn three_different_digests_are_none_and_nobody_is_blamed() {
    for (is_proof, failure) in [(true, Failure::Disputed), (false, Failure::Changed)] {
        let mut table = table(1, 3);
        send(&mut table, is_proof, 2);
        for bytes in [[1, 5], [2, 5]] {
            let held = only(&mut table);
            answer(&mut table, &held, &bytes, vec![]);
        }
        assert_eq!(results(&mut table), [(1, Ok(5))], "the one that is agreed on is not held up");
        let third = only(&mut table);
        answer(&mut table, &third, &[3], vec![]);
        assert_eq!(results(&mut table), [(0, Err(failure))]);
        assert_eq!((quarantined(&table), doubted(&table)), (vec![], vec![]));
    }
}

#[test]
fn a_file_that_changed_before_its_check_keeps_its_digest() {
    let mut table = table(1, 2);
    table.send_files(0, &[10, 10]);
    let first = only(&mut table);
    answer(&mut table, &first, &[1, 2], vec![]);
    let check = only(&mut table);
    answer(&mut table, &check, &[2], vec![(0, Failure::Changed)]);
    assert_eq!(results(&mut table), [(0, Ok(1)), (1, Ok(2))]);
    assert_eq!(table.core.status(table.now, 9).counters.items_checked, 1);
}

#[test]
fn a_failure_is_not_checked() {
    let mut table = table(1, 2);
    table.send_files(0, &[10, 10]);
    let first = only(&mut table);
    answer(&mut table, &first, &[9], vec![(0, Failure::Changed)]);
    assert_eq!(results(&mut table), [(0, Err(Failure::Changed))]);
    let check = only(&mut table);
    assert_eq!((check.check, &check.files[..]), (true, &[1][..]));
}

#[test]
fn one_in_n_is_checked_and_the_others_do_not_wait() {
    for (ours, theirs, want) in [(4, 0, 50), (0, 4, 50), (4, 50, 50), (100, 4, 50), (0, 0, 0)] {
        let mut table = table(ours, 2);
        table.say(ClientRequest::Cancel { job: JOB }, &[]);
        table.say(open(Algorithm::Sha256, theirs), &[]);
        table.told();
        table.say(files(job(1), 0, &[10; 200]), &[0; 200]);
        let mut given = 0;
        let held = table.leased();
        for batch in &held {
            let files_len = u8::try_from(batch.files.len()).expect("a small batch");
            let bytes: Vec<u8> = (0..files_len).collect();
            answer(&mut table, batch, &bytes, vec![]);
            given += results(&mut table).len();
        }
        let checked: usize = table.leased().iter().map(|held| held.files.len()).sum();
        let slack = if want == 0 { 0 } else { 25 };
        assert!(checked.abs_diff(want) <= slack, "1/{ours} and 1/{theirs}: {checked} of 200");
        assert_eq!(given + checked, 200);
    }
}

#[test]
fn messages_are_checked_one_by_one() {
    let mut table = table(2, 2);
    let (lens, data) = (vec![1; 40], Blob((0..40).collect()));
    table.say(inline(JOB, 0, lens, data), &[]);
    let mut digests = Vec::new();
    for _ in 0..100 {
        for held in table.leased() {
            let Work::Inline { data, .. } = &held.work else { panic!("messages") };
            answer(&mut table, &held, data, vec![]);
            digests.extend(results(&mut table));
        }
    }
    digests.sort_unstable_by_key(|(index, _)| *index);
    let want: Vec<_> = (0..40).map(|i: u8| (u64::from(i), Ok(i))).collect();
    assert_eq!(digests, want);
    let checked = table.core.status(table.now, 9).counters.items_checked;
    assert!((10..=30).contains(&checked), "{checked} of 40");
}

#[test]
fn who_has_unchecked_digests_of_a_contradicted_worker_is_told() {
    let mut table = table(0, 1);
    table.send_files(0, &[10, 10, 10]);
    let held = only(&mut table);
    answer(&mut table, &held, &[1, 2], vec![(1, Failure::Changed)]);
    table.say(open(Algorithm::Sha256, 1), &[]);
    table.say(inline(job(1), 0, vec![0], Blob::default()), &[]);
    for byte in [1, 2, 2] {
        let held = only(&mut table);
        answer(&mut table, &held, &[byte], vec![]);
    }
    let suspect = ClientReply::Suspect { job: JOB, worker: "w1".to_owned(), items: 2 };
    let told: Vec<_> = table.actions.iter().collect();
    assert!(told.contains(&&Action::ToClient(CLIENT, suspect)), "{told:?}");
    let suspects = told
        .iter()
        .filter(|action| matches!(action, Action::ToClient(_, ClientReply::Suspect { .. })));
    assert_eq!(suspects.count(), 1, "the checked job has nothing to fear");
}
