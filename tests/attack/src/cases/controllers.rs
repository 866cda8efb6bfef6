//! A controller that was taken over, or a device that leads to none, against clients and workers.

use crate::suite::{Boundary, Case, Cases};
use crate::wire::{Body, frame, golden, tag};
use ipc_proto::message::{ClientRequest, JobId, Planes, Role};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use test_kit::{DEADLINE, DESCRIPTORS, Ended, FakeController, Running, bin, until};

const LIMIT: Duration = Duration::from_secs(15);

pub(crate) fn cases() -> Vec<Case> {
    let lists = [clients(), terminals(), devices(), workers()];
    lists.into_iter().flatten().collect()
}

/// Runs `hashctl sum` against a controller that says `bytes` after it opened a job.
fn hashctl_against(bytes: &[u8]) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::listen(dir.path().join("client.sock"));
    let mut hashctl = Command::new(bin("hashctl"));
    hashctl.env("HASHCLUSTER_RUNTIME_DIR", dir.path()).args([
        "sum",
        "--timeout",
        "2",
        "/etc/passwd",
    ]);
    let running = Running::start(hashctl.stdin(Stdio::null()), LIMIT);
    let mut peer = controller.accept();
    peer.welcome("", DESCRIPTORS);
    let Some((ClientRequest::Open { tag: number, .. }, _)) = peer.next_message() else {
        panic!("hashctl opens a job")
    };
    let opened = tag(0).number(number.into()).id(1, 1).number(100).number(1 << 20).number(1);
    peer.send_bytes(&opened.frame(), &[]);
    let _ = peer.next_message::<ClientRequest>();
    peer.send_bytes(bytes, &[]);
    drop(peer);
    running.end()
}

/// It gave no digest, said why, and moved no terminal.
#[track_caller]
fn is_refused(ended: &Ended) {
    let said = &ended.stderr;
    assert!(matches!(ended.status.code(), Some(1 | 3)), "{:?} {said}", ended.status);
    assert!(ended.stdout.is_empty() && !said.is_empty() && !said.contains("panicked"), "{said}");
    let is_raw = |c: char| (c.is_control() && c != '\n') || ('\u{2028}'..='\u{202e}').contains(&c);
    assert!(!said.contains(is_raw), "{said:?}");
}

const NO_DIGEST: &str = "no digest, a reason, status 1 or 3";

fn clients() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Controller);
    let job = || Body::default().job(JobId { epoch: 1, number: 1 });
    let results = move |runs: &[u8], output_len: usize, failures: &[u8]| {
        tag(2).raw(&job().0).raw(runs).blob(&vec![7; output_len]).raw(failures)
    };
    for (name, body) in [
        ("a result of an item that was not sent", results(&[1, 9, 1], 32, &[0])),
        ("a result of nothing", results(&[0], 0, &[0])),
        ("a digest that is too short", results(&[1, 0, 1], 31, &[0])),
        ("a digest that is too long", results(&[1, 0, 1], 64, &[0])),
        ("a result without a digest", results(&[1, 0, 1], 0, &[0])),
        ("a run without items", results(&[1, 0, 0], 0, &[0])),
        ("a failure beyond its items", results(&[1, 0, 1], 32, &[1, 5, 0])),
        (
            "an error number that there is not",
            results(&[1, 0, 1], 0, &[1, 0, 2, 253, 1, 1, 1, 1, 0, 0, 0, 0]),
        ),
        ("an end before the results", tag(3).raw(&job().0).number(1).number(0)),
        ("an end of more items than were sent", tag(3).raw(&job().0).number(u64::MAX).number(0)),
        ("a job that nobody asked for", tag(0).number(99).id(5, 5).number(1).number(1).number(1)),
        ("a status that nobody asked for", Body(golden("client_reply/status_empty").remove(0).1)),
        ("an unknown reply", tag(10)),
        (
            "a reply with a byte behind it",
            Body([&golden("client_reply/window").remove(0).1[..], &[0]].concat()),
        ),
    ] {
        cases.add_slow(name, NO_DIGEST, move |_| is_refused(&hashctl_against(&body.frame())));
    }
    for (name, bytes) in [
        ("a frame of gigabytes", vec![0xff; 4]),
        ("a frame of no length", vec![0; 4]),
        ("half a frame", frame(&[2; 100])[..50].to_vec()),
        ("nothing, and away", Vec::new()),
        ("a terabyte of nonsense", vec![0xa5; 1 << 20]),
    ] {
        cases.add_slow(name, NO_DIGEST, move |_| is_refused(&hashctl_against(&bytes)));
    }
    cases.add_slow("one result twice", "one line, or no digest", move |_| {
        let body = results(&[1, 0, 1], 32, &[0]).frame();
        let ended = hashctl_against(&[body.clone(), body].concat());
        assert!(ended.stdout.lines().count() <= 1, "{}", ended.stdout);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    });
    cases.done()
}

