//! The metrics of the controller.
//!
//! Counts and gauges are read from the core when somebody asks, the same that `hashctl status` reads: nothing
//! is counted twice. Only durations are recorded as they end.

use super::hub::Hub;
use crate::core::tally::{
    BACKENDS, BadFrame, ClientState, CoreCounts, PeerRole, REFUSALS, Requeue, Timings,
};
use crate::journal::JournalHealth;
use ipc_proto::message::{DifferenceKind, RunOutcome, SandboxLayer, Status, WorkerHealth};
use ipc_proto::{Algorithm, backend};
use std::time::Duration;
use telemetry::metrics::{Histogram, Metrics};
use telemetry::metrics_table;
use telemetry::process::{COMMON, Host};

metrics_table! {
    /// All metrics of a controller (`docs/metrics.md`).
    pub(super) ALL;
    SANDBOX Gauge "hashcluster_sandbox_layer" ["layer"]
        "1 if the sandbox has this layer, else 0.";
    WORKERS Gauge "hashcluster_controller_workers" ["state"]
        "Connected workers: ready, starting (no credit given yet), suspended until they reconnect, quarantined, or draining.";
    WORKERS_MAX Gauge "hashcluster_controller_workers_max" [] "Most connected workers.";
    WORKERS_QUARANTINED Gauge "hashcluster_controller_quarantined_workers" []
        "Names of workers in quarantine, connected or not.";
    WORKER_THREADS Gauge "hashcluster_controller_worker_threads" ["worker"]
        "Hashing threads of a worker.";
    WORKER_CREDITS Gauge "hashcluster_controller_worker_credits" ["worker"]
        "Batches that a worker is ready for.";
    WORKER_LEASES Gauge "hashcluster_controller_worker_leases" ["worker"]
        "Batches that a worker holds.";
    CLIENTS Gauge "hashcluster_controller_clients" [] "Connected clients.";
    CLIENTS_MAX Gauge "hashcluster_controller_clients_max" [] "Most connected clients.";
    JOBS Gauge "hashcluster_controller_jobs" [] "Open jobs.";
    JOBS_MAX Gauge "hashcluster_controller_jobs_max" [] "Most open jobs.";
    JOB_AGE Gauge "hashcluster_controller_oldest_job_age_seconds" []
        "Time since the oldest open job was opened, 0 without one.";
    ITEMS Gauge "hashcluster_controller_items" ["state"]
        "Unresolved items: queued, leased to a worker, or split (large files of which workers have parts).";
    ITEMS_MAX Gauge "hashcluster_controller_items_max" [] "Most unresolved items.";
    QUEUED_AGE Gauge "hashcluster_controller_oldest_queued_age_seconds" []
        "Time for which the oldest work has waited for a worker, 0 if none waits.";
    BYTES Gauge "hashcluster_controller_inline_bytes" []
        "Bytes inside messages whose digests are not known yet.";
    BYTES_MAX Gauge "hashcluster_controller_inline_bytes_max" [] "Most of these bytes.";
    JOBS_OPENED Counter "hashcluster_controller_jobs_opened_total" [] "Jobs opened.";
    JOBS_CANCELLED Counter "hashcluster_controller_jobs_cancelled_total" []
        "Jobs cancelled, or dropped because their client left.";
    HASHED_ITEMS Counter "hashcluster_controller_items_total" ["algorithm", "backend", "outcome"]
        "Items resolved, once per algorithm, with a digest or failed, by the worker's backend for many messages.";
    HASHED_BYTES Counter "hashcluster_controller_bytes_total" ["algorithm", "backend", "outcome"]
        "Bytes hashed, once per algorithm, and those of what failed, as announced.";
    LAST_DIGEST Gauge "hashcluster_controller_last_digest_timestamp_seconds" []
        "Time of the last digest, in seconds since 1970; of the start until there is one.";
    RESULTS Counter "hashcluster_controller_results_total" ["client"]
        "Items that ended, by what became of their client: connected (it got the result), cancelled, left.";
    BATCH_TIME Histogram "hashcluster_controller_batch_duration_seconds" []
        "Time from a lease to its accepted answer.";
    QUEUE_WAIT Histogram "hashcluster_controller_queue_wait_seconds" []
        "Time that a batch waited in its queue before a lease.";
    LEASES Counter "hashcluster_controller_leases_total" [] "Batches leased.";
    REQUEUES Counter "hashcluster_controller_requeues_total" ["reason"]
        "Batches put back: their deadline expired, their worker disconnected, or they were revoked for others.";
    EXPIRIES Counter "hashcluster_controller_lease_expiries_total" [] "Leases whose deadline expired.";
    RETRIES Counter "hashcluster_controller_retries_total" []
        "Items leased again after they were lost with a worker.";
    FENCED Counter "hashcluster_controller_answers_fenced_total" []
        "Answers dropped because their lease was revoked or given to another worker.";
    QUARANTINES Counter "hashcluster_controller_quarantines_total" [] "Workers put in quarantine.";
    CHECKS Counter "hashcluster_controller_cross_checks_total" [] "Items that were cross-checked.";
    MISMATCHES Counter "hashcluster_controller_cross_check_mismatches_total" []
        "Items of those whose digests differed.";
    CONNECTIONS Counter "hashcluster_controller_connections_total" ["role"]
        "Connections after their handshake.";
    REFUSED Counter "hashcluster_controller_connections_refused_total" ["role", "reason"]
        "Connections refused in the handshake.";
    JOURNAL Gauge "hashcluster_controller_journal_state" ["state"]
        "1 for the state of the journal: ok, full, read-only or failed; 0 for all without a state directory.";
    RUNS Counter "hashcluster_controller_runs_total" ["outcome"]
        "Runs of schedules that ended: succeeded, failed, late (their deadline expired) or cancelled.";
    DIFFERENCES Counter "hashcluster_controller_run_differences_total" ["change"]
        "Files that differed from the last good run, or of an audit from its manifest: new, gone, changed, moved, rotted (the content, but neither size nor time) or older.";
    BAD_FRAMES Counter "hashcluster_controller_frames_rejected_total" ["role", "reason"]
        "Connections closed over what the peer sent, or did not send.";
}

