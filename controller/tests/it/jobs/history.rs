//! A recorded history of leases, answers, results and acknowledgements, and a model that judges it and knows nothing
//! of the controller.
//!
//! It holds if no answer of an old attempt was accepted, each item has one result, and nothing that was acknowledged
//! is lost.

use hashcluster_controller::core::WorkerId;
use ipc_proto::message::{ItemOutcome, JobId, JobRow, LeaseId, ResultRow, Run, ServiceReply};
use std::collections::{BTreeMap, BTreeSet};

/// Something that crossed the border of the controller, or of its core.
#[derive(Debug)]
pub(crate) enum Happened {
    /// The controller died, and another one started on its journal.
    Crashed,
    /// A worker got a lease.
    Leased { worker: WorkerId, lease: LeaseId, attempt: u32 },
    /// A lease was taken away from a worker, which may answer all the same.
    Revoked { worker: WorkerId, lease: LeaseId },
    /// A worker is gone.
    Left(WorkerId),
    /// A worker answered a lease. What the core reports up to the next input comes of it.
    Answered { worker: WorkerId, lease: LeaseId, attempt: u32 },
    /// Another input of the core.
    OtherInput,
    /// The core reported results, with this many bytes of digests.
    Reported { job: JobId, runs: Vec<Run>, digests_len: usize },
    /// A client was told how far its job is: all of that is durable.
    Acknowledged(Box<JobRow>),
    /// A client read results.
    Read { job: JobId, from: u64, rows: Vec<ResultRow> },
}

impl Happened {
    /// Whatever a reply acknowledges.
    pub(crate) fn of_reply(reply: &ServiceReply) -> Option<Self> {
        if let ServiceReply::Job(row) = reply {
            return Some(Self::Acknowledged(row.clone()));
        }
        let ServiceReply::Results { job, from, rows, .. } = reply else { return None };
        Some(Self::Read { job: *job, from: *from, rows: rows.clone() })
    }
}

#[derive(Default)]
struct HistoryModel {
    /// Leases that are in a worker's hands, with their attempt.
    current: BTreeMap<LeaseId, (WorkerId, u32)>,
    /// The last input of the core is an answer that counts, or one that does not.
    answer: Option<bool>,
    /// Items of the core's jobs that have a result.
    reported: BTreeSet<(JobId, u64)>,
    /// Durable jobs as their clients know them.
    rows: BTreeMap<JobId, JobRow>,
    results: BTreeMap<(JobId, u64), ResultRow>,
}

/// The first thing in a history that must not be.
pub(crate) fn judge(history: &[Happened]) -> Result<(), String> {
    let mut model = HistoryModel::default();
    history.iter().try_for_each(|happened| model.take(happened))
}

