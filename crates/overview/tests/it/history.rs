//! Rates, times left and events, from statuses one second apart.

use ipc_proto::Algorithm;
use ipc_proto::message::{
    Counters, JobId, JobStatus, QuarantineStatus, Status, WorkerHealth, WorkerStatus,
};
use overview::{EVENTS_MAX, EventSeverity, RATES_MAX, StatusHistory, events_between};
use std::time::Duration;

fn worker(name: &str, bytes_per_s: u64) -> WorkerStatus {
    WorkerStatus { name: name.to_owned(), bytes_per_s, uptime_ms: 10, ..WorkerStatus::default() }
}

fn job(number: u64, items: u64, resolved: u64, finished: bool) -> JobStatus {
    JobStatus {
        id: JobId { epoch: 7, number },
        uid: 1000,
        pid: 8,
        algorithms: Algorithm::Sha256.into(),
        age_ms: 2000,
        items,
        resolved,
        failed: 0,
        leases: 1,
        finished,
        bytes: 0,
        durable: None,
    }
}

fn with_jobs(jobs: Vec<JobStatus>) -> Status {
    Status { jobs, pid: 1, ..Status::default() }
}

fn with_workers(workers: Vec<WorkerStatus>) -> Status {
    Status { workers, pid: 1, ..Status::default() }
}

#[track_caller]
fn check(old: &Status, new: &Status, want: &[(EventSeverity, &str)]) {
    let events = events_between(old, new);
    let events: Vec<(EventSeverity, String)> =
        events.iter().map(|event| (event.severity, event.to_string())).collect();
    let want: Vec<(EventSeverity, String)> = want.iter().map(|&(s, t)| (s, t.to_owned())).collect();
    assert_eq!(events, want);
}

#[test]
fn workers_that_come_leave_and_reconnect_are_events() {
    let two = with_workers(vec![worker("w0", 0), worker("w1", 0)]);
    let one = with_workers(vec![worker("w0", 0)]);
    check(&two, &one, &[(EventSeverity::Warning, "worker w1 left")]);
    check(&one, &two, &[(EventSeverity::Info, "worker w1 connected")]);
    check(&two, &two, &[]);
    let mut again = two.clone();
    again.workers[0].uptime_ms = 3;
    check(&two, &again, &[(EventSeverity::Warning, "worker w0 reconnected")]);
    let many = |len| with_workers((0..len).map(|i| worker(&format!("w{i}"), 0)).collect());
    check(&many(0), &many(5), &[(EventSeverity::Info, "5 workers connected")]);
    // The list is cut: who is missing in it is not gone.
    let cut = Status { workers_unlisted: 1, ..one.clone() };
    check(&two, &cut, &[]);
    check(
        &two,
        &Status { pid: 2, ..one },
        &[(EventSeverity::Error, "the controller restarted: clients and jobs were lost")],
    );
}

#[test]
fn faults_are_events_with_their_reasons_and_hostile_words_stay_on_their_line() {
    let old = with_workers(vec![worker("w\u{1b}[2J", 0)]);
    let mut new = old.clone();
    new.workers[0].health = WorkerHealth::Quarantined;
    new.quarantined = vec![QuarantineStatus {
        worker: "w\u{1b}[2J".to_owned(),
        reason: "it\nlied\u{202e}".to_owned(),
        ..QuarantineStatus::default()
    }];
    new.counters = Counters { leases_lost: 2, peers_faulty: 1, ..Counters::default() };
    check(
        &old,
        &new,
        &[
            (EventSeverity::Error, "worker w [2J is quarantined: it lied "),
            (EventSeverity::Warning, "2 batches lost and given out again"),
            (EventSeverity::Warning, "1 peers closed for breaking the protocol"),
        ],
    );
    check(
        &new,
        &Status { quarantined: Vec::new(), ..new.clone() },
        &[(EventSeverity::Info, "worker w [2J is released")],
    );
    let mut suspended = old.clone();
    suspended.workers[0].health = WorkerHealth::Suspended;
    let events = events_between(&old, &suspended);
    assert!(events[0].to_string().contains("suspended until it reconnects"), "{events:?}");
}

#[test]
fn jobs_that_open_and_end_are_events() {
    let one = with_jobs(vec![job(1, 10, 9, true)]);
    let none = with_jobs(Vec::new());
    check(&none, &one, &[(EventSeverity::Info, "job 7-1 opened by uid 1000: sha256")]);
    check(
        &one,
        &none,
        &[(EventSeverity::Info, "job 7-1 ended: 9 items were resolved when last seen")],
    );
    let many = with_jobs((0..9).map(|number| job(number, 1, 0, true)).collect());
    check(&none, &many, &[(EventSeverity::Info, "9 jobs opened")]);
}

#[test]
fn time_left_follows_the_present_speed_and_needs_the_end_of_the_items() {
    let mut history = StatusHistory::default();
    let second = Duration::from_secs;
    // 100 items in its first two seconds.
    history.push(second(10), with_jobs(vec![job(1, 1100, 100, true), job(2, 1100, 100, false)]));
    let left = |history: &StatusHistory, index: usize| {
        history.time_left(&history.last().unwrap().1.jobs[index])
    };
    assert_eq!(left(&history, 0), Some(second(20)));
    assert_eq!(left(&history, 1), None, "the client may send more");
    // 50 per second before, 150 in this one: 80 by the smoothing.
    history.push(second(11), with_jobs(vec![job(1, 1050, 250, true)]));
    assert_eq!(left(&history, 0), Some(second(10)));
    history.push(second(12), with_jobs(vec![job(1, 1050, 1050, true)]));
    assert_eq!(left(&history, 0), Some(Duration::ZERO));
    let mut stalled = StatusHistory::default();
    stalled.push(second(0), with_jobs(vec![job(1, 10, 0, true)]));
    assert_eq!(left(&stalled, 0), None, "nothing moves");
}

#[test]
fn rates_are_bounded_and_workers_that_left_are_forgotten() {
    let mut history = StatusHistory::default();
    let rates = |history: &StatusHistory, name: &str| history.rates(name).collect::<Vec<_>>();
    history.push(Duration::ZERO, with_workers(vec![worker("w0", 5)]));
    history.push(Duration::from_secs(1), with_workers(vec![worker("w0", 7), worker("w1", 1)]));
    assert_eq!((rates(&history, "w0"), rates(&history, "w1")), (vec![5, 7], vec![1]));
    assert_eq!(history.total_rates().collect::<Vec<_>>(), [5, 8]);
    for at in 0..RATES_MAX as u64 {
        history.push(Duration::from_secs(2 + at), with_workers(vec![worker("w1", 2)]));
    }
    assert_eq!(rates(&history, "w0"), Vec::<u64>::new(), "it has been away for the whole time");
    assert_eq!(rates(&history, "w1"), vec![2; RATES_MAX]);
    for at in 0..2 * EVENTS_MAX as u64 {
        let workers = if at % 2 == 0 { vec![worker("w1", 2)] } else { Vec::new() };
        history.push(Duration::from_secs(100 + at), with_workers(workers));
    }
    assert_eq!(history.events().count(), EVENTS_MAX);
    let newest = history.events().next().unwrap();
    assert_eq!(newest.0, Duration::from_secs(99 + 2 * EVENTS_MAX as u64));
}
