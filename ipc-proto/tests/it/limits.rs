//! Every limit: its own value is taken, one more is refused, as is one less than a minimum.

mod hardware;
mod names;
mod pages;
mod schedules;
mod service;

use crate::samples::Any;
use ipc_proto::codec::{self, CodecError};
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::limits::{
    BACKENDS_MAX, BODY_LEN_MAX, CREDIT_MAX, DATASET_LEN_MAX, DATASETS_MAX, FRAME_DESCRIPTORS_MAX,
    FRAME_MESSAGES_MAX, FRAME_NAMES_MAX, HELLO_LEN_MAX, INLINE_LEN_MAX, INTERLEAVE_MAX,
    MERGE_VALUES_MAX, NAME_LEN_MAX, NAMES_LEN_MAX, REASON_LEN_MAX, STATE_LEN_MAX, STATUS_ROWS_MAX,
    TOKEN_LEN_MAX, WORKER_THREADS_MAX,
};
use ipc_proto::message::{
    Backend, ByteRange, ClientIntro, ClientReply, ClientRequest, DrainStatus, Failure, FileItem,
    FileSource, Hello, HelloReply, Items, JobId, JobStatus, LeaseId, LimitExceeded, Message, Piece,
    Planes, QuarantineStatus, RefuseReason, RejectReason, ReleaseOutcome, Role, Run, SandboxLayers,
    Stamp, Status, Versions, Welcome, Window, Work, WorkerIntro, WorkerReply, WorkerRequest,
    WorkerStatus,
};
use ipc_proto::{Algorithm, Blob};
use names::{datasets, source};
use serde::{Deserialize, Serialize};

const JOB: JobId = JobId { epoch: 1, number: 1 };
const LEASE: LeaseId = LeaseId { epoch: 1, number: 1 };

/// Sends what [`Message::check`] would keep us from sending.
#[derive(Serialize, Deserialize)]
struct Unchecked<M>(M);

impl<M: Serialize + for<'de> Deserialize<'de>> Message for Unchecked<M> {
    fn check(&self) -> Result<(), LimitExceeded> {
        Ok(())
    }
}

fn body_of<M: Message>(message: M) -> Vec<u8> {
    let mut frame = Vec::new();
    codec::encode_frame(&Unchecked(message), &mut frame).expect("a body of at most 1 MiB");
    frame.split_off(PREFIX_LEN)
}

/// Encodes a message without its checks and decodes it as the peer would.
fn arrives(message: Any) -> Result<Any, CodecError> {
    let kind = message.kind();
    kind.decode(&match message {
        Any::Hello(message) => body_of(message),
        Any::HelloReply(message) => body_of(message),
        Any::ClientRequest(message) => body_of(message),
        Any::ClientReply(message) => body_of(message),
        Any::WorkerRequest(message) => body_of(message),
        Any::WorkerReply(message) => body_of(message),
    })
}

#[track_caller]
fn check_taken(message: Any, why: &str) {
    assert_eq!(message.check(), Ok(()), "{why}");
    assert_eq!(arrives(message.clone()).ok(), Some(message), "{why}");
}

#[track_caller]
fn check_refused(message: Any, why: &str) {
    let limit = message.check().expect_err(why);
    match arrives(message) {
        Err(CodecError::Limit(got)) => assert_eq!(got, limit, "{why}"),
        // A list is refused by its length, before it is read.
        Err(CodecError::Malformed(text)) => {
            let LimitExceeded { value, limit, .. } = limit;
            assert_eq!(
                text,
                format!("invalid length {value}, expected a list of at most {limit}"),
                "{why}"
            );
        }
        other => panic!("{why}: {other:?}"),
    }
}

