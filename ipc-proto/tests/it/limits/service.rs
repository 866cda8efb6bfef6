//! Limits of messages about durable jobs.

use super::{check, check_refused, check_taken, text, u16_of, zeros};
use crate::samples_service::{DURABLE, finding, row, spec};
use ipc_proto::Blob;
use ipc_proto::limits::{
    FRAME_NAMES_MAX, INLINE_LEN_MAX, JOB_KEY_LEN_MAX, JOB_LABELS_MAX, JOB_PRIORITY_MAX,
    JOB_ROOTS_LEN_MAX, JOB_ROOTS_MAX, JOB_ROWS_MAX, NAME_LEN_MAX, NAMES_LEN_MAX, OUTPUTS_LEN_MAX,
    PATH_LEN_MAX, REASON_LEN_MAX,
};
use ipc_proto::message::{
    AuditBaseline, AuditFinding, AuditRow, ClientReply, ClientRequest, FileItem, FileSource,
    ItemOutcome, Items, JobFilter, JobKind, JobRoot, JobRow, JobSource, JobSpec, JobState,
    ResultRow, ServiceRefusal, ServiceReply, ServiceRequest, Stamp,
};

fn asked(request: ServiceRequest) -> ClientRequest {
    ClientRequest::Service { tag: 1, request }
}

fn told(reply: ServiceReply) -> ClientReply {
    ClientReply::Service { tag: 1, reply }
}

fn submit(change: impl FnOnce(&mut JobSpec)) -> ClientRequest {
    let mut spec = spec(JobKind::Sum, JobSource::Stored);
    change(&mut spec);
    asked(ServiceRequest::Submit { key: String::new(), spec: Box::new(spec) })
}

fn xs(len: usize) -> Blob {
    Blob(vec![b'x'; len])
}

fn below(roots: Vec<JobRoot>) -> ClientRequest {
    submit(|spec| spec.source = JobSource::Dataset { name: text(1), roots })
}

#[test]
fn a_spec_keeps_its_limits() {
    check("key", 0, JOB_KEY_LEN_MAX, |n| {
        let spec = Box::new(spec(JobKind::Sum, JobSource::Stored));
        asked(ServiceRequest::Submit { key: text(n), spec })
    });
    check("labels", 0, JOB_LABELS_MAX, |n| submit(|s| s.labels = vec![text(1); n]));
    check("label", 1, NAME_LEN_MAX, |n| submit(|s| s.labels = vec![text(n)]));
    check("priority", 0, JOB_PRIORITY_MAX.into(), |n| {
        submit(|s| s.priority = u8::try_from(n).expect("8 bits"))
    });
    let root = |path, shown| JobRoot { path, shown };
    check("roots", 1, JOB_ROOTS_MAX, |n| below(vec![root(xs(1), xs(1)); n]));
    check("root", 0, PATH_LEN_MAX, |n| below(vec![root(xs(n), xs(0))]));
    check("name of a root", 0, PATH_LEN_MAX, |n| below(vec![root(xs(0), xs(n))]));
    check("bytes of roots", 0, JOB_ROOTS_LEN_MAX, |n| {
        let (full, rest) = (n / 4096, n % 4096);
        let mut roots = vec![root(xs(2048), xs(2048)); full];
        roots.push(root(xs(rest), xs(0)));
        below(roots)
    });
    for path in ["/a", "a/", "a//b", ".", "a/..", "a\0"] {
        check_refused(below(vec![root(path.as_bytes().into(), xs(0))]).into(), path);
    }
    let is_name = |name: &str| below(vec![root(xs(0), name.as_bytes().into())]).into();
    check_taken(is_name("../a/"), "a name is not a path");
    check_refused(is_name("a\0"), "a name has no zero byte");
}

#[test]
fn an_audit_has_directories_and_nothing_else_is_one() {
    let root = || JobRoot { path: xs(1), shown: xs(1) };
    let audit = |roots| {
        let baseline = AuditBaseline::Job(DURABLE);
        JobSource::Audit { name: text(1), roots, baseline }
    };
    let of = |kind, source| submit(|spec| (spec.kind, spec.source) = (kind, source));
    check("roots", 1, JOB_ROOTS_MAX, |n| of(JobKind::Audit, audit(vec![root(); n])));
    let against = |path, base| {
        let baseline = AuditBaseline::Manifest { path, base };
        of(JobKind::Audit, JobSource::Audit { name: text(1), roots: vec![root()], baseline })
    };
    check("path", 1, PATH_LEN_MAX, |n| against(xs(n), xs(0)));
    check("base", 0, PATH_LEN_MAX, |n| against(xs(1), xs(n)));
    check_refused(of(JobKind::Sum, audit(vec![root()])).into(), "an audit as a sum");
    check_refused(of(JobKind::Audit, JobSource::Stored).into(), "an audit of stored items");
}

fn store(names: Vec<Blob>, expected: Vec<Blob>, items: Items) -> ClientRequest {
    asked(ServiceRequest::Store { job: DURABLE, first: 0, names, expected, items })
}

fn inline(len: usize) -> Items {
    Items::Inline { lens: vec![0; len], data: Blob::default() }
}

