//! Audits against manifests: their findings become the differences of the run.

use super::world::PlannerWorld;
use super::{counted, run_once, said};
use ipc_proto::Blob;
use ipc_proto::message::{AuditFinding, AuditRow, JobId, JobKind, JobSource, RunOutcome, StepEnd};
use serde_json::json;

/// A finding about a file that has the content of `from`.
fn finding(finding: AuditFinding, name: &str, from: &str) -> AuditRow {
    let (name, from) = (name.as_bytes().into(), from.as_bytes().into());
    let (size, algorithm, digest, expected) = (0, None, Blob::default(), Blob::default());
    AuditRow { finding, name, from, size, algorithm, digest, expected, failure: None }
}

pub(super) fn one_each() -> Vec<AuditRow> {
    vec![
        finding(AuditFinding::Changed, "changed", ""),
        finding(AuditFinding::Copied, "copy", "same"),
        finding(AuditFinding::Moved, "elsewhere", "moved"),
        finding(AuditFinding::Missing, "gone", ""),
        finding(AuditFinding::New, "new", ""),
    ]
}

const LISTED: &str = "schedules: {s: {kind: audit, dataset: d, manifest: 'lists/${schedule}.sha256', \
                      notify: {url: 'http://a/', on: [failure, change]}}}";

#[test]
fn an_audit_against_a_manifest_is_a_job_whose_findings_are_those_of_the_run() {
    let mut world = PlannerWorld::new();
    world.apply(LISTED);
    run_once(&mut world);
    let spec = world.last_spec();
    let source = JobSource::audit_of_manifest("d", b"lists/s.sha256", None, &[]).unwrap();
    assert_eq!((spec.kind, &spec.source), (JobKind::Audit, &source));
    assert_eq!(counted(&mut world, 1), Some([0; 6]), "nothing differs");
    assert_eq!(world.notices.len(), 0);
    world.findings = one_each();
    // A crash while findings are collected: they are collected again.
    world.holds_results = true;
    run_once(&mut world);
    assert_eq!(world.ended.len(), 1);
    world.holds_results = false;
    world.crash(false);
    world.pass(10);
    assert_eq!(counted(&mut world, 2), Some([2, 1, 1, 1, 0, 0]));
    let want =
        ["changed changed ", "new copy same", "moved elsewhere moved", "gone gone ", "new new "];
    assert_eq!(world.differences("s", 2, 0), want);
    assert_eq!(said(&world.notices[0])["occasions"], json!(["change"]));
    // It differs as long as its list says otherwise, whatever the run before found.
    run_once(&mut world);
    assert_eq!(world.differences("s", 3, 0), want);
    assert_eq!((world.notices.len(), world.submitted.len()), (2, 3));
    let outcomes: Vec<RunOutcome> = world.ended.iter().map(|(.., outcome)| *outcome).collect();
    assert_eq!(outcomes, [RunOutcome::Succeeded; 3]);
    world.apply(&LISTED.replace("manifest", "path: a/b, manifest"));
    run_once(&mut world);
    let source = JobSource::audit_of_manifest("d", b"lists/s.sha256", Some(b"a/b"), &[]).unwrap();
    assert_eq!(world.last_spec().source, source);
}

#[test]
fn a_listed_audit_with_something_unreadable_fails_with_its_differences() {
    let mut world = PlannerWorld::new();
    world.apply(&LISTED.replace("kind:", "retries: {count: 1, delay: 1s}, kind:"));
    world.findings =
        vec![finding(AuditFinding::New, "new", ""), finding(AuditFinding::Unreadable, "a", "")];
    run_once(&mut world);
    let (row, steps) = world.run("s", 1, 0);
    let reason = "1 unreadable: files, or lines of the manifest; hashctl result 1-2 says which";
    assert_eq!((steps[0].attempt, &steps[0].end), (2, &Some(StepEnd::Failed(reason.into()))));
    assert_eq!(
        (row.outcome, counted(&mut world, 1)),
        (Some(RunOutcome::Failed), Some([1, 0, 0, 0, 0, 0]))
    );
    assert_eq!(world.differences("s", 1, 0), ["new new "]);
    assert_eq!(said(&world.notices[0])["occasions"], json!(["failure", "change"]));
    // Of an attempt that is repeated nothing stays.
    world.lost = Some(JobId { epoch: 1, number: 4 });
    run_once(&mut world);
    let (_, steps) = world.run("s", 2, 0);
    assert_eq!((&steps[0].end, steps[0].changes), (&Some(StepEnd::Failed("no".into())), None));
    assert_eq!(world.differences("s", 2, 0), [""; 0]);
}
