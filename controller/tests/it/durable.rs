//! Jobs whose owner is the book of durable jobs.

use crate::tables::{CLIENT, JOB, Table, job};
use hashcluster_controller::core::{Action, BookRequest, Core, Event, Limits, Principal, Quota};
use ipc_proto::message::{
    ClientReply, ClientRequest, FileSource, Items, JobId, Planes, RejectReason, Run, Stamp, Work,
    WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};
use std::time::Duration;

/// The job as its owner knows it.
const DURABLE: JobId = JobId { epoch: 1_800_000_000, number: 7 };

fn open(quota: Quota) -> Event<u64> {
    open_at(0, quota)
}

fn open_at(rate: u64, quota: Quota) -> Event<u64> {
    Event::BookSaid(BookRequest::Open {
        tag: 9,
        durable: DURABLE,
        principal: Principal::Uid(7),
        quota,
        algorithms: Algorithm::Sha256.into(),
        cross_check: 0,
        strict_reads: false,
        rate,
    })
}

/// Messages to the book since the last call.
fn told(table: &mut Table) -> Vec<ClientReply> {
    let mut told = Vec::new();
    table.actions.retain(|action| {
        let Action::ToBook(reply) = action else { return true };
        told.push(reply.clone());
        false
    });
    told
}

fn named(path: &[u8]) -> Items {
    named_all(&[(path, 0)])
}

/// Files by their paths and lengths.
fn named_all(files: &[(&[u8], u64)]) -> Items {
    let paths = files.iter().map(|(path, _)| Blob(path.to_vec())).collect();
    let stamp = |&(_, size): &(&[u8], u64)| Stamp { size, ..Stamp::default() }.into();
    let source = FileSource::Dataset { name: "d".to_owned(), paths };
    Items::Files { source, files: files.iter().map(stamp).collect() }
}

fn of_dataset() -> Planes {
    Planes { descriptors: false, inline: true, datasets: vec!["d".to_owned()] }
}

#[test]
fn results_of_a_durable_job_go_to_the_book_and_no_client_can_touch_it() {
    let mut table = Table::with_datasets(Limits::default(), &["d"]);
    table.step(open(Quota::MAX));
    assert!(matches!(told(&mut table)[..], [ClientReply::Opened { tag: 9, job: JOB, .. }]));
    let inline = Items::Inline { lens: vec![3], data: Blob(b"abc".to_vec()) };
    table.step(Event::BookSaid(BookRequest::Items { job: JOB, first: 0, items: inline }));
    let items = named(b"f");
    table.step(Event::BookSaid(BookRequest::Items { job: JOB, first: 1, items }));
    table.step(Event::BookSaid(BookRequest::Finish { job: JOB }));
    table.say(ClientRequest::Cancel { job: JOB }, &[]);
    assert_eq!(table.told(), [], "a client's cancel of a job that is not its own says nothing");
    let planes = Planes { descriptors: false, inline: true, datasets: vec!["d".to_owned()] };
    table.join_with(1, 2, planes);
    let leases: Vec<_> = table.leased().iter().map(|leased| leased.lease).collect();
    assert_eq!(leases.len(), 2);
    table.done(1, leases[0], 1, vec![]);
    let row = table.core.status(table.now, 9).jobs[0].clone();
    assert_eq!((row.id, row.durable, row.known_id()), (JOB, Some(DURABLE), DURABLE));
    assert!(row.resolved == 1 && [0, 3].contains(&row.bytes), "{row:?}");
    table.done(1, leases[1], 1, vec![]);
    let told = told(&mut table);
    let runs: Vec<Run> = told
        .iter()
        .filter_map(|reply| {
            let ClientReply::Results { job: JOB, runs, .. } = reply else { return None };
            Some(runs[0])
        })
        .collect();
    assert_eq!(runs, [Run { first: 0, len: 1 }, Run { first: 1, len: 1 }]);
    assert_eq!(told.last(), Some(&ClientReply::Finished { job: JOB, items: 2, failed: 0 }));
    assert_eq!(table.told(), []);
}

