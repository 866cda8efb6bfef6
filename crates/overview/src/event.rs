//! Events: the differences of one status and the next.

use crate::text::one_line;
use ipc_proto::message::{Counters, JobId, JobStatus, Status, WorkerHealth, WorkerStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Events of one kind that are named one by one; more of them in one interval are one event.
const NAMED_MAX: usize = 4;

/// Importance of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSeverity {
    /// Part of normal operation.
    Info,
    /// Something was lost or refused, and the cluster copes.
    Warning,
    /// Somebody has to look.
    Error,
}

/// A change between two statuses, as a line whose words of peers are harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEvent {
    /// Its importance.
    pub severity: EventSeverity,
    text: String,
}

impl ClusterEvent {
    /// An event that `text` tells; what would move a terminal is taken out of it.
    #[must_use]
    pub fn new(severity: EventSeverity, text: &str) -> Self {
        Self { severity, text: one_line(text) }
    }

    fn info(text: &str) -> Self {
        Self::new(EventSeverity::Info, text)
    }

    fn warning(text: &str) -> Self {
        Self::new(EventSeverity::Warning, text)
    }

    fn error(text: &str) -> Self {
        Self::new(EventSeverity::Error, text)
    }
}

impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The events between two statuses of one cluster, oldest first.
#[must_use]
pub fn events_between(old: &Status, new: &Status) -> Vec<ClusterEvent> {
    let mut events = Vec::new();
    if is_restarted(old, new) {
        events.push(ClusterEvent::error("the controller restarted: clients and jobs were lost"));
        return events;
    }
    // Where rows are missing, a name that is not listed may be connected all the same.
    if old.workers_unlisted == 0 && new.workers_unlisted == 0 {
        workers(&mut events, &old.workers, &new.workers);
    }
    quarantine(&mut events, old, new);
    if old.jobs_unlisted == 0 && new.jobs_unlisted == 0 {
        jobs(&mut events, &old.jobs, &new.jobs);
    }
    counts(&mut events, &old.counters, &new.counters);
    events
}

/// True if `new` is of another controller process.
pub(crate) fn is_restarted(old: &Status, new: &Status) -> bool {
    new.uptime_ms < old.uptime_ms || old.pid != new.pid
}

fn workers(events: &mut Vec<ClusterEvent>, old: &[WorkerStatus], new: &[WorkerStatus]) {
    let by_name = |rows: &'_ [WorkerStatus]| -> BTreeMap<String, (u64, WorkerHealth)> {
        rows.iter().map(|row| (row.name.clone(), (row.uptime_ms, row.health))).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let left: Vec<&String> = old.keys().filter(|name| !new.contains_key(*name)).collect();
    let joined: Vec<&String> = new.keys().filter(|name| !old.contains_key(*name)).collect();
    each(events, &left, "workers left", |name| {
        ClusterEvent::warning(&format!("worker {name} left"))
    });
    each(events, &joined, "workers connected", |name| {
        ClusterEvent::info(&format!("worker {name} connected"))
    });
    for (name, (uptime_ms, health)) in &new {
        let Some((uptime_before, health_before)) = old.get(name) else { continue };
        if uptime_ms < uptime_before {
            events.push(ClusterEvent::warning(&format!("worker {name} reconnected")));
        }
        match (health_before, health) {
            (WorkerHealth::Suspended, WorkerHealth::Suspended) => {}
            (_, WorkerHealth::Suspended) => events.push(ClusterEvent::warning(&format!(
                "worker {name} is suspended until it reconnects: it missed too many deadlines"
            ))),
            // The list of those in quarantine tells of both ends, with the reason.
            (WorkerHealth::Draining, WorkerHealth::Draining) => {}
            (_, WorkerHealth::Draining) => {
                events.push(ClusterEvent::info(&format!("worker {name} is being drained")));
            }
            (_, WorkerHealth::Ready | WorkerHealth::Quarantined) => {}
        }
    }
}

fn quarantine(events: &mut Vec<ClusterEvent>, old: &Status, new: &Status) {
    let names = |status: &'_ Status| -> BTreeSet<String> {
        status.quarantined.iter().map(|row| row.worker.clone()).collect()
    };
    let (old_names, new_names) = (names(old), names(new));
    for row in new.quarantined.iter().filter(|row| !old_names.contains(&row.worker)) {
        let text = format!("worker {} is quarantined: {}", row.worker, row.reason);
        events.push(ClusterEvent::error(&text));
    }
    if new.quarantined_unlisted == 0 {
        for name in old_names.difference(&new_names) {
            events.push(ClusterEvent::info(&format!("worker {name} is released")));
        }
    }
}

fn jobs(events: &mut Vec<ClusterEvent>, old: &[JobStatus], new: &[JobStatus]) {
    let ids = |rows: &[JobStatus]| -> BTreeSet<JobId> { rows.iter().map(|row| row.id).collect() };
    let (old_ids, new_ids) = (ids(old), ids(new));
    let ended: Vec<&JobStatus> = old.iter().filter(|row| !new_ids.contains(&row.id)).collect();
    let opened: Vec<&JobStatus> = new.iter().filter(|row| !old_ids.contains(&row.id)).collect();
    each(events, &ended, "jobs ended", |row| {
        let text = format!(
            "job {} ended: {} items were resolved when last seen",
            row.known_id(),
            row.resolved
        );
        ClusterEvent::info(&text)
    });
    each(events, &opened, "jobs opened", |row| {
        let by = row.uid().map(|uid| format!(" by uid {uid}")).unwrap_or_default();
        ClusterEvent::info(&format!("job {} opened{by}: {}", row.known_id(), row.algorithms))
    });
}

fn counts(events: &mut Vec<ClusterEvent>, old: &Counters, new: &Counters) {
    use EventSeverity::{Error, Warning};
    let rows = [
        (
            old.items_contradicted,
            new.items_contradicted,
            Error,
            "items contradicted by a cross-check",
        ),
        (old.items_failed, new.items_failed, Warning, "items without a digest"),
        (old.leases_lost, new.leases_lost, Warning, "batches lost and given out again"),
        (
            old.jobs_cancelled,
            new.jobs_cancelled,
            Warning,
            "jobs cancelled, or left by their client",
        ),
        (old.peers_refused, new.peers_refused, Warning, "peers refused"),
        (old.peers_faulty, new.peers_faulty, Warning, "peers closed for breaking the protocol"),
    ];
    for (before, now, severity, what) in rows {
        if now > before {
            events.push(ClusterEvent::new(severity, &format!("{} {what}", now - before)));
        }
    }
}

fn each<T>(
    events: &mut Vec<ClusterEvent>,
    rows: &[&T],
    together: &str,
    event: impl Fn(&T) -> ClusterEvent,
) {
    if rows.len() <= NAMED_MAX {
        events.extend(rows.iter().map(|row| event(row)));
    } else {
        events.push(ClusterEvent::info(&format!("{} {together}", rows.len())));
    }
}
