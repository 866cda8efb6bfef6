//! Clients that are too many, too fast, too slow, or never finished.

use crate::intruder::Intruder;
use crate::site::Site;
use crate::suite::{Boundary, Case, Cases};
use crate::user::{ALLOWED, STRANGER, as_user};
use crate::wire::{self, frame, golden, tag};
use ipc_proto::limits::FRAME_DESCRIPTORS_MAX;
use ipc_proto::message::{ClientReply, Versions};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use test_kit::{sparse_file, until};

/// Durations of floods.
const FLOOD: Duration = Duration::from_millis(400);
const LONG_FLOOD: Duration = Duration::from_secs(3);

const OTHERS_SERVED: &str = "others are served as before";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Client);
    connections(&mut cases);
    requests(&mut cases);
    unfinished(&mut cases);
    slow_readers(&mut cases);
    cases.done()
}

fn during(time: Duration, mut act: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < time {
        act();
    }
}

/// A hello of an honest client.
fn hello() -> Vec<u8> {
    frame(&wire::client_hello([Versions::OURS.max.into(); 2], b"flood").0)
}

fn connections(cases: &mut Cases) {
    for (name, uid) in
        [("connecting without end", ALLOWED), ("connecting without end, refused", STRANGER)]
    {
        cases.add_slow(name, OTHERS_SERVED, move |site| {
            let path = site.client_socket();
            as_user(uid, || during(LONG_FLOOD, || drop(UnixStream::connect(&path))));
        });
        cases.add_slow(format!("{name}, by four at once"), OTHERS_SERVED, move |site| {
            let path = site.client_socket();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        as_user(uid, || during(LONG_FLOOD, || drop(UnixStream::connect(&path))));
                    });
                }
            });
        });
    }
    cases.add("connecting, a hello, and away", OTHERS_SERVED, |site| {
        let path = site.client_socket();
        as_user(ALLOWED, || {
            during(FLOOD, || {
                Intruder::connect(&path).send(&hello());
            });
        });
    });
    for (name, bytes) in [
        ("200 connections without a word", Vec::new()),
        ("200 connections with half a hello", hello()[..9].to_vec()),
        ("200 connections with nothing after their hello", hello()),
    ] {
        cases.add_slow(name, OTHERS_SERVED, move |site| {
            let path = site.client_socket();
            let held = as_user(ALLOWED, || {
                let mut held: Vec<Intruder> = (0..200).map(|_| Intruder::connect(&path)).collect();
                held.iter_mut().for_each(|peer| peer.send(&bytes));
                held
            });
            serve_others(site);
            drop(held);
        });
    }
    cases.add_slow("every connection that there is room for", OTHERS_SERVED, |site| {
        let path = site.client_socket();
        let max = site.cluster().status().limits.clients_max;
        let held = as_user(ALLOWED, || {
            let connect = |_| {
                let stream = UnixStream::connect(&path).ok()?;
                ipc_socket::send(std::os::fd::AsFd::as_fd(&stream), &hello(), &[]).ok()?;
                Some(stream)
            };
            (0..max + 50).filter_map(connect).collect::<Vec<_>>()
        });
        serve_others(site);
        drop(held);
    });
}

/// The administrator is served while an attacker holds what it could get.
fn serve_others(site: &Site) {
    let start = Instant::now();
    site.client().is_served();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "a status took {took:?}");
    std::thread::sleep(FLOOD);
}

fn requests(cases: &mut Cases) {
    cases.add("asking for the status without end", OTHERS_SERVED, |site| {
        let path = site.client_socket();
        let mut peer = as_user(ALLOWED, || Intruder::client(&path));
        during(FLOOD, || peer.is_served());
    });
    cases.add("jobs opened and cancelled without end", OTHERS_SERVED, |site| {
        let path = site.client_socket();
        let mut peer = as_user(ALLOWED, || Intruder::client(&path));
        during(FLOOD, || {
            let (job, _) = peer.open_job(1);
            peer.say(&tag(4).job(job));
            assert!(matches!(peer.reply(), ClientReply::Cancelled { .. }));
        });
    });
    cases.add_slow(
        "thousands of idle jobs, and four clients that open and cancel",
        OTHERS_SERVED,
        |site| {
            let path = site.client_socket();
            let held = hold_jobs(&path, 62, 64);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut peer = as_user(ALLOWED, || Intruder::client(&path));
                        during(LONG_FLOOD, || {
                            peer.say(&tag(0).number(7).number(1).raw(&[1, 0, 0]));
                            let opened = loop {
                                match peer.reply() {
                                    ClientReply::Opened { job, .. } => break Some(job),
                                    ClientReply::Rejected { .. } => break None,
                                    _ => {}
                                }
                            };
                            opened.inspect(|job| peer.say(&tag(4).job(*job)));
                        });
                    });
                }
            });
            serve_others(site);
            drop(held);
        },
    );
    cases.add_slow(
        "idle jobs of one user that hold all windows",
        "another user's job is done at once",
        |site| {
            let held = hold_jobs(&site.client_socket(), 4, 64);
            std::thread::sleep(LONG_FLOOD);
            drop(held);
        },
    );
    cases.add(
        "jobs that are cancelled with thousands of items on their way",
        OTHERS_SERVED,
        |site| {
            let path = site.client_socket();
            let file = sparse_file(1 << 16);
            as_user(ALLOWED, || {
                during(FLOOD, || {
                    let mut peer = Intruder::client(&path);
                    let (job, window) = peer.open_job(1);
                    let frames = u64::from(window.items) / 253;
                    for number in 0..frames.min(8) {
                        let body =
                            tag(1).job(job).number(number * 253).raw(&[0, 0]).files(253, 1 << 16);
                        peer.send_with(&body.frame(), &vec![&file; 253]);
                    }
                    peer.say(&tag(4).job(job));
                });
            });
        },
    );
    cases.add(
        "clients that leave with thousands of messages on their way",
        OTHERS_SERVED,
        |site| {
            let path = site.client_socket();
            as_user(ALLOWED, || {
                during(FLOOD, || {
                    let mut peer = Intruder::client(&path);
                    let (job, window) = peer.open_job(1);
                    let count = window.items.min(4096) as usize;
                    let body = tag(1).job(job).number(0).number(1).number(count as u64);
                    peer.say(&body.raw(&vec![0; count]).blob(b""));
                });
            });
        },
    );
    for (name, algorithm, size) in [
        ("sparse files of 8 EiB, SHA-256", 1, i64::MAX as u64),
        ("sparse files of 8 EiB, BLAKE3", 5, i64::MAX as u64),
        ("sparse files of 1 TiB, SHA-512 and MD5", 3, 1 << 40),
    ] {
        cases.add_slow(name, "another user's job is done within moments", move |site| {
            let path = site.client_socket();
            // As long as the file system has them; the rest is a lie.
            let file = sparse_file(size.min(1 << 43));
            let mut peer = as_user(ALLOWED, || Intruder::client(&path));
            let (job, window) = peer.open_job(algorithm);
            for first in 0..u64::from(window.items).min(16) {
                let body = tag(1).job(job).number(first).raw(&[0, 0]).files(1, size);
                peer.send_with(&body.frame(), &[&file]);
            }
            std::thread::sleep(LONG_FLOOD);
        });
    }
}

