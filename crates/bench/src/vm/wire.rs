//! The wire into the controller's VM, against a Unix socket to a controller outside.
//!
//! A round trip is a worker's heartbeat, which the controller echoes. Throughput is that of
//! messages from a client, which the controller passes on to a worker: every byte crosses twice.
//! Client and worker are connections of this process, and the worker hashes nothing.

use super::kept::Scratch;
use super::outside::{Outside, Runner};
use super::vms::{Accel, Vms};
use crate::contest::median_ratio;
use crate::report::{Report, median, us};
use client::Address;
use ipc_proto::Blob;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::limits::{HEARTBEAT_INTERVAL, INLINE_LEN_MAX};
use std::thread;
use std::time::{Duration, Instant};
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

pub(super) fn measure(report: &mut Report, scratch: &Scratch, vms: &Vms<'_>) {
    let runners: &[Runner] = match vms.accel() {
        Accel::Tcg => &[Runner::Native, Runner::Translated],
        Accel::Kvm => &[Runner::Native],
    };
    let outside: Vec<(Runner, Outside<'_>)> = runners
        .iter()
        .map(|&r| (r, Outside::controller(scratch, &format!("wire-{}", r.name()), r)))
        .collect();
    let mut ways = vec![Way {
        name: "VM".to_owned(),
        workers: vms.worker_endpoint(),
        token: vms.worker_token(WORKER),
        clients: vms.clients(),
    }];
    ways.extend(outside.iter().map(|(runner, outside)| Way {
        name: format!("Unix socket, {} controller", runner.name()),
        workers: outside.worker_endpoint(),
        token: Blob::default(),
        clients: outside.clients(),
    }));
    let beats = rounds(&ways, BEAT_ROUNDS, Beat::start, Beat::block);
    tell(report, &ways, &beats, "heartbeat and its echo, p50", "us");
    let flows = rounds(&ways, FLOW_ROUNDS, Flow::start, Flow::block);
    tell(report, &ways, &flows, "messages of 512 KiB through the controller", "MB/s");
}

/// The figures of each way, measured in turns after a round that is not counted.
fn rounds<T>(
    ways: &[Way],
    rounds: usize,
    start: fn(&Way) -> T,
    measure: fn(&mut T) -> f64,
) -> Vec<Vec<f64>> {
    let mut ends: Vec<T> = ways.iter().map(start).collect();
    let mut figures = vec![Vec::new(); ways.len()];
    for round in 0..=rounds {
        for (end, figures) in ends.iter_mut().zip(&mut figures) {
            let figure = measure(end);
            if round > 0 {
                figures.push(figure);
            }
        }
    }
    figures
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

/// A worker that is ready for nothing.
struct Beat(FakeWorker);

impl Beat {
    fn start(way: &Way) -> Self {
        Self(FakeWorker::connect(&way.workers, WORKER, way.token.clone()))
    }

    /// The p50 of one block, in microseconds.
    fn block(&mut self) -> f64 {
        let mut times: Vec<Duration> = (0..BLOCK)
            .map(|_| {
                let start = Instant::now();
                self.0.beat();
                self.0.await_beat();
                start.elapsed()
            })
            .collect();
        times.sort();
        us(times[BLOCK / 2])
    }
}

/// A client with an open job, and a worker that answers at once.
struct Flow(MessageJob);

impl Flow {
    fn start(way: &Way) -> Self {
        let mut sink = FakeWorker::connect(&way.workers, WORKER, way.token.clone());
        sink.give_credit(8);
        // It ends with its connection.
        thread::spawn(move || sink.serve(0, HEARTBEAT_INTERVAL, || false));
        Self(MessageJob::open(&way.clients))
    }

    /// MB per second.
    fn block(&mut self) -> f64 {
        let len = u32::try_from(INLINE_LEN_MAX).expect("half a MiB");
        let start = Instant::now();
        let (first, mut sent) = (self.0.resolved(), 0);
        while self.0.resolved() < first + FRAMES {
            if sent < FRAMES && self.0.fits(1, len) {
                self.0.send(1, len);
                sent += 1;
            } else {
                self.0.receive();
            }
        }
        let bytes = FRAMES * INLINE_LEN_MAX as u64;
        bytes as f64 / start.elapsed().as_secs_f64() / 1e6
    }
}