#[test]
fn stored_items_keep_their_limits() {
    check("names", 1, FRAME_NAMES_MAX, |n| store(vec![xs(1); n], vec![], inline(n)));
    check("name", 1, PATH_LEN_MAX, |n| store(vec![xs(n)], vec![], inline(1)));
    check("bytes of names", 256, NAMES_LEN_MAX / 2, |n| {
        let mut names = vec![xs(n / 256); 256];
        names[255] = xs(n - 255 * (n / 256));
        store(names, vec![], inline(256))
    });
    let of = |n| store(vec![xs(1); 2], vec![xs(1); n], inline(2));
    check_taken(of(0).into(), "no expected digests");
    check_taken(of(2).into(), "an expected digest for each");
    check_refused(of(1).into(), "one expected digest for two items");
    check("expected", 1, OUTPUTS_LEN_MAX, |n| store(vec![xs(1)], vec![xs(n)], inline(1)));
    check_refused(store(vec![xs(1)], vec![], inline(2)).into(), "one name for two items");
    check_refused(store(vec![zeros(1)], vec![], inline(1)).into(), "a name without zero bytes");
    let last = ServiceRequest::Store {
        job: DURABLE,
        first: u64::MAX,
        names: vec![xs(1)],
        expected: vec![],
        items: inline(1),
    };
    check_refused(asked(last).into(), "an index that wraps");
}

#[test]
fn the_longest_frames_of_stored_items_fit() {
    let (names, expected) =
        (vec![xs(512); FRAME_NAMES_MAX], vec![xs(OUTPUTS_LEN_MAX); FRAME_NAMES_MAX]);
    let lens = vec![1024; FRAME_NAMES_MAX];
    let items = Items::Inline { lens, data: zeros(INLINE_LEN_MAX) };
    check_taken(store(names.clone(), expected.clone(), items).into(), "bytes");
    let stamp = Stamp { size: u64::MAX, mtime_ns: i64::MIN, ctime_ns: i64::MIN };
    let source = FileSource::Dataset { name: text(32), paths: vec![xs(1024); FRAME_NAMES_MAX] };
    let items = Items::Files { source, files: vec![FileItem::from(stamp); FRAME_NAMES_MAX] };
    check_taken(store(names, expected, items).into(), "files");
}

#[test]
fn questions_about_jobs_keep_their_limits() {
    let jobs = |filter, limit| asked(ServiceRequest::Jobs { filter, after: None, limit });
    check("limit", 1, JOB_ROWS_MAX, |n| jobs(JobFilter::default(), u16_of(n)));
    check("label", 0, NAME_LEN_MAX, |n| {
        jobs(JobFilter { label: text(n), ..JobFilter::default() }, 1)
    });
    check("key", 0, JOB_KEY_LEN_MAX, |n| {
        jobs(JobFilter { key: text(n), ..JobFilter::default() }, 1)
    });
    check("limit", 1, FRAME_NAMES_MAX, |n| {
        let limit = u16_of(n);
        asked(ServiceRequest::Results { job: DURABLE, from: 0, limit, wait_ms: 0 })
    });
    check("limit", 1, FRAME_NAMES_MAX, |n| {
        asked(ServiceRequest::Findings { job: DURABLE, from: 0, limit: u16_of(n) })
    });
}

#[test]
fn answers_about_jobs_keep_their_limits() {
    check("text", 0, REASON_LEN_MAX, |n| {
        told(ServiceReply::Refused { reason: ServiceRefusal::TooMuch, text: text(n) })
    });
    let one = |change: &dyn Fn(&mut JobRow)| {
        let mut row = row(JobState::Done, JobSource::Stored);
        change(&mut row);
        told(ServiceReply::Job(Box::new(row)))
    };
    check("key", 0, JOB_KEY_LEN_MAX, |n| one(&|row| row.key = text(n)));
    check("principal", 0, NAME_LEN_MAX, |n| one(&|row| row.principal = text(n)));
    check("reason", 0, REASON_LEN_MAX, |n| one(&|row| row.reason = text(n)));
    check("labels", 0, JOB_LABELS_MAX, |n| one(&|row| row.spec.labels = vec![text(1); n]));
    check("rows", 0, JOB_ROWS_MAX, |n| {
        let rows = vec![row(JobState::Done, JobSource::Stored); n];
        told(ServiceReply::Jobs { rows, more: false })
    });
    let results = |rows| {
        let (from, state) = (0, JobState::Done);
        told(ServiceReply::Results { job: DURABLE, from, rows, state, is_last: true })
    };
    let result = |name, outcome| ResultRow { name, stamp: Stamp::default(), outcome };
    check("rows", 0, FRAME_NAMES_MAX, |n| {
        results(vec![result(xs(1), ItemOutcome::Digests(xs(1))); n])
    });
    check("name", 1, 2 * PATH_LEN_MAX + 1, |n| {
        results(vec![result(xs(n), ItemOutcome::Digests(xs(1)))])
    });
    let findings = |row| told(ServiceReply::Findings { rows: vec![row], more: false });
    let found = || finding(AuditFinding::Moved);
    check("findings", 0, FRAME_NAMES_MAX, |n| {
        told(ServiceReply::Findings { rows: vec![found(); n], more: false })
    });
    check("name", 1, 2 * PATH_LEN_MAX + 1, |n| findings(AuditRow { name: xs(n), ..found() }));
    check("from", 0, 2 * PATH_LEN_MAX + 1, |n| findings(AuditRow { from: xs(n), ..found() }));
    check("digest", 0, OUTPUTS_LEN_MAX, |n| findings(AuditRow { digest: xs(n), ..found() }));
    check("expected", 0, OUTPUTS_LEN_MAX, |n| findings(AuditRow { expected: xs(n), ..found() }));
    for outcome in [ItemOutcome::Digests, ItemOutcome::Mismatch] {
        check("digests", 1, OUTPUTS_LEN_MAX, |n| results(vec![result(xs(1), outcome(xs(n)))]));
    }
}
