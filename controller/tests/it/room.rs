//! Durable jobs in a journal with a bound.

use crate::played::Played;
use hashcluster_controller::core::Principal;
use hashcluster_controller::jobs::Retirement;
use hashcluster_controller::journal::{Storage, TableId, Write};
use ipc_proto::message::{JobAct, JobId, JobState, ServiceRefusal, ServiceReply, ServiceRequest};

/// Bytes of the reserve of a bound of 1 MiB, and a bit more.
const RESERVE: usize = 70_000;

/// Rows of another part of the process.
fn fill(played: &mut Played, len: usize) {
    let row = Write::Put { table: TableId::Events, key: vec![1], value: vec![0; len] };
    played.storage.commit(&[row]).expect("memory takes everything");
    let len = played.storage.rows_len();
    played.tell(hashcluster_controller::jobs::BookEvent::JournalLen(len));
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
