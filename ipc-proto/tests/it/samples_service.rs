//! One message of every kind about durable jobs.

use crate::samples::{STAMP, dataset, files, losses};
use crate::samples_schedules::{schedule_replies, schedule_requests};
use ipc_proto::message::{
    AuditBaseline, AuditCounts, AuditFinding, AuditRow, DeadItem, EventRow, Failure, FileSource,
    ItemOutcome, Items, JobAct, JobFilter, JobId, JobKind, JobRoot, JobRow, JobSource, JobSpec,
    JobState, NameShare, ResultRow, RuleRow, ServiceRefusal, ServiceReply, ServiceRequest, Stamp,
};
use ipc_proto::{Algorithm, Algorithms, Blob};

pub(crate) const DURABLE: JobId = JobId { epoch: 65_537, number: 252 };

/// Every field differs from its neighbours, so that no two can be swapped unseen.
pub(crate) fn spec(kind: JobKind, source: JobSource) -> JobSpec {
    let several = [Algorithm::Sha512, Algorithm::Blake3];
    JobSpec {
        kind,
        algorithms: Algorithms::new(&several).expect("two of them"),
        source,
        cross_check: 1000,
        strict_reads: true,
        labels: vec!["nightly".to_owned(), "a b".to_owned()],
        priority: 5,
        keep_s: 86_400,
        rate: 200 << 20,
        share: NameShare { from: 1, len: 2 },
    }
}

fn roots() -> JobSource {
    let root = |path: &[u8], shown: &[u8]| JobRoot { path: path.into(), shown: shown.into() };
    let roots = vec![root(b"", b"."), root(b"a/\xff", b"/srv/a/\xff")];
    JobSource::Dataset { name: "d".to_owned(), roots }
}

fn manifest() -> JobSource {
    let (path, base) = (Blob(b"a/SUMS".to_vec()), Blob(b"b\xff".to_vec()));
    JobSource::Manifest { name: "d".to_owned(), path, base }
}

fn audit(baseline: AuditBaseline) -> JobSource {
    let roots = vec![JobRoot { path: b"a/\xff"[..].into(), shown: b"b"[..].into() }];
    JobSource::Audit { name: "d".to_owned(), roots, baseline }
}

pub(crate) fn finding(finding: AuditFinding) -> AuditRow {
    AuditRow {
        finding,
        name: b"x/\xff"[..].into(),
        from: b"y"[..].into(),
        size: 70_000,
        algorithm: Some(Algorithm::Sha512),
        digest: Blob(vec![1; 4]),
        expected: Blob(vec![2; 4]),
        failure: Some(Failure::Io { errno: 13 }),
    }
}

pub(crate) fn row(state: JobState, source: JobSource) -> JobRow {
    JobRow {
        id: DURABLE,
        key: "k1".to_owned(),
        spec: spec(JobKind::Sum, source),
        principal: "uid 1000".to_owned(),
        state,
        reason: "why".to_owned(),
        items: 10,
        is_complete: true,
        resolved: 9,
        failed: 8,
        mismatched: 7,
        bytes: 1 << 33,
        created_s: 1_800_000_000,
        started_s: 1_800_000_001,
        ended_s: 0,
        findings: None,
    }
}

pub(crate) fn service_requests() -> Vec<(String, ServiceRequest)> {
    let job = DURABLE;
    let names = |list: &[&[u8]]| list.iter().map(|&name| Blob::from(name)).collect::<Vec<_>>();
    let submit = |kind, source| {
        let spec = Box::new(spec(kind, source));
        ServiceRequest::Submit { key: "k1".to_owned(), spec }
    };
    let store = |first, expected: &[&[u8]], items| {
        let names = names(&[b"x/\xff", b"y"]);
        ServiceRequest::Store { job, first, names, expected: names_of(expected), items }
    };
    let filter = JobFilter {
        state: Some(JobState::Done),
        label: "nightly".to_owned(),
        key: "k1".to_owned(),
    };
    let passed = Items::Files { source: FileSource::Descriptors, files: files() };
    let named = Items::Files { source: dataset(), files: files() };
    let inline = Items::Inline { lens: vec![1, 2], data: Blob(vec![7, 8, 9]) };
    let (path, base) = (Blob(b"a/SUMS".to_vec()), Blob(b"b\xff".to_vec()));
    let listed = AuditBaseline::Manifest { path, base };
    let mut all = vec![
        ("submit/stored", submit(JobKind::Check, JobSource::Stored)),
        ("submit/dataset", submit(JobKind::Sum, roots())),
        ("submit/scrub", submit(JobKind::Scrub, roots())),
        ("submit/manifest", submit(JobKind::Check, manifest())),
        ("submit/audit", submit(JobKind::Audit, audit(AuditBaseline::Job(DURABLE)))),
        ("submit/audit_manifest", submit(JobKind::Audit, audit(listed))),
        ("store/descriptors", store(0, &[], passed)),
        ("store/dataset", store(65_536, &[], named)),
        ("store/inline", store(251, &[b"\x01", b"\x02\x03"], inline)),
        ("seal", ServiceRequest::Seal { job }),
        ("jobs", ServiceRequest::Jobs { filter, after: Some(job), limit: 100 }),
        (
            "jobs/all",
            ServiceRequest::Jobs { filter: JobFilter::default(), after: None, limit: 512 },
        ),
        ("job", ServiceRequest::Job { job }),
        ("wait", ServiceRequest::Wait { job, timeout_ms: 30_000 }),
        ("results", ServiceRequest::Results { job, from: 70_000, limit: 512, wait_ms: 250 }),
    ];
    all.extend([
        ("act/cancel", ServiceRequest::Act { job, act: JobAct::Cancel }),
        ("act/retry", ServiceRequest::Act { job, act: JobAct::Retry }),
        ("act/pause", ServiceRequest::Act { job, act: JobAct::Pause }),
        ("act/resume", ServiceRequest::Act { job, act: JobAct::Resume }),
        ("act/remove", ServiceRequest::Act { job, act: JobAct::Remove }),
        ("deaths", ServiceRequest::Deaths { job, from: 70_000, limit: 512 }),
        ("events", ServiceRequest::Events { after: 70_000, limit: 512 }),
        ("rules", ServiceRequest::Rules),
        ("backup", ServiceRequest::Backup { from: 70_000 }),
        ("findings", ServiceRequest::Findings { job, from: 70_000, limit: 512 }),
    ]);
    let schedules = schedule_requests();
    let schedules =
        schedules.into_iter().map(|(label, request)| (label, ServiceRequest::Schedule(request)));
    let all = all.into_iter().map(|(label, request)| (label.to_owned(), request));
    all.chain(schedules).collect()
}