/// The values from `min` to `max` are taken, their neighbours refused.
#[track_caller]
fn check<M: Into<Any>>(field: &str, min: usize, max: usize, message: impl Fn(usize) -> M) {
    for taken in [min, max] {
        check_taken(message(taken).into(), &format!("{field} of {taken}"));
    }
    check_refused(message(max + 1).into(), &format!("{field} of {}", max + 1));
    if let Some(below) = min.checked_sub(1) {
        check_refused(message(below).into(), &format!("{field} of {below}"));
    }
}

fn text(len: usize) -> String {
    "x".repeat(len)
}

fn zeros(len: usize) -> Blob {
    Blob(vec![0; len])
}

fn u16_of(value: usize) -> u16 {
    u16::try_from(value).expect("16 bits")
}

fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("32 bits")
}

fn backend(len: usize) -> Backend {
    Backend { algorithm: Algorithm::Blake3, backend: text(len), interleave_max: 1 }
}

fn worker(change: impl FnOnce(&mut WorkerIntro)) -> Hello {
    let mut intro = WorkerIntro {
        name: text(1),
        software: text(1),
        image: text(0),
        pid: 1,
        threads: 1,
        memory_bytes: 1,
        backends: vec![backend(1)],
        planes: Planes::default(),
        reading: text(0),
        sandbox: SandboxLayers::default(),
        token: Blob::default(),
        host: String::new(),
        cpu: String::new(),
    };
    change(&mut intro);
    Hello::new(Role::Worker(intro))
}

#[test]
fn a_hello_keeps_its_limits() {
    let client = |software, token| Hello::new(Role::Client(ClientIntro { software, token }));
    check("software", 0, NAME_LEN_MAX, |n| client(text(n), Blob::default()));
    check("token", 0, TOKEN_LEN_MAX, |n| client(text(0), Blob(vec![0; n])));
    check("name", 1, NAME_LEN_MAX, |n| worker(|w| w.name = text(n)));
    check("software", 0, NAME_LEN_MAX, |n| worker(|w| w.software = text(n)));
    check("image", 0, NAME_LEN_MAX, |n| worker(|w| w.image = text(n)));
    check("threads", 1, WORKER_THREADS_MAX.into(), |n| worker(|w| w.threads = u16_of(n)));
    check("backends", 1, BACKENDS_MAX, |n| worker(|w| w.backends = vec![backend(1); n]));
    check("backend", 0, NAME_LEN_MAX, |n| worker(|w| w.backends = vec![backend(n)]));
    check("interleave_max", 1, INTERLEAVE_MAX.into(), |n| {
        let interleave_max = u8::try_from(n).expect("8 bits");
        worker(|w| w.backends = vec![Backend { interleave_max, ..backend(1) }])
    });
    check("reading", 0, NAME_LEN_MAX, |n| worker(|w| w.reading = text(n)));
    check("sandbox", 0, usize::from(SandboxLayers::FULL.0), |n| {
        worker(|w| w.sandbox = SandboxLayers(u8::try_from(n).expect("8 bits")))
    });
    check("token", 0, TOKEN_LEN_MAX, |n| worker(|w| w.token = zeros(n)));
    check("datasets", 0, DATASETS_MAX, |n| worker(|w| w.planes.datasets = datasets(n)));
    check("dataset", 1, DATASET_LEN_MAX, |n| worker(|w| w.planes.datasets = vec![text(n)]));
}

#[test]
fn a_hello_reply_keeps_its_limits() {
    let welcome = |software, image| {
        HelloReply::Welcome(Welcome { version: 6, software, image, planes: Planes::default() })
    };
    check("datasets", 0, DATASETS_MAX, |n| {
        let planes = Planes { datasets: datasets(n), ..Planes::default() };
        HelloReply::Welcome(Welcome { version: 6, software: text(0), image: text(0), planes })
    });
    check("software", 0, NAME_LEN_MAX, |n| welcome(text(n), text(0)));
    check("image", 0, NAME_LEN_MAX, |n| welcome(text(0), text(n)));
    check("text", 0, REASON_LEN_MAX, |n| HelloReply::Refused {
        reason: RefuseReason::Busy,
        text: text(n),
        versions: Versions::OURS,
    });
}