/// Words of a controller that a person sees.
fn terminals() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Terminal);
    let job = Body::default().job(JobId { epoch: 1, number: 1 }).0;
    for (name, body) in [
        (
            "a rejection that moves a terminal",
            tag(7).number(0).number(0).blob("\u{1b}[2J\u{202e}\n".as_bytes()),
        ),
        (
            "a suspect whose name moves a terminal",
            tag(8).raw(&job).blob(b"\x1b]0;x\x07\x0d").number(9),
        ),
    ] {
        cases.add(name, "shown without", move |_| is_refused(&hashctl_against(&body.frame())));
    }
    cases.add("a refusal that moves a terminal", "shown without", |_| {
        let dir = tempfile::tempdir().unwrap();
        let controller = FakeController::listen(dir.path().join("client.sock"));
        let mut hashctl = Command::new(bin("hashctl"));
        hashctl.env("HASHCLUSTER_RUNTIME_DIR", dir.path()).arg("status");
        let running = Running::start(&mut hashctl, LIMIT);
        controller.accept().refuse("\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}\u{202e}\r\nforged: line");
        let ended = running.end();
        is_refused(&ended);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    });
    cases.done()
}

/// Attacks by the device between a client and a controller in a VM.
fn devices() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Vsock);
    for (name, answer) in [
        ("no answer and away", &b""[..]),
        ("an answer without an end", &[b'O'; 1 << 16]),
        ("a refusal", b"ERR\n"),
        ("OK with escapes", b"OK \x1b[2J\n"),
        ("OK with a number beyond 32 bits", b"OK 99999999999999999999\n"),
        ("half an answer", b"OK 12"),
        ("zeros", &[0; 64]),
    ] {
        cases.add_slow(format!("a device that says {name}"), "status 3 and a reason", move |_| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("c.vsock");
            let listener = UnixListener::bind(&path).unwrap();
            std::fs::write(dir.path().join("client.endpoint"), "vsock-unix:c.vsock:5001\n")
                .unwrap();
            let mut hashctl = Command::new(bin("hashctl"));
            hashctl.env("HASHCLUSTER_RUNTIME_DIR", dir.path()).arg("status");
            let running = Running::start(hashctl.stdin(Stdio::null()), LIMIT);
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 13]).unwrap();
            // It may have left by then.
            let _ = stream.write_all(answer);
            drop(stream);
            drop(listener);
            is_refused(&running.end());
        });
    }
    cases.add_slow("a device that says nothing", "status 3 after two seconds", |_| {
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join("c.vsock")).unwrap();
        std::fs::write(dir.path().join("client.endpoint"), "vsock-unix:c.vsock:5001\n").unwrap();
        let mut hashctl = Command::new(bin("hashctl"));
        hashctl.env("HASHCLUSTER_RUNTIME_DIR", dir.path()).arg("status");
        is_refused(&Running::start(hashctl.stdin(Stdio::null()), LIMIT).end());
    });
    cases.done()
}

fn workers() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Controller);
    for (label, body) in golden("worker_request") {
        cases.add_slow(
            format!("{label} cut off, for a worker"),
            "it leaves, connects again, and lives",
            move |_| {
                let halves = [body.len() / 2, body.len() - 1].map(|at| frame(&body[..at]));
                let frames = [frame(&[&body[..], &[0]].concat())].into_iter().chain(halves);
                worker_against(&frames.collect::<Vec<_>>());
            },
        );
    }
    cases.add_slow(
        "work without credit, and nonsense, for a worker",
        "it leaves, connects again, and lives",
        |_| {
            let assign = golden("worker_request/assign/inline").remove(0).1;
            worker_against(&[frame(&assign), vec![0xff; 4], vec![0; 4], tag(3).frame()]);
        },
    );
    cases.done()
}

/// Runs a worker against controllers, each of which says one of `frames` and waits until it leaves.
fn worker_against(frames: &[Vec<u8>]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker.sock");
    let controller = FakeController::listen(path.clone());
    let mut worker = Command::new(bin("hashcluster-worker"));
    worker.args(["--threads", "1", "--name", "w", "--connect"]).arg(unix(&path));
    let mut worker = Running::start(worker.stdin(Stdio::null()), DEADLINE);
    for bytes in frames {
        let mut peer = controller.accept();
        let planes = Planes { descriptors: true, inline: true, datasets: Vec::new() };
        assert!(matches!(peer.welcome("", planes), Role::Worker(_)));
        peer.send_bytes(bytes, &[]);
        peer.drain();
    }
    // It comes back after the last one as well.
    let mut peer = controller.accept();
    peer.welcome("", DESCRIPTORS);
    until("a living worker", || worker.is_running().then_some(()));
    assert!(!worker.stderr().contains("panicked"), "{}", worker.stderr());
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}