fn names_of(list: &[&[u8]]) -> Vec<Blob> {
    list.iter().map(|&name| Blob::from(name)).collect()
}

pub(crate) fn service_replies() -> Vec<(String, ServiceReply)> {
    let mut all: Vec<(String, ServiceReply)> = [
        ("no_journal", ServiceRefusal::NoJournal),
        ("journal_failed", ServiceRefusal::JournalFailed),
        ("forbidden", ServiceRefusal::Forbidden),
        ("unknown_job", ServiceRefusal::UnknownJob),
        ("unknown_dataset", ServiceRefusal::UnknownDataset),
        ("key_taken", ServiceRefusal::KeyTaken),
        ("wrong_state", ServiceRefusal::WrongState),
        ("wrong_items", ServiceRefusal::WrongItems),
        ("not_durable", ServiceRefusal::NotDurable),
        ("too_much", ServiceRefusal::TooMuch),
        ("unknown_schedule", ServiceRefusal::UnknownSchedule),
        ("bad_schedule", ServiceRefusal::BadSchedule),
    ]
    .into_iter()
    .map(|(label, reason)| {
        let text = "why".to_owned();
        (format!("refused/{label}"), ServiceReply::Refused { reason, text })
    })
    .collect();
    for (label, state) in [
        ("filling", JobState::Filling),
        ("running", JobState::Running),
        ("paused", JobState::Paused),
        ("done", JobState::Done),
        ("cancelled", JobState::Cancelled),
        ("failed", JobState::Failed),
    ] {
        let row = Box::new(row(state, JobSource::Stored));
        all.push((format!("job/{label}"), ServiceReply::Job(row)));
    }
    let mut counts = AuditCounts::default();
    counts.add_one(AuditFinding::Older);
    let spec = spec(JobKind::Audit, audit(AuditBaseline::Job(DURABLE)));
    let findings = Some(counts);
    let audited = JobRow { spec, findings, ..row(JobState::Done, JobSource::Stored) };
    all.push(("job/audit".to_owned(), ServiceReply::Job(Box::new(audited))));
    let rows = AuditFinding::ALL.map(finding).to_vec();
    all.push(("findings".to_owned(), ServiceReply::Findings { rows, more: true }));
    let rows = vec![row(JobState::Running, roots())];
    all.push(("jobs".to_owned(), ServiceReply::Jobs { rows, more: true }));
    let result = |name: &[u8], stamp, outcome| ResultRow { name: name.into(), stamp, outcome };
    let rows = vec![
        result(b"x/\xff", STAMP, ItemOutcome::Digests(Blob(vec![1; 4]))),
        result(b"y", Stamp::default(), ItemOutcome::Mismatch(Blob(vec![2; 4]))),
        result(b"z", STAMP, ItemOutcome::Failed(Failure::Io { errno: 2 })),
    ];
    let (from, state) = (70_000, JobState::Cancelled);
    let results = ServiceReply::Results { job: DURABLE, from, rows, state, is_last: true };
    all.push(("results".to_owned(), results));
    let dead = DeadItem { index: 70_000, name: b"x/\xff"[..].into(), losses: losses() };
    all.push(("deaths".to_owned(), ServiceReply::Deaths { rows: vec![dead], more: true }));
    let event = EventRow {
        number: 70_000,
        at_s: 1_800_000_000,
        kind: "job-paused".to_owned(),
        subject: "1-2".to_owned(),
        by: "uid 1000".to_owned(),
        text: "k1".to_owned(),
    };
    all.push(("events".to_owned(), ServiceReply::Events { rows: vec![event], more: true }));
    let rule = RuleRow {
        uids: vec![1000],
        gids: vec![100],
        has_token: true,
        may: vec!["submit".to_owned()],
        datasets: vec!["*".to_owned()],
        quota: vec![("jobs".to_owned(), 7)],
    };
    all.push(("rules".to_owned(), ServiceReply::Rules(vec![rule])));
    let (bytes, is_last) = (Blob(b"piece".to_vec()), true);
    all.push(("backup".to_owned(), ServiceReply::Backup { from: 70_000, bytes, is_last }));
    let schedules = schedule_replies();
    all.extend(schedules.into_iter().map(|(label, reply)| (label, ServiceReply::Schedule(reply))));
    all
}
