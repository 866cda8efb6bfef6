//! One message of every kind, with every width of integer somewhere; and any message as a value.

use crate::samples_service::{service_replies, service_requests};
use ipc_proto::codec::{self, CodecError};
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::message::{
    AlgorithmSpeed, Backend, ByteRange, ClaimEntry, ClaimsWork, ClientIntro, ClientReply,
    ClientRequest, Counters, DirEntry, DrainOutcome, DrainStatus, EntryKind, Failure, FileItem,
    FileSource, Hello, HelloReply, Items, JobId, JobStatus, JournalState, LeaseId, LimitStatus,
    ListOutcome, ListWork, LossCause, Message, Piece, Planes, QuarantineStatus, RefuseReason,
    RejectReason, ReleaseOutcome, Role, Run, SandboxLayers, Stamp, Status, Versions, Welcome,
    Window, Work, WorkerHealth, WorkerIntro, WorkerLoss, WorkerReply, WorkerRequest, WorkerStatus,
};
use ipc_proto::{Algorithm, Algorithms, Blob};

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

            pub(crate) fn descriptors_len(&self) -> usize {
                match self { $(Self::$type(message) => message.descriptors_len()),+ }
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
        add(&format!("client_request/open/{algorithm}"), open(250, algorithm.into(), true).into());
    }
    let several = [Algorithm::Sha256, Algorithm::Blake3, Algorithm::Sha512, Algorithm::Sha224];
    let several = Algorithms::new(&several).expect("four of them");
    add("client_request/open/several", open(251, several, false).into());
    for (label, piece) in pieces() {
        let job = JobId { epoch: 3, number: 0xffff };
        let request = ClientRequest::Piece { job, index: 0xffff_ffff, piece };
        add(&format!("client_request/piece/{label}"), request.into());
    }
    for (label, request) in client_requests() {
        add(&format!("client_request/{label}"), request.into());
    }
    for (label, reply) in client_replies() {
        add(&format!("client_reply/{label}"), reply.into());
    }
    for (label, request) in service_requests() {
        let request = ClientRequest::Service { tag: 253, request };
        add(&format!("client_request/service/{label}"), request.into());
    }
    for (label, reply) in service_replies() {
        let reply = ClientReply::Service { tag: 65_536, reply };
        add(&format!("client_reply/service/{label}"), reply.into());
    }
    for (label, work) in works() {
        let lease = LeaseId { epoch: 4, number: 0x1_0000_0000 };
        let assign = assign(lease, Algorithm::Blake3.into(), work, false);
        add(&format!("worker_request/assign/{label}"), assign.into());
    }
    let leases = [(0, 0), (1, 251), (u32::MAX, u64::MAX)];
    let leases = leases.map(|(epoch, number)| LeaseId { epoch, number }).to_vec();
    add("worker_request/assign/check", check().into());
    add("worker_request/revoke", WorkerRequest::Revoke { leases }.into());
    add("worker_request/heartbeat", WorkerRequest::Heartbeat.into());
    add("worker_request/leave", WorkerRequest::Leave.into());
    add("worker_reply/credit", WorkerReply::Credit { batches: 4096 }.into());
    add("worker_reply/done", done().into());
    add("worker_reply/heartbeat", WorkerReply::Heartbeat.into());
    add("worker_reply/progress", progress().into());
    add("worker_reply/leaving", WorkerReply::Leaving { within_ms: 4000 }.into());
    for (label, outcome) in list_outcomes() {
        let (lease, attempt, credit) = (LeaseId { epoch: 5, number: 4 }, 3, 2);
        let listed = WorkerReply::Listed { lease, attempt, credit, outcome };
        add(&format!("worker_reply/listed/{label}"), listed.into());
    }
    all
}

const VERSIONS: Versions = Versions { min: 7, max: 7 };
pub(crate) const STAMP: Stamp =
    Stamp { size: 4096, mtime_ns: 1_700_000_000_123_456_789, ctime_ns: -1_000_000_001 };

