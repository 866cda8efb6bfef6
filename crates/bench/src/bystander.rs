//! What a client that never reads costs another one: the p99 of its tasks, with and without.

use crate::report::{Report, Target, median, us};
use ipc_proto::codec::encode_frame;
use ipc_proto::message::{ClientReply, ClientRequest, Hello, JobId};
use ipc_proto::{Algorithm, Blob};
use ipc_socket::Connection;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_kit::{Cluster, Options, client, client_role};

const ROUNDS: usize = 15;
const BLOCK: usize = 1000;
const JOB: JobId = JobId(0);

pub(crate) fn run(report: &mut Report) {
    let cluster = Cluster::start(Options::default());
    let mut connection = opened(&cluster);
    let mut next = 0;
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let alone = p99(&mut connection, &mut next);
        let deaf = Deaf::start(&cluster);
        let beside = p99(&mut connection, &mut next);
        deaf.stop();
        if round > 0 {
            ratios.push(beside / alone);
        }
    }
    report.check(
        "p99 of a task beside a client that never reads, over alone",
        median(ratios),
        "x",
        Target::AtMost(2.0),
    );
}

fn opened(cluster: &Cluster) -> Connection {
    let mut connection = client(&cluster.client_socket());
    let open =
        ClientRequest::Open { job: JOB, algorithm: Algorithm::Sha256, weight: 1, cross_check: 0 };
    connection.sender.send(&open, &[]).expect("the controller lives");
    let (reply, _) = connection.receiver.receive().expect("the controller lives");
    assert!(matches!(reply, ClientReply::Opened { .. }));
    connection
}

fn p99(connection: &mut Connection, next: &mut u64) -> f64 {
    let mut times: Vec<f64> = (0..BLOCK)
        .map(|_| {
            let (lens, data) = (vec![0], Blob::default());
            let task = ClientRequest::Messages { job: JOB, first: *next, lens, data };
            *next += 1;
            let start = Instant::now();
            connection.sender.send(&task, &[]).expect("the controller lives");
            let (reply, _) = connection.receiver.receive().expect("the controller lives");
            assert!(matches!(reply, ClientReply::Results { .. }));
            us(start.elapsed())
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[BLOCK * 99 / 100]
}

/// A client that asks until the controller takes no more, and reads nothing.
struct Deaf {
    stream: UnixStream,
    asking: thread::JoinHandle<()>,
}

impl Deaf {
    fn start(cluster: &Cluster) -> Self {
        let stream = UnixStream::connect(cluster.client_socket()).expect("the controller lives");
        let mut questions = Vec::new();
        encode_frame(&Hello::new(client_role()), &mut questions).expect("it is short");
        (&stream).write_all(&questions).expect("the controller lives");
        questions.clear();
        for _ in 0..1000 {
            encode_frame(&ClientRequest::Status, &mut questions).expect("it is short");
        }
        let mut asker = stream.try_clone().expect("room for a descriptor");
        let blocked = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&blocked);
        let asking = thread::spawn(move || {
            while asker.write_all(&questions).is_ok() {
                progress.fetch_add(1, Ordering::Relaxed);
            }
        });
        // It is deaf in earnest once the controller has stopped taking its questions.
        let mut before = u64::MAX;
        loop {
            thread::sleep(Duration::from_millis(50));
            let now = blocked.load(Ordering::Relaxed);
            if now == before {
                break;
            }
            before = now;
        }
        Self { stream, asking }
    }

    fn stop(self) {
        self.stream.shutdown(Shutdown::Both).expect("it is still open");
        self.asking.join().expect("it ends with its stream");
    }
}