/// The largest message of a worker that keeps every other limit.
#[test]
fn the_longest_hello_fits_its_limit() {
    let hello = worker(|w| {
        (w.name, w.software, w.image, w.reading) = (text(64), text(64), text(64), text(64));
        (w.pid, w.threads, w.memory_bytes) = (u32::MAX, WORKER_THREADS_MAX, u64::MAX);
        w.backends = vec![backend(NAME_LEN_MAX); BACKENDS_MAX];
        let name = |i| format!("{i:032}");
        w.planes.datasets = (0..DATASETS_MAX).map(name).collect();
        w.token = zeros(TOKEN_LEN_MAX);
        (w.host, w.cpu) = (text(NAME_LEN_MAX), text(NAME_LEN_MAX));
    });
    assert_eq!(hello.check(), Ok(()));
    let len = body_of(hello).len();
    assert!(len <= HELLO_LEN_MAX, "{len} bytes");
}

fn items(first: u64, items: Items) -> ClientRequest {
    ClientRequest::Items { job: JOB, first, items }
}

fn inline(first: u64, lens: Vec<u32>, data: Blob) -> ClientRequest {
    items(first, Items::Inline { lens, data })
}

/// Messages with these files, which are whole: a client's and a worker's.
fn with_files(source: &FileSource, files: &[FileItem]) -> [Any; 2] {
    let (source, files) = (source.clone(), files.to_vec());
    let request = Items::Files { source: source.clone(), files: files.clone() };
    [items(0, request).into(), assign(Work::Files { source, files }).into()]
}

#[test]
fn items_keep_their_limits() {
    for kind in 0..2 {
        check("files", 1, FRAME_DESCRIPTORS_MAX, |n| {
            with_files(&FileSource::Descriptors, &vec![FileItem::default(); n])[kind].clone()
        });
    }
    check("release", 1, NAME_LEN_MAX, |n| ClientRequest::Release { worker: text(n) });
    check("messages", 1, FRAME_MESSAGES_MAX, |n| inline(0, vec![0; n], zeros(0)));
    check("inline bytes", 0, INLINE_LEN_MAX, |n| inline(0, vec![u32_of(n)], zeros(n)));
    check("sum of lengths", 7, 7, |n| inline(0, vec![3, 4], zeros(n)));
}

#[test]
fn a_range_is_inside_of_its_file() {
    for (size, offset, len, taken) in [
        (10, 0, 10, true),
        (10, 10, 0, true),
        (10, 3, 7, true),
        (0, 0, 0, true),
        (u64::MAX, u64::MAX, 0, true),
        (u64::MAX, 1, u64::MAX - 1, true),
        (10, 0, 11, false),
        (10, 11, 0, false),
        (10, 4, 7, false),
        (u64::MAX, 1, u64::MAX, false),
        (u64::MAX, u64::MAX, 1, false),
    ] {
        let stamp = Stamp { size, ..Stamp::default() };
        let file = FileItem { stamp, range: Some(ByteRange { offset, len }) };
        for source in [FileSource::Descriptors, source(1)] {
            for message in with_files(&source, &[file]) {
                let why = format!("{len} bytes at {offset} of {size}");
                if taken { check_taken(message, &why) } else { check_refused(message, &why) }
            }
        }
    }
}