fn conversation() -> [(&'static str, Any); 8] {
    let job = JobId { epoch: 1_800_000_000, number: 0 };
    let planes = Planes { descriptors: true, inline: true, datasets: vec![] };
    let (software, image) = ("0.1.0".to_owned(), String::new());
    let window = Window { items: 4096, bytes: 8 << 20 };
    let abc = Items::Inline { lens: vec![3], data: Blob(b"abc".to_vec()) };
    let runs = vec![Run { first: 0, len: 1 }];
    let outputs = Blob::from(&SHA256_ABC[..]);
    [
        ("hello", Hello::new(client(Blob::default())).into()),
        ("welcome", HelloReply::Welcome(Welcome { version: 7, software, image, planes }).into()),
        ("open", open(7, Algorithm::Sha256.into(), false).into()),
        ("opened", ClientReply::Opened { tag: 7, job, window, workers: 2 }.into()),
        ("items", ClientRequest::Items { job, first: 0, items: abc }.into()),
        ("finish", ClientRequest::Finish { job }.into()),
        ("results", ClientReply::Results { job, runs, outputs, failures: vec![] }.into()),
        ("finished", ClientReply::Finished { job, items: 1, failed: 0 }.into()),
    ]
}

fn open(tag: u32, algorithms: Algorithms, strict_reads: bool) -> ClientRequest {
    let cross_check = if strict_reads { 1000 } else { 0 };
    ClientRequest::Open { tag, algorithms, cross_check, strict_reads }
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
            interleave_max: 1,
        }],
        planes: Planes {
            descriptors: true,
            inline: false,
            datasets: vec!["d".to_owned(), "e-1_x".to_owned()],
        },
        reading: "plain".to_owned(),
        sandbox: SandboxLayers(0b11_1110),
        token: Blob(vec![0xff, 0]),
        host: "h1".to_owned(),
        cpu: "c 1".to_owned(),
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
    let job = JobId { epoch: 65_536, number: 251 };
    let items = |first, items| ClientRequest::Items { job, first, items };
    let passed = Items::Files { source: FileSource::Descriptors, files: files() };
    let named = Items::Files { source: dataset(), files: files() };
    let inline = Items::Inline { lens: vec![0, 2, 1], data: Blob(vec![0xff, 0, 1]) };
    vec![
        ("items/descriptors", items(65_536, passed)),
        ("items/dataset", items(251, named)),
        ("items/inline", items(250, inline)),
        ("finish", ClientRequest::Finish { job }),
        ("cancel", ClientRequest::Cancel { job }),
        ("status", ClientRequest::Status),
        ("wait_ready", ClientRequest::WaitReady { workers: 2, timeout_ms: 30_000 }),
        ("release", ClientRequest::Release { worker: "w1".to_owned() }),
        (
            "drain",
            ClientRequest::Drain { worker: "w1".to_owned(), deadline_ms: 30_000, lasts: true },
        ),
        ("undrain", ClientRequest::Undrain { worker: "w1".to_owned() }),
    ]
}

pub(crate) fn files() -> Vec<FileItem> {
    let range = Some(ByteRange { offset: 1000, len: 3096 });
    vec![Stamp { size: 0, mtime_ns: 0, ctime_ns: -1 }.into(), FileItem { stamp: STAMP, range }]
}

/// A path is bytes, not text.
pub(crate) fn dataset() -> FileSource {
    let paths = vec![Blob(b"a/-b\n\\\xff".to_vec()), Blob(b"...".to_vec())];
    FileSource::Dataset { name: "d".to_owned(), paths }
}

fn with_journal(journal: JournalState) -> ClientReply {
    ClientReply::Status(Box::new(Status { journal, ..Status::default() }))
}

/// One loss of each cause.
pub(crate) fn losses() -> Vec<WorkerLoss> {
    let loss = |worker: &str, cause| WorkerLoss { worker: worker.to_owned(), cause };
    vec![
        loss("w1", LossCause::Disconnected),
        loss("w2", LossCause::Silent),
        loss("w3", LossCause::Expired),
        loss("w4", LossCause::Violation),
        loss("w5", LossCause::BadCheckpoint),
    ]
}

