//! One status for programs.

use crate::text::one_line;
use ipc_proto::message::{
    AlgorithmSpeed, JobStatus, SandboxLayers, Status, WorkerHealth, WorkerStatus,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

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
        "image": worker.image,
        "host": worker.host,
        "cpu": worker.cpu,
        "speeds": speeds(worker),
    })
}

/// Bytes per second of one thread, by the name of the algorithm.
fn speeds(worker: &WorkerStatus) -> Map<String, Value> {
    let speed = |of: &AlgorithmSpeed| (of.algorithm.name().to_owned(), Value::from(of.bytes_per_s));
    worker.speeds.iter().map(speed).collect()
}

/// All workers that a status has: those that are connected, as in [`status_json`], then those out of service that are
/// not, by name. Each says if it is connected, and why it is given no work.
#[must_use]
pub fn worker_objects(status: &Status) -> Vec<Value> {
    let object = |name: &str, mut object: Value, is_connected: bool| {
        if let Value::Object(object) = &mut object {
            object.insert("connected".to_owned(), is_connected.into());
            object.extend(out_of_service(name, status));
        }
        object
    };
    let here = status.workers.iter().map(|row| object(&row.name, worker_json(row), true));
    let quarantined = status.quarantined.iter().map(|row| (row.connected, &row.worker));
    let drained = status.drained.iter().map(|row| (row.connected, &row.worker));
    let away: BTreeSet<&String> =
        quarantined.chain(drained).filter(|(connected, _)| !connected).map(|(_, w)| w).collect();
    let away = away.into_iter().map(|name| {
        let is_quarantined = status.quarantined.iter().any(|row| row.worker == *name);
        let shown = if is_quarantined { WorkerHealth::Quarantined } else { WorkerHealth::Draining };
        object(name, json!({ "name": name, "health": health(shown) }), false)
    });
    here.chain(away).collect()
}

/// Why a worker of this name is given no work: keys of its object.
fn out_of_service(name: &str, status: &Status) -> Map<String, Value> {
    let mut keys = Map::new();
    if let Some(row) = status.quarantined.iter().find(|row| row.worker == name) {
        let quarantine = json!({ "reason": row.reason, "age_ms": row.age_ms });
        keys.insert("quarantine".to_owned(), quarantine);
    }
    if let Some(row) = status.drained.iter().find(|row| row.worker == name) {
        let drain = json!({ "by": row.by, "age_ms": row.age_ms, "left_ms": row.left_ms });
        keys.insert("drain".to_owned(), drain);
    }
    keys
}

/// The instruction sets of a worker's backends in a few words: `avx512,sha_ni`, or `portable` if it uses none.
#[must_use]
pub fn instruction_sets(worker: &WorkerStatus) -> String {
    let names = worker.backends.iter().flat_map(|chosen| chosen.backend.split('/'));
    let sets: BTreeSet<&str> = names.filter(|name| *name != "portable").map(instructions).collect();
    if sets.is_empty() {
        return "portable".to_owned();
    }
    let text = one_line(&sets.into_iter().collect::<Vec<_>>().join(","));
    match text.char_indices().nth(SETS_LEN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Longest list of instruction sets in a table.
const SETS_LEN_MAX: usize = 24;

/// The part of the name of a backend between its function and its lanes: `avx512` of `sha256_avx512_x16`.
fn instructions(backend: &str) -> &str {
    let set = backend.split_once('_').map_or(backend, |(_, set)| set);
    match set.rsplit_once("_x") {
        Some((set, lanes)) if lanes.parse::<u8>().is_ok() => set,
        _ => set,
    }
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