#[test]
fn the_longest_frames_of_items_fit() {
    let mut lens = vec![u32_of(INLINE_LEN_MAX / FRAME_MESSAGES_MAX); FRAME_MESSAGES_MAX];
    lens[0] -= 1;
    lens[1] += 1;
    let messages = inline(1 << 60, lens, zeros(INLINE_LEN_MAX));
    check_taken(messages.into(), "the most messages with the most bytes");
    let stamp = Stamp { size: u64::MAX, mtime_ns: i64::MIN, ctime_ns: i64::MIN };
    let range = Some(ByteRange { offset: u64::MAX - (1 << 40), len: 1 << 40 });
    let files = vec![FileItem { stamp, range }; FRAME_NAMES_MAX];
    let paths = vec![Blob(vec![b'x'; NAMES_LEN_MAX / FRAME_NAMES_MAX]); FRAME_NAMES_MAX];
    let source = FileSource::Dataset { name: text(DATASET_LEN_MAX), paths };
    for message in with_files(&source, &files) {
        check_taken(message, "the most files with the longest paths");
    }
}

#[test]
fn an_item_index_does_not_wrap() {
    let messages = |first, n| Any::from(inline(first, vec![0; n], zeros(0)));
    let files = |source, first, n| {
        Any::from(items(first, Items::Files { source, files: vec![FileItem::default(); n] }))
    };
    let piece = |index| {
        let piece = Piece::Segment { state: zeros(0), data: zeros(0), last: true };
        Any::from(ClientRequest::Piece { job: JOB, index, piece })
    };
    check_taken(files(source(2), u64::MAX - 2, 2), "the last files of a dataset");
    check_refused(files(source(2), u64::MAX - 1, 2), "files of a dataset past the end");
    check_taken(messages(u64::MAX - 2, 2), "the last messages");
    check_refused(messages(u64::MAX - 1, 2), "messages past the end");
    check_taken(files(FileSource::Descriptors, u64::MAX - 2, 2), "the last files");
    check_refused(files(FileSource::Descriptors, u64::MAX - 1, 2), "files past the end");
    check_taken(piece(u64::MAX - 1), "the last piece");
    check_refused(piece(u64::MAX), "a piece past the end");
}

fn piece(piece: Piece) -> ClientRequest {
    ClientRequest::Piece { job: JOB, index: 0, piece }
}

#[test]
fn a_piece_keeps_its_limits() {
    check("subtree", 1, INLINE_LEN_MAX, |n| piece(Piece::Subtree { offset: 0, data: zeros(n) }));
    check("values", 2, MERGE_VALUES_MAX, |n| {
        piece(Piece::Merge { values: zeros(32 * n), root: false })
    });
    check("values length", 64, 64, |n| piece(Piece::Merge { values: zeros(n), root: true }));
    let segment =
        |state, data, last| piece(Piece::Segment { state: zeros(state), data: zeros(data), last });
    check("state", 0, STATE_LEN_MAX, |n| segment(n, 128, false));
    check("last segment", 0, INLINE_LEN_MAX, |n| segment(0, n, true));
    check("segment before the last", 256, 256, |n| segment(0, n, false));
    check("longest segment", INLINE_LEN_MAX, INLINE_LEN_MAX, |n| segment(0, n, false));
}

#[test]
fn a_subtree_starts_where_a_subtree_can() {
    for (offset, data_len, taken) in [
        (0, 1, true),
        (1024, 1, true),
        (1024, 1024, true),
        (512, 1, false),
        (1024, 1025, false),
        (2048, 1025, true),
        (4096, 5000, false),
        (8192, 5000, true),
        (u64::MAX - 1023, 1024, false),
        (u64::MAX - 1023, 1023, true),
        (u64::MAX - 2047, 1024, true),
    ] {
        let message = Any::from(piece(Piece::Subtree { offset, data: zeros(data_len) }));
        let why = format!("{data_len} bytes at {offset}");
        if taken { check_taken(message, &why) } else { check_refused(message, &why) }
    }
}

fn assign(work: Work) -> WorkerRequest {
    let algorithms = Algorithm::Blake3.into();
    let (lease, attempt) = (LEASE, 1);
    WorkerRequest::Assign { lease, attempt, algorithms, work, check: false, strict_reads: false }
}

