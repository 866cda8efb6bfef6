//! Findings of an audit against a manifest, which its job has found: they become the differences of the run, page by page.
//!
//! A page is durable before the next one is asked for. What a crash cuts off begins again, and writes the same rows.

use super::Planner;
use super::compare::DifferencePages;
use super::record::forget_differences;
use ipc_proto::limits::FRAME_NAMES_MAX;
use ipc_proto::message::{
    AuditCounts, AuditFinding, AuditRow, ChangeCounts, DifferenceKind, DifferenceRow, JobRow,
    ServiceRequest,
};

/// Findings of a task that are here.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Collected {
    /// The number of the next one.
    next: u64,
    counts: AuditCounts,
    pages: DifferencePages,
}

impl Planner {
    /// Takes over the findings of a step whose job is done, and then ends it.
    pub(super) fn begin_collecting(&mut self, name: &str, step: usize, job: &JobRow) {
        let Some(run) = self.run_mut(name) else { return };
        let counts = job.findings.unwrap_or_default();
        let collected = Collected { next: 0, counts, pages: DifferencePages::default() };
        run.set_collecting(step, collected);
        let number = run.number;
        self.next.writes.push(forget_differences(name, number, step));
        self.ask_for_findings(name, step);
    }

    pub(super) fn ask_for_findings(&mut self, name: &str, step: usize) {
        let collected = self.run_mut(name).and_then(|run| run.collected(step));
        let Some(from) = collected.map(|(_, collected)| collected.next) else { return };
        let limit = u16::try_from(FRAME_NAMES_MAX).unwrap_or(u16::MAX);
        self.ask_about(name, step, |job| ServiceRequest::Findings { job, from, limit });
    }

    pub(super) fn findings_came(
        &mut self,
        name: &str,
        step: usize,
        rows: Vec<AuditRow>,
        more: bool,
    ) {
        let Some(run) = self.run_mut(name) else { return };
        let number = run.number;
        let Some((job, collected)) = run.collected(step) else { return };
        collected.next += rows.len() as u64;
        for AuditRow { finding, name, from, .. } in rows {
            if let Some(kind) = difference(finding) {
                collected.pages.push(DifferenceRow { kind, name, from });
            }
        }
        let is_done = !more || collected.pages.is_full();
        if is_done {
            collected.pages.end_page();
        }
        let writes = collected.pages.writes((name, number, step));
        let counts = collected.counts;
        self.next.writes.extend(writes);
        if !is_done {
            return self.ask_for_findings(name, step);
        }
        let unreadable = counts.of(AuditFinding::Unreadable);
        if unreadable == 0 {
            return self.compared(name, step, Some(changes(counts)));
        }
        if let Some(run) = self.run_mut(name) {
            run.set_changes(step, Some(changes(counts)));
        }
        let text = format!(
            "{unreadable} unreadable: files, or lines of the manifest; hashctl result {job} says which"
        );
        self.attempt_failed(name, step, &text);
    }
}

fn changes(counts: AuditCounts) -> ChangeCounts {
    let mut changes = ChangeCounts::default();
    for finding in AuditFinding::ALL {
        if let Some(kind) = difference(finding) {
            changes.add_many(kind, counts.of(finding));
        }
    }
    changes
}

/// The difference that a finding is in the record of a run.
fn difference(finding: AuditFinding) -> Option<DifferenceKind> {
    match finding {
        AuditFinding::Matched | AuditFinding::Unreadable => None,
        AuditFinding::Changed | AuditFinding::Modified => Some(DifferenceKind::Changed),
        AuditFinding::Older => Some(DifferenceKind::Older),
        AuditFinding::Rotted => Some(DifferenceKind::Rotted),
        AuditFinding::Moved => Some(DifferenceKind::Moved),
        // Runs know no copies.
        AuditFinding::New | AuditFinding::Copied => Some(DifferenceKind::New),
        AuditFinding::Missing => Some(DifferenceKind::Gone),
    }
}
