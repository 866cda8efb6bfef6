//! A worker made by hand: it takes leases and hashes nothing.

use crate::{Cluster, DEADLINE};
use ipc_proto::endpoint::{Endpoint, WORKER_SOCKET};
use ipc_proto::message::{
    Backend, LeaseId, ListOutcome, ListWork, Planes, Role, SandboxLayers, Work, WorkerIntro,
    WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};
use ipc_socket::{Connection, ReceiveError};
use std::time::Duration;

/// Time without a request after which a worker shows that it is alive.
const PAUSE: Duration = Duration::from_secs(1);

/// The role of a worker made by hand, which takes every algorithm.
pub fn worker_role(name: &str) -> Role {
    role(name, Blob::default(), &[])
}

fn role(name: &str, token: Blob, datasets: &[&str]) -> Role {
    let backend = |algorithm| Backend { algorithm, backend: "test".to_owned(), interleave_max: 1 };
    Role::Worker(WorkerIntro {
        name: name.to_owned(),
        software: "test".to_owned(),
        image: String::new(),
        pid: 1,
        threads: 1,
        memory_bytes: 0,
        backends: Algorithm::ALL.map(backend).to_vec(),
        planes: Planes {
            descriptors: true,
            inline: true,
            datasets: datasets.iter().map(|&name| name.to_owned()).collect(),
        },
        reading: "test".to_owned(),
        sandbox: SandboxLayers::default(),
        token,
        host: String::new(),
        cpu: String::new(),
    })
}

/// A connection to a controller as one of its workers.
#[derive(Debug)]
pub struct FakeWorker(Connection);

/// A batch that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    lease: LeaseId,
    attempt: u32,
    items: usize,
}

impl FakeWorker {
    /// Connects to the workers' socket at `endpoint`, with the token that proves its name over vsock.
    pub fn connect(endpoint: &Endpoint, name: &str, token: Blob) -> Self {
        Self::open(endpoint, name, role(name, token, &[]))
    }

    fn open(endpoint: &Endpoint, name: &str, role: Role) -> Self {
        let opened = Connection::open(endpoint, role);
        let opened = opened.unwrap_or_else(|error| panic!("worker {name} at {endpoint}: {error}"));
        opened.receiver.set_timeout(Some(DEADLINE)).expect("an open socket");
        Self(opened)
    }

    /// Connects to `cluster`.
    pub fn join(cluster: &Cluster, name: &str) -> Self {
        Self::join_with(cluster, name, &[])
    }

    /// Connects to `cluster` as a worker that has these datasets.
    pub fn join_with(cluster: &Cluster, name: &str, datasets: &[&str]) -> Self {
        let endpoint = Endpoint::Unix(cluster.dir().join(WORKER_SOCKET));
        Self::open(&endpoint, name, role(name, Blob::default(), datasets))
    }

    /// Asks for `batches` more.
    pub fn give_credit(&mut self, batches: u16) {
        self.send(&WorkerReply::Credit { batches });
    }

    /// Shows the controller that it is alive.
    pub fn beat(&mut self) {
        self.send(&WorkerReply::Heartbeat);
    }

    /// Waits for the controller's echo of a heartbeat.
    pub fn await_beat(&mut self) {
        let (request, _) = self.0.receiver.receive::<WorkerRequest>().expect("an echo in time");
        assert_eq!(request, WorkerRequest::Heartbeat);
    }

    /// The next batch; echoes of heartbeats are skipped.
    pub fn next_lease(&mut self) -> HeldLease {
        loop {
            let (request, _) = self.0.receiver.receive().expect("a batch in time");
            match held(&request) {
                Some(lease) => return lease,
                None => assert_eq!(request, WorkerRequest::Heartbeat),
            }
        }
    }

    /// Answers a batch of SHA-256 with digests of equal bytes `fill`, and asks for one more.
    pub fn finish(&mut self, lease: HeldLease, fill: u8) {
        self.send(&done(lease, fill));
    }

    /// Answers every batch of SHA-256 with digests of equal bytes `fill` until `is_over`, which is
    /// asked whenever nothing came for a pause, or until the controller is gone; returns the number
    /// of batches.
    pub fn serve(self, fill: u8, pause: Duration, is_over: impl Fn() -> bool) -> u64 {
        self.answer(pause, is_over, |request| Some(done(held(request)?, fill)))
    }

    /// Answers batches of SHA-256 in the same way, and pages of a dataset with `page`, until the controller is gone.
    pub fn serve_dataset(self, fill: u8, page: impl Fn(&ListWork) -> ListOutcome) {
        self.answer(
            PAUSE,
            || false,
            |request| {
                if let WorkerRequest::Assign { lease, attempt, work: Work::List(work), .. } =
                    request
                {
                    let (lease, attempt, outcome) = (*lease, *attempt, page(work));
                    return Some(WorkerReply::Listed { lease, attempt, credit: 1, outcome });
                }
                Some(done(held(request)?, fill))
            },
        );
    }

    fn answer(
        mut self,
        pause: Duration,
        is_over: impl Fn() -> bool,
        reply_to: impl Fn(&WorkerRequest) -> Option<WorkerReply>,
    ) -> u64 {
        let mut batches = 0;
        self.0.receiver.set_timeout(Some(pause)).expect("a pause that is not zero");
        loop {
            let reply = match self.0.receiver.receive::<WorkerRequest>() {
                Ok((request, _)) => match reply_to(&request) {
                    Some(reply) => {
                        batches += 1;
                        reply
                    }
                    None => continue,
                },
                Err(ReceiveError::TimedOut) if is_over() => return batches,
                Err(ReceiveError::TimedOut) => WorkerReply::Heartbeat,
                Err(_) => return batches,
            };
            if self.0.sender.send(&reply, &[]).is_err() {
                return batches;
            }
        }
    }

    fn send(&mut self, reply: &WorkerReply) {
        self.0.sender.send(reply, &[]).expect("the controller lives");
    }
}

fn held(request: &WorkerRequest) -> Option<HeldLease> {
    let WorkerRequest::Assign { lease, attempt, work, .. } = request else { return None };
    Some(HeldLease { lease: *lease, attempt: *attempt, items: work.items_len() })
}

fn done(HeldLease { lease, attempt, items }: HeldLease, fill: u8) -> WorkerReply {
    let outputs = Blob(vec![fill; Algorithm::Sha256.digest_len() * items]);
    WorkerReply::Done { lease, attempt, credit: 1, busy_us: 100, outputs, failures: vec![] }
}