fn client_replies() -> Vec<(&'static str, ClientReply)> {
    let job = JobId { epoch: u32::MAX, number: u64::MAX };
    let failures = vec![
        (1, Failure::Changed),
        (2, Failure::NotRegular),
        (3, Failure::Io { errno: 5 }),
        (4, Failure::Invalid),
        (5, Failure::Unsupported),
        (300, Failure::WorkersLost { attempts: 3 }),
        (301, Failure::UnknownDataset),
        (302, Failure::Disputed),
        (303, Failure::Outside),
        (304, Failure::NotAList),
        (305, Failure::BadLines { lines: 70_000 }),
    ];
    let runs = vec![Run { first: 7, len: 6 }, Run { first: 70_000, len: 300 }];
    let rejected = |reason| ClientReply::Rejected { tag: 252, reason, text: "why".to_owned() };
    let released = |outcome| ClientReply::Released { worker: "w1".to_owned(), outcome };
    let drained = |outcome| ClientReply::Drained { worker: "w1".to_owned(), outcome };
    vec![
        ("window", ClientReply::Window { job, window: Window { items: 0, bytes: u64::MAX } }),
        ("results", ClientReply::Results { job, runs, outputs: Blob(vec![0x5a; 4]), failures }),
        ("cancelled", ClientReply::Cancelled { job, unresolved: 12 }),
        ("suspect", ClientReply::Suspect { job, worker: "w1".to_owned(), items: 9 }),
        ("ready", ClientReply::Ready { workers: 2, enough: true }),
        ("rejected/too_many_jobs", rejected(RejectReason::TooManyJobs)),
        ("rejected/forbidden", rejected(RejectReason::Forbidden)),
        ("released/released", released(ReleaseOutcome::Released)),
        ("released/not_quarantined", released(ReleaseOutcome::NotQuarantined)),
        ("released/forbidden", released(ReleaseOutcome::Forbidden)),
        ("drained/drained", drained(DrainOutcome::Drained { passed_on: 300 })),
        ("drained/undrained", drained(DrainOutcome::Undrained)),
        ("drained/not_draining", drained(DrainOutcome::NotDraining)),
        ("drained/unknown", drained(DrainOutcome::Unknown)),
        ("drained/too_many", drained(DrainOutcome::TooMany)),
        ("drained/forbidden", drained(DrainOutcome::Forbidden)),
        ("advanced", ClientReply::Advanced { job, index: 70_000, bytes: 1 << 26 }),
        ("death", ClientReply::Death { job, index: 70_000, losses: losses() }),
        ("status", ClientReply::Status(Box::new(status()))),
        ("status_empty", ClientReply::Status(Box::default())),
        ("status_journal/writes", with_journal(JournalState::Writes)),
        ("status_journal/read_only", with_journal(JournalState::ReadOnly)),
        ("status_journal/failed", with_journal(JournalState::Failed)),
    ]
}

fn works() -> Vec<(String, Work)> {
    let mut all: Vec<_> = pieces()
        .into_iter()
        .map(|(label, piece)| (format!("piece/{label}"), Work::Piece(piece)))
        .collect();
    let (large, huge) = (Stamp { size: 1 << 30, ..STAMP }, Stamp { size: 1 << 40, ..STAMP });
    let of_one =
        |path: &[u8]| FileSource::Dataset { name: "d".to_owned(), paths: vec![path.into()] };
    let state = Blob(vec![0x77; 5]);
    let range = Some(ByteRange { offset: 77, len: (1 << 30) - 77 });
    let works = [
        ("files", Work::Files { source: FileSource::Descriptors, files: vec![STAMP.into()] }),
        ("files/dataset", Work::Files { source: dataset(), files: files() }),
        ("inline", Work::Inline { lens: vec![1, 0], data: Blob(vec![8]) }),
        (
            "subtree",
            Work::Subtree {
                source: FileSource::Descriptors,
                file: large.into(),
                offset: 1 << 29,
                len: 16 << 20,
            },
        ),
        (
            "subtree/range_of_dataset",
            Work::Subtree {
                source: of_one(b"large"),
                file: FileItem { stamp: large, range },
                offset: 1 << 29,
                len: (1 << 29) - 77,
            },
        ),
        (
            "resume",
            Work::Resume {
                source: FileSource::Descriptors,
                file: huge.into(),
                offset: 1 << 32,
                state: state.clone(),
            },
        ),
        (
            "resume/dataset",
            Work::Resume { source: of_one(b"huge"), file: huge.into(), offset: 128, state },
        ),
    ];
    all.extend(works.map(|(label, work)| (label.to_owned(), work)));
    for (label, dir, after) in [("list/root", &b""[..], &b""[..]), ("list/after", b"a/b\xff", b"x")]
    {
        let (dataset, entries_max) = ("d".to_owned(), 4096);
        let list =
            ListWork { dataset, dir: dir.into(), after: after.into(), entries_max, claims: None };
        all.push((label.to_owned(), Work::List(list)));
    }
    for (label, offset, seen, state) in [
        ("list/manifest", 0, None, &b""[..]),
        ("list/manifest_on", 70_000, Some(STAMP), b"\x01\x02"),
    ] {
        let (path, state) = (Blob(b"a/SUMS".to_vec()), state.into());
        let claims = Some(ClaimsWork { path, offset, seen, state });
        let (dataset, dir) = ("d".to_owned(), Blob(b"a".to_vec()));
        let list = ListWork { dataset, dir, after: Blob::default(), entries_max: 2048, claims };
        all.push((label.to_owned(), Work::List(list)));
    }
    all
}

fn assign(lease: LeaseId, algorithms: Algorithms, work: Work, check: bool) -> WorkerRequest {
    WorkerRequest::Assign { lease, attempt: 1, algorithms, work, check, strict_reads: !check }
}

