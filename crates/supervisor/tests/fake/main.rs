#![expect(unsafe_code, reason = "the ready descriptor is named by its number")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "part of a test: it fails by panicking"
)]
//! Stands in for the controller, a worker or the command of `local run`, by the name that it is
//! started under. It tells the test what happens to it, one line a datagram to `events` in the
//! directory `FAKE_TEST`: `NAME start PID ARGS…`, `NAME SIGNAL` for a signal, `NAME leaves` before
//! it exits; so lines of several fakes arrive in the order in which they were sent. It stays
//! connected to `life` beside it, which tells how long it lived, killed or not. `FAKE` holds words
//! that change what it does:
//!
//! - `NAME:die` writes to stderr and exits with 1 at once;
//! - `NAME:deaf` goes on after a signal;
//! - `NAME:mute` never listens, connects nor says that it is ready.
//!
//! The controller counts who connects to `worker.sock` as ready workers.

use ipc_proto::endpoint;
use ipc_proto::message::{ClientReply, ClientRequest, DrainOutcome, Planes, Status, WorkerStatus};
use nix::sys::signal::{SigSet, Signal};
use std::env;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::exit;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;
use test_kit::Peer;

fn main() {
    let mask: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    mask.thread_block().unwrap();
    let args: Vec<String> = env::args().collect();
    let program = PathBuf::from(&args[0]);
    let program = program.file_name().unwrap().to_str().unwrap();
    let name = match program {
        "hashcluster-controller" => "controller".to_owned(),
        "hashcluster-worker" => option(&args, "--name").unwrap(),
        _ => "command".to_owned(),
    };
    let test = PathBuf::from(env::var("FAKE_TEST").unwrap());
    let events = UnixDatagram::unbound().unwrap();
    events.connect(test.join("events")).unwrap();
    let tell = |what: &str| {
        events.send(format!("{name} {what}").as_bytes()).unwrap();
    };
    let mut life = UnixStream::connect(test.join("life")).unwrap();
    writeln!(life, "{name} gone {}", std::process::id()).unwrap();
    tell(&format!("start {} {}", std::process::id(), args[1..].join(" ")));
    if is_told(&name, "die") {
        eprintln!("{name}: told to die");
        exit(1);
    }
    match program {
        "hashcluster-controller" | "hashcluster-worker" if is_told(&name, "mute") => {}
        "hashcluster-controller" => serve(&args),
        "hashcluster-worker" => drop(thread::spawn(|| join(&env::args().collect::<Vec<_>>()))),
        _ => {
            let dir = env::var("HASHCLUSTER_RUNTIME_DIR").unwrap_or_default();
            tell(&format!("dir {dir}"));
        }
    }
    loop {
        let signal = mask.wait().unwrap();
        tell(signal.as_str());
        if !is_told(&name, "deaf") {
            tell("leaves");
            exit(if name == "command" { 7 } else { 0 });
        }
    }
}

/// Tells of what a thread of the controller is asked.
fn tell(what: &str) {
    let events = PathBuf::from(env::var("FAKE_TEST").unwrap()).join("events");
    UnixDatagram::unbound().unwrap().send_to(what.as_bytes(), events).unwrap();
}

fn is_told(name: &str, what: &str) -> bool {
    let told = env::var("FAKE").unwrap_or_default();
    told.split(' ').any(|word| word == format!("{name}:{what}"))
}

fn option(args: &[String], name: &str) -> Option<String> {
    args.iter().position(|arg| arg == name).and_then(|i| args.get(i + 1)).cloned()
}

fn socket(args: &[String], name: &str) -> PathBuf {
    PathBuf::from(option(args, "--runtime-dir").unwrap()).join(name)
}

/// A worker: connected for as long as it lives, to one controller after the other.
fn join(args: &[String]) {
    loop {
        if let Ok(stream) = UnixStream::connect(socket(args, endpoint::WORKER_SOCKET)) {
            let _ = std::io::Read::read(&mut &stream, &mut [0]);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

type Ready = Arc<(Mutex<u32>, Condvar)>;

fn serve(args: &[String]) {
    let [clients, workers] = [endpoint::CLIENT_SOCKET, endpoint::WORKER_SOCKET].map(|name| {
        let path = socket(args, name);
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    });
    let ready = Ready::default();
    let joined = ready.clone();
    thread::spawn(move || {
        let mut held = Vec::new();
        for worker in workers.incoming() {
            held.push(worker.unwrap());
            *joined.0.lock().unwrap() += 1;
            joined.1.notify_all();
        }
    });
    thread::spawn(move || {
        for client in clients.incoming() {
            let ready = ready.clone();
            thread::spawn(move || answer(client.unwrap(), &ready));
        }
    });
    let ready_fd = option(args, "--ready-fd").unwrap().parse().unwrap();
    // SAFETY: the supervisor opened it for us, and nothing else uses it.
    let ready_fd = unsafe { OwnedFd::from_raw_fd(ready_fd) };
    std::fs::File::from(ready_fd).write_all(b"ready\n").unwrap();
}

fn answer(client: UnixStream, ready: &Ready) {
    let mut peer = Peer::new(client);
    peer.welcome("", Planes::default());
    while let Some((request, _)) = peer.next_message() {
        let reply = match request {
            ClientRequest::WaitReady { workers: wanted, timeout_ms } => {
                let joined = ready.0.lock().unwrap();
                let limit = Duration::from_millis(timeout_ms.into());
                let waited = ready.1.wait_timeout_while(joined, limit, |joined| *joined < wanted);
                let (joined, waited) = waited.unwrap();
                ClientReply::Ready { workers: *joined, enough: !waited.timed_out() }
            }
            ClientRequest::Status => {
                let worker = |n| WorkerStatus { name: format!("w{n}"), ..WorkerStatus::default() };
                let pid = std::process::id();
                let workers = (1..=*ready.0.lock().unwrap()).map(worker).collect();
                ClientReply::Status(Box::new(Status { pid, workers, ..Status::default() }))
            }
            ClientRequest::Drain { worker, .. } => {
                tell(&format!("controller drains {worker}"));
                let outcome = DrainOutcome::Drained { passed_on: 0 };
                ClientReply::Drained { worker, outcome }
            }
            ClientRequest::Undrain { worker } => {
                tell(&format!("controller undrains {worker}"));
                ClientReply::Drained { worker, outcome: DrainOutcome::Undrained }
            }
            ClientRequest::Open { .. }
            | ClientRequest::Items { .. }
            | ClientRequest::Piece { .. }
            | ClientRequest::Finish { .. }
            | ClientRequest::Cancel { .. }
            | ClientRequest::Release { .. }
            | ClientRequest::Service { .. } => panic!("the supervisor opens no job"),
        };
        peer.send(&reply, &[]);
    }
}
