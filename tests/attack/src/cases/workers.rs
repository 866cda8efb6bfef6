//! A worker that was taken over, or somebody who would like to be one.

use crate::intruder::Intruder;
use crate::site::{Site, TRAP};
use crate::suite::{Boundary, Case, Cases};
use crate::user::{ALLOWED, STRANGER, as_user};
use crate::wire::{Body, frame, golden, tag};
use ipc_proto::limits::{
    BACKENDS_MAX, CREDIT_MAX, DATASETS_MAX, FRAME_MESSAGES_MAX, INTERLEAVE_MAX, STATE_LEN_MAX,
    WORKER_THREADS_MAX,
};
use ipc_proto::message::{
    Backend, ClientReply, Hello, JobId, LeaseId, Planes, RefuseReason, Role, WorkerIntro,
    WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};
use std::fs::File;
use std::thread;
use std::time::Duration;
use test_kit::{Cluster, MessageJob, Options, sparse_file, until, worker_role};

const CLOSED: &str = "closed, counted as faulty";
const QUARANTINED: &str = "quarantined, by name";
const FENCED: &str = "dropped, counted, nobody is blamed";

const SHA256: u8 = 1;
const BLAKE3: u8 = 5;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Worker);
    malformed(&mut cases);
    hellos(&mut cases);
    answers(&mut cases);
    progress(&mut cases);
    cases.done()
}

/// The introduction of a worker that gets only files of the dataset that no honest worker has.
fn intro(site: &Site) -> WorkerIntro {
    let Role::Worker(mut intro) = worker_role(&format!("liar{}", site.fresh())) else {
        unreachable!("it is a worker's")
    };
    intro.planes = Planes { descriptors: false, inline: false, datasets: vec![TRAP.to_owned()] };
    intro
}

fn join(site: &Site) -> Intruder {
    Intruder::worker(&site.worker_socket(), intro(site))
}

fn malformed(cases: &mut Cases) {
    let close_each = |site: &Site, frames: &[Vec<u8>]| {
        site.faulty(frames.len() as u64, || {
            for bytes in frames {
                let mut peer = join(site);
                peer.send(bytes);
                peer.half_close();
                peer.closed::<WorkerRequest>();
            }
        });
    };
    for (label, body) in golden("worker_reply") {
        let whole = frame(&body);
        cases.add(format!("{label} cut off at each length"), CLOSED, move |site| {
            close_each(site, &(1..whole.len()).map(|at| whole[..at].to_vec()).collect::<Vec<_>>());
        });
        if body.len() > 1 {
            let body = body.clone();
            cases.add(
                format!("{label} as a shorter message, at each length"),
                CLOSED,
                move |site| {
                    close_each(
                        site,
                        &(1..body.len()).map(|at| frame(&body[..at])).collect::<Vec<_>>(),
                    );
                },
            );
        }
        cases.add_slow(format!("{label} with each byte false"), "closed or served", move |site| {
            for at in 0..body.len() {
                for value in [0, 0x7f, 0xfb, 0xfd, 0xff] {
                    let mut body = body.clone();
                    body[at] = value;
                    let mut peer = join(site);
                    peer.send(&frame(&body));
                    peer.half_close();
                    peer.closed::<WorkerRequest>();
                }
            }
        });
    }
    let done = || tag(1).id(1, 1).number(1).number(0).number(0);
    let with_failures = |failures: &[u8]| done().blob(b"").raw(failures);
    for (name, body) in [
        ("an unknown reply", tag(4)),
        ("an unknown failure", with_failures(&[1, 0, 11])),
        ("failures that descend", with_failures(&[2, 1, 0, 0, 0])),
        ("a failure named twice", with_failures(&[2, 1, 0, 1, 0])),
        ("a failure beyond every batch", done().blob(b"").number(1).number(8192).number(0)),
        ("failures whose number is a lie", done().blob(b"").number(u64::MAX)),
        ("outputs whose length is a lie", done().number(u64::MAX)),
        ("more failures than a frame has", {
            let count = FRAME_MESSAGES_MAX as u64 + 1;
            (0..count).fold(done().blob(b"").number(count), |body, i| body.number(i).number(0))
        }),
        ("more credit than any worker has", tag(0).number(u64::from(CREDIT_MAX) + 1)),
        ("progress without a state", progress_of(LeaseId::default(), 1, 1 << 30, 1 << 20, b"")),
        ("progress with a state that is too long", {
            progress_of(LeaseId::default(), 1, 1 << 30, 1 << 20, &[0; STATE_LEN_MAX + 1])
        }),
        (
            "progress that is not aligned",
            progress_of(LeaseId::default(), 1, 1 << 30, 100, &[0; 40]),
        ),
        (
            "progress beyond its file",
            progress_of(LeaseId::default(), 1, 1 << 20, 1 << 21, &[0; 40]),
        ),
        ("progress of nothing", progress_of(LeaseId::default(), 1, 1 << 20, 0, &[0; 40])),
    ] {
        cases.add(name, CLOSED, move |site| close_each(site, &[body.frame()]));
    }
    cases.add("more credit than any worker has, bit by bit", CLOSED, move |site| {
        let credit = tag(0).number(CREDIT_MAX.into()).frame();
        close_each(site, &[[credit.clone(), credit].concat()]);
    });
    cases.add("descriptors from a worker", CLOSED, |site| {
        site.faulty(1, || {
            let mut peer = join(site);
            let files: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
            peer.send_with(&tag(2).frame(), &files);
            peer.closed::<WorkerRequest>();
        });
    });
}