/// A whole file, and a range of a larger one, of `len` bytes each; from both sources.
fn of_len(len: u64) -> Vec<(FileSource, FileItem)> {
    let stamp = |size| Stamp { size, ..Stamp::default() };
    let range = Some(ByteRange { offset: 7, len });
    let mut items = vec![FileItem::from(stamp(len))];
    items.extend(len.checked_add(9).map(|size| FileItem { stamp: stamp(size), range }));
    let both = |file| [(FileSource::Descriptors, file), (source(1), file)];
    items.into_iter().flat_map(both).collect()
}

#[test]
fn a_subtree_of_an_item_is_a_whole_one_or_ends_the_item() {
    let parts = |size, offset, len| {
        of_len(size)
            .into_iter()
            .map(move |(source, file)| assign(Work::Subtree { source, file, offset, len }))
    };
    for (size, offset, len, taken) in [
        (4096, 0, 2048, true),
        (4096, 2048, 2048, true),
        (4096, 0, 0, false),
        (4096, 4096, 0, false),
        (4096, 0, 4097, false),
        (4096, 4096, 1, false),
        (4096, 1024, 2048, false),
        (4096, 0, 2047, false),
        (4095, 2048, 2047, true),
        (4095, 3072, 1023, true),
        (4095, 2048, 1500, false),
        (100, 0, 100, true),
        (u64::MAX, u64::MAX, u64::MAX, false),
        (u64::MAX, 1, u64::MAX, false),
        (u64::MAX, 0, u64::MAX, true),
        (u64::MAX, 1 << 63, 1 << 63, false),
        (u64::MAX, 1 << 63, (1 << 63) - 1, true),
    ] {
        let why = format!("{len} bytes at {offset} of {size}");
        for message in parts(size, offset, len) {
            let message = Any::from(message);
            if taken { check_taken(message, &why) } else { check_refused(message, &why) }
        }
    }
}

#[test]
fn a_client_reply_keeps_its_limits() {
    let results =
        |runs, failures| ClientReply::Results { job: JOB, runs, outputs: zeros(0), failures };
    check("runs", 0, FRAME_MESSAGES_MAX, |n| results(vec![Run { first: 0, len: 1 }; n], vec![]));
    check("items", 0, FRAME_MESSAGES_MAX, |n| {
        results(vec![Run { first: 0, len: u32_of(n) }], vec![])
    });
    check("failure position", 0, 6, |n| {
        results(vec![Run { first: 9, len: 7 }], vec![(u32_of(n), Failure::Changed)])
    });
    check("rejection", 0, REASON_LEN_MAX, |n| ClientReply::Rejected {
        tag: 1,
        reason: RejectReason::TooManyJobs,
        text: text(n),
    });
    check("suspect", 0, NAME_LEN_MAX, |n| ClientReply::Suspect {
        job: JOB,
        worker: text(n),
        items: 1,
    });
    check("released", 0, NAME_LEN_MAX, |n| ClientReply::Released {
        worker: text(n),
        outcome: ReleaseOutcome::Released,
    });
    let endless = vec![Run { first: 0, len: u32::MAX }; FRAME_MESSAGES_MAX];
    check_refused(results(endless, vec![]).into(), "runs whose sum is beyond 32 bits");
}

#[test]
fn failures_are_ascending_and_distinct() {
    for (positions, taken) in [(vec![0, 2], true), (vec![2, 0], false), (vec![1, 1], false)] {
        let failures: Vec<_> = positions.iter().map(|&at| (at, Failure::Invalid)).collect();
        let runs = vec![Run { first: 0, len: 3 }];
        let message =
            Any::from(ClientReply::Results { job: JOB, runs, outputs: zeros(0), failures });
        let why = format!("positions {positions:?}");
        if taken { check_taken(message, &why) } else { check_refused(message, &why) }
    }
}

