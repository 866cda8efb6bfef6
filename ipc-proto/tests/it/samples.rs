//! One message of every kind, with every width of integer somewhere; and any message as a value.

use ipc_proto::codec::{self, CodecError};
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::message::{
    Backend, ClientIntro, ClientReply, ClientRequest, Counters, Failure, Hello, HelloReply, JobId,
    JobStatus, LeaseId, LimitStatus, Message, Named, Piece, Planes, QuarantineStatus, RefuseReason,
    RejectReason, ReleaseOutcome, Role, Run, Stamp, Status, Versions, Welcome, Window, Work,
    WorkerHealth, WorkerIntro, WorkerReply, WorkerRequest, WorkerStatus,
};
use ipc_proto::{Algorithm, Blob};

macro_rules! any {
    ($($type:ident),+) => {
        /// A message of any type.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum Any { $($type($type)),+ }

        /// A type of message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $($type),+ }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$type),+];

            pub(crate) fn decode(self, body: &[u8]) -> Result<Any, CodecError> {
                match self { $(Self::$type => codec::decode(body).map(Any::$type)),+ }
            }
        }

        impl Any {
            pub(crate) fn kind(&self) -> Kind {
                match self { $(Self::$type(_) => Kind::$type),+ }
            }

            pub(crate) fn check(&self) -> Result<(), ipc_proto::message::LimitExceeded> {
                match self { $(Self::$type(message) => message.check()),+ }
            }

            pub(crate) fn frame(&self) -> Vec<u8> {
                let mut frame = Vec::new();
                match self {
                    $(Self::$type(message) => codec::encode_frame(message, &mut frame)),+
                }
                .expect("the message fits a frame");
                frame
            }
        }

        $(impl From<$type> for Any {
            fn from(message: $type) -> Self { Self::$type(message) }
        })+
    };
}

any!(Hello, HelloReply, ClientRequest, ClientReply, WorkerRequest, WorkerReply);

impl Any {
    pub(crate) fn body(&self) -> Vec<u8> {
        self.frame().split_off(PREFIX_LEN)
    }
}

/// SHA-256 of `abc` (FIPS 180-4 examples).
const SHA256_ABC: [u8; 32] = [
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
    0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
];

/// Every sample with its label in `golden.txt`; those of `example/` are the conversation that
/// `docs/protocol.md` shows.
pub(crate) fn samples() -> Vec<(String, Any)> {
    let mut all = Vec::new();
    let mut add = |label: &str, message: Any| all.push((label.to_owned(), message));
    for (label, message) in conversation() {
        add(&format!("example/{label}"), message);
    }
    add("hello/client_with_token", Hello::new(client(Blob(vec![0, 0xff]))).into());
    add("hello/worker", Hello::new(Role::Worker(worker_intro())).into());
    for (label, reason) in [
        ("not_ours", RefuseReason::NotOurs),
        ("version", RefuseReason::Version),
        ("forbidden", RefuseReason::Forbidden),
        ("wrong_socket", RefuseReason::WrongSocket),
        ("name_taken", RefuseReason::NameTaken),
        ("busy", RefuseReason::Busy),
        ("timeout", RefuseReason::Timeout),
    ] {
        let refused = HelloReply::Refused { reason, text: "no".to_owned(), versions: VERSIONS };
        add(&format!("hello_reply/refused/{label}"), refused.into());
    }
    for algorithm in Algorithm::ALL {
        let open =
            ClientRequest::Open { job: JobId(250), algorithm, weight: 100, cross_check: 1000 };
        add(&format!("client_request/open/{algorithm}"), open.into());
    }
    for (label, piece) in pieces() {
        let request = ClientRequest::Piece { job: JobId(0xffff), index: 0xffff_ffff, piece };
        add(&format!("client_request/piece/{label}"), request.into());
    }
    for (label, request) in client_requests() {
        add(&format!("client_request/{label}"), request.into());
    }
    for (label, reply) in client_replies() {
        add(&format!("client_reply/{label}"), reply.into());
    }
    for (label, work) in works() {
        let (lease, attempt) = (LeaseId(0x1_0000_0000), 1);
        let algorithm = Algorithm::Blake3;
        let assign = WorkerRequest::Assign { lease, attempt, algorithm, work, check: false };
        add(&format!("worker_request/assign/{label}"), assign.into());
    }
    let leases = vec![LeaseId(0), LeaseId(251), LeaseId(u64::MAX)];
    add("worker_request/assign/check", check().into());
    add("worker_request/revoke", WorkerRequest::Revoke { leases }.into());
    add("worker_request/heartbeat", WorkerRequest::Heartbeat.into());
    add("worker_request/shutdown", WorkerRequest::Shutdown.into());
    add("worker_reply/credit", WorkerReply::Credit { batches: 4096 }.into());
    add("worker_reply/done", done().into());
    add("worker_reply/heartbeat", WorkerReply::Heartbeat.into());
    add("worker_reply/progress", progress().into());
    all
}

const VERSIONS: Versions = Versions { min: 4, max: 4 };
const STAMP: Stamp =
    Stamp { size: 4096, mtime_ns: 1_700_000_000_123_456_789, ctime_ns: -1_000_000_001 };

