//! Descriptors passed as files that are no files, do not hold still, or make others wait.

use crate::intruder::Intruder;
use crate::site::Site;
use crate::suite::{Boundary, Case, Cases};
use crate::user::{ALLOWED, STRANGER, as_user};
use crate::wire::{Body, frame, golden, tag};
use ipc_proto::limits::FRAME_DESCRIPTORS_MAX;
use ipc_proto::message::{ClientReply, Failure, Failures, JobId};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::EventFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_kit::{file, lingering_socket, pattern};

const SHA256: u8 = 1;
const BLAKE3: u8 = 5;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Descriptors);
    no_files(&mut cases);
    directories(&mut cases);
    lies(&mut cases);
    moving(&mut cases);
    miscounted(&mut cases);
    that_hang(&mut cases);
    cases.done()
}

/// Passes `descriptors` as the files of a job, all of `size` bytes as far as anybody is told; what
/// becomes of each.
fn hash<F: AsFd + Sync>(
    site: &Site,
    algorithm: u8,
    descriptors: &[F],
    size: u64,
) -> Vec<Result<String, Failure>> {
    let path = site.client_socket();
    let mut peer = as_user(ALLOWED, || Intruder::client(&path));
    let (job, mut window) = peer.open_job(algorithm);
    let mut outcomes = vec![Err(Failure::Unsupported); descriptors.len()];
    let (mut sent, mut resolved) = (0, 0);
    while resolved < descriptors.len() {
        let room =
            (window.items as usize).saturating_sub(sent - resolved).min(FRAME_DESCRIPTORS_MAX);
        let next = &descriptors[sent..descriptors.len().min(sent + room)];
        if !next.is_empty() {
            let body = tag(1).job(job).number(sent as u64).raw(&[0, 0]);
            peer.send_with(&body.files(next.len() as u64, size).frame(), next);
            sent += next.len();
            continue;
        }
        let (runs, outputs, failures) = match peer.reply() {
            ClientReply::Results { runs, outputs, failures, .. } => (runs, outputs, failures),
            ClientReply::Window { window: wider, .. } => {
                window = wider;
                continue;
            }
            other => panic!("{other:?} instead of results"),
        };
        let items = runs.iter().flat_map(|run| run.first..run.first + u64::from(run.len));
        let mut digests = outputs.chunks(32);
        for (position, item) in (0..).zip(items) {
            let outcome = match failed(&failures, position) {
                Some(failure) => Err(failure),
                None => Ok(digests.next().unwrap().iter().map(|b| format!("{b:02x}")).collect()),
            };
            outcomes[usize::try_from(item).unwrap()] = outcome;
            resolved += 1;
        }
    }
    outcomes
}

fn failed(failures: &Failures, position: u32) -> Option<Failure> {
    failures.iter().find(|(at, _)| *at == position).map(|(_, failure)| *failure)
}

/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Something that can be passed and is not a regular file open for reading.
type Make = fn(&Site) -> OwnedFd;

