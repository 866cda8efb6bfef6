//! `hashctl status` and `hashctl version`: what the controller says of itself and its workers.

mod table;

use crate::cli::print;
use crate::config::Config;
use crate::engine::connect;
use crate::exit::Exit;
use crate::say::{io_text, say};
use client::{Client, ClientError, ConnectError};
use ipc_proto::message::{JobStatus, SandboxLayers, Status, Welcome, WorkerHealth, WorkerStatus};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// Between two attempts to reach a controller that is waited for.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Prints the controller's status, as tables or as one JSON object.
pub(crate) fn status(config: &Config, as_json: bool) -> Exit {
    let status = match ask(config, |client| client.status()) {
        Ok(status) => status,
        Err(exit) => return exit,
    };
    let text = if as_json { format!("{}\n", to_json(&status)) } else { table::render(&status) };
    print(config.stdio, &text)
}

/// Waits until N workers are ready, and before that for the controller to start.
pub(crate) fn wait_ready(config: &Config, workers: u32, timeout_s: u32) -> Exit {
    let deadline = Instant::now() + Duration::from_secs(timeout_s.into());
    let mut client = loop {
        match Client::connect(&config.address) {
            Ok(client) => break client,
            Err(ConnectError::Io(_) | ConnectError::Wire(_)) if Instant::now() < deadline => {
                thread::sleep(RECONNECT_PAUSE);
            }
            // The last attempt says what is wrong.
            Err(_) => match connect(config) {
                Ok(client) => break client,
                Err(exit) => return exit,
            },
        }
    };
    let left = deadline.saturating_duration_since(Instant::now());
    match client.wait_ready(workers, left) {
        Ok(readiness) if readiness.enough => Exit::Success,
        Ok(readiness) => {
            let ready = readiness.workers;
            say(format_args!("{ready} of {workers} workers are ready after {timeout_s} s"));
            Exit::Failure
        }
        Err(error) => lost(config, &error),
    }
}

/// Prints our version and, if there is a controller, its.
pub(crate) fn version(config: &Config) -> Exit {
    let place = config.endpoint_text();
    let controller = match Client::connect(&config.address) {
        Ok(client) => {
            let welcome = client.welcome();
            let Welcome { software, version, image, .. } = welcome;
            let image = if image.is_empty() { String::new() } else { format!(", image {image}") };
            format!("{software} at {place}, protocol {version}{image}")
        }
        Err(ConnectError::Io(error)) => {
            format!("not reached at {place} ({})", io_text(&error))
        }
        Err(error) => format!("not reached at {place} ({error})"),
    };
    let controller = table::one_line(&controller);
    let text = format!("hashctl {}\ncontroller {controller}\n", env!("CARGO_PKG_VERSION"));
    print(config.stdio, &text)
}

/// Puts a question to the controller.
pub(crate) fn ask<T>(
    config: &Config,
    question: impl FnOnce(&mut Client) -> Result<T, ClientError>,
) -> Result<T, Exit> {
    let mut client = connect(config)?;
    question(&mut client).map_err(|error| lost(config, &error))
}

fn lost(config: &Config, error: &ClientError) -> Exit {
    say(format_args!("lost the controller at {}: {error}", config.endpoint_text()));
    Exit::Unreachable
}

/// The status with stable keys: counts are numbers, sizes bytes, times milliseconds.
fn to_json(status: &Status) -> Value {
    let counters = &status.counters;
    json!({
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
        "quarantined": status.quarantined,
        "quarantined_unlisted": status.quarantined_unlisted,
    })
}

fn worker_json(worker: &WorkerStatus) -> Value {
    let backends: serde_json::Map<String, Value> = worker
        .backends
        .iter()
        .map(|chosen| (chosen.algorithm.name().to_owned(), chosen.backend.clone().into()))
        .collect();
    let lanes =
        worker.backends.iter().map(|b| (b.algorithm.name().to_owned(), b.interleave_max.into()));
    let lanes: serde_json::Map<String, Value> = lanes.collect();
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
        "id": job.id.to_string(),
        "uid": job.uid(),
        "pid": job.pid,
        "algorithms": job.algorithms.iter().map(|a| a.name()).collect::<Vec<_>>(),
        "age_ms": job.age_ms,
        "items": job.items,
        "resolved": job.resolved,
        "failed": job.failed,
        "in_flight": job.leases,
        "finished": job.finished,
    })
}

const fn health(health: WorkerHealth) -> &'static str {
    match health {
        WorkerHealth::Ready => "ready",
        WorkerHealth::Suspended => "suspended",
        WorkerHealth::Quarantined => "quarantined",
    }
}
