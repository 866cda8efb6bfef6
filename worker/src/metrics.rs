//! The metrics of a worker that serves HTTP; one that does not counts nothing.

use engine::exec::order::Order;
use engine::hash::Choice;
use ipc_proto::message::{Failures, FileItem, SandboxLayer, SandboxLayers, Work};
use ipc_proto::{Algorithm, Algorithms};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use telemetry::metrics::{Counter, Histogram, Metrics};
use telemetry::metrics_table;
use telemetry::process::{COMMON, Host};

metrics_table! {
    /// All metrics of a worker, besides those of every program (`docs/metrics.md`).
    pub(crate) ALL;
    SANDBOX Gauge "hashcluster_sandbox_layer" ["layer"] "1 if the sandbox has this layer, else 0.";
    CONNECTED Gauge "hashcluster_worker_connected" [] "1 while it is connected to a controller, else 0.";
    CONNECTIONS Counter "hashcluster_worker_connections_total" []
        "Connections to a controller, after their handshake.";
    THREADS Gauge "hashcluster_worker_threads" [] "Hashing threads.";
    THREADS_BUSY Gauge "hashcluster_worker_threads_busy" [] "Hashing threads that do not wait for a batch.";
    THREADS_STUCK Gauge "hashcluster_worker_threads_stuck" []
        "Hashing threads that do not come back from a file that does not answer.";
    LEASES Gauge "hashcluster_worker_leases" [] "Batches that it holds.";
    REVOKED Counter "hashcluster_worker_leases_revoked_total" [] "Batches that the controller took back.";
    ITEMS Counter "hashcluster_worker_items_total" ["algorithm", "backend", "outcome"]
        "Items, and parts of them, that were answered with a digest or failed, once per algorithm.";
    BYTES Counter "hashcluster_worker_bytes_total" ["algorithm", "backend"]
        "Bytes hashed for answers, once per algorithm.";
    BATCH_TIME Histogram "hashcluster_worker_batch_duration_seconds" [] "Time of a thread for a batch.";
    QUEUE_WAIT Histogram "hashcluster_worker_queue_wait_seconds" []
        "Time from the arrival of a batch until a thread begins it.";
}

static INSTRUMENTS: OnceLock<WorkerInstruments> = OnceLock::new();

/// Counters of this process, if it counts.
pub(crate) fn instruments() -> Option<&'static WorkerInstruments> {
    INSTRUMENTS.get()
}

/// Counters and histograms, which any thread moves.
#[derive(Debug)]
pub(crate) struct WorkerInstruments {
    metrics: Metrics,
    host: Host,
    is_connected: AtomicBool,
    connections: Counter,
    revoked: Counter,
    /// By algorithm: answered with a digest, failed.
    items: [[Counter; 2]; Algorithm::ALL.len()],
    bytes: [Counter; Algorithm::ALL.len()],
    batches: Histogram,
    waits: Histogram,
}

/// State of a worker that is known elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    pub(crate) all: u16,
    pub(crate) idle: u16,
    pub(crate) stuck: u16,
}

/// Starts to count: once the backends are chosen, and before the sandbox.
pub(crate) fn start(image: &str) {
    INSTRUMENTS.get_or_init(|| WorkerInstruments::new(image));
}

impl WorkerInstruments {
    fn new(image: &str) -> Self {
        let metrics = Metrics::new(&[COMMON, ALL]);
        let backend = |algorithm| {
            let choice = Choice::of(algorithm).to_string();
            choice.split('/').next().unwrap_or_default().to_owned()
        };
        let items = Algorithm::ALL.map(|algorithm| {
            let backend = backend(algorithm);
            ["digest", "failed"]
                .map(|outcome| metrics.counter(&ITEMS, &[algorithm.name(), &backend, outcome]))
        });
        let bytes = Algorithm::ALL
            .map(|algorithm| metrics.counter(&BYTES, &[algorithm.name(), &backend(algorithm)]));
        Self {
            host: Host::open(env!("CARGO_PKG_VERSION"), image),
            is_connected: AtomicBool::new(false),
            connections: metrics.counter(&CONNECTIONS, &[]),
            revoked: metrics.counter(&REVOKED, &[]),
            items,
            bytes,
            batches: metrics.histogram(&BATCH_TIME, &[]),
            waits: metrics.histogram(&QUEUE_WAIT, &[]),
            metrics,
        }
    }

