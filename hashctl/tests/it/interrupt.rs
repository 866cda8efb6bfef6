//! Signals.

use crate::fake::{DESCRIPTORS, Fake, Peer};
use crate::oracle::{digest, line};
use crate::program::{finish, hashctl, run, shell, start};
use ipc_proto::message::{ClientReply, ClientRequest, JobId, Run, Window};
use ipc_proto::{Algorithm, Blob};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Read;
use std::process::{Child, ChildStdout};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

const JOB: JobId = JobId { epoch: 1, number: 2 };

fn three_files() -> TempDir {
    let dir = tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    dir
}

fn signal_to(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Takes three files, resolves the first and the last, and says so.
fn take_three(peer: &mut Peer, taken: &Sender<()>) {
    peer.welcome(DESCRIPTORS);
    peer.open(JOB, Window { items: 100, bytes: 0 }, 1);
    let Some((ClientRequest::Items { items, .. }, _)) = peer.next() else { panic!("files") };
    assert_eq!(items.items_len(), 3);
    let Some((ClientRequest::Finish { job: JOB }, _)) = peer.next() else { panic!("a finish") };
    let runs = vec![Run { first: 0, len: 1 }, Run { first: 2, len: 1 }];
    let [a, c] = [b"a", b"c"].map(|content| digest(Algorithm::Sha256, content));
    let outputs = Blob::from([a, c].concat());
    peer.send(&ClientReply::Results { job: JOB, runs, outputs, failures: vec![] });
    taken.send(()).unwrap();
}

#[test]
fn an_interrupt_cancels_the_job_and_prints_what_is_complete() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (taken, is_taken) = mpsc::channel();
        let fake = Fake::start(move |peer| {
            take_three(peer, &taken);
            let Some((ClientRequest::Cancel { job: JOB }, _)) = peer.next() else {
                panic!("a cancel")
            };
            peer.send(&ClientReply::Cancelled { job: JOB, unresolved: 1 });
            assert!(peer.next().is_none(), "then it leaves");
        });
        let dir = three_files();
        let child =
            start(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "a", "b", "c"]));
        is_taken.recv().unwrap();
        signal_to(&child, signal);
        let ours = finish(child);
        assert_eq!(ours.out(), line(Algorithm::Sha256, b"a", "a"), "up to the first gap");
        assert_eq!((ours.code, &*ours.stderr), (4, "hashctl: interrupted\n"), "{signal}");
        fake.join();
    }
}

#[test]
fn a_controller_that_does_not_confirm_does_not_delay_the_exit() {
    for interrupts in [1, 2] {
        let (taken, is_taken) = mpsc::channel();
        let (cancelled, is_cancelled) = mpsc::channel();
        let fake = Fake::start(move |peer| {
            take_three(peer, &taken);
            assert!(matches!(peer.next(), Some((ClientRequest::Cancel { .. }, _))));
            cancelled.send(()).unwrap();
            assert!(peer.next().is_none());
        });
        let dir = three_files();
        let child =
            start(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "a", "b", "c"]));
        is_taken.recv().unwrap();
        signal_to(&child, Signal::SIGINT);
        is_cancelled.recv().unwrap();
        let begin = Instant::now();
        if interrupts > 1 {
            signal_to(&child, Signal::SIGINT);
        }
        let ours = finish(child);
        assert_eq!(ours.code, 4);
        match interrupts {
            1 => assert_eq!(ours.stderr, "hashctl: interrupted\n"),
            _ => assert!(begin.elapsed() < Duration::from_millis(1500), "it does not wait"),
        }
        fake.join();
    }
}

#[test]
fn an_interrupt_cancels_even_when_nobody_reads_the_output() {
    interrupt_unread(|mut stdout| {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.lines().count(), FILES as usize - 1, "what is complete");
        None
    });
}

#[test]
fn an_interrupt_ends_the_process_even_when_nobody_ever_reads_the_output() {
    interrupt_unread(Some);
}

const FILES: u32 = 3000;

