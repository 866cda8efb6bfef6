//! Windows, order and bounds, with a controller that is told when to answer.

use crate::engine::Engine;
use crate::fake::{DESCRIPTORS, Fake, INLINE, Peer};
use crate::oracle::{digest, line};
use crate::program::{finish, hashctl, run, start};
use ipc_proto::message::{ClientReply, ClientRequest, JobId, Run, Window};
use ipc_proto::{Algorithm, Blob};
use std::fs;
use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::tempdir;
use test_kit::Polled;

/// So long nothing comes from a client that has to wait.
const QUIET: Duration = Duration::from_millis(300);

const JOB: JobId = JobId { epoch: 1, number: 2 };

fn open(peer: &mut Peer, items: u32, workers: u32) {
    peer.open(JOB, Window { items, bytes: 1 << 20 }, workers);
}

fn resolve(peer: &mut Peer, first: u64, count: u32, content: &[u8]) {
    let outputs = digest(Algorithm::Sha256, content).repeat(count as usize);
    let runs = vec![Run { first, len: count }];
    let (outputs, failures) = (Blob::from(outputs), vec![]);
    peer.send(&ClientReply::Results { job: JOB, runs, outputs, failures });
}

fn finish_job(peer: &mut Peer, items: u64) {
    let Some((ClientRequest::Finish { job: JOB }, _)) = peer.next() else { panic!("a finish") };
    peer.send(&ClientReply::Finished { job: JOB, items, failed: 0 });
}

/// Hashes one file three times.
fn check_three(fake: Fake<()>) {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "f", "f", "f"]));
    assert_eq!(ours.out(), line(Algorithm::Sha256, b"x", "f").repeat(3));
    assert_eq!((ours.code, &*ours.stderr), (0, ""));
    fake.join();
}

#[test]
fn waits_while_the_window_is_empty() {
    let fake = Fake::start(|peer| {
        peer.welcome(DESCRIPTORS);
        open(peer, 0, 1);
        assert!(matches!(peer.poll_next(QUIET), Polled::Silent), "nothing may be sent");
        let window = Window { items: 2, bytes: 1 << 20 };
        peer.send(&ClientReply::Window { job: JOB, window });
        let Some((ClientRequest::Items { first: 0, items, .. }, _)) = peer.next() else {
            panic!("files")
        };
        assert_eq!(items.items_len(), 2, "as many as the window holds");
        assert!(matches!(peer.poll_next(QUIET), Polled::Silent), "the window is full");
        resolve(peer, 1, 1, b"x");
        let Some((ClientRequest::Items { first: 2, .. }, _)) = peer.next() else { panic!("more") };
        resolve(peer, 0, 1, b"x");
        resolve(peer, 2, 1, b"x");
        finish_job(peer, 3);
    });
    check_three(fake);
}

#[test]
fn a_window_of_fewer_items_than_wait_takes_messages_in_pieces() {
    let fake = Fake::start(|peer| {
        peer.welcome(INLINE);
        open(peer, 2, 1);
        for (first, count) in [(0, 2), (2, 1)] {
            let message = peer.next();
            let Some((ClientRequest::Items { first: at, items, .. }, _)) = message else {
                panic!("{message:?}")
            };
            assert_eq!((at, items.items_len()), (first, usize::try_from(count).unwrap()));
            resolve(peer, first, count, b"x");
        }
        finish_job(peer, 3);
    });
    check_three(fake);
}

#[test]
fn a_job_that_waits_two_seconds_for_its_window_says_so_unless_it_is_to_be_quiet() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    fs::write(dir.path().join("m"), line(Algorithm::Sha256, b"x", "f")).unwrap();
    let says = "hashctl: waiting: other jobs of this user have all the room at the controller; \
                see hashctl status\n";
    let waits = Duration::from_millis(2500);
    for (args, wait, want) in [
        (&["sum", "f"][..], waits, says),
        (&["sum", "f"], QUIET, ""),
        (&["check", "--quiet", "m"], waits, ""),
        (&["check", "--status", "m"], waits, ""),
    ] {
        let fake = Fake::start(move |peer| {
            peer.welcome(DESCRIPTORS);
            open(peer, 0, 1);
            assert!(matches!(peer.poll_next(wait), Polled::Silent), "nothing may be sent");
            let window = Window { items: 2, bytes: 1 << 20 };
            peer.send(&ClientReply::Window { job: JOB, window });
            assert!(peer.next().is_some());
            resolve(peer, 0, 1, b"x");
            finish_job(peer, 1);
        });
        let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(args));
        assert_eq!((ours.code, &*ours.stderr), (0, want), "{args:?}");
        fake.join();
    }
}