impl HistoryModel {
    fn take(&mut self, happened: &Happened) -> Result<(), String> {
        match happened {
            Happened::Crashed => {
                self.current.clear();
                self.reported.clear();
                self.answer = None;
            }
            Happened::Leased { worker, lease, attempt } => {
                if let Some(held) = self.current.insert(*lease, (*worker, *attempt)) {
                    return Err(format!("lease {lease} of {worker:?} is {held:?}'s"));
                }
            }
            Happened::Revoked { worker, lease } => {
                if self.current.remove(lease).is_none_or(|(of, _)| of != *worker) {
                    return Err(format!(
                        "lease {lease} is taken from {worker:?}, which has it not"
                    ));
                }
            }
            Happened::Left(worker) => {
                self.current.retain(|_, (of, _)| of != worker);
                self.answer = None;
            }
            Happened::Answered { worker, lease, attempt } => {
                let is_current = self.current.get(lease) == Some(&(*worker, *attempt));
                if is_current {
                    self.current.remove(lease);
                }
                self.answer = Some(is_current);
            }
            Happened::OtherInput => self.answer = None,
            Happened::Reported { job, runs, digests_len } => {
                if *digests_len > 0 && self.answer != Some(true) {
                    return Err(format!("job {job}: an answer of an old attempt was accepted"));
                }
                let indexes = runs.iter().flat_map(|run| run.first..run.first + u64::from(run.len));
                for index in indexes {
                    if !self.reported.insert((*job, index)) {
                        return Err(format!("job {job}: item {index} has two results"));
                    }
                }
            }
            Happened::Acknowledged(row) => self.acknowledged(row)?,
            Happened::Read { job, from, rows } => {
                for (index, row) in (*from..).zip(rows) {
                    let before = self.results.insert((*job, index), row.clone());
                    // A failure can be mended; a digest stays.
                    if before.is_some_and(|before| !has_failed(&before) && before != *row) {
                        return Err(format!(
                            "job {job}: result {index} is another one than before"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, row: &JobRow) -> Result<(), String> {
        let Some(before) = self.rows.insert(row.id, row.clone()) else { return Ok(()) };
        let names = [&before, row].map(|row| (&row.key, &row.spec, &row.principal, row.created_s));
        if names[0] != names[1] {
            return Err(format!("job {} is another one than before", row.id));
        }
        let (items, resolved) = (before.items, before.resolved);
        if row.items < items || row.resolved < resolved || before.is_complete && !row.is_complete {
            let now = (row.items, row.resolved, row.is_complete);
            return Err(format!("job {} had {items} items, {resolved} results: {now:?}", row.id));
        }
        Ok(())
    }
}

fn has_failed(row: &ResultRow) -> bool {
    matches!(row.outcome, ItemOutcome::Failed(_))
}

#[test]
fn histories_that_must_not_be_are_told_from_those_that_may() {
    let (worker, other) = (WorkerId(1), WorkerId(2));
    let lease = |number| LeaseId { epoch: 1, number };
    let leased = |worker, number| Happened::Leased { worker, lease: lease(number), attempt: 1 };
    let answered =
        |worker, number, attempt| Happened::Answered { worker, lease: lease(number), attempt };
    let reported = |first, digests_len| {
        let runs = vec![Run { first, len: 2 }];
        Happened::Reported { job: JobId::default(), runs, digests_len }
    };
    let revoked = |worker| Happened::Revoked { worker, lease: lease(7) };
    let digest = |byte| ItemOutcome::Digests(vec![byte; 32].into());
    let read = |outcome| {
        let row = ResultRow {
            name: b"n"[..].into(),
            stamp: ipc_proto::message::Stamp::default(),
            outcome,
        };
        Happened::Read { job: JobId::default(), from: 3, rows: vec![row] }
    };
    let failed = ItemOutcome::Failed(ipc_proto::message::Failure::Changed);
    for (name, history, want) in [
        ("plain", vec![leased(worker, 7), answered(worker, 7, 1), reported(0, 64)], None),
        ("failed without a worker", vec![Happened::OtherInput, reported(0, 0)], None),
        (
            "late, and dropped",
            vec![leased(worker, 7), revoked(worker), answered(worker, 7, 1), leased(other, 8)],
            None,
        ),
        (
            "revoked",
            vec![leased(worker, 7), revoked(worker), answered(worker, 7, 1), reported(0, 64)],
            Some("old attempt"),
        ),
        (
            "another attempt",
            vec![leased(worker, 7), answered(worker, 7, 2), reported(0, 64)],
            Some("old attempt"),
        ),
        (
            "another worker",
            vec![leased(worker, 7), answered(other, 7, 1), reported(0, 64)],
            Some("old attempt"),
        ),
        (
            "gone",
            vec![
                leased(worker, 7),
                Happened::Left(worker),
                answered(worker, 7, 1),
                reported(0, 64),
            ],
            Some("old attempt"),
        ),
        (
            "of before a crash",
            vec![leased(worker, 7), Happened::Crashed, answered(worker, 7, 1), reported(0, 64)],
            Some("old attempt"),
        ),
        (
            "twice",
            vec![
                leased(worker, 7),
                answered(worker, 7, 1),
                answered(worker, 7, 1),
                reported(0, 64),
            ],
            Some("old attempt"),
        ),
        (
            "of no answer",
            vec![leased(worker, 7), answered(worker, 7, 1), Happened::OtherInput, reported(0, 64)],
            Some("old attempt"),
        ),
        (
            "two results",
            vec![leased(worker, 7), answered(worker, 7, 1), reported(0, 64), reported(1, 64)],
            Some("two results"),
        ),
        ("mended", vec![read(failed.clone()), Happened::Crashed, read(digest(1))], None),
        ("changed", vec![read(digest(1)), Happened::Crashed, read(digest(2))], Some("another one")),
        ("lost", vec![read(digest(1)), Happened::Crashed, read(failed)], Some("another one")),
    ] {
        let found = judge(&history);
        let fits = match want {
            None => found.is_ok(),
            Some(want) => found.as_ref().is_err_and(|text| text.contains(want)),
        };
        assert!(fits, "{name}: {found:?}");
    }
}
