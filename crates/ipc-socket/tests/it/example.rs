//! The client of `docs/examples/` against a controller of the test, which knows one digest.

use crate::support::frame;
use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, Hello, HelloReply, Items, JobId, Message, Planes,
    RejectReason, Run, Welcome, Window,
};
use ipc_proto::{Algorithm, Blob, handshake};
use ipc_socket::{Inbox, Scratch};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

const JOB: JobId = JobId { epoch: 1_800_000_000, number: 300 };

struct Peer {
    stream: UnixStream,
    inbox: Inbox,
    scratch: Scratch,
}

impl Peer {
    fn next<M: Message>(&mut self) -> M {
        loop {
            if let Some((message, _)) = self.inbox.next_message().expect("good messages") {
                return message;
            }
            let received = self.inbox.receive(self.stream.as_fd(), &mut self.scratch);
            assert_ne!(received.expect("bytes").bytes_len, 0, "the client left");
        }
    }

    fn say<M: Message>(&mut self, message: &M) {
        self.stream.write_all(&frame(message)).expect("the client listens");
    }

    /// The handshake, and the job's start.
    fn open(&mut self) {
        let hello: Hello = self.next();
        let accepted = handshake::accept(&frame(&hello)[4..]).expect("a good hello");
        let planes = Planes { descriptors: true, inline: true, datasets: Vec::new() };
        let (software, image) = ("0.1.0".to_owned(), String::new());
        let version = accepted.version;
        self.say(&HelloReply::Welcome(Welcome { version, software, image, planes }));
        let open: ClientRequest = self.next();
        let algorithms = Algorithm::Sha256.into();
        let want = ClientRequest::Open { tag: 0, algorithms, cross_check: 0, strict_reads: false };
        assert_eq!(open, want);
    }
}

/// Runs the example with `text` against `serve`.
fn run(text: &str, serve: impl FnOnce(&mut Peer) + Send + 'static) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("client.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let controller = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the client connects");
        serve(&mut Peer { stream, inbox: Inbox::new(), scratch: Scratch::default() });
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/client.py");
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
        peer.open();
        // No room at first: a client has to wait for its window.
        peer.say(&ClientReply::Opened { tag: 0, job: JOB, window: Window::default(), workers: 1 });
        let window = Window { items: 4096, bytes: 8 << 20 };
        peer.say(&ClientReply::Window { job: JOB, window });
        let messages: ClientRequest = peer.next();
        let lens = vec![u32::try_from(want.len()).unwrap()];
        let items = Items::Inline { lens, data: want };
        assert_eq!(messages, ClientRequest::Items { job: JOB, first: 0, items });
        assert_eq!(peer.next::<ClientRequest>(), ClientRequest::Finish { job: JOB });
        let (runs, outputs) = (vec![Run { first: 0, len: 1 }], Blob(vec![0xab; 32]));
        peer.say(&ClientReply::Results { job: JOB, runs, outputs, failures: vec![] });
        peer.say(&ClientReply::Finished { job: JOB, items: 1, failed: 0 });
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
        peer.next::<Hello>();
        let refusal = handshake::Refusal::new(ipc_proto::message::RefuseReason::Busy, "full");
        peer.say(&refusal.into_reply());
    });
    check_failed(&output, "refused (5): full");
    let output = run("abc", |peer| {
        peer.open();
        let (reason, text) = (RejectReason::TooManyJobs, "wait".to_owned());
        peer.say(&ClientReply::Rejected { tag: 0, reason, text });
    });
    check_failed(&output, "rejected (0): wait");
    let output = run("abc", |peer| {
        peer.open();
        let window = Window { items: 1, bytes: 3 };
        peer.say(&ClientReply::Opened { tag: 0, job: JOB, window, workers: 1 });
        peer.next::<ClientRequest>();
        peer.next::<ClientRequest>();
        let failures = vec![(0, Failure::WorkersLost { attempts: 3 })];
        let runs = vec![Run { first: 0, len: 1 }];
        peer.say(&ClientReply::Results { job: JOB, runs, outputs: Blob::default(), failures });
    });
    check_failed(&output, "no digest: failure 5");
    let output = run("abc", |peer| {
        peer.next::<Hello>();
    });
    check_failed(&output, "closed");
}
