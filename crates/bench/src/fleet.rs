//! What one batch costs the controller with 1 and with 1,000 workers connected.
//!
//! The workers are connections of this process. One batch is under way at a time, so that neither
//! side gains by several messages sharing a system call.

use crate::report::{Report, Target, median, us};
use ipc_proto::endpoint::{Endpoint, WORKER_SOCKET};
use ipc_proto::message::{ClientReply, ClientRequest, JobId, WorkerReply, WorkerRequest};
use ipc_proto::{Algorithm, Blob};
use ipc_socket::Connection;
use test_kit::{Cluster, Options, client, cpu_time, worker_role};

const ROUNDS: usize = 15;
const BATCHES: usize = 2000;
const FLEET: usize = 1000;
const JOB: JobId = JobId(0);

struct Fleet {
    cluster: Cluster,
    workers: Vec<Connection>,
    client: Connection,
    next: u64,
    turn: usize,
}

pub(crate) fn run(report: &mut Report) {
    let mut one = Fleet::start(1);
    let mut many = Fleet::start(FLEET);
    let (mut cost_one, mut cost_many, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (a, b) = (one.round(), many.round());
        if round > 0 {
            cost_one.push(a);
            cost_many.push(b);
            ratios.push(b / a);
        }
    }
    report.note(&format!(
        "CPU of the controller a batch: {:.1} us with 1 worker, {:.1} us with {FLEET}",
        median(cost_one),
        median(cost_many)
    ));
    report.check(
        "cost of a batch with 1,000 workers over 1 worker",
        median(ratios),
        "x",
        Target::AtMost(1.5),
    );
}

impl Fleet {
    fn start(len: usize) -> Self {
        let cluster = Cluster::start(Options { workers: 0, ..Options::default() });
        let endpoint = Endpoint::Unix(cluster.dir().join(WORKER_SOCKET));
        let workers: Vec<Connection> = (0..len)
            .map(|i| {
                let role = worker_role(&format!("w{i}"));
                let mut worker = Connection::open(&endpoint, role).expect("room for a worker");
                let credit = WorkerReply::Credit { batches: 1 };
                worker.sender.send(&credit, &[]).expect("the controller lives");
                worker
            })
            .collect();
        cluster.wait_ready(len);
        let mut client = client(&cluster.client_socket());
        let open = ClientRequest::Open {
            job: JOB,
            algorithm: Algorithm::Sha256,
            weight: 1,
            cross_check: 0,
        };
        client.sender.send(&open, &[]).expect("the controller lives");
        let (opened, _) = client.receiver.receive::<ClientReply>().expect("the controller lives");
        assert!(matches!(opened, ClientReply::Opened { .. }));
        Self { cluster, workers, client, next: 0, turn: 0 }
    }

    /// The controller's CPU time a batch, in microseconds.
    fn round(&mut self) -> f64 {
        // Workers that are silent for long are dropped.
        for worker in &mut self.workers {
            worker.sender.send(&WorkerReply::Heartbeat, &[]).expect("the controller lives");
        }
        let pid = self.cluster.controller.id();
        let _settled = self.cluster.status();
        let before = cpu_time(pid);
        (0..BATCHES).for_each(|_| self.batch());
        us(cpu_time(pid) - before) / BATCHES as f64
    }

    fn batch(&mut self) {
        let (lens, data) = (vec![0], Blob::default());
        let task = ClientRequest::Messages { job: JOB, first: self.next, lens, data };
        self.client.sender.send(&task, &[]).expect("the controller lives");
        self.next += 1;
        // Of equally loaded workers, the one that has waited longest is next.
        let turn = self.turn;
        self.turn = (turn + 1) % self.workers.len();
        let worker = &mut self.workers[turn];
        let (lease, attempt) = loop {
            let (request, _) = worker.receiver.receive().expect("the controller lives");
            if let WorkerRequest::Assign { lease, attempt, .. } = request {
                break (lease, attempt);
            }
            assert_eq!(request, WorkerRequest::Heartbeat);
        };
        let outputs = Blob(vec![0; 32]);
        let done =
            WorkerReply::Done { lease, attempt, credit: 1, busy_us: 1, outputs, failures: vec![] };
        worker.sender.send(&done, &[]).expect("the controller lives");
        let (reply, _) = self.client.receiver.receive().expect("the controller lives");
        assert!(matches!(reply, ClientReply::Results { .. }));
    }
}
