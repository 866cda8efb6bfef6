//! Notices of a run's end: to whom, and their content.

use super::Planned;
use super::record::notice_key;
use super::run::ActiveRun;
use crate::notices::Notice;
use ipc_proto::message::{ChangeCounts, DifferenceKind, RunOutcome};
use notifier::{BODY_LEN_MAX, DeliveryTarget};
use schedule::{Notification, Occasion, Recipient};
use serde_json::json;

/// Version of the content, which is higher whenever a reader of an older one could be misled.
const VERSION: u32 = 1;

/// Tasks that failed and are named.
pub(super) const FAILURES_SHOWN: usize = 32;

/// Notices of a run that has ended, one per recipient that wants to hear of it.
pub(super) fn notices(planned: &Planned, run: &ActiveRun) -> Vec<Notice> {
    let occasions = occasions(run);
    let (name, generation) = (&planned.schedule.name, planned.state.generation);
    let mut notices = Vec::new();
    for (number, Notification { on, receiver }) in (0..).zip(&planned.schedule.notify) {
        let heard: Vec<Occasion> =
            occasions.iter().copied().filter(|occasion| on.contains(occasion)).collect();
        if !heard.is_empty() {
            notices.push(Notice {
                key: notice_key(generation, run.number, number),
                id: format!("{name}/{generation}/{}/{number}", run.number),
                to: target(receiver),
                body: body(planned, run, &heard),
            });
        }
    }
    notices
}

/// Everything that a run is an occasion of.
fn occasions(run: &ActiveRun) -> Vec<Occasion> {
    let changes = run.row.changes.unwrap_or_default();
    let end = match run.row.outcome {
        Some(RunOutcome::Succeeded) => Some(Occasion::Success),
        Some(RunOutcome::Failed | RunOutcome::Late | RunOutcome::Cancelled) => {
            Some(Occasion::Failure)
        }
        None => None,
    };
    let change = (changes.total() > 0).then_some(Occasion::Change);
    let rot = (changes.of(DifferenceKind::Rotted) > 0).then_some(Occasion::Rot);
    [end, change, rot].into_iter().flatten().collect()
}

fn target(receiver: &Recipient) -> DeliveryTarget {
    match receiver.clone() {
        Recipient::Url { url, secret } => DeliveryTarget::Url { url, secret },
        Recipient::Command { name, args } => DeliveryTarget::Command { name, args },
    }
}

fn body(planned: &Planned, run: &ActiveRun, occasions: &[Occasion]) -> String {
    let mut shown = run.failures.len();
    loop {
        let body = with_failures(planned, run, occasions, shown);
        if body.len() <= BODY_LEN_MAX || shown == 0 {
            return body;
        }
        shown -= 1;
    }
}

fn differences(changes: ChangeCounts) -> serde_json::Value {
    DifferenceKind::ALL.iter().map(|kind| (kind.name(), changes.of(*kind))).collect()
}

fn with_failures(
    planned: &Planned,
    run: &ActiveRun,
    occasions: &[Occasion],
    shown: usize,
) -> String {
    let row = &run.row;
    let failures = run.failures[..shown].iter();
    let failures = failures.map(|(task, reason)| json!({"task": task, "reason": reason}));
    json!({
        "version": VERSION,
        "schedule": planned.schedule.name,
        "run": run.number,
        "occasions": occasions.iter().map(|occasion| occasion.name()).collect::<Vec<_>>(),
        "outcome": row.outcome.map(RunOutcome::name),
        "by_hand": row.is_by_hand,
        "due": row.due_s,
        "started": row.started_s,
        "ended": row.ended_s,
        "failed_tasks": row.failed,
        "differences": row.changes.map(differences),
        "failures": failures.collect::<Vec<_>>(),
    })
    .to_string()
}