fn hellos(cases: &mut Cases) {
    let backend =
        || Backend { algorithm: Algorithm::Md5, backend: "x".to_owned(), interleave_max: 1 };
    type Spoil = fn(&mut WorkerIntro);
    let spoilt: [(&str, Spoil); 15] = [
        ("without a name", |intro| intro.name.clear()),
        ("with a name that is too long", |intro| intro.name = "w".repeat(65)),
        ("with software that is too long", |intro| intro.software = "w".repeat(65)),
        ("with an image that is too long", |intro| intro.image = "w".repeat(65)),
        ("with a reading that is too long", |intro| intro.reading = "w".repeat(65)),
        ("with a host that is too long", |intro| intro.host = "w".repeat(65)),
        ("with a processor that is too long", |intro| intro.cpu = "w".repeat(65)),
        ("without threads", |intro| intro.threads = 0),
        ("with too many threads", |intro| intro.threads = WORKER_THREADS_MAX + 1),
        ("without backends", |intro| intro.backends.clear()),
        ("without lanes", |intro| intro.backends[0].interleave_max = 0),
        ("with too many lanes", |intro| intro.backends[0].interleave_max = INTERLEAVE_MAX + 1),
        ("with a token that is too long", |intro| intro.token = Blob(vec![1; 65])),
        ("with one dataset twice", |intro| intro.planes.datasets = vec!["d".to_owned(); 2]),
        ("with a dataset that is a path", |intro| intro.planes.datasets = vec!["../d".to_owned()]),
    ];
    for (name, spoil) in spoilt {
        cases.add(format!("a worker {name}"), "refused with NotOurs", move |site| {
            let mut intro = intro(site);
            spoil(&mut intro);
            refuse(site, &hello(&intro), RefuseReason::NotOurs);
        });
    }
    cases.add("a worker with too many backends", "refused with NotOurs", move |site| {
        let mut intro = intro(site);
        intro.backends = (0..=BACKENDS_MAX).map(|_| backend()).collect();
        refuse(site, &hello(&intro), RefuseReason::NotOurs);
    });
    cases.add("a worker with too many datasets", "refused with NotOurs", |site| {
        let mut intro = intro(site);
        intro.planes.datasets = (0..=DATASETS_MAX).map(|i| format!("d{i}")).collect();
        refuse(site, &hello(&intro), RefuseReason::NotOurs);
    });
    cases.add("a worker whose name is not UTF-8", "refused with NotOurs", |site| {
        let mut hello = golden("hello/worker").remove(0).1;
        hello[8] = 0xff;
        refuse(site, &hello, RefuseReason::NotOurs);
    });
    cases.add("a client on the workers' socket", "refused with WrongSocket", |site| {
        refuse(site, &golden("example/hello").remove(0).1, RefuseReason::WrongSocket);
    });
    cases.add(
        "the name of another worker",
        "refused with NameTaken; the other one stays",
        |site| {
            let mut thief = intro(site);
            thief.name = "w0".to_owned();
            for _ in 0..20 {
                refuse(site, &hello(&thief), RefuseReason::NameTaken);
            }
        },
    );
    for (uid, who) in
        [(ALLOWED, "a user who may be a client"), (STRANGER, "a user who may be nothing")]
    {
        cases.add(format!("{who} as a worker"), "refused with Forbidden", move |site| {
            let path = site.worker_socket();
            let mut peer = match as_user(uid, || std::os::unix::net::UnixStream::connect(&path)) {
                Ok(stream) => Intruder::on(stream),
                // Already the file's mode keeps them out.
                Err(error) => return assert_eq!(error.raw_os_error(), Some(libc::EACCES)),
            };
            peer.send(&frame(&hello(&intro(site))));
            let (reason, text) = peer.refused();
            assert_eq!(reason, RefuseReason::Forbidden, "{text}");
        });
    }
    cases.add("a name that would move a terminal", "logged and shown in escapes", |site| {
        let mut bad = intro(site);
        bad.name = format!("\u{1b}[2J\u{202e}\n{}\r\u{9b}\u{2028}", site.fresh());
        let _worker = Intruder::worker(&site.worker_socket(), bad);
        let shown = test_kit::output(site.hashctl().arg("status"));
        let text = test_kit::text(&shown.stdout);
        assert!(text.contains("WORKER"), "{text}");
        let is_raw =
            |c: char| (c.is_control() && c != '\n') || ('\u{2028}'..='\u{202e}').contains(&c);
        assert!(!text.contains(is_raw), "{text:?}");
    });
}

