//! The wire into the controller's VM, against a Unix socket to a controller outside.
//!
//! A round trip is a worker's heartbeat, which the controller echoes. Throughput is that of
//! messages from a client, which the controller passes on to a worker: every byte crosses twice.
//! Client and worker are connections of this process, and the worker hashes nothing.

use super::outside;
use super::vms::Vms;
use crate::contest::{Run, interleave, median, median_ratio, quantile};
use crate::report::Report;
use client::Address;
use ipc_proto::Blob;
use ipc_proto::endpoint::{Endpoint, WORKER_SOCKET};
use ipc_proto::limits::{HEARTBEAT_INTERVAL, INLINE_LEN_MAX};
use std::path::Path;
use std::thread;
use std::time::Instant;
use test_kit::{FakeWorker, MessageJob};

const BEAT_ROUNDS: usize = 20;
const BLOCK: usize = 200;

const FLOW_ROUNDS: usize = 7;
const FRAMES: u64 = 64;

/// One way to a controller.
struct Way {
    name: String,
    workers: Endpoint,
    /// Token of the worker [`WORKER`].
    token: Blob,
    clients: Address,
}

/// A worker of the cluster whose VM is stopped.
pub(super) const WORKER: &str = "worker1";

pub(super) fn measure(report: &mut Report, scratch: &Path, vms: &Vms) {
    let outside = outside(scratch, vms, 0, "hashcluster-controller");
    let mut ways = vec![Way {
        name: "VM".to_owned(),
        workers: vms.worker_endpoint(),
        token: vms.worker_token(WORKER),
        clients: vms.clients(),
    }];
    ways.extend(outside.iter().map(|(name, cluster)| Way {
        name: format!("Unix socket, {name} controller"),
        workers: Endpoint::Unix(cluster.dir().join(WORKER_SOCKET)),
        token: Blob::default(),
        clients: cluster.address(),
    }));
    // All clients and workers connect before the first round.
    let mut beats: Vec<Run<'_, f64>> = Vec::new();
    for way in &ways {
        let mut worker = FakeWorker::connect(&way.workers, WORKER, way.token.clone());
        beats.push(Box::new(move || {
            quantile(BLOCK, 50, || {
                worker.beat();
                worker.await_beat();
            })
        }));
    }
    let times = interleave(BEAT_ROUNDS, &mut beats);
    drop(beats);
    tell(report, &ways, &times, "heartbeat and its echo, p50", "us");
    let mut flows: Vec<Run<'_, f64>> = Vec::new();
    for way in &ways {
        let mut sink = FakeWorker::connect(&way.workers, WORKER, way.token.clone());
        sink.give_credit(8);
        // It ends with its connection.
        thread::spawn(move || sink.serve(0, HEARTBEAT_INTERVAL, || false));
        let mut job = MessageJob::open(&way.clients);
        flows.push(Box::new(move || flow(&mut job)));
    }
    let rates = interleave(FLOW_ROUNDS, &mut flows);
    tell(report, &ways, &rates, "messages of 512 KiB through the controller", "MB/s");
}

/// MB per second of messages to a worker that answers at once.
fn flow(job: &mut MessageJob) -> f64 {
    let len = u32::try_from(INLINE_LEN_MAX).expect("half a MiB");
    let start = Instant::now();
    let (first, mut sent) = (job.resolved(), 0);
    while job.resolved() < first + FRAMES {
        if sent < FRAMES && job.fits(1, len) {
            job.send(1, len);
            sent += 1;
        } else {
            job.receive();
        }
    }
    let bytes = FRAMES * INLINE_LEN_MAX as u64;
    bytes as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn tell(report: &mut Report, ways: &[Way], figures: &[Vec<f64>], what: &str, unit: &str) {
    let vm = &figures[0];
    for (way, other) in ways.iter().zip(figures).skip(1) {
        report.note(&format!(
            "{what}, VM over {}: {:.2}x ({:.1} {unit}, {:.1} {unit})",
            way.name,
            median_ratio(vm, other),
            median(vm.clone()),
            median(other.clone()),
        ));
    }
}