/// Connections of an attacker with idle jobs on each.
fn hold_jobs(path: &Path, connections: usize, jobs: usize) -> Vec<Intruder> {
    as_user(ALLOWED, || {
        let hold = |_| {
            let mut peer = Intruder::client(path);
            (0..jobs).for_each(|_| peer.say(&tag(0).number(7).number(1).raw(&[1, 0, 0])));
            peer
        };
        (0..connections).map(hold).collect()
    })
}

fn unfinished(cases: &mut Cases) {
    cases.add_slow(
        "forty frames that are never finished, with all their descriptors",
        OTHERS_SERVED,
        |site| {
            let path = site.client_socket();
            let file = File::open("/dev/null").unwrap();
            let held = as_user(ALLOWED, || {
                let mut held: Vec<_> = (0..40).map(|_| Intruder::client(&path)).collect();
                for peer in &mut held {
                    peer.send_with(&[0, 0, 16, 0], &vec![&file; FRAME_DESCRIPTORS_MAX]);
                    for _ in 0..3 {
                        peer.send_with(&[1], &vec![&file; FRAME_DESCRIPTORS_MAX]);
                    }
                }
                held
            });
            serve_others(site);
            drop(held);
        },
    );
    cases.add_slow("frames of a megabyte that are never finished", OTHERS_SERVED, |site| {
        let path = site.client_socket();
        let held = as_user(ALLOWED, || {
            let mut held: Vec<_> = (0..100).map(|_| Intruder::client(&path)).collect();
            for peer in &mut held {
                peer.send(&[&[0, 0, 16, 0][..], &[1; 1 << 16]].concat());
            }
            held
        });
        serve_others(site);
        drop(held);
    });
    cases.add_slow("a frame of a byte per second", "closed after ten seconds", |site| {
        let mut peer = site.client();
        let body = golden("client_request/items/inline").remove(0).1;
        site.faulty(1, || {
            for byte in frame(&body).iter().take(12) {
                peer.send(&[*byte]);
                std::thread::sleep(Duration::from_secs(1));
            }
            assert!(peer.closed::<ClientReply>().is_empty());
        });
        site.logged("a frame was not whole after 10 s");
    });
    cases.add("a client that says no more, with results to come", "the results come", |site| {
        let mut peer = site.client();
        let (job, _) = peer.open_job(1);
        peer.say(&tag(1).job(job).number(0).raw(&[1, 1, 1]).blob(b"a"));
        peer.half_close();
        // Its end may come before its results, or after.
        peer.closed::<ClientReply>();
    });
}

fn slow_readers(cases: &mut Cases) {
    cases.add_slow("a client that asks and never reads", "it waits, nobody else does", |site| {
        let path = site.client_socket();
        let stream = as_user(ALLOWED, || UnixStream::connect(&path).unwrap());
        stream.set_nonblocking(true).unwrap();
        let fd = std::os::fd::AsFd::as_fd(&stream);
        ipc_socket::send(fd, &hello(), &[]).unwrap();
        let mut sent = 0_u64;
        during(LONG_FLOOD, || match ipc_socket::send(fd, &frame(&[5]), &[]) {
            Ok(_) => sent += 1,
            Err(_) => std::thread::yield_now(),
        });
        assert!(sent < 1 << 20, "{sent} questions were taken without an answer read");
        serve_others(site);
    });
    cases.add("a client that never reads its results", "it waits, nobody else does", |site| {
        let mut peer = site.client();
        let (job, window) = peer.open_job(1);
        let count = window.items.min(512) as usize;
        let body = tag(1).job(job).number(0).number(1).number(count as u64);
        peer.say(&body.raw(&vec![0; count]).blob(b""));
        std::thread::sleep(FLOOD);
        let mut results = 0;
        until("every result, once it is read", || {
            if let ClientReply::Results { runs, .. } = peer.reply() {
                results += runs.iter().map(|run| run.len as usize).sum::<usize>();
            }
            (results == count).then_some(())
        });
    });
}