fn hello(intro: &WorkerIntro) -> Vec<u8> {
    // Not by the encoder, which refuses what it would not take.
    let hello = Body(b"HCL\x01".to_vec());
    let versions = Hello::new(worker_role("x")).versions;
    let body = hello.number(versions.min.into()).number(versions.max.into()).number(1);
    let body = [&intro.name, &intro.software, &intro.image]
        .into_iter()
        .fold(body, |body, text| body.blob(text.as_bytes()));
    let body = body.number(intro.pid.into()).number(intro.threads.into());
    let body = body.number(intro.memory_bytes).number(intro.backends.len() as u64);
    let body = intro.backends.iter().fold(body, |body, backend| {
        let tag = Algorithm::ALL.iter().position(|a| *a == backend.algorithm).unwrap();
        body.number(tag as u64).blob(backend.backend.as_bytes()).raw(&[backend.interleave_max])
    });
    let flags = [u8::from(intro.planes.descriptors), u8::from(intro.planes.inline)];
    let body = body.raw(&flags).number(intro.planes.datasets.len() as u64);
    let body = intro.planes.datasets.iter().fold(body, |body, name| body.blob(name.as_bytes()));
    let body = body.blob(intro.reading.as_bytes()).raw(&[intro.sandbox.0]).blob(&intro.token);
    body.blob(intro.host.as_bytes()).blob(intro.cpu.as_bytes()).0
}

fn refuse(site: &Site, hello: &[u8], want: RefuseReason) {
    let mut peer = Intruder::connect(&site.worker_socket());
    peer.send(&frame(hello));
    let (reason, text) = peer.refused();
    assert_eq!(reason, want, "{text}");
}

/// A liar that holds a lease of one file.
struct Liar {
    peer: Intruder,
    client: Intruder,
    job: JobId,
    lease: LeaseId,
    attempt: u32,
}

/// Lures one file of `size` bytes to a liar.
fn lure(site: &Site, algorithm: u8, size: u64) -> Liar {
    let mut peer = join(site);
    peer.say(&tag(0).number(1));
    let mut client = site.client();
    let (job, _) = client.open_job(algorithm);
    let name = tag(1).job(job).raw(&[0, 0, 1]).blob(TRAP.as_bytes()).number(1).blob(b"f");
    client.say(&name.files(1, size));
    loop {
        let WorkerRequest::Assign { lease, attempt, .. } = peer.request() else { continue };
        return Liar { peer, client, job, lease, attempt };
    }
}

pub(super) fn done_of(
    lease: LeaseId,
    attempt: u32,
    credit: u64,
    outputs: &[u8],
    failures: &[u8],
) -> Body {
    let body = tag(1).id(lease.epoch, lease.number).number(attempt.into()).number(credit);
    body.number(5).blob(outputs).raw(failures)
}

fn progress_of(lease: LeaseId, attempt: u32, size: u64, offset: u64, state: &[u8]) -> Body {
    let body = tag(3).id(lease.epoch, lease.number).number(attempt.into());
    body.stamp(size).number(offset).blob(state)
}

/// The liar says this, and is quarantined.
fn quarantine(site: &Site, algorithm: u8, size: u64, say: impl Fn(&Liar) -> Body) {
    let before = site.counters().workers_quarantined;
    let mut liar = lure(site, algorithm, size);
    let body = say(&liar);
    liar.peer.say(&body);
    until("the liar's quarantine", || (site.counters().workers_quarantined > before).then_some(()));
}