fn check() -> WorkerRequest {
    let work = Work::Inline { lens: vec![2], data: Blob(vec![4, 5]) };
    let algorithms = Algorithms::new(&[Algorithm::Sha384, Algorithm::Sha224]).expect("two");
    assign(LeaseId { epoch: 6, number: 7 }, algorithms, work, true)
}

fn done() -> WorkerReply {
    WorkerReply::Done {
        lease: LeaseId { epoch: 5, number: 1 },
        attempt: 2,
        credit: 1,
        busy_us: 100_000,
        outputs: Blob(vec![0x11; 32]),
        failures: vec![(1, Failure::Io { errno: -200 })],
    }
}

fn progress() -> WorkerReply {
    WorkerReply::Progress {
        lease: LeaseId { epoch: 5, number: 3 },
        attempt: 4,
        file: Stamp { size: 1 << 40, ..STAMP },
        offset: 1 << 33,
        state: Blob(vec![0x66; 5]),
    }
}

/// A page with an entry of each kind, and directories that cannot be listed.
fn list_outcomes() -> [(&'static str, ListOutcome); 4] {
    let kinds = [
        EntryKind::File,
        EntryKind::Directory,
        EntryKind::Symlink,
        EntryKind::Fifo,
        EntryKind::Socket,
        EntryKind::CharDevice,
        EntryKind::BlockDevice,
        EntryKind::Unknown { errno: 13 },
    ];
    let entry = |(i, kind): (u8, EntryKind)| DirEntry {
        name: Blob(vec![b'a' + i, 0xff]),
        kind,
        stamp: STAMP,
        inode: 1 << 33,
        device: 0x801 + u64::from(i),
    };
    let page = |kinds: &[EntryKind], more| {
        let entries = (0..).zip(kinds.iter().copied()).map(entry).collect();
        ListOutcome::Page { entries, more }
    };
    let failure = Failure::Io { errno: 2 };
    let claim = |algorithm: Algorithm, path: &[u8], refused| ClaimEntry {
        name: Blob(b"./b\xff".to_vec()),
        path: path.into(),
        algorithm,
        digest: Blob(vec![0x5a; algorithm.digest_len()]),
        stamp: STAMP,
        refused,
    };
    let claims = ListOutcome::Claims {
        stamp: Stamp { size: 80_000, ..STAMP },
        entries: vec![
            claim(Algorithm::Md5, b"a/b\xff", None),
            claim(Algorithm::Sha1, b"", Some(Failure::Outside)),
        ],
        bad_lines: 300,
        offset: 70_000,
        state: Blob(vec![1, 2]),
        more: true,
    };
    [
        ("claims", claims),
        ("page", page(&kinds, true)),
        ("empty", page(&[], false)),
        ("failed", ListOutcome::Failed { failure }),
    ]
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
        leases_lost: 19,
        reading: "io_uring".to_owned(),
        sandbox: SandboxLayers(0b101_1111),
        image: "sha256:01".to_owned(),
        host: "h2".to_owned(),
        cpu: "c 2".to_owned(),
        speeds: vec![AlgorithmSpeed { algorithm: Algorithm::Md5, bytes_per_s: 20 }],
    };
    let other =
        |name: &str, health| WorkerStatus { name: name.to_owned(), health, ..worker.clone() };
    let second = other("w2", WorkerHealth::Quarantined);
    let third = other("w3", WorkerHealth::Suspended);
    let fourth = other("w4", WorkerHealth::Draining);
    Status {
        software: "0.1.0".to_owned(),
        image: "i".to_owned(),
        pid: 1,
        uptime_ms: 2,
        sandbox: SandboxLayers::FULL,
        workers: vec![worker, second, third, fourth],
        workers_unlisted: 3,
        jobs: vec![JobStatus {
            id: JobId { epoch: 19, number: 20 },
            uid: 21,
            pid: 22,
            algorithms: Algorithm::Sha512.into(),
            age_ms: 24,
            items: 25,
            resolved: 26,
            failed: 27,
            leases: 28,
            finished: true,
            bytes: 29,
            durable: Some(JobId { epoch: 30, number: 31 }),
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
            leases_lost: 46,
            answers_fenced: 47,
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
        drained: vec![DrainStatus {
            worker: "w4".to_owned(),
            by: "uid 7".to_owned(),
            age_ms: 55,
            left_ms: 56,
            connected: true,
        }],
        drained_unlisted: 57,
        journal: JournalState::Full,
        journal_reason: "why".to_owned(),
    }
}
