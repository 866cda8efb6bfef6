//! Random messages that keep their limits, from a seed.

use crate::samples::{Any, Kind};
use ipc_proto::limits::{FRAME_MESSAGES_MAX, SEGMENT_ALIGN, STATE_LEN_MAX};
use ipc_proto::message::{
    Backend, ByteRange, ClientIntro, ClientReply, ClientRequest, Counters, Failure, Failures,
    FileItem, FileSource, Hello, HelloReply, Items, JobId, JobStatus, LeaseId, LimitStatus, Piece,
    Planes, QuarantineStatus, RefuseReason, RejectReason, ReleaseOutcome, Role, Run, Stamp, Status,
    Versions, Welcome, Window, Work, WorkerHealth, WorkerIntro, WorkerReply, WorkerRequest,
    WorkerStatus,
};
use ipc_proto::{Algorithm, Algorithms, Blob};
use test_kit::Random;

/// Messages of a seed.
pub(crate) struct Rng(Random);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.index(end)
    }

    fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        self.0.one_of(values)
    }

    fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Any number, often next to a change of its width on the wire.
    fn u64(&mut self) -> u64 {
        let any = self.next();
        self.one_of(&[
            0,
            1,
            250,
            251,
            0xffff,
            0x1_0000,
            u64::from(u32::MAX),
            1 << 32,
            u64::MAX,
            any,
        ])
    }

    fn u32(&mut self) -> u32 {
        u32::try_from(self.u64() & u64::from(u32::MAX)).expect("32 bits")
    }

    fn u16(&mut self) -> u16 {
        u16::try_from(self.u64() & u64::from(u16::MAX)).expect("16 bits")
    }

    fn i64(&mut self) -> i64 {
        self.u64().cast_signed()
    }

    fn blob(&mut self, len: usize) -> Blob {
        Blob((0..len).map(|_| self.next().to_le_bytes()[0]).collect())
    }

    /// Text of `min` to `max` bytes, some of them not ASCII.
    fn text(&mut self, min: usize, max: usize) -> String {
        let mut text = String::new();
        let len = min + self.below(max - min + 1);
        while text.len() < len {
            let next = if len - text.len() > 1 { self.one_of(&['a', '\n', 'é']) } else { 'z' };
            text.push(next);
        }
        text
    }

    fn list<T>(&mut self, min: usize, max: usize, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let len = min + self.below(max - min + 1);
        (0..len).map(|_| item(self)).collect()
    }

    pub(crate) fn message(&mut self) -> Any {
        match self.one_of(Kind::ALL) {
            Kind::Hello => self.hello().into(),
            Kind::HelloReply => self.hello_reply().into(),
            Kind::ClientRequest => self.client_request().into(),
            Kind::ClientReply => self.client_reply().into(),
            Kind::WorkerRequest => self.worker_request().into(),
            Kind::WorkerReply => self.worker_reply().into(),
        }
    }

    fn hello(&mut self) -> Hello {
        let len = usize::from(self.u16() % 65);
        let role = if self.flip() {
            Role::Client(ClientIntro { software: self.text(0, 64), token: self.blob(len) })
        } else {
            Role::Worker(WorkerIntro {
                name: self.text(1, 64),
                software: self.text(0, 64),
                image: self.text(0, 64),
                pid: self.u32(),
                threads: self.u16().clamp(1, 4096),
                memory_bytes: self.u64(),
                backends: self.list(1, 32, Self::backend),
                planes: self.planes(),
                reading: self.text(0, 64),
                token: self.blob(len),
            })
        };
        Hello { versions: self.versions(), ..Hello::new(role) }
    }

    fn versions(&mut self) -> Versions {
        Versions { min: self.u16(), max: self.u16() }
    }

    fn planes(&mut self) -> Planes {
        let datasets_len = self.below(17);
        let name = |i| format!("{}{i:x}", "_-z0".repeat(i / 2));
        let datasets = (0..datasets_len).map(name).collect();
        Planes { descriptors: self.flip(), inline: self.flip(), datasets }
    }

    fn backend(&mut self) -> Backend {
        Backend {
            algorithm: self.one_of(&Algorithm::ALL),
            backend: self.text(0, 64),
            interleave_max: u8::try_from(self.below(64)).expect("8 bits") + 1,
        }
    }

    fn hello_reply(&mut self) -> HelloReply {
        if self.flip() {
            return HelloReply::Welcome(Welcome {
                version: self.u16(),
                software: self.text(0, 64),
                image: self.text(0, 64),
                planes: self.planes(),
            });
        }
        let reason = self.one_of(&[RefuseReason::NotOurs, RefuseReason::Busy]);
        HelloReply::Refused { reason, text: self.text(0, 512), versions: self.versions() }
    }

    fn job(&mut self) -> JobId {
        JobId { epoch: self.u32(), number: self.u64() }
    }

    fn lease(&mut self) -> LeaseId {
        LeaseId { epoch: self.u32(), number: self.u64() }
    }

    fn algorithms(&mut self) -> Algorithms {
        let mut list = Algorithm::ALL.to_vec();
        (0..list.len()).for_each(|i| list.swap(i, self.below(i + 1)));
        Algorithms::new(&list[..1 + self.below(4)]).expect("distinct")
    }

    fn client_request(&mut self) -> ClientRequest {
        let job = self.job();
        let first = self.u64().saturating_sub(FRAME_MESSAGES_MAX as u64);
        match self.below(8) {
            0 => ClientRequest::Open {
                tag: self.u32(),
                algorithms: self.algorithms(),
                cross_check: self.u32(),
                strict_reads: self.flip(),
            },
            1 => {
                let items = if self.flip() {
                    let (source, files) = self.files(100);
                    Items::Files { source, files }
                } else {
                    let (lens, data) = self.messages();
                    Items::Inline { lens, data }
                };
                ClientRequest::Items { job, first, items }
            }
            2 => ClientRequest::Piece { job, index: first, piece: self.piece() },
            3 => ClientRequest::Finish { job },
            4 => ClientRequest::Cancel { job },
            5 => ClientRequest::Status,
            6 => ClientRequest::Release { worker: self.text(1, 64) },
            _ => ClientRequest::WaitReady { workers: self.u32(), timeout_ms: self.u32() },
        }
    }

    /// Up to `max` files, and where they are.
    fn files(&mut self, max: usize) -> (FileSource, Vec<FileItem>) {
        let files = self.list(1, max, Self::file);
        let source = self.source(files.len());
        (source, files)
    }

    fn source(&mut self, files_len: usize) -> FileSource {
        if self.flip() {
            return FileSource::Descriptors;
        }
        let paths = (0..files_len).map(|_| self.path()).collect();
        FileSource::Dataset { name: self.dataset(), paths }
    }

    fn file(&mut self) -> FileItem {
        let stamp = self.stamp();
        let range = self.flip().then(|| {
            let (a, b) = (self.u64().min(stamp.size), self.u64().min(stamp.size));
            ByteRange { offset: a.min(b), len: a.abs_diff(b) }
        });
        FileItem { stamp, range }
    }

    /// An item of `len` bytes: a whole file, or a range of one.
    fn file_of(&mut self, len: u64) -> FileItem {
        let stamp = self.stamp();
        if self.flip() {
            return Stamp { size: len, ..stamp }.into();
        }
        let offset = self.u64() >> 16;
        let size = (offset + len).saturating_add(self.u64() >> 16);
        FileItem { stamp: Stamp { size, ..stamp }, range: Some(ByteRange { offset, len }) }
    }

    fn dataset(&mut self) -> String {
        let len = 1 + self.below(32);
        (0..len).map(|_| self.one_of(&['a', 'z', '0', '9', '_', '-'])).collect()
    }

    /// Any bytes in components that are neither empty nor only dots.
    fn path(&mut self) -> Blob {
        let components = self.list(1, 9, |rng| {
            let name_len = rng.below(40);
            let Blob(mut name) = rng.blob(name_len);
            name.iter_mut().filter(|byte| matches!(byte, 0 | b'/')).for_each(|byte| *byte = b'\n');
            name.push(b'x');
            name
        });
        Blob(components.join(&b'/'))
    }

    fn stamp(&mut self) -> Stamp {
        Stamp { size: self.u64(), mtime_ns: self.i64(), ctime_ns: self.i64() }
    }

    fn messages(&mut self) -> (Vec<u32>, Blob) {
        let lens = self.list(1, 40, |rng| rng.u32() % 300);
        let len: u32 = lens.iter().sum();
        (lens, self.blob(usize::try_from(len).expect("a small length")))
    }

    fn piece(&mut self) -> Piece {
        match self.below(3) {
            0 => {
                let data_len = 1 + self.below(5000);
                let full_len = data_len.max(1024).next_power_of_two() as u64;
                let offset = full_len * (self.u32() as u64);
                Piece::Subtree { offset, data: self.blob(data_len) }
            }
            1 => {
                let values_len = 2 + self.below(30);
                Piece::Merge { values: self.blob(32 * values_len), root: self.flip() }
            }
            _ => {
                let last = self.flip();
                let blocks = self.below(20);
                let data_len = SEGMENT_ALIGN * blocks + if last { self.below(127) } else { 0 };
                let state_len = self.below(STATE_LEN_MAX + 1);
                Piece::Segment { state: self.blob(state_len), data: self.blob(data_len), last }
            }
        }
    }

    fn client_reply(&mut self) -> ClientReply {
        let job = self.job();
        let window = Window { items: self.u32(), bytes: self.u64() };
        match self.below(10) {
            8 => {
                let outcome = self.one_of(&[
                    ReleaseOutcome::Released,
                    ReleaseOutcome::NotQuarantined,
                    ReleaseOutcome::Forbidden,
                ]);
                ClientReply::Released { worker: self.text(0, 64), outcome }
            }
            0 => ClientReply::Opened { tag: self.u32(), job, window, workers: self.u32() },
            1 => ClientReply::Window { job, window },
            2 => {
                let runs = self.list(0, 40, |rng| Run { first: rng.u64(), len: rng.u32() % 100 });
                let items_len: u32 = runs.iter().map(|run| run.len).sum();
                let outputs_len = 32 * self.below(40);
                let outputs = self.blob(outputs_len);
                ClientReply::Results { job, runs, outputs, failures: self.failures(items_len) }
            }
            3 => ClientReply::Finished { job, items: self.u64(), failed: self.u64() },
            4 => ClientReply::Cancelled { job, unresolved: self.u64() },
            5 => ClientReply::Status(Box::new(self.status())),
            6 => ClientReply::Ready { workers: self.u32(), enough: self.flip() },
            7 => ClientReply::Suspect { job, worker: self.text(0, 64), items: self.u64() },
            _ => {
                let reason = RejectReason::TooManyJobs;
                ClientReply::Rejected { tag: self.u32(), reason, text: self.text(0, 512) }
            }
        }
    }

    /// Failures of some of `items_len` items.
    fn failures(&mut self, items_len: u32) -> Failures {
        (0..items_len)
            .filter(|_| self.next().is_multiple_of(8))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|position| {
                let errno = i32::try_from(self.i64() % 4096).expect("a small number");
                let attempts = self.u32();
                let failure = self.one_of(&[
                    Failure::Changed,
                    Failure::NotRegular,
                    Failure::Io { errno },
                    Failure::Invalid,
                    Failure::Unsupported,
                    Failure::WorkersLost { attempts },
                    Failure::UnknownDataset,
                    Failure::Disputed,
                ]);
                (position, failure)
            })
            .collect()
    }

    fn status(&mut self) -> Status {
        Status {
            software: self.text(0, 64),
            image: self.text(0, 64),
            pid: self.u32(),
            uptime_ms: self.u64(),
            workers: self.list(0, 20, Self::worker_status),
            workers_unlisted: self.u32(),
            jobs: self.list(0, 20, Self::job_status),
            jobs_unlisted: self.u32(),
            limits: LimitStatus { items: self.u64(), ..LimitStatus::default() },
            counters: Counters { leases: self.u64(), ..Counters::default() },
            quarantined: self.list(0, 20, |rng| QuarantineStatus {
                worker: rng.text(0, 64),
                reason: rng.text(0, 512),
                age_ms: rng.u64(),
                connected: rng.flip(),
            }),
            quarantined_unlisted: self.u32(),
        }
    }

    fn worker_status(&mut self) -> WorkerStatus {
        WorkerStatus {
            name: self.text(0, 64),
            health: self.one_of(&[
                WorkerHealth::Ready,
                WorkerHealth::Suspended,
                WorkerHealth::Quarantined,
            ]),
            threads: self.u16(),
            backends: self.list(0, 32, Self::backend),
            bytes: self.u64(),
            reading: self.text(0, 64),
            ..WorkerStatus::default()
        }
    }

    fn job_status(&mut self) -> JobStatus {
        JobStatus {
            id: self.job(),
            uid: self.u32(),
            pid: self.u32(),
            algorithms: self.algorithms(),
            age_ms: self.u64(),
            items: self.u64(),
            resolved: self.u64(),
            failed: self.u64(),
            leases: self.u32(),
            finished: self.flip(),
        }
    }

    fn worker_request(&mut self) -> WorkerRequest {
        match self.below(3) {
            0 => WorkerRequest::Assign {
                lease: self.lease(),
                attempt: self.u32(),
                algorithms: self.algorithms(),
                work: self.work(),
                check: self.flip(),
                strict_reads: self.flip(),
            },
            1 => WorkerRequest::Revoke { leases: self.list(0, 300, Self::lease) },
            _ => WorkerRequest::Heartbeat,
        }
    }

    fn work(&mut self) -> Work {
        match self.below(5) {
            0 => {
                let (source, files) = self.files(253);
                Work::Files { source, files }
            }
            1 => {
                let (lens, data) = self.messages();
                Work::Inline { lens, data }
            }
            2 => {
                let full_len = 1024 << self.below(20);
                let offset = full_len * u64::from(self.u32() >> 8);
                let len = if self.flip() { full_len } else { full_len - self.below(512) as u64 };
                let beyond = if len == full_len { self.u64() >> 16 } else { 0 };
                let (source, file) = (self.source(1), self.file_of(offset + len + beyond));
                Work::Subtree { source, file, offset, len }
            }
            3 => {
                let (offset, state) = self.checkpoint();
                let len = offset + (self.u64() >> 16);
                Work::Resume { source: self.source(1), file: self.file_of(len), offset, state }
            }
            _ => Work::Piece(self.piece()),
        }
    }

    fn checkpoint(&mut self) -> (u64, Blob) {
        let offset = 128 * (1 + u64::from(self.u32()));
        let state_len = 1 + self.below(512);
        (offset, self.blob(state_len))
    }

    fn worker_reply(&mut self) -> WorkerReply {
        match self.below(4) {
            0 => WorkerReply::Credit { batches: self.u16().min(4096) },
            1 => {
                let outputs_len = 32 * self.below(40);
                WorkerReply::Done {
                    lease: self.lease(),
                    attempt: self.u32(),
                    credit: self.u16().min(4096),
                    busy_us: self.u64(),
                    outputs: self.blob(outputs_len),
                    failures: self.failures(100),
                }
            }
            2 => {
                let (offset, state) = self.checkpoint();
                let file = Stamp { size: offset + (self.u64() >> 16), ..self.stamp() };
                let (lease, attempt) = (self.lease(), self.u32());
                WorkerReply::Progress { lease, attempt, file, offset, state }
            }
            _ => WorkerReply::Heartbeat,
        }
    }
}