/// The liar says this, and nothing comes of it.
fn fence(site: &Site, say: impl Fn(&Liar) -> Body) {
    let before = site.counters();
    let mut liar = lure(site, SHA256, 100);
    let body = say(&liar);
    liar.peer.say(&body);
    until("a dropped answer", || {
        (site.counters().answers_fenced > before.answers_fenced).then_some(())
    });
    assert_eq!(site.counters().workers_quarantined, before.workers_quarantined);
    // The lease is still its own.
    liar.peer.say(&done_of(liar.lease, liar.attempt, 0, &[7; 32], &[0]));
    let reply = liar.client.reply();
    assert!(matches!(reply, ClientReply::Results { .. }), "{reply:?}");
}

fn answers(cases: &mut Cases) {
    for (name, outputs, failures) in [
        ("an answer without a digest", 0, &[0][..]),
        ("a digest that is too short", 31, &[0]),
        ("a digest that is too long", 33, &[0]),
        ("two digests for one file", 64, &[0]),
        ("a digest and a failure for one file", 32, &[1, 0, 0]),
        ("a failure of a file that is not there", 0, &[1, 1, 0]),
        ("a verdict that is the controller's: lost workers", 0, &[1, 0, 5, 3]),
        ("a verdict that is the controller's: disputed", 0, &[1, 0, 7]),
    ] {
        cases.add(name, QUARANTINED, move |site| {
            quarantine(site, SHA256, 100, |liar| {
                done_of(liar.lease, liar.attempt, 0, &vec![7; outputs], failures)
            });
        });
    }
    cases.add("an answer to a lease that nobody has", CLOSED, |site| {
        site.faulty(1, || {
            let mut liar = lure(site, SHA256, 100);
            let other = LeaseId { number: liar.lease.number + 1_000_000, ..liar.lease };
            liar.peer.say(&done_of(other, 1, 0, &[7; 32], &[0]));
            liar.peer.closed::<WorkerRequest>();
        });
    });
    cases.add("an answer to another worker's lease", CLOSED, |site| {
        site.faulty(1, || {
            let liar = lure(site, SHA256, 100);
            let mut thief = join(site);
            thief.say(&done_of(liar.lease, liar.attempt, 0, &[7; 32], &[0]));
            thief.closed::<WorkerRequest>();
        });
    });
    cases.add("an answer to a lease of an earlier controller", FENCED, |site| {
        fence(site, |liar| {
            let other = LeaseId { epoch: liar.lease.epoch - 1, ..liar.lease };
            done_of(other, 1, 0, &[7; 32], &[0])
        });
    });
    cases.add("an answer of another attempt", FENCED, |site| {
        fence(site, |liar| done_of(liar.lease, liar.attempt + 1, 0, &[7; 32], &[0]));
    });
    cases.add("an answer given twice", FENCED, |site| {
        let before = site.counters().answers_fenced;
        let mut liar = lure(site, SHA256, 100);
        let body = done_of(liar.lease, liar.attempt, 0, &[7; 32], &[0]).frame();
        liar.peer.send(&[body.clone(), body].concat());
        assert!(matches!(liar.client.reply(), ClientReply::Results { .. }));
        until("a dropped answer", || (site.counters().answers_fenced > before).then_some(()));
        liar.client.say(&tag(3).job(liar.job));
        let reply = liar.client.reply();
        assert!(matches!(reply, ClientReply::Finished { items: 1, .. }), "{reply:?}");
    });
    cases.add("an answer to a lease that was revoked", FENCED, |site| {
        let before = site.counters().answers_fenced;
        let mut liar = lure(site, SHA256, 100);
        liar.client.say(&tag(4).job(liar.job));
        while !matches!(liar.peer.request(), WorkerRequest::Revoke { .. }) {}
        liar.peer.say(&done_of(liar.lease, liar.attempt, 0, &[7; 32], &[0]));
        until("a dropped answer", || (site.counters().answers_fenced > before).then_some(()));
    });
    cases.add("a time of work that cannot be", "the result, and no harm", |site| {
        let mut liar = lure(site, SHA256, 100);
        let lease = liar.lease;
        let body = tag(1).id(lease.epoch, lease.number).number(liar.attempt.into()).number(0);
        liar.peer.say(&body.number(u64::MAX).blob(&[7; 32]).number(0));
        assert!(matches!(liar.client.reply(), ClientReply::Results { .. }));
    });
    cases.add_slow(
        "a worker that says nothing more",
        "closed after five seconds, its work goes on",
        |site| {
            site.faulty(1, || {
                let mut liar = lure(site, SHA256, 100);
                liar.peer.closed::<WorkerRequest>();
            });
            site.logged("no sign of life");
        },
    );
    cases.add(
        "a worker that leaves with its lease, again and again",
        "others are served",
        |site| {
            for _ in 0..20 {
                drop(lure(site, SHA256, 100));
            }
        },
    );
}