/// Metrics of a controller that serves HTTP.
#[derive(Debug)]
pub(super) struct Instruments {
    metrics: Metrics,
    host: Host,
    batches: Histogram,
    waits: Histogram,
}

impl Instruments {
    /// Before the sandbox.
    pub(super) fn new(image: &str) -> Self {
        let metrics = Metrics::new(&[COMMON, ALL]);
        let batches = metrics.histogram(&BATCH_TIME, &[]);
        let waits = metrics.histogram(&QUEUE_WAIT, &[]);
        Self { host: Host::open(env!("CARGO_PKG_VERSION"), image), metrics, batches, waits }
    }

    /// Records what ended in a step of the core.
    pub(super) fn record(&self, timings: &Timings) {
        timings.batches.iter().for_each(|time| self.batches.record(time.as_secs_f64()));
        timings.waits.iter().for_each(|time| self.waits.record(time.as_secs_f64()));
    }

    /// To be called now and then: what was recorded takes memory until then.
    pub(super) fn fold(&self) {
        self.metrics.fold();
    }

    /// The page.
    pub(super) fn render(&self, hub: &Hub) -> String {
        self.host.set(&self.metrics);
        let (status, ready) = hub.picture();
        let core = hub.core.borrow();
        self.set(&status, ready);
        self.set_tally(core.tally(), hub.epoch());
        let backlog = core.backlog(hub.now());
        for (state, items) in
            [("queued", backlog.queued), ("leased", backlog.leased), ("split", backlog.split)]
        {
            self.metrics.set_count(&ITEMS, &[state], items);
        }
        self.metrics.set(&QUEUED_AGE, &[], backlog.oldest.as_secs_f64());
        let journal = hub.journal.is_there().then(|| hub.journal.health().name());
        for state in JournalHealth::NAMES {
            self.metrics.set_count(&JOURNAL, &[state], (journal == Some(state)).into());
        }
        for (outcome, runs) in RunOutcome::ALL.into_iter().zip(hub.planner.ended()) {
            self.metrics.set_count(&RUNS, &[outcome.name()], runs);
        }
        let changes = hub.planner.changes();
        for kind in DifferenceKind::ALL {
            self.metrics.set_count(&DIFFERENCES, &[kind.name()], changes.of(kind));
        }
        self.metrics.render()
    }

