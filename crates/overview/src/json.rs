//! One status for programs.

use ipc_proto::message::{JobStatus, SandboxLayers, Status, WorkerHealth, WorkerStatus};
use serde_json::{Map, Value, json};

/// Version of the keys, which `docs/json.md` lists; a change of their meaning is a new one.
pub const STATUS_VERSION: u32 = 1;

/// The status with stable keys: counts are numbers, sizes bytes, times milliseconds.
#[must_use]
pub fn status_json(status: &Status) -> Value {
    let counters = &status.counters;
    json!({
        "version": STATUS_VERSION,
        "controller": {
            "version": status.software,
            "image": status.image,
            "pid": status.pid,
            "uptime_ms": status.uptime_ms,
            "sandbox": sandbox_json(status.sandbox),
        },
        "workers": status.workers.iter().map(worker_json).collect::<Vec<_>>(),
        "workers_unlisted": status.workers_unlisted,
        "jobs": status.jobs.iter().map(job_json).collect::<Vec<_>>(),
        "jobs_unlisted": status.jobs_unlisted,
        "limits": status.limits,
        "counters": {
            "jobs": counters.jobs,
            "jobs_cancelled": counters.jobs_cancelled,
            "items": counters.items,
            "items_failed": counters.items_failed,
            "bytes": counters.bytes,
            "leases": counters.leases,
            "attempts_lost": counters.leases_lost,
            "answers_stale": counters.answers_fenced,
            "peers_refused": counters.peers_refused,
            "peers_faulty": counters.peers_faulty,
            "workers_quarantined": counters.workers_quarantined,
            "items_checked": counters.items_checked,
            "items_contradicted": counters.items_contradicted,
        },
        "journal": {
            "state": status.journal.name(),
            "reason": status.journal_reason,
        },
        "quarantined": status.quarantined,
        "quarantined_unlisted": status.quarantined_unlisted,
        "drained": status.drained,
        "drained_unlisted": status.drained_unlisted,
    })
}

/// One worker, as in [`status_json`].
#[must_use]
pub fn worker_json(worker: &WorkerStatus) -> Value {
    let backends: Map<String, Value> = worker
        .backends
        .iter()
        .map(|chosen| (chosen.algorithm.name().to_owned(), chosen.backend.clone().into()))
        .collect();
    let lanes =
        worker.backends.iter().map(|b| (b.algorithm.name().to_owned(), b.interleave_max.into()));
    let lanes: Map<String, Value> = lanes.collect();
    json!({
        "name": worker.name,
        "version": worker.software,
        "pid": worker.pid,
        "health": health(worker.health),
        "threads": worker.threads,
        "backends": backends,
        "lanes": lanes,
        "credits": worker.credits,
        "in_flight": worker.leases,
        "uptime_ms": worker.uptime_ms,
        "items": worker.items,
        "bytes": worker.bytes,
        "items_per_s": worker.items_per_s,
        "bytes_per_s": worker.bytes_per_s,
        "attempts_lost": worker.leases_lost,
        "reading": worker.reading,
        "sandbox": sandbox_json(worker.sandbox),
    })
}

fn sandbox_json(layers: SandboxLayers) -> Value {
    let names = |held| layers.names(held).collect::<Vec<_>>();
    json!({ "layers": names(true), "missing": names(false) })
}

fn job_json(job: &JobStatus) -> Value {
    json!({
        "id": job.known_id().to_string(),
        "durable": job.durable.is_some(),
        "uid": job.uid(),
        "pid": job.pid,
        "algorithms": job.algorithms.iter().map(|a| a.name()).collect::<Vec<_>>(),
        "age_ms": job.age_ms,
        "items": job.items,
        "resolved": job.resolved,
        "failed": job.failed,
        "bytes": job.bytes,
        "in_flight": job.leases,
        "finished": job.finished,
    })
}

/// The word for a health.
#[must_use]
pub const fn health(health: WorkerHealth) -> &'static str {
    match health {
        WorkerHealth::Ready => "ready",
        WorkerHealth::Suspended => "suspended",
        WorkerHealth::Quarantined => "quarantined",
        WorkerHealth::Draining => "draining",
    }
}