#[test]
fn a_durable_job_survives_every_client_and_takes_up_its_principals_jobs() {
    let mut table = Table::new(Limits::default());
    table.step(open(Quota::MAX));
    told(&mut table);
    table.step(Event::ClientLeft(CLIENT));
    let one = Quota { jobs: 1, ..Quota::MAX };
    table.step(open(one));
    let text = String::new();
    let rejected = ClientReply::Rejected { tag: 9, reason: RejectReason::TooManyJobs, text };
    assert_eq!(told(&mut table), [rejected]);
    table.step(Event::BookSaid(BookRequest::Cancel { job: JOB }));
    assert_eq!(told(&mut table), [ClientReply::Cancelled { job: JOB, unresolved: 0 }]);
    table.step(Event::BookSaid(BookRequest::Cancel { job: JOB }));
    assert_eq!(told(&mut table), [], "a job that has just ended");
    table.step(open(one));
    assert!(matches!(told(&mut table)[..], [ClientReply::Opened { job: id, .. }] if id == job(1)));
}

#[test]
fn files_of_a_job_with_a_rate_are_handed_out_no_faster_and_others_do_not_wait() {
    let mut table = Table::with_datasets(Limits::default(), &["d"]);
    table.join_with(1, 8, of_dataset());
    table.step(open_at(10_000_000, Quota::MAX));
    let names: Vec<String> = (0..200).map(|n| format!("f{n}")).collect();
    let files: Vec<(&[u8], u64)> = names.iter().map(|name| (name.as_bytes(), 1_000_000)).collect();
    table.step(Event::BookSaid(BookRequest::Items {
        job: JOB,
        first: 0,
        items: named_all(&files),
    }));
    let (mut given, mut seconds) = (0, Vec::new());
    for tick in 1..=80 {
        for leased in table.leased() {
            let Work::Files { files, .. } = leased.work else { panic!("{leased:?}") };
            given += files.len();
            table.done(1, leased.lease, u8::try_from(files.len()).unwrap(), vec![]);
        }
        if tick % 4 == 0 {
            seconds.push(given);
        }
        table.wait(Core::<u64>::TICK);
    }
    // Ten files a second, and at the beginning what may be ahead.
    for (second, given) in (1..).zip(seconds) {
        assert!((10 * second..=10 * second + 10).contains(&given), "{given} after {second} s");
    }
    // Another job of the same user has all threads meanwhile.
    table.step(open(Quota::MAX));
    let request = BookRequest::Items { job: job(1), first: 0, items: named_all(&files) };
    table.leased();
    table.step(Event::BookSaid(request));
    let of_other: usize = table.leased().iter().map(|leased| leased.work.items_len()).sum();
    assert!(of_other > 10, "{of_other}");
}

#[test]
fn a_long_file_that_is_read_too_fast_is_taken_back_at_its_checkpoint_until_it_is_due() {
    const LEN: u64 = 1 << 40;
    let mut table = Table::with_datasets(Limits::default(), &["d"]);
    table.join_with(1, 2, of_dataset());
    table.step(open_at(1 << 20, Quota::MAX));
    let items = named_all(&[(b"long", LEN), (b"short", 1)]);
    table.step(Event::BookSaid(BookRequest::Items { job: JOB, first: 0, items }));
    let [first] = &table.leased()[..] else { panic!("the short one waits for its time") };
    let (lease, attempt) = first.lease;
    let file = Stamp { size: LEN, ..Stamp::default() };
    let state = Blob(vec![7]);
    table.wait(Duration::from_secs(1));
    table.hear(1, WorkerReply::Progress { lease, attempt, file, offset: 64 << 20, state });
    let is_revoked = |action: &Action<u64>| matches!(action, Action::ToWorker(_, WorkerRequest::Revoke { leases }, _) if leases[..] == [lease]);
    assert!(table.actions.iter().any(is_revoked), "{:?}", table.actions);
    table.hear(1, WorkerReply::Credit { batches: 1 });
    // 64 MiB are due after 64 s, less the half second that a job may be ahead.
    for _ in 0..62 {
        table.wait(Duration::from_secs(1));
        table.hear(1, WorkerReply::Heartbeat);
    }
    assert_eq!(table.leased().len(), 0);
    table.wait(Duration::from_millis(600));
    let again = table.leased();
    let resumes = |leased: &&crate::tables::Leased| matches!(leased.work, Work::Resume { offset, .. } if offset == 64 << 20);
    assert_eq!(again.iter().filter(resumes).count(), 1, "{again:?}");
}
