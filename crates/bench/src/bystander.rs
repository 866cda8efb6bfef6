//! Cost of a client that never reads to another one: the p99 of its tasks, with and without.

use crate::contest::{interleave, median, quantile};
use crate::report::{Report, Target};
use ipc_proto::Blob;
use ipc_proto::codec::encode_frame;
use ipc_proto::message::{ClientIntro, ClientRequest, Hello, Role};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use test_kit::{Cluster, MessageJob, Options};

const ROUNDS: usize = 15;
const BLOCK: usize = 1000;

pub(crate) fn run(report: &mut Report) {
    let cluster = Cluster::start(Options::default());
    let mut job = MessageJob::on(&cluster);
    let p99 = |job: &mut MessageJob| quantile(BLOCK, 99, || job.round_trip());
    let mut rounds = interleave(
        ROUNDS,
        &mut [Box::new(|| {
            let alone = p99(&mut job);
            let deaf = Deaf::start(&cluster);
            let beside = p99(&mut job);
            deaf.stop();
            beside / alone
        })],
    );
    let what = "p99 of a task beside a client that never reads, over alone";
    report.check(what, median(rounds.remove(0)), "x", Target::AtMost(2.0));
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
        let role =
            Role::Client(ClientIntro { software: "deaf".to_owned(), token: Blob::default() });
        encode_frame(&Hello::new(role), &mut questions).expect("it is short");
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
