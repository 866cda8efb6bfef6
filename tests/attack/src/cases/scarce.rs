//! A controller that lacks what others took from it: memory, threads, a log, a directory of its own.

use crate::intruder::Intruder;
use crate::suite::{Boundary, Case, Cases};
use crate::user::{ALLOWED, STRANGER, as_user};
use crate::wire::{self, frame};
use ipc_proto::message::Versions;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use test_kit::{Cluster, DEADLINE, Ended, MessageJob, Options, Running, bin, output, until};

/// Memory that a controller must never need more than, in KiB.
const MEMORY_KIB: u64 = 192 << 10;

/// Connections of an attacker with many users.
const CONNECTIONS: u32 = 4096;
const USERS: u32 = 64;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Resources);
    cases.add_slow(
        "4,096 connections of 64 users, each with a frame that never ends",
        "the controller stays below 192 MiB, and its own user is served",
        |_| connections(),
    );
    cases.add_slow("a log that is full", "work goes on without it", |_| full_log());
    cases.add_slow(
        "no further process or thread for the user of a worker",
        "it says so and ends",
        |_| no_threads(),
    );
    cases.add_slow("a state directory of another user", "refused, with its owner", |_| {
        let said = state_dir(|dir| chown(dir, Some(STRANGER), None).unwrap());
        assert!(said.contains(&format!("uid {STRANGER}")), "{said}");
    });
    cases.add_slow("a state directory that others can write to", "refused, with its mode", |_| {
        let said =
            state_dir(|dir| fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap());
        assert!(said.contains("0777"), "{said}");
    });
    cases.add_slow("a journal that is a link to a file of others", "refused", |_| {
        let target = tempfile::NamedTempFile::new().unwrap();
        fs::write(target.path(), "theirs").unwrap();
        let path = target.path().to_owned();
        state_dir(move |dir| symlink(&path, dir.join("journal.redb")).unwrap());
        assert_eq!(fs::read(target.path()).unwrap(), b"theirs");
    });
    cases.done()
}

fn connections() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    let users = (0..USERS).map(|user| ALLOWED + 100 + user);
    let allow = users.clone().map(|uid| format!("--allow-uid={uid}"));
    let cluster = Cluster::start(Options {
        controller_ulimit: Some("-n 16384"),
        controller_args: allow.collect(),
        ..Options::default()
    });
    let path = cluster.client_socket();
    fs::set_permissions(cluster.dir(), Permissions::from_mode(0o755)).unwrap();
    let hello = frame(&wire::client_hello([Versions::OURS.max.into(); 2], b"many").0);
    // A frame of the greatest length, of which a part comes.
    let unfinished = [&((1_u32 << 20) - 1).to_le_bytes()[..], &[0; 32 << 10]].concat();
    let hold = |uid| {
        as_user(uid, || {
            let connect = |_| {
                let stream = UnixStream::connect(&path).ok()?;
                stream.set_nonblocking(true).ok()?;
                for bytes in [&hello, &unfinished] {
                    // What does not fit the socket stays unsent, as of a slow peer.
                    ipc_socket::send(stream.as_fd(), bytes, &[]).ok();
                }
                Some(stream)
            };
            (0..CONNECTIONS / USERS).filter_map(connect).collect::<Vec<_>>()
        })
    };
    let held: Vec<UnixStream> = users.flat_map(hold).collect();
    assert!(held.len() > 1000, "{} connections only", held.len());
    let mut own = Intruder::client(&path);
    own.is_served();
    MessageJob::on(&cluster).round_trip();
    let peak = memory_kib(cluster.controller.id());
    assert!(peak < MEMORY_KIB, "{peak} KiB with {} connections", held.len());
    drop(held);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}

/// The most memory that a process had at once.
fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn full_log() {
    let dir = tempfile::tempdir().unwrap();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let start = |program: &str, args: &[&str]| {
        let mut command = Command::new(bin(program));
        command.arg("--runtime-dir").arg(dir.path()).args(["--syslog", "off"]).args(args);
        command.stdin(Stdio::null()).stdout(full()).stderr(full());
        Killed(command.spawn().unwrap())
    };
    let _controller = start("hashcluster-controller", &[]);
    let _worker = start("hashcluster-worker", &["--name", "w", "--threads", "1"]);
    let sum = || {
        let mut hashctl = Command::new(bin("hashctl"));
        output(hashctl.env("HASHCLUSTER_RUNTIME_DIR", dir.path()).args(["sum", "/etc/passwd"]))
    };
    until("a digest", || sum().status.success().then_some(()));
    // Peers that are refused are logged.
    for _ in 0..100 {
        let mut stranger = Intruder::connect(&dir.path().join("client.sock"));
        stranger.send(&[0xff; 64]);
    }
    assert!(sum().status.success());
}

/// A program that ends with its case.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn no_threads() {
    let cluster = Cluster::start(Options { workers: 1, ..Options::default() });
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(ALLOWED), Some(ALLOWED)).unwrap();
    let socket = dir.path().join("worker.sock");
    // Nobody listens there: with threads it would connect again and again.
    let id = ALLOWED.to_string();
    let mut worker = Command::new("setpriv");
    worker.args(["--reuid", &id, "--regid", &id, "--clear-groups", "prlimit", "--nproc=1"]);
    worker.arg(bin("hashcluster-worker")).args(["--name", "w", "--threads", "4", "--connect"]);
    worker.arg(format!("unix:{}", socket.display()));
    let ended = Running::start(worker.stdin(Stdio::null()), Duration::from_secs(15)).end();
    assert!(!ended.status.success() && !ended.stderr.contains("panicked"), "{ended:?}");
    assert!(ended.stderr.contains("start of a thread"), "{ended:?}");
    MessageJob::on(&cluster).round_trip();
}

/// Error of a controller that refuses a state directory which `spoil` was at.
fn state_dir(spoil: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
    spoil(&state);
    let mut controller = Command::new(bin("hashcluster-controller"));
    controller.arg("--runtime-dir").arg(dir.path()).arg("--state-dir").arg(&state);
    let Ended { status, stderr, .. } =
        Running::start(controller.stdin(Stdio::null()), DEADLINE).end();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}