    pub(crate) fn connected(&self) {
        self.is_connected.store(true, Ordering::Relaxed);
        self.connections.increment(1);
    }

    pub(crate) fn disconnected(&self) {
        self.is_connected.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    pub(crate) fn revoked(&self, leases_len: usize) {
        self.revoked.increment(leases_len as u64);
    }

    pub(crate) fn begun(&self, waited_us: u64) {
        self.waits.record(seconds(waited_us));
    }

    /// A batch is answered after `busy_us`.
    pub(crate) fn answered(&self, content: &Content, failures: &Failures, busy_us: u64) {
        self.batches.record(seconds(busy_us));
        let failed = failures.len() as u64;
        let bytes = content.bytes_done(failures);
        for &algorithm in &*content.algorithms {
            let [digests, failures] = &self.items[algorithm as usize];
            digests.increment(content.items_len.saturating_sub(failed));
            failures.increment(failed);
            self.bytes[algorithm as usize].increment(bytes);
        }
    }

    /// To be called now and then: what was recorded takes memory until then.
    pub(crate) fn fold(&self) {
        self.metrics.fold();
    }

    /// The page.
    pub(crate) fn render(
        &self,
        threads: Threads,
        leases_len: usize,
        sandbox: SandboxLayers,
    ) -> String {
        self.host.set(&self.metrics);
        let set = |metric, value| self.metrics.set_count(metric, &[], value);
        for layer in SandboxLayer::ALL {
            self.metrics.set_count(&SANDBOX, &[layer.name()], sandbox.has(layer).into());
        }
        set(&CONNECTED, self.is_connected().into());
        set(&THREADS, threads.all.into());
        set(&THREADS_BUSY, threads.all.saturating_sub(threads.idle).into());
        set(&THREADS_STUCK, threads.stuck.into());
        set(&LEASES, leases_len as u64);
        self.metrics.render()
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a century fit a double")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Items and bytes of a batch, for counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    algorithms: Algorithms,
    items_len: u64,
    bytes: u64,
    /// Length of each item.
    lens: Vec<u64>,
}

impl Content {
    pub(crate) fn of(order: &Order) -> Self {
        let lens: Vec<u64> = match &order.work {
            Work::Files { files, .. } => files.iter().map(FileItem::len).collect(),
            Work::Inline { lens, .. } => lens.iter().map(|&len| len.into()).collect(),
            Work::Subtree { len, .. } => vec![*len],
            Work::Resume { file, offset, .. } => vec![file.len().saturating_sub(*offset)],
            Work::Piece(piece) => vec![piece.len() as u64],
            Work::List(_) => Vec::new(),
        };
        let bytes = lens.iter().fold(0, |sum: u64, &len| sum.saturating_add(len));
        Self { algorithms: order.algorithms, items_len: lens.len() as u64, bytes, lens }
    }

    /// Bytes of the items that did not fail.
    fn bytes_done(&self, failures: &Failures) -> u64 {
        let len = |position: u32| self.lens.get(position as usize).copied().unwrap_or(0);
        let failed = failures.iter().map(|&(position, _)| len(position));
        failed.fold(self.bytes, |left, len| left.saturating_sub(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::metrics::{Metric, rows_below};

    #[test]
    fn every_metric_has_its_row_in_the_document() {
        let document = include_str!("../../docs/metrics.md");
        let want: Vec<String> = ALL.iter().copied().map(Metric::row).collect();
        assert_eq!(rows_below(document, "## Metrics of a worker"), want);
    }
}