#[test]
fn a_status_keeps_its_limits() {
    fn status(change: impl FnOnce(&mut Status)) -> ClientReply {
        let mut status = Status::default();
        change(&mut status);
        ClientReply::Status(Box::new(status))
    }
    fn row(change: impl FnOnce(&mut WorkerStatus)) -> ClientReply {
        let mut worker = WorkerStatus::default();
        change(&mut worker);
        status(|s| s.workers = vec![worker])
    }
    let quarantined = |worker: String, reason: String| QuarantineStatus {
        worker,
        reason,
        ..QuarantineStatus::default()
    };
    check("quarantined worker", 0, NAME_LEN_MAX, |n| {
        status(|s| s.quarantined = vec![quarantined(text(n), text(0))])
    });
    check("reason", 0, REASON_LEN_MAX, |n| {
        status(|s| s.quarantined = vec![quarantined(text(0), text(n))])
    });
    check("quarantined", 0, STATUS_ROWS_MAX, |n| {
        status(|s| s.quarantined = vec![quarantined(text(0), text(0)); n])
    });
    let drained = |worker: String, by: String| DrainStatus { worker, by, ..DrainStatus::default() };
    check("drained worker", 0, NAME_LEN_MAX, |n| {
        status(|s| s.drained = vec![drained(text(n), text(0))])
    });
    check("drained by", 0, NAME_LEN_MAX, |n| {
        status(|s| s.drained = vec![drained(text(0), text(n))])
    });
    check("drained", 0, STATUS_ROWS_MAX, |n| {
        status(|s| s.drained = vec![drained(text(0), text(0)); n])
    });
    let job = JobStatus {
        id: JOB,
        uid: 2,
        pid: 3,
        algorithms: Algorithm::Sha256.into(),
        age_ms: 4,
        items: 5,
        resolved: 6,
        failed: 7,
        leases: 8,
        finished: false,
        bytes: 9,
        durable: None,
    };
    check("software", 0, NAME_LEN_MAX, |n| status(|s| s.software = text(n)));
    check("image", 0, NAME_LEN_MAX, |n| status(|s| s.image = text(n)));
    check("workers", 0, STATUS_ROWS_MAX, |n| {
        status(|s| s.workers = vec![WorkerStatus::default(); n])
    });
    check("jobs", 0, STATUS_ROWS_MAX, |n| status(|s| s.jobs = vec![job.clone(); n]));
    check("name", 0, NAME_LEN_MAX, |n| row(|w| w.name = text(n)));
    check("software of a worker", 0, NAME_LEN_MAX, |n| row(|w| w.software = text(n)));
    check("backends of a worker", 0, BACKENDS_MAX, |n| row(|w| w.backends = vec![backend(1); n]));
    check("backend of a worker", 0, NAME_LEN_MAX, |n| row(|w| w.backends = vec![backend(n)]));
}

#[test]
fn a_worker_request_keeps_its_limits() {
    check("messages", 1, FRAME_MESSAGES_MAX, |n| {
        assign(Work::Inline { lens: vec![0; n], data: zeros(0) })
    });
    check("inline bytes", 0, INLINE_LEN_MAX, |n| {
        assign(Work::Inline { lens: vec![u32_of(n)], data: zeros(n) })
    });
    check("subtree", 1, INLINE_LEN_MAX, |n| {
        assign(Work::Piece(Piece::Subtree { offset: 0, data: zeros(n) }))
    });
    check("leases", 0, CREDIT_MAX.into(), |n| WorkerRequest::Revoke {
        leases: vec![LeaseId { epoch: u32::MAX, number: u64::MAX }; n],
    });
}

#[test]
fn a_worker_reply_keeps_its_limits() {
    let done = |credit, failures| WorkerReply::Done {
        lease: LEASE,
        attempt: 1,
        credit,
        busy_us: 1,
        outputs: zeros(0),
        failures,
    };
    check("credit", 0, CREDIT_MAX.into(), |n| WorkerReply::Credit { batches: u16_of(n) });
    check("credit of an answer", 0, CREDIT_MAX.into(), |n| done(u16_of(n), vec![]));
    check("failure position", 0, FRAME_MESSAGES_MAX - 1, |n| {
        done(1, vec![(u32_of(n), Failure::Changed)])
    });
}