    fn set(&self, status: &Status, ready: usize) {
        let metrics = &self.metrics;
        let plain = |metric, value: u64| metrics.set_count(metric, &[], value);
        for layer in SandboxLayer::ALL {
            metrics.set_count(&SANDBOX, &[layer.name()], status.sandbox.has(layer).into());
        }
        let limits = &status.limits;
        let count = |health| status.workers.iter().filter(|worker| worker.health == health).count();
        for (state, workers) in [
            ("ready", ready),
            ("starting", count(WorkerHealth::Ready).saturating_sub(ready)),
            ("suspended", count(WorkerHealth::Suspended)),
            ("quarantined", count(WorkerHealth::Quarantined)),
            ("draining", count(WorkerHealth::Draining)),
        ] {
            metrics.set_count(&WORKERS, &[state], workers as u64);
        }
        plain(&WORKERS_MAX, limits.workers_max.into());
        plain(
            &WORKERS_QUARANTINED,
            status.quarantined.len() as u64 + u64::from(status.quarantined_unlisted),
        );
        for worker in &status.workers {
            let of = |metric, value: u32| metrics.set_count(metric, &[&worker.name], value.into());
            of(&WORKER_THREADS, worker.threads.into());
            of(&WORKER_CREDITS, worker.credits);
            of(&WORKER_LEASES, worker.leases);
        }
        plain(&CLIENTS, limits.clients.into());
        plain(&CLIENTS_MAX, limits.clients_max.into());
        plain(&JOBS, status.jobs.len() as u64 + u64::from(status.jobs_unlisted));
        plain(&JOBS_MAX, limits.jobs_max.into());
        let oldest = status.jobs.iter().map(|job| Duration::from_millis(job.age_ms)).max();
        metrics.set(&JOB_AGE, &[], oldest.unwrap_or_default().as_secs_f64());
        plain(&ITEMS_MAX, limits.items_max);
        plain(&BYTES, limits.bytes);
        plain(&BYTES_MAX, limits.bytes_max);
        let counters = &status.counters;
        for (metric, count) in [
            (&JOBS_OPENED, counters.jobs),
            (&JOBS_CANCELLED, counters.jobs_cancelled),
            (&LEASES, counters.leases),
            (&FENCED, counters.answers_fenced),
            (&QUARANTINES, counters.workers_quarantined),
            (&CHECKS, counters.items_checked),
            (&MISMATCHES, counters.items_contradicted),
        ] {
            plain(metric, count);
        }
    }

    fn set_tally(&self, tally: &CoreCounts, epoch: u32) {
        let count = |metric, values: &[&str], value| self.metrics.set_count(metric, values, value);
        for (algorithm, by_backend) in Algorithm::ALL.into_iter().zip(&tally.hashed) {
            for (name, hashed) in BACKENDS.into_iter().zip(by_backend) {
                if !may_serve(name, algorithm) {
                    continue;
                }
                let labels = |outcome| [algorithm.name(), name, outcome];
                count(&HASHED_ITEMS, &labels("digest"), hashed.items);
                count(&HASHED_ITEMS, &labels("failed"), hashed.items_failed);
                count(&HASHED_BYTES, &labels("digest"), hashed.bytes);
                count(&HASHED_BYTES, &labels("failed"), hashed.bytes_failed);
            }
        }
        let last_digest = f64::from(epoch) + tally.last_digest.as_secs_f64();
        self.metrics.set(&LAST_DIGEST, &[], last_digest);
        for state in ClientState::ALL {
            count(&RESULTS, &[state.name()], tally.results[state as usize]);
        }
        for reason in Requeue::ALL {
            count(&REQUEUES, &[reason.name()], tally.requeues[reason as usize]);
        }
        count(&EXPIRIES, &[], tally.requeues[Requeue::Expired as usize]);
        count(&RETRIES, &[], tally.retries);
        for role in PeerRole::ALL {
            count(&CONNECTIONS, &[role.name()], tally.connections[role as usize]);
            for ((_, reason), refused) in REFUSALS.into_iter().zip(tally.refused[role as usize]) {
                count(&REFUSED, &[role.name(), reason], refused);
            }
            for reason in BadFrame::ALL {
                let closed = tally.bad_frames[role as usize][reason as usize];
                count(&BAD_FRAMES, &[role.name(), reason.name()], closed);
            }
        }
    }
}

/// True if a worker can hash by this backend for an algorithm, or if there is none.
fn may_serve(name: &str, algorithm: Algorithm) -> bool {
    let mut known = backend::ALL.iter();
    known.find(|known| known.name == name).is_none_or(|known| known.family == algorithm.family())
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::metrics::{Metric, rows_below};

    #[test]
    fn every_metric_has_its_row_in_the_document() {
        let document = include_str!("../../../docs/metrics.md");
        let want: Vec<String> = ALL.iter().copied().map(Metric::row).collect();
        assert_eq!(rows_below(document, "## Metrics of the controller"), want);
        let common: Vec<String> = COMMON.iter().copied().map(Metric::row).collect();
        assert_eq!(rows_below(document, "## Metrics of every program"), common);
    }
}
