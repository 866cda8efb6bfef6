//! The wire into the controller's VM, against a Unix socket to a controller outside.
//!
//! A round trip is a worker's heartbeat, which the controller echoes. Throughput is that of
//! messages from a client, which the controller passes on to a worker: every byte crosses twice.
//! Client and worker are connections of this process, and the worker hashes nothing.

use super::kept::Scratch;
use super::median_ratio;
use super::outside::{Outside, Runner};
use super::vms::{Accel, Vms};
use crate::report::{Report, median, us};
use ipc_proto::endpoint::Endpoint;
use ipc_proto::limits::{HEARTBEAT_INTERVAL, INLINE_LEN_MAX};
use ipc_proto::message::{
    ClientReply, ClientRequest, JobId, Role, Window, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};
use ipc_socket::{Connection, ReceiveError};
use std::thread;
use std::time::{Duration, Instant};
use test_kit::{client_role, worker_role};

const BEAT_ROUNDS: usize = 20;
const BLOCK: usize = 200;

const FLOW_ROUNDS: usize = 7;
const FRAMES: u64 = 64;
const JOB: JobId = JobId(0);

/// One way to a controller.
struct Way {
    name: String,
    workers: Endpoint,
    clients: Endpoint,
    client: Role,
}

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
        clients: vms.client_endpoint(),
        client: vms.client_role(),
    }];
    ways.extend(outside.iter().map(|(runner, outside)| Way {
        name: format!("Unix socket, {} controller", runner.name()),
        workers: outside.worker_endpoint(),
        clients: outside.client_endpoint(),
        client: client_role(),
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
struct Beat(Connection);

impl Beat {
    fn start(way: &Way) -> Self {
        Self(worker(way, "beat"))
    }

    /// The p50 of one block, in microseconds.
    fn block(&mut self) -> f64 {
        let mut times: Vec<Duration> = (0..BLOCK)
            .map(|_| {
                let start = Instant::now();
                self.0.sender.send(&WorkerReply::Heartbeat, &[]).expect("the controller lives");
                let (echo, _) =
                    self.0.receiver.receive::<WorkerRequest>().expect("the controller lives");
                assert_eq!(echo, WorkerRequest::Heartbeat);
                start.elapsed()
            })
            .collect();
        times.sort();
        us(times[BLOCK / 2])
    }
}

/// A client with an open job, and a worker that answers at once.
struct Flow {
    client: Connection,
    window: Window,
    next: u64,
}

impl Flow {
    fn start(way: &Way) -> Self {
        let mut sink = worker(way, "sink");
        sink.receiver.set_timeout(Some(HEARTBEAT_INTERVAL)).expect("an open socket");
        sink.sender.send(&WorkerReply::Credit { batches: 8 }, &[]).expect("the controller lives");
        // It ends with its connection.
        thread::spawn(move || answer(&mut sink));
        let mut client =
            Connection::open(&way.clients, way.client.clone()).expect("the controller lives");
        let open = ClientRequest::Open {
            job: JOB,
            algorithm: Algorithm::Sha256,
            weight: 1,
            cross_check: 0,
        };
        client.sender.send(&open, &[]).expect("the controller lives");
        let (reply, _) = client.receiver.receive().expect("the controller lives");
        let ClientReply::Opened { window, .. } = reply else { panic!("unexpected {reply:?}") };
        Self { client, window, next: 0 }
    }

    /// MB a second.
    fn block(&mut self) -> f64 {
        let (first, end) = (self.next, self.next + FRAMES);
        let mut resolved = first;
        let start = Instant::now();
        while resolved < end {
            while self.next < end && self.has_room(self.next - resolved) {
                let lens = vec![u32::try_from(INLINE_LEN_MAX).expect("half a MiB")];
                let data = Blob(vec![7; INLINE_LEN_MAX]);
                let request = ClientRequest::Messages { job: JOB, first: self.next, lens, data };
                self.client.sender.send(&request, &[]).expect("the controller lives");
                self.next += 1;
            }
            let (reply, _) = self.client.receiver.receive().expect("the controller lives");
            if let ClientReply::Window { window, .. } = reply {
                self.window = window;
                continue;
            }
            let ClientReply::Results { runs, failures, .. } = reply else {
                panic!("unexpected {reply:?}")
            };
            assert!(failures.is_empty(), "{failures:?}");
            resolved += runs.iter().map(|run| u64::from(run.len)).sum::<u64>();
        }
        let bytes = FRAMES * INLINE_LEN_MAX as u64;
        bytes as f64 / start.elapsed().as_secs_f64() / 1e6
    }

    /// Whether another frame may follow `unresolved` ones.
    fn has_room(&self, unresolved: u64) -> bool {
        let frames = unresolved + 1;
        frames <= u64::from(self.window.items)
            && frames * INLINE_LEN_MAX as u64 <= self.window.bytes
    }
}

fn worker(way: &Way, name: &str) -> Connection {
    Connection::open(&way.workers, worker_role(name))
        .unwrap_or_else(|error| panic!("{}: {error}", way.name))
}

fn answer(sink: &mut Connection) {
    loop {
        let reply = match sink.receiver.receive() {
            Ok((WorkerRequest::Assign { lease, attempt, work, .. }, _)) => {
                let outputs = Blob(vec![0; 32 * work.items_len()]);
                WorkerReply::Done {
                    lease,
                    attempt,
                    credit: 1,
                    busy_us: 1,
                    outputs,
                    failures: vec![],
                }
            }
            Ok(_) => continue,
            Err(ReceiveError::TimedOut) => WorkerReply::Heartbeat,
            Err(_) => return,
        };
        if sink.sender.send(&reply, &[]).is_err() {
            return;
        }
    }
}