fn progress(cases: &mut Cases) {
    const SIZE: u64 = 1 << 40;
    type Say = fn(&Liar) -> Body;
    let lies: [(&str, u8, Say); 3] = [
        ("progress of a hash that has none", BLAKE3, |l| {
            progress_of(l.lease, l.attempt, SIZE, 1 << 20, &[0; 40])
        }),
        ("progress of a longer file than it is", SHA256, |l| {
            progress_of(l.lease, l.attempt, 2 * SIZE, SIZE + 128, &[0; 40])
        }),
        ("progress of a file with other times", SHA256, |l| {
            let body = tag(3).id(l.lease.epoch, l.lease.number).number(l.attempt.into());
            body.number(SIZE).number(1).number(0).number(1 << 20).blob(&[0; 40])
        }),
    ];
    for (name, algorithm, say) in lies {
        // A subtree of a BLAKE3 file is a part of it.
        cases.add(name, QUARANTINED, move |site| quarantine(site, algorithm, SIZE, say));
    }
    for (name, offsets) in
        [("progress backwards", [1 << 30, 1 << 20]), ("progress that stands still", [1 << 30; 2])]
    {
        cases.add(name, QUARANTINED, move |site| {
            let before = site.counters().workers_quarantined;
            let mut liar = lure(site, SHA256, SIZE);
            for offset in offsets {
                let body = progress_of(liar.lease, liar.attempt, SIZE, offset, &[0; 40]);
                liar.peer.say(&body);
            }
            until("the liar's quarantine", || {
                (site.counters().workers_quarantined > before).then_some(())
            });
        });
    }
    cases.add("progress of a lease that nobody has", CLOSED, |site| {
        site.faulty(1, || {
            let mut liar = lure(site, SHA256, SIZE);
            let other = LeaseId { number: liar.lease.number + 1_000_000, ..liar.lease };
            liar.peer.say(&progress_of(other, 1, SIZE, 1 << 20, &[0; 40]));
            liar.peer.closed::<WorkerRequest>();
        });
    });
    for (name, offset, state) in [
        ("a state of nonsense for the next worker", 1 << 20, State::Zeros),
        ("a state that says another length", 1 << 60, State::Len(1 << 54)),
        ("a state of nearly 16 EiB", 1 << 60, State::Len(u64::MAX - 127)),
    ] {
        cases
            .add_slow(name, "the next worker refuses it and lives", move |_| resume(offset, state));
    }
}

#[derive(Clone, Copy)]
enum State {
    Zeros,
    /// A true state that says to be of this length.
    Len(u64),
}

/// A liar leaves its lease at a checkpoint, and an honest worker takes over.
fn resume(offset: u64, state: State) {
    const SIZE: u64 = 1 << 62;
    let mut cluster = Cluster::start(Options { workers: 0, ..Options::default() });
    let socket = cluster.dir().join(ipc_proto::endpoint::WORKER_SOCKET);
    let state = match state {
        State::Zeros => vec![0; 40],
        State::Len(len) => [&[0xa5; 32][..], &len.to_le_bytes()].concat(),
    };
    let mut client = Intruder::client(&cluster.client_socket());
    let (job, _) = client.open_job(SHA256);
    let file = sparse_file(1 << 40);
    let body = tag(1).job(job).number(0).raw(&[0, 0]).files(1, SIZE);
    client.send_with(&body.frame(), &[&file]);
    let Role::Worker(intro) = worker_role("liar") else { unreachable!("it is a worker's") };
    let mut liar = Intruder::worker(&socket, intro);
    liar.say(&tag(0).number(1));
    let (lease, attempt) = loop {
        let WorkerRequest::Assign { lease, attempt, .. } = liar.request() else { continue };
        break (lease, attempt);
    };
    liar.say(&progress_of(lease, attempt, SIZE, offset, &state));
    liar.say(&tag(2));
    while !matches!(liar.request(), WorkerRequest::Heartbeat) {}
    drop(liar);
    let worker = cluster.spawn_worker(0);
    cluster.workers.push(worker);
    cluster.wait_ready(1);
    // It takes the lease, and serves others besides.
    thread::sleep(Duration::from_millis(300));
    client.say(&tag(4).job(job));
    MessageJob::on(&cluster).round_trip();
    let ended = cluster.workers[0].try_wait().unwrap();
    assert!(ended.is_none(), "the honest worker ended: {ended:?}\n{}", cluster.logs());
}
