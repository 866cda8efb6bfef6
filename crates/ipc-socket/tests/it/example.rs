//! The client of `docs/examples/` against a controller of the test, which knows one digest.

use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, Items, JobId, RejectReason, Run, Window,
};
use ipc_proto::{Algorithm, Blob};
use std::process::{Command, Output};
use std::thread;
use test_kit::{DESCRIPTORS, FakeController, Peer};

const JOB: JobId = JobId { epoch: 1_800_000_000, number: 300 };

/// The handshake, and the job's start.
fn open(peer: &mut Peer) {
    peer.welcome("", DESCRIPTORS);
    let algorithms = Algorithm::Sha256.into();
    let want = ClientRequest::Open { tag: 0, algorithms, cross_check: 0, strict_reads: false };
    assert_eq!(next(peer), want);
}

fn next(peer: &mut Peer) -> ClientRequest {
    peer.next_message().expect("the client stays").0
}

/// Runs the example with `text` against `serve`.
fn run(text: &str, serve: impl FnOnce(&mut Peer) + Send + 'static) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("client.sock");
    let listener = FakeController::listen(path.clone());
    let controller = thread::spawn(move || serve(&mut listener.accept()));
    let script = test_kit::repository("docs/examples/client.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(&path)
        .arg(text)
        .output()
        .expect("python3 runs: apt install python3-minimal");
    controller.join().expect("the controller of the test");
    output
}

#[test]
fn the_example_client_prints_the_digest_that_it_is_sent() {
    let text = "x".repeat(70_000);
    let want = Blob(text.clone().into_bytes());
    let output = run(&text, move |peer| {
        open(peer);
        // No room at first: a client has to wait for its window.
        peer.send(
            &ClientReply::Opened { tag: 0, job: JOB, window: Window::default(), workers: 1 },
            &[],
        );
        let window = Window { items: 4096, bytes: 8 << 20 };
        peer.send(&ClientReply::Window { job: JOB, window }, &[]);
        let messages = next(peer);
        let lens = vec![u32::try_from(want.len()).unwrap()];
        let items = Items::Inline { lens, data: want };
        assert_eq!(messages, ClientRequest::Items { job: JOB, first: 0, items });
        assert_eq!(next(peer), ClientRequest::Finish { job: JOB });
        let (runs, outputs) = (vec![Run { first: 0, len: 1 }], Blob(vec![0xab; 32]));
        peer.send(&ClientReply::Results { job: JOB, runs, outputs, failures: vec![] }, &[]);
        peer.send(&ClientReply::Finished { job: JOB, items: 1, failed: 0 }, &[]);
    });
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n", "ab".repeat(32)));
    assert!(output.status.success());
}

#[track_caller]
fn check_failed(output: &Output, want: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains(want), "{errors}");
    assert_eq!(output.stdout, b"");
    assert!(!output.status.success());
}

#[test]
fn the_example_client_tells_why_there_is_no_digest() {
    let output = run("abc", |peer| {
        peer.refuse("full");
    });
    check_failed(&output, "refused (2): full");
    let output = run("abc", |peer| {
        open(peer);
        let (reason, text) = (RejectReason::TooManyJobs, "wait".to_owned());
        peer.send(&ClientReply::Rejected { tag: 0, reason, text }, &[]);
    });
    check_failed(&output, "rejected (0): wait");
    let output = run("abc", |peer| {
        open(peer);
        let window = Window { items: 1, bytes: 3 };
        peer.send(&ClientReply::Opened { tag: 0, job: JOB, window, workers: 1 }, &[]);
        next(peer);
        next(peer);
        let failures = vec![(0, Failure::WorkersLost { attempts: 3 })];
        let runs = vec![Run { first: 0, len: 1 }];
        peer.send(
            &ClientReply::Results { job: JOB, runs, outputs: Blob::default(), failures },
            &[],
        );
    });
    check_failed(&output, "no digest: failure 5");
    let output = run("abc", |peer| {
        peer.hello();
    });
    check_failed(&output, "closed");
}