fn conversation() -> [(&'static str, Any); 8] {
    let job = JobId(1);
    let planes = Planes { descriptors: true, inline: true, datasets: vec![] };
    let (software, image) = ("0.1.0".to_owned(), String::new());
    let window = Window { items: 4096, bytes: 8 << 20 };
    let runs = vec![Run { first: 0, len: 1 }];
    let outputs = Blob::from(&SHA256_ABC[..]);
    [
        ("hello", Hello::new(client(Blob::default())).into()),
        ("welcome", HelloReply::Welcome(Welcome { version: 4, software, image, planes }).into()),
        (
            "open",
            ClientRequest::Open { job, algorithm: Algorithm::Sha256, weight: 1, cross_check: 0 }
                .into(),
        ),
        ("opened", ClientReply::Opened { job, window, workers: 2 }.into()),
        (
            "messages",
            ClientRequest::Messages { job, first: 0, lens: vec![3], data: Blob(b"abc".to_vec()) }
                .into(),
        ),
        ("finish", ClientRequest::Finish { job }.into()),
        ("results", ClientReply::Results { job, runs, outputs, failures: vec![] }.into()),
        ("finished", ClientReply::Finished { job, items: 1, failed: 0 }.into()),
    ]
}

fn client(token: Blob) -> Role {
    Role::Client(ClientIntro { software: "0.1.0".to_owned(), token })
}

fn worker_intro() -> WorkerIntro {
    WorkerIntro {
        name: "w1".to_owned(),
        software: "0.1.0".to_owned(),
        image: "sha256:00".to_owned(),
        pid: 70_000,
        threads: 300,
        memory_bytes: 1 << 32,
        backends: vec![Backend {
            algorithm: Algorithm::Blake3,
            backend: "portable".to_owned(),
            lanes: 1,
        }],
        planes: Planes {
            descriptors: true,
            inline: false,
            datasets: vec!["d".to_owned(), "e-1_x".to_owned()],
        },
        reading: "plain".to_owned(),
    }
}

fn pieces() -> [(&'static str, Piece); 4] {
    let state = Blob(vec![0xaa; 3]);
    [
        ("subtree", Piece::Subtree { offset: 2048, data: Blob(vec![1, 2, 3]) }),
        ("merge", Piece::Merge { values: Blob((0..64).collect()), root: true }),
        (
            "segment",
            Piece::Segment { state: Blob::default(), data: Blob(vec![9; 128]), last: false },
        ),
        ("segment_last", Piece::Segment { state, data: Blob(vec![7]), last: true }),
    ]
}

fn client_requests() -> Vec<(&'static str, ClientRequest)> {
    let job = JobId(251);
    let files = vec![STAMP, Stamp { size: 0, mtime_ns: 0, ctime_ns: -1 }];
    vec![
        ("files", ClientRequest::Files { job, first: 65_536, files }),
        (
            "messages",
            ClientRequest::Messages {
                job,
                first: 250,
                lens: vec![0, 2, 1],
                data: Blob(vec![0xff, 0, 1]),
            },
        ),
        ("finish", ClientRequest::Finish { job }),
        ("cancel", ClientRequest::Cancel { job }),
        ("status", ClientRequest::Status),
        ("wait_ready", ClientRequest::WaitReady { workers: 2, timeout_ms: 30_000 }),
        (
            "names",
            ClientRequest::Names { job, first: 251, dataset: "d".to_owned(), files: names() },
        ),
        ("release", ClientRequest::Release { worker: "w1".to_owned() }),
    ]
}

/// A path is bytes, not text.
fn names() -> Vec<Named> {
    let second = Stamp { size: 0, mtime_ns: 0, ctime_ns: -1 };
    vec![
        Named { path: Blob(b"a/-b\n\\\xff".to_vec()), stamp: STAMP },
        Named { path: Blob(b"...".to_vec()), stamp: second },
    ]
}

fn client_replies() -> Vec<(&'static str, ClientReply)> {
    let job = JobId(u32::MAX);
    let failures = vec![
        (1, Failure::Changed),
        (2, Failure::NotRegular),
        (3, Failure::Io { errno: 5 }),
        (4, Failure::Invalid),
        (5, Failure::Unsupported),
        (300, Failure::WorkersLost { attempts: 3 }),
        (301, Failure::UnknownDataset),
        (302, Failure::Disputed),
    ];
    let runs = vec![Run { first: 7, len: 6 }, Run { first: 70_000, len: 300 }];
    let rejected = |reason| ClientReply::Rejected { job, reason, text: "why".to_owned() };
    let released = |outcome| ClientReply::Released { worker: "w1".to_owned(), outcome };
    vec![
        ("window", ClientReply::Window { job, window: Window { items: 0, bytes: u64::MAX } }),
        ("results", ClientReply::Results { job, runs, outputs: Blob(vec![0x5a; 4]), failures }),
        ("cancelled", ClientReply::Cancelled { job, unresolved: 12 }),
        ("suspect", ClientReply::Suspect { job, worker: "w1".to_owned(), items: 9 }),
        ("ready", ClientReply::Ready { workers: 2, enough: true }),
        ("rejected/too_many_jobs", rejected(RejectReason::TooManyJobs)),
        ("released/released", released(ReleaseOutcome::Released)),
        ("released/not_quarantined", released(ReleaseOutcome::NotQuarantined)),
        ("released/forbidden", released(ReleaseOutcome::Forbidden)),
        ("status", ClientReply::Status(Box::new(status()))),
        ("status_empty", ClientReply::Status(Box::default())),
    ]
}

fn works() -> Vec<(String, Work)> {
    let mut all: Vec<_> = pieces()
        .into_iter()
        .map(|(label, piece)| (format!("piece/{label}"), Work::Piece(piece)))
        .collect();
    let part =
        Work::Part { file: Stamp { size: 1 << 30, ..STAMP }, offset: 1 << 29, len: 16 << 20 };
    let messages = Work::Messages { lens: vec![1, 0], data: Blob(vec![8]) };
    all.push(("files".to_owned(), Work::Files { files: vec![STAMP] }));
    all.push(("messages".to_owned(), messages));
    all.push(("part".to_owned(), part));
    let dataset = "d".to_owned();
    all.push(("names".to_owned(), Work::Names { dataset: dataset.clone(), files: names() }));
    let file = Named { path: Blob(b"large".to_vec()), stamp: Stamp { size: 1 << 30, ..STAMP } };
    let part = Work::NamedPart { dataset, file, offset: 1 << 29, len: 16 << 20 };
    all.push(("named_part".to_owned(), part));
    let (file, state) = (Stamp { size: 1 << 40, ..STAMP }, Blob(vec![0x77; 5]));
    let rest = Work::Rest { file, offset: 1 << 32, state: state.clone() };
    all.push(("rest".to_owned(), rest));
    let file = Named { path: Blob(b"huge".to_vec()), stamp: file };
    let rest = Work::NamedRest { dataset: "d".to_owned(), file, offset: 128, state };
    all.push(("named_rest".to_owned(), rest));
    all
}

fn check() -> WorkerRequest {
    let work = Work::Messages { lens: vec![2], data: Blob(vec![4, 5]) };
    let (lease, algorithm) = (LeaseId(7), Algorithm::Sha384);
    WorkerRequest::Assign { lease, attempt: 3, algorithm, work, check: true }
}

fn done() -> WorkerReply {
    WorkerReply::Done {
        lease: LeaseId(1),
        attempt: 2,
        credit: 1,
        busy_us: 100_000,
        outputs: Blob(vec![0x11; 32]),
        failures: vec![(1, Failure::Io { errno: -200 })],
    }
}

fn progress() -> WorkerReply {
    WorkerReply::Progress {
        lease: LeaseId(3),
        attempt: 4,
        file: Stamp { size: 1 << 40, ..STAMP },
        offset: 1 << 33,
        state: Blob(vec![0x66; 5]),
    }
}

/// Every field differs from its neighbours, so that no two can be swapped unseen.
fn status() -> Status {
    let worker = WorkerStatus {
        name: "w1".to_owned(),
        software: "0.1.0".to_owned(),
        pid: 10,
        health: WorkerHealth::Ready,
        threads: 11,
        backends: worker_intro().backends,
        credits: 12,
        leases: 13,
        uptime_ms: 14,
        items: 15,
        bytes: 16,
        items_per_s: 17,
        bytes_per_s: 18,
        attempts_lost: 19,
        reading: "io_uring".to_owned(),
    };
    let quarantined = WorkerHealth::Quarantined;
    let second = WorkerStatus { name: "w2".to_owned(), health: quarantined, ..worker.clone() };
    Status {
        software: "0.1.0".to_owned(),
        image: "i".to_owned(),
        pid: 1,
        uptime_ms: 2,
        workers: vec![worker, second],
        workers_unlisted: 3,
        jobs: vec![JobStatus {
            id: 20,
            uid: 21,
            pid: 22,
            algorithm: Algorithm::Sha512,
            weight: 23,
            age_ms: 24,
            items: 25,
            resolved: 26,
            failed: 27,
            leases: 28,
            finished: true,
        }],
        jobs_unlisted: 4,
        limits: LimitStatus {
            clients: 30,
            clients_max: 31,
            workers_max: 32,
            jobs_max: 33,
            items: 34,
            items_max: 35,
            bytes: 36,
            bytes_max: 37,
        },
        counters: Counters {
            jobs: 40,
            jobs_cancelled: 41,
            items: 42,
            items_failed: 43,
            bytes: 44,
            leases: 45,
            attempts_lost: 46,
            answers_stale: 47,
            peers_refused: 48,
            peers_faulty: 49,
            workers_quarantined: 50,
            items_checked: 51,
            items_contradicted: 52,
        },
        quarantined: vec![QuarantineStatus {
            worker: "w2".to_owned(),
            reason: "lied".to_owned(),
            age_ms: 53,
            connected: true,
        }],
        quarantined_unlisted: 54,
    }
}