fn no_files(cases: &mut Cases) {
    const NO_FILE: &str = "NotRegular";
    const NOT_READABLE: &str = "Io { errno: 9 }";
    const NO_READING: &str = "Io { errno: 22 }";
    let kinds: [(&str, Make, &'static str); 19] = [
        (
            "a file without the right to read it",
            |_| opened("/etc/passwd", libc::O_PATH),
            NOT_READABLE,
        ),
        ("a symbolic link", |_| opened("/proc/self/exe", libc::O_PATH | libc::O_NOFOLLOW), NO_FILE),
        ("a file that is open for writing only", write_only, NOT_READABLE),
        ("the reading end of a pipe", |_| io::pipe().unwrap().0.into(), NO_FILE),
        ("the writing end of a pipe", |_| io::pipe().unwrap().1.into(), NO_FILE),
        ("a Unix socket", |_| UnixStream::pair().unwrap().0.into(), NO_FILE),
        ("a listening Unix socket", listening, NO_FILE),
        (
            "a TCP socket that listens",
            |_| TcpListener::bind("127.0.0.1:0").unwrap().into(),
            NO_FILE,
        ),
        ("a UDP socket", |_| UdpSocket::bind("127.0.0.1:0").unwrap().into(), NO_FILE),
        ("an epoll instance", |_| Epoll::new(EpollCreateFlags::empty()).unwrap().0, NO_FILE),
        ("an event counter", |_| EventFd::new().unwrap().into(), NO_FILE),
        ("a terminal", |_| opened("/dev/ptmx", libc::O_NOCTTY), NO_FILE),
        ("/dev/null", |_| opened("/dev/null", 0), NO_FILE),
        ("/dev/zero, which never ends", |_| opened("/dev/zero", 0), NO_FILE),
        ("/dev/full", |_| opened("/dev/full", 0), NO_FILE),
        ("/dev/fuse", |_| opened("/dev/fuse", 0), NO_FILE),
        ("a FIFO", fifo, NO_FILE),
        ("a namespace", |_| opened("/proc/self/ns/net", 0), NO_READING),
        (
            "the workers' own socket",
            |s| UnixStream::connect(s.worker_socket()).unwrap().into(),
            NO_FILE,
        ),
    ];
    for (name, make, expected) in kinds {
        cases.add(name, expected, move |site| {
            let descriptor = make(site);
            let outcomes = hash(site, SHA256, &[&descriptor, &descriptor], 100);
            for outcome in outcomes {
                let failure = format!("{:?}", outcome.expect_err("it is no regular file"));
                assert_eq!(failure, expected);
            }
        });
    }
}

/// From a directory, a worker that was taken over could reach what this user may read.
fn directories(cases: &mut Cases) {
    for (name, flags) in [("a directory", 0), ("a directory without rights", libc::O_PATH)] {
        cases.add(name, CLOSED, move |site| {
            let path = site.client_socket();
            site.faulty(1, || {
                let mut peer = as_user(ALLOWED, || Intruder::client(&path));
                let (job, _) = peer.open_job(SHA256);
                peer.send_with(&files(job, 1).frame(), &[opened("/etc", flags)]);
                assert!(peer.closed::<ClientReply>().is_empty());
            });
            site.logged("sent a directory");
        });
    }
}

fn opened(path: &str, flags: i32) -> OwnedFd {
    OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap().into()
}

fn write_only(site: &Site) -> OwnedFd {
    File::create(site.data().join("written")).unwrap().into()
}

fn listening(site: &Site) -> OwnedFd {
    UnixListener::bind(site.data().join(format!("listening{}", site.fresh()))).unwrap().into()
}

fn fifo(site: &Site) -> OwnedFd {
    let path = site.data().join(format!("fifo{}", site.fresh()));
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    OpenOptions::new().read(true).write(true).open(path).unwrap().into()
}

/// Files that are not what their stamp says.
fn lies(cases: &mut Cases) {
    for (name, algorithm, size) in [
        ("a short file said to be of 8 EiB", SHA256, i64::MAX as u64),
        ("a short file said to be of 16 EiB", SHA256, u64::MAX),
        ("a short file said to be of 8 EiB, BLAKE3", BLAKE3, i64::MAX as u64),
        ("a short file said to be of 16 EiB, BLAKE3", BLAKE3, u64::MAX),
        ("a short file said to be of 1 GiB, BLAKE3", BLAKE3, 1 << 30),
    ] {
        cases.add(name, "its digest, or Changed", move |site| {
            let short = file(b"");
            for outcome in hash(site, algorithm, &[short], size) {
                match outcome {
                    Err(failure) => assert_eq!(failure, Failure::Changed),
                    Ok(digest) => assert_eq!((algorithm, &*digest), (SHA256, EMPTY)),
                }
            }
        });
    }
    cases.add("a file said to be empty", "its digest", |site| {
        let outcomes = hash(site, SHA256, &[file(b"abc")], 0);
        assert!(
            matches!(&outcomes[..], [Ok(digest)] if digest.starts_with("ba7816bf")),
            "{outcomes:?}"
        );
    });
    cases.add("the same file 253 times", "253 digests", |site| {
        let empty = file(b"");
        let outcomes = hash(site, SHA256, &vec![&empty; 253], 0);
        assert!(outcomes.iter().all(|outcome| outcome.as_deref() == Ok(EMPTY)), "{outcomes:?}");
    });
    cases.add("a file whose name is gone", "its digest", |site| {
        let path = site.data().join("gone");
        fs::write(&path, "").unwrap();
        let gone = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(hash(site, SHA256, &[gone], 0), [Ok(EMPTY.to_owned())]);
    });
    for path in ["/proc/kmsg", "/proc/self/mem", "/proc/self/pagemap", "/proc/kcore"] {
        cases.add(path, "a digest or an error, at once", move |site| {
            // Not every system has each of them.
            let Ok(file) = File::open(path) else { return };
            let size = file.metadata().unwrap().len().min(1 << 20);
            let start = Instant::now();
            let outcomes = hash(site, SHA256, &[file], size);
            let took = start.elapsed();
            assert!(
                path == "/proc/kcore" || took < Duration::from_secs(8),
                "{took:?} {outcomes:?}"
            );
        });
    }
}

/// Files that change while they are read.
fn moving(cases: &mut Cases) {
    for (name, algorithm) in [("a memory file", SHA256), ("a memory file, BLAKE3", BLAKE3)] {
        cases.add(
            format!("{name} that shrinks while it is read"),
            "a digest or Changed",
            move |site| {
                let moving = memory_file(4 << 20);
                let size = 4 << 20;
                let outcomes = meanwhile(
                    || drop((moving.set_len(0), moving.set_len(size))),
                    || hash(site, algorithm, &[&moving, &moving, &moving], size),
                );
                let is_plain =
                    |o: &Result<String, Failure>| matches!(o, Ok(_) | Err(Failure::Changed));
                assert!(outcomes.iter().all(is_plain), "{outcomes:?}");
            },
        );
    }
    cases.add_slow(
        "a file that is rewritten without a pause",
        "the digest of a state it had, or Changed",
        |site| {
            let moving = file(&vec![0; 60_000]);
            let states = [file(&vec![0; 60_000]), file(&vec![1; 60_000])];
            let states = hash(site, SHA256, &states, 60_000);
            let values = [AtomicBool::new(false)];
            let outcomes = meanwhile(
                || {
                    let value = u8::from(values[0].fetch_xor(true, Ordering::Relaxed));
                    moving.write_all_at(&vec![value; 60_000], 0).unwrap();
                },
                || hash(site, SHA256, &vec![&moving; 100], 60_000),
            );
            let is_torn =
                |o: &&Result<String, Failure>| !states.contains(o) && **o != Err(Failure::Changed);
            let torn: BTreeSet<_> =
                outcomes.iter().filter(is_torn).map(|o| format!("{o:?}")).collect();
            assert!(torn.is_empty(), "digests of no state: {torn:?}");
        },
    );
    cases.add_slow(
        "a cross-checked memory file that is rewritten",
        "no worker is blamed",
        |site| {
            let moving = memory_file(1 << 20);
            let path = site.client_socket();
            let mut next = 0_u64;
            let before = site.counters().workers_quarantined;
            meanwhile(
                || {
                    next += 1;
                    moving.write_all_at(&next.to_le_bytes(), 512).unwrap();
                },
                || {
                    let mut peer = as_user(ALLOWED, || Intruder::client(&path));
                    peer.say(&tag(0).number(7).number(1).raw(&[1, 1, 0]));
                    let ClientReply::Opened { job, .. } = peer.reply() else { panic!("no job") };
                    for first in 0..300 {
                        let body = tag(1).job(job).number(first).raw(&[0, 0]).files(1, 1 << 20);
                        peer.send_with(&body.frame(), &[&moving]);
                    }
                    peer.say(&tag(3).job(job));
                    while !matches!(peer.reply(), ClientReply::Finished { .. }) {}
                },
            );
            assert_eq!(site.counters().workers_quarantined, before, "{}", site.said());
        },
    );
}

fn memory_file(len: usize) -> File {
    let file = File::from(memfd_create("moving", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all_at(&pattern(len), 0).unwrap();
    file
}

/// Runs `act` while another thread repeats `disturb`.
fn meanwhile<T>(mut disturb: impl FnMut() + Send, act: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            as_user(ALLOWED, || {
                while !is_over.load(Ordering::Relaxed) {
                    disturb();
                }
            });
        });
        let acted = panic::catch_unwind(AssertUnwindSafe(act));
        is_over.store(true, Ordering::Relaxed);
        acted.unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

const CLOSED: &str = "closed, counted as faulty, and none of them stays open";

/// A message of files of a job, about this many.
fn files(job: JobId, count: u64) -> Body {
    tag(1).job(job).number(0).raw(&[0, 0]).files(count, 1)
}

fn miscounted(cases: &mut Cases) {
    for (name, said, passed) in [
        ("fewer descriptors than files", 3, 2),
        ("files without a descriptor", 1, 0),
        ("more descriptors than files", 2, 5),
        ("all descriptors of a frame for one file", 1, 253),
    ] {
        cases.add(name, CLOSED, move |site| {
            site.faulty(1, || {
                let mut peer = site.client();
                let (job, _) = peer.open_job(SHA256);
                peer.send_with(
                    &files(job, said).frame(),
                    &(0..passed).map(|_| file(b"x")).collect::<Vec<_>>(),
                );
                peer.half_close();
                assert!(peer.closed::<ClientReply>().is_empty());
            });
        });
    }
    for label in ["status", "finish", "wait_ready", "items/inline", "items/dataset", "open/sha256"]
    {
        let body = golden(&format!("client_request/{label}")).remove(0).1;
        cases.add(format!("descriptors on {label}"), CLOSED, move |site| {
            site.faulty(1, || {
                let mut peer = site.client();
                peer.send_with(&frame(&body), &(0..100).map(|_| file(b"x")).collect::<Vec<_>>());
                peer.half_close();
                peer.closed::<ClientReply>();
            });
        });
    }
    cases.add("descriptors on the second byte of their frame", "closed or served", |site| {
        let mut peer = site.client();
        let (job, _) = peer.open_job(SHA256);
        let frame = files(job, 1).frame();
        peer.send(&frame[..1]);
        peer.send_with(&frame[1..], &[file(b"x")]);
        peer.half_close();
        peer.closed::<ClientReply>();
    });
    cases.add("descriptors before their frame", "closed or served", |site| {
        let mut peer = site.client();
        let (job, _) = peer.open_job(SHA256);
        peer.send_with(&tag(5).frame(), &[file(b"x"), file(b"x")]);
        peer.say(&files(job, 2));
        peer.half_close();
        peer.closed::<ClientReply>();
    });
    cases.add(
        "a socket that has itself on its way",
        "fails with NotRegular, and is closed",
        |site| {
            let path = site.client_socket();
            let stream = UnixStream::connect(&path).unwrap();
            let other = stream.try_clone().unwrap();
            let hello = frame(&golden("example/hello").remove(0).1);
            // Repeated as fast as it goes, it may be refused before it has said anything.
            let _ = ipc_socket::send(stream.as_fd(), &hello, &[other.as_fd()]);
            drop((stream, other));
        },
    );
    cases.add("sockets that are on their way in each other", "they are closed", |site| {
        let (a, b) = UnixStream::pair().unwrap();
        ipc_socket::send(a.as_fd(), &[1], &[b.as_fd(), a.as_fd()]).unwrap();
        ipc_socket::send(b.as_fd(), &[1], &[a.as_fd(), b.as_fd()]).unwrap();
        let outcomes = hash(site, SHA256, &[a, b], 1);
        assert_eq!(outcomes, [Err(Failure::NotRegular), Err(Failure::NotRegular)]);
    });
}

/// Sends `bytes` with a socket that takes ten minutes to close, and lets go of it; the other end, whose
/// own close ends all that.
fn send_lingering(peer: &mut Intruder, bytes: &[u8]) -> TcpStream {
    let (socket, other_end) = lingering_socket();
    peer.send_with(bytes, &[&socket]);
    // Should the controller have let go of it by now, it is this thread that waits.
    thread::spawn(move || drop(socket));
    other_end
}

/// Descriptors that make whoever closes them wait.
fn that_hang(cases: &mut Cases) {
    const NOBODY_WAITS: &str = "closed, and nobody waits for that";
    cases.add("sockets that take ten minutes to close, as files", NOBODY_WAITS, |site| {
        let mut peer = site.client();
        let (job, _) = peer.open_job(SHA256);
        let _other_end = send_lingering(&mut peer, &files(job, 1).frame());
        let reply = format!("{:?}", peer.reply());
        assert!(reply.contains("NotRegular"), "{reply}");
        site.client().is_served();
    });
    cases.add("sockets that take ten minutes to close, unclaimed", NOBODY_WAITS, |site| {
        let mut peer = site.client();
        let _other_end = send_lingering(&mut peer, &tag(5).frame());
        peer.closed::<ClientReply>();
        site.client().is_served();
    });
    for uid in [ALLOWED, STRANGER] {
        let name = format!("a socket that takes ten minutes to close, before a hello of uid {uid}");
        cases.add(name, NOBODY_WAITS, move |site| {
            let path = site.client_socket();
            let mut peer = as_user(uid, || Intruder::connect(&path));
            let _other_end = send_lingering(&mut peer, &[0; 4]);
            peer.refused();
            site.client().is_served();
        });
    }
    cases.add_slow("forty sockets that take ten minutes to close", NOBODY_WAITS, |site| {
        let other_ends: Vec<TcpStream> = (0..40)
            .map(|_| {
                let mut peer = site.client();
                let other_end = send_lingering(&mut peer, &tag(5).frame());
                peer.closed::<ClientReply>();
                other_end
            })
            .collect();
        site.client().is_served();
        thread::sleep(Duration::from_secs(1));
        drop(other_ends);
    });
}