/// Interrupts a run whose output does not fit its pipe, and which is given to `read` then.
fn interrupt_unread(read: impl FnOnce(ChildStdout) -> Option<ChildStdout>) {
    let (taken, is_taken) = mpsc::channel();
    let fake = Fake::start(move |peer| {
        peer.welcome(DESCRIPTORS);
        peer.open(JOB, Window { items: FILES, bytes: 0 }, 1);
        let mut received = 0;
        while received < FILES {
            let Some((ClientRequest::Items { items, .. }, _)) = peer.next() else {
                panic!("files")
            };
            received += u32::try_from(items.items_len()).unwrap();
        }
        let Some((ClientRequest::Finish { .. }, _)) = peer.next() else { panic!("a finish") };
        let runs = vec![Run { first: 0, len: FILES - 1 }];
        let outputs = Blob::from(vec![7; 32 * (FILES as usize - 1)]);
        peer.send(&ClientReply::Results { job: JOB, runs, outputs, failures: vec![] });
        taken.send(()).unwrap();
        let Some((ClientRequest::Cancel { .. }, _)) = peer.next() else { panic!("a cancel") };
        peer.send(&ClientReply::Cancelled { job: JOB, unresolved: 1 });
        assert!(peer.next().is_none(), "no second cancel");
    });
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let names = vec!["f"; FILES as usize];
    let mut child = start(hashctl(fake.socket()).current_dir(dir.path()).arg("sum").args(names));
    is_taken.recv().unwrap();
    // The pipe holds 64 KiB of the output, and is not read yet.
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 1]).unwrap();
    signal_to(&child, Signal::SIGINT);
    let unread = read(stdout);
    assert_eq!(finish(child).code, 4);
    drop(unread);
    fake.join();
}

#[test]
fn an_interrupt_ends_waiting_for_standard_input() {
    let (opened, is_opened) = mpsc::channel();
    let fake = Fake::start(move |peer| {
        peer.welcome(DESCRIPTORS);
        peer.open(JOB, Window { items: 100, bytes: 1 << 20 }, 1);
        opened.send(()).unwrap();
        assert!(matches!(peer.next(), Some((ClientRequest::Cancel { .. }, _))));
        peer.send(&ClientReply::Cancelled { job: JOB, unresolved: 0 });
    });
    let child = start(hashctl(fake.socket()).arg("sum").stdin(std::process::Stdio::piped()));
    is_opened.recv().unwrap();
    signal_to(&child, Signal::SIGINT);
    let mut child = child;
    let stdin = child.stdin.take();
    let ours = finish(child);
    assert_eq!((ours.code, &*ours.stderr), (4, "hashctl: interrupted\n"));
    drop(stdin);
    fake.join();
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_so() {
    let (taken, is_taken) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let fake = Fake::start(move |peer| {
        take_three(peer, &taken);
        may_go.recv().unwrap();
        let (runs, failures) = (vec![Run { first: 1, len: 1 }], vec![]);
        let outputs = Blob::from(digest(Algorithm::Sha256, b"b"));
        peer.send(&ClientReply::Results { job: JOB, runs, outputs, failures });
        peer.send(&ClientReply::Finished { job: JOB, items: 3, failed: 0 });
    });
    let dir = three_files();
    let script = "trap '' INT; exec \"$0\" \"$@\"";
    let mut command = shell(script, fake.socket(), &["sum", "a", "b", "c"]);
    let child = start(command.current_dir(dir.path()));
    is_taken.recv().unwrap();
    signal_to(&child, Signal::SIGINT);
    go.send(()).unwrap();
    let ours = finish(child);
    assert_eq!((ours.out().lines().count(), ours.code, &*ours.stderr), (3, 0, ""));
    fake.join();
}

#[test]
fn a_controller_that_stays_away_is_reported_with_the_number_of_missing_digests() {
    let (taken, _is_taken) = mpsc::channel();
    let fake = Fake::start(move |peer| take_three(peer, &taken));
    let dir = three_files();
    let args = ["sum", "--timeout", "1", "a", "b", "c"];
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(args));
    let lost = format!("hashctl: lost the controller at {}", fake.socket().display());
    let want = format!("{lost}; looking for it for 1 s\n{lost}; 2 of 3 files have no digest\n");
    assert_eq!((ours.code, &ours.stderr), (3, &want));
    assert_eq!(ours.out(), line(Algorithm::Sha256, b"a", "a"));
    fake.join();
}
