//! Durable jobs in a journal with a bound, and of users with quotas.

use crate::played::Played;
use hashcluster_controller::core::{Principal, Quota};
use hashcluster_controller::jobs::{BookEvent, Retirement};
use hashcluster_controller::journal::{Storage, TableId, Write};
use ipc_proto::Blob;
use ipc_proto::message::{
    DirEntry, EntryKind, JobAct, JobId, JobRoot, JobSource, JobState, ListOutcome, ServiceRefusal,
    ServiceReply, ServiceRequest, Stamp,
};

/// Bytes of the reserve of a bound of 1 MiB, and a bit more.
const RESERVE: usize = 70_000;

/// Rows of another part of the process.
fn fill(played: &mut Played, len: usize) {
    let row = Write::Put { table: TableId::Events, key: vec![1], value: vec![0; len] };
    played.storage.commit(&[row]).expect("memory takes everything");
    let len = played.storage.rows_len();
    played.tell(BookEvent::JournalLen(len));
}

fn state(played: &mut Played, job: JobId) -> Option<JobState> {
    let reply = played.ask(ServiceRequest::Job { job });
    if let ServiceReply::Job(row) = reply {
        return Some(row.state);
    }
    let is_gone = matches!(reply, ServiceReply::Refused { reason: ServiceRefusal::UnknownJob, .. });
    assert!(is_gone, "{reply:?}");
    None
}

#[track_caller]
fn refused(reply: ServiceReply) -> String {
    let ServiceReply::Refused { reason: ServiceRefusal::TooMuch, text } = reply else {
        panic!("{reply:?}")
    };
    text
}

#[test]
fn jobs_that_ended_first_are_removed_until_a_bounded_journal_is_below_its_reserve() {
    let mut played = Played::bounded(1 << 20);
    let mut jobs = Vec::new();
    // The second one ends first.
    for ended_s in [20, 10, 30, 40] {
        played.wall_s = ended_s;
        jobs.push(played.run());
    }
    let before = played.storage.rows_len();
    // Two of them have to go.
    let most = usize::try_from(before * 2 / 3).unwrap();
    fill(&mut played, (1 << 20) - (1 << 16) - most);
    let by_room = |job: JobId| (job, Retirement::Room);
    assert_eq!(played.retired, [jobs[1], jobs[0]].map(by_room));
    assert!(played.storage.rows_len() <= (1 << 20) - (1 << 16), "{}", played.storage.rows_len());
    assert_eq!(state(&mut played, jobs[2]), Some(JobState::Done));
    // There is room for others now.
    assert_eq!(played.book.shortage(), None);
    played.run();
}

#[test]
fn a_full_journal_takes_nothing_new_and_running_jobs_stay_until_there_is_room() {
    let mut played = Played::bounded(1 << 20);
    let (running, filling) = (played.submit(), played.ask(Played::request(0)));
    let ServiceReply::Job(filling) = filling else { panic!("{filling:?}") };
    fill(&mut played, (1 << 20) - RESERVE + 10_000);
    // In the reserve: what runs goes on.
    let text = refused(played.ask(Played::request(0)));
    assert!(text.contains("of the 1048576 bytes of --journal-max"), "{text}");
    refused(played.store(filling.id, 0));
    assert_eq!(played.book.shortage(), Some(text));
    fill(&mut played, 1 << 20);
    played.resolve(Vec::new());
    assert_eq!(state(&mut played, running), Some(JobState::Running), "its results wait");
    played.restart();
    assert_eq!(state(&mut played, running), Some(JobState::Running));
    assert_eq!(played.retired, []);
    // Whoever has no use for a job makes room.
    assert!(matches!(
        played.ask(ServiceRequest::Act { job: filling.id, act: JobAct::Cancel }),
        ServiceReply::Job(_)
    ));
    assert_eq!(played.retired, [(filling.id, Retirement::Room)]);
    fill(&mut played, 1000);
    assert_eq!(played.handed, 3, "it goes on");
    played.resolve(Vec::new());
    assert_eq!(state(&mut played, running), Some(JobState::Done));
    played.principal = Principal::Uid(8);
    played.run();
}

#[test]
fn quotas_of_durable_jobs_items_and_priorities_are_enforced_and_named() {
    let mut played = Played::new();
    let quota = Quota { durable_jobs: 2, durable_items: 5, priority: 3, ..Quota::MAX };
    played.rights.quota = quota;
    let reply = played.ask(Played::request(4));
    let ServiceReply::Refused { reason, text } = reply else { panic!("{reply:?}") };
    assert_eq!(reason, ServiceRefusal::Forbidden);
    assert_eq!(text, "uid 7 may give jobs a priority of at most 3");
    assert!(matches!(played.ask(Played::request(3)), ServiceReply::Job(_)));
    let job = played.run();
    let text = refused(played.ask(Played::request(0)));
    let of = ", the quota of its rule; remove jobs";
    assert_eq!(text, format!("uid 7 would have more than 2 durable jobs{of}"));
    // Ended jobs count, and removed ones do not.
    played.ask(ServiceRequest::Act { job, act: JobAct::Remove });
    let job = played.run();
    played.ask(ServiceRequest::Act { job, act: JobAct::Remove });
    let ServiceReply::Job(row) = played.ask(Played::request(0)) else { panic!("no job") };
    assert!(matches!(played.store(row.id, 0), ServiceReply::Job(_)));
    let too_many = format!("uid 7 would have more than 5 items of durable jobs{of}");
    assert_eq!(refused(played.store(row.id, 3)), too_many);
    // The bound is that of the submission, also after a restart.
    played.restart();
    played.rights.quota = Quota::MAX;
    assert_eq!(refused(played.store(row.id, 3)), too_many);
    // Others have their own.
    played.principal = Principal::Uid(8);
    played.rights.quota = Quota { durable_items: 3, ..quota };
    let ServiceReply::Job(row) = played.ask(Played::request(0)) else { panic!("no job") };
    assert!(matches!(played.store(row.id, 0), ServiceReply::Job(_)));
}

#[test]
fn a_job_that_finds_more_items_than_its_users_quota_fails_and_says_so() {
    let mut played = Played::new();
    played.rights.quota = Quota { durable_items: 4, ..Quota::MAX };
    let root = JobRoot { path: Blob::default(), shown: Blob::default() };
    let source = JobSource::Dataset { name: "d".to_owned(), roots: vec![root] };
    let reply = played.ask(Played::request_of(source, 0));
    let ServiceReply::Job(row) = reply else { panic!("{reply:?}") };
    let file = |name: u8| DirEntry {
        name: Blob(vec![name]),
        kind: EntryKind::File,
        stamp: Stamp::default(),
        inode: 1,
        device: 1,
    };
    let tag = played.pages.pop().expect("a page is wanted").tag;
    let entries = (b'a'..b'f').map(file).collect();
    played.tell(BookEvent::Listed(tag, ListOutcome::Page { entries, more: false }));
    let ServiceReply::Job(row) = played.ask(ServiceRequest::Job { job: row.id }) else {
        panic!("it stays")
    };
    assert_eq!(row.state, JobState::Failed);
    let want =
        "uid 7 would have more than 4 items of durable jobs, the quota of its rule; remove jobs";
    assert_eq!(row.reason, want);
}