#[test]
fn workers_that_come_in_time_are_not_missed() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let fake = Engine { workers: 0, ..Engine::default() }.start();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "f", "f"]));
    let want = line(Algorithm::Sha256, b"x", "f").repeat(2);
    assert_eq!((ours.out(), ours.code, &*ours.stderr), (want, 0, ""));
}

#[test]
fn output_starts_while_later_files_still_wait() {
    let (go, wait) = mpsc::channel();
    let fake = Fake::start(move |peer| {
        peer.welcome(DESCRIPTORS);
        open(peer, 4096, 1);
        let mut received = 0;
        while received < 500 {
            let Some((ClientRequest::Items { first, items, .. }, _)) = peer.next() else {
                panic!("files")
            };
            let len = u32::try_from(items.items_len()).unwrap();
            assert!(first > 0 || len <= 16, "the first frame is small, not {len}");
            received += u64::from(len);
            if first == 0 {
                resolve(peer, 0, len, b"x");
                wait.recv().unwrap();
            } else {
                resolve(peer, first, len, b"x");
            }
        }
        finish_job(peer, received);
    });
    let dir = tempdir().unwrap();
    for i in 0..500 {
        fs::write(dir.path().join(format!("{i:03}")), "x").unwrap();
    }
    let mut child = start(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "-r", "."]));
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert_eq!(first, line(Algorithm::Sha256, b"x", "./000"));
    go.send(()).unwrap();
    assert_eq!(stdout.lines().count(), 499);
    assert_eq!(finish(child).code, 0);
    fake.join();
}

#[test]
fn a_slow_file_holds_back_a_bounded_number_of_results() {
    const ENTRIES_MAX: u64 = 65_536;
    const LINES: u64 = 80_000;
    let fake = Fake::start(|peer| {
        peer.welcome(DESCRIPTORS);
        open(peer, u32::MAX, 1);
        let mut received = 0;
        loop {
            match peer.poll_next(QUIET) {
                Polled::Message(ClientRequest::Items { items, first, .. }, _) => {
                    received += items.items_len() as u64;
                    if first > 0 {
                        resolve(peer, first, u32::try_from(items.items_len()).unwrap(), b"x");
                    } else {
                        resolve(peer, 1, u32::try_from(items.items_len()).unwrap() - 1, b"x");
                    }
                }
                Polled::Silent => break,
                other @ (Polled::Message(..) | Polled::Gone) => panic!("{other:?}"),
            }
        }
        assert!((ENTRIES_MAX..ENTRIES_MAX + 253).contains(&received), "{received} are held");
        resolve(peer, 0, 1, b"x");
        while received < LINES {
            let Some((ClientRequest::Items { items, first, .. }, _)) = peer.next() else {
                panic!("files")
            };
            received += items.items_len() as u64;
            resolve(peer, first, u32::try_from(items.items_len()).unwrap(), b"x");
        }
        finish_job(peer, received);
    });
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let manifest = line(Algorithm::Sha256, b"x", "f").repeat(usize::try_from(LINES).unwrap());
    fs::write(dir.path().join("m"), manifest).unwrap();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["check", "m"]));
    assert_eq!(ours.out(), "f: OK\n".repeat(usize::try_from(LINES).unwrap()));
    let counts = format!("hashctl: {LINES} files: {LINES} OK\n");
    assert_eq!((ours.code, &*ours.stderr), (0, &*counts));
    fake.join();
}

#[test]
fn an_invalid_result_is_never_printed() {
    type Lie = fn(&mut Peer);
    let lies: [(&str, Lie); 4] = [
        ("twice", |peer| {
            resolve(peer, 1, 1, b"x");
            resolve(peer, 1, 1, b"x");
        }),
        ("of nothing", |peer| resolve(peer, 7, 1, b"x")),
        ("too short", |peer| {
            let (runs, outputs) = (vec![Run { first: 0, len: 1 }], Blob::from(vec![7; 20]));
            peer.send(&ClientReply::Results { job: JOB, runs, outputs, failures: vec![] });
        }),
        ("too early an end", |peer| {
            peer.send(&ClientReply::Finished { job: JOB, items: 2, failed: 0 });
        }),
    ];
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    for (what, lie) in lies {
        let fake = Fake::start(move |peer| {
            peer.welcome(DESCRIPTORS);
            open(peer, 4096, 1);
            assert!(peer.next().is_some());
            lie(peer);
            while peer.next().is_some() {}
        });
        let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "f", "f"]));
        assert_eq!((ours.code, &*ours.out()), (3, ""), "{what}");
        assert!(ours.stderr.contains("makes no sense"), "{what}: {}", ours.stderr);
        assert!(ours.stderr.contains("; 2 of 2 files have no digest\n"), "{}", ours.stderr);
        fake.join();
    }
}