#[test]
fn a_checkpoint_is_a_block_border_inside_its_item_with_a_state() {
    let check_all = |size, offset, state_len, taken: bool| {
        let (stamp, state) = (Stamp { size, ..Stamp::default() }, zeros(state_len));
        let mut messages: Vec<Any> = of_len(size)
            .into_iter()
            .map(|(source, file)| {
                assign(Work::Resume { source, file, offset, state: state.clone() }).into()
            })
            .collect();
        let (lease, attempt, file) = (LEASE, 1, stamp);
        messages.push(WorkerReply::Progress { lease, attempt, file, offset, state }.into());
        for message in messages {
            let why = format!("{offset} of {size} bytes, a state of {state_len}");
            if taken { check_taken(message, &why) } else { check_refused(message, &why) }
        }
    };
    for (size, offset, taken) in [
        (1 << 40, 1 << 33, true),
        (128, 128, true),
        (u64::MAX, u64::MAX - 127, true),
        (1 << 40, 0, false),
        (1 << 40, 64, false),
        (1 << 40, 129, false),
        (127, 128, false),
        (1 << 33, (1 << 33) + 128, false),
    ] {
        check_all(size, offset, 1, taken);
    }
    for (state_len, taken) in
        [(0, false), (1, true), (STATE_LEN_MAX, true), (STATE_LEN_MAX + 1, false)]
    {
        check_all(1 << 40, 1 << 30, state_len, taken);
    }
}

#[test]
fn a_body_of_1_mib_is_sent_and_a_longer_one_leaves_the_buffer_as_it_was() {
    let results = |outputs_len| ClientReply::Results {
        job: JOB,
        runs: vec![],
        outputs: zeros(outputs_len),
        failures: vec![],
    };
    // Tag, job of two bytes, no runs, a length of five bytes, no failures.
    let outputs_len = BODY_LEN_MAX - 10;
    check_taken(results(outputs_len).into(), "the longest body");
    let mut out = vec![7, 7];
    codec::encode_frame(&results(outputs_len), &mut out).expect("the longest body");
    assert_eq!(out.len(), 2 + PREFIX_LEN + BODY_LEN_MAX);
    let mut out = vec![7, 7];
    let error = codec::encode_frame(&results(outputs_len + 1), &mut out).unwrap_err();
    assert!(matches!(error, CodecError::Oversize), "{error}");
    assert_eq!(out, [7, 7]);
}

#[test]
fn only_the_descriptors_source_has_descriptors() {
    for (label, message) in crate::samples::samples() {
        let want = if let Any::ClientRequest(ClientRequest::Items { items, .. }) = &message {
            let is_passed = matches!(items, Items::Files { source: FileSource::Descriptors, .. });
            if is_passed { items.items_len() } else { 0 }
        } else if let Any::ClientRequest(ClientRequest::Service { .. }) = &message {
            if label.ends_with("/descriptors") { 2 } else { 0 }
        } else if let Any::WorkerRequest(WorkerRequest::Assign { work, .. }) = &message {
            let (Work::Files { source, .. }
            | Work::Subtree { source, .. }
            | Work::Resume { source, .. }) = work
            else {
                assert_eq!(work.descriptors_len(), 0, "{label}");
                continue;
            };
            if *source == FileSource::Descriptors { work.items_len() } else { 0 }
        } else {
            0
        };
        assert_eq!(message.descriptors_len(), want, "{label}");
    }
}

#[test]
fn a_window_is_not_limited() {
    let window = Window { items: u32::MAX, bytes: u64::MAX };
    check_taken(ClientReply::Window { job: JOB, window }.into(), "the widest window");
}
