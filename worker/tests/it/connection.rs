//! Connecting, staying connected, and what a controller cannot do to a worker.

use crate::controller::{
    Controller, DEADLINE, NAME, Peer, Worker, assign, endless, file, stamp, welcome,
};
use engine::hash::Backend;
use ipc_proto::codec;
use ipc_proto::handshake::Refusal;
use ipc_proto::limits::{BODY_LEN_MAX, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use ipc_proto::message::{
    Backend as Chosen, LeaseId, Planes, RefuseReason, Work, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::Instant;
use test_kit::until;

fn check_works(peer: &mut Peer) {
    let source = file(b"abc");
    let lease = peer.assign_files(Algorithm::Blake3, &[(stamp(&source), &source)]);
    assert_eq!(peer.done(lease), (blake3::hash(b"abc").as_bytes().to_vec(), vec![]));
}

#[test]
fn a_worker_introduces_itself() {
    let controller = Controller::new();
    let token_file = controller.dir.path().join("token");
    test_kit::write_secret(&token_file, "secret\n");
    let options = ["--threads", "3", "--token-file", token_file.to_str().unwrap()];
    let worker = Worker::start(&controller, &options);
    let intro = controller.accept().hello();
    assert_eq!((&*intro.name, &*intro.token), (NAME, &b"secret"[..]));
    assert_eq!(intro.software, env!("CARGO_PKG_VERSION"));
    assert_eq!(i32::try_from(intro.pid).unwrap(), worker.pid().as_raw());
    assert_eq!(intro.threads, 3);
    assert!(intro.memory_bytes > 1 << 24, "{} bytes", intro.memory_bytes);
    assert_eq!(intro.planes, Planes { descriptors: true, inline: true, datasets: Vec::new() });
    let served: Vec<_> = intro.backends.iter().map(|backend| backend.algorithm).collect();
    assert_eq!(served, Algorithm::ALL);
    let known: Vec<_> = Backend::available().iter().map(|backend| backend.name()).collect();
    let said = worker.backends();
    for Chosen { algorithm, backend, interleave_max } in intro.backends {
        let is_alone = algorithm == Algorithm::Blake3 || backend == "portable";
        assert!(
            interleave_max >= 1 && !(is_alone && interleave_max > 1),
            "{algorithm}: {interleave_max} by {backend}"
        );
        assert!(backend.split('/').all(|name| known.contains(&name)), "{algorithm} by {backend}");
        let lines = said.iter().filter(|line| names(line, algorithm.name()));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{algorithm} in {said:?}");
        assert!(backend.split('/').all(|name| lines[0].contains(name)), "{backend} in {lines:?}");
    }
}

/// Returns true if `line` lists the backends of the algorithm `name`.
fn names(line: &str, name: &str) -> bool {
    let (_, text) = line.split_once(": backends for ").expect("it says what it is");
    let (algorithms, _) = text.split_once(": ").expect("and which they are");
    algorithms.split(", ").any(|algorithm| algorithm == name)
}

#[test]
fn a_forced_backend_is_used_for_exactly_the_algorithms_it_serves() {
    for &backend in Backend::available() {
        let controller = Controller::new();
        let worker = Worker::start(&controller, &["--backend", backend.name()]);
        let mut peer = controller.accept();
        for chosen in peer.hello().backends {
            let of_that_name = |other: &&Backend| other.name() == backend.name();
            let mut named = Backend::available().iter().filter(of_that_name);
            let is_served = named.any(|named| named.serves(chosen.algorithm));
            let is_taken = chosen.backend == backend.name();
            assert_eq!(is_taken, is_served, "{} by {}", chosen.algorithm, chosen.backend);
        }
        assert!(worker.backends().iter().any(|line| line.contains(backend.name())));
        peer.send(&welcome(), &[]);
        peer.credit();
        check_works(&mut peer);
    }
}

#[test]
fn a_worker_over_vsock_introduces_itself_and_hashes_inline_bytes() {
    let controller = Controller::new();
    let _worker = Worker::start_behind_device(&controller, 5000, "sha256:00ff");
    let mut peer = controller.accept();
    peer.lead_to(5000);
    let intro = peer.hello();
    assert_eq!(intro.planes, Planes { descriptors: false, inline: true, datasets: Vec::new() });
    assert_eq!(intro.image, "sha256:00ff");
    peer.send(&welcome(), &[]);
    peer.credit();
    let work = Work::Inline { lens: vec![3], data: Blob(b"abc".to_vec()) };
    let lease = peer.assign(Algorithm::Blake3, work, &[]);
    assert_eq!(peer.done(lease), (blake3::hash(b"abc").as_bytes().to_vec(), vec![]));
}

#[test]
fn a_worker_redials_until_the_device_reaches_its_controller() {
    let controller = Controller::new();
    let worker = Worker::start_behind_device(&controller, 5000, "");
    // Nobody listens in the VM; then it boots, and does not answer.
    drop(controller.accept());
    worker.says("no program in it listens on this port; trying until there is one");
    let mute = controller.accept();
    worker.says("the VM does not answer in 2 seconds; trying until there is one");
    drop(mute);
    let mut peer = controller.accept();
    peer.lead_to(5000);
    peer.hello();
    peer.send(&welcome(), &[]);
    worker.says("connected to the controller at vsock-unix:");
    peer.credit();
    worker.says_no_more();
}

#[test]
fn a_worker_waits_for_its_controller_and_logs_that_once() {
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::start_in(dir.path(), &[]);
    worker.says("no connection to the controller");
    let controller = Controller::in_dir(dir);
    let (mut peer, _) = controller.welcome();
    worker.says("connected to the controller");
    check_works(&mut peer);
    worker.says_no_more();
}

#[test]
fn a_worker_reconnects_after_a_controller_crash_and_drops_old_leases() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, credit) = controller.welcome();
    worker.says("connected");
    let before = worker.open_descriptors();
    for _ in 0..credit {
        let days = endless();
        peer.assign_files(Algorithm::Sha256, &[(stamp(&days), &days)]);
    }
    let Controller { dir, .. } = controller;
    drop(peer);
    worker.says("lost the controller");
    let controller = Controller::in_dir(dir);
    let (mut peer, again) = controller.welcome();
    assert_eq!(again, credit);
    check_works(&mut peer);
    worker.awaits_open_descriptors(before);
}

/// The worker resolves no path after its start: it stays in the directory.
#[test]
fn a_worker_follows_a_moved_runtime_directory_and_exits_when_it_is_removed() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("run");
    fs::create_dir(&dir).unwrap();
    let mut worker = Worker::start_in(&dir, &[]);
    worker.says("no connection to the controller");
    let moved = parent.path().join("moved");
    fs::rename(&dir, &moved).unwrap();
    let listener = UnixListener::bind(moved.join("worker.sock")).unwrap();
    let (mut controller, _) = listener.accept().unwrap();
    // A hello that has arrived and is not read: the worker waits for a reply by now.
    controller.read_exact(&mut [0]).unwrap();
    drop(controller);
    worker.says("connection reset");
    drop(listener);
    fs::remove_dir_all(&moved).unwrap();
    fs::create_dir(&dir).unwrap();
    let removed = "run/worker.sock was removed; start this worker again";
    until("the worker sees it", || worker.next_line().contains(removed).then_some(()));
    assert_eq!(worker.exit().code(), Some(1));
}

#[test]
fn retries_while_its_name_is_taken() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &[]);
    for _ in 0..3 {
        let mut peer = controller.accept();
        peer.hello();
        let refusal = Refusal::new(RefuseReason::NameTaken, "a living worker has this name");
        peer.send(&refusal.into_reply(), &[]);
    }
    let (mut peer, _) = controller.welcome();
    worker.says("a living worker has this name");
    worker.says("connected");
    check_works(&mut peer);
}

#[test]
fn a_final_refusal_ends_the_worker_with_one_log_line() {
    for (reason, text) in [
        (RefuseReason::Forbidden, "uid 1234 is not allowed"),
        (RefuseReason::Version, "no common protocol version"),
    ] {
        let controller = Controller::new();
        let mut worker = Worker::start(&controller, &[]);
        let mut peer = controller.accept();
        peer.hello();
        peer.send(&Refusal::new(reason, text).into_reply(), &[]);
        assert_eq!(worker.exit().code(), Some(1));
        worker.says_after(
            "error: the controller at ",
            &format!("refuses this worker: {text}; "),
            "refused",
        );
        worker.says_no_more();
    }
}

#[test]
fn heartbeats_continue_while_every_thread_is_busy() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    let days = endless();
    // BLAKE3 reports no checkpoints.
    peer.assign_files(Algorithm::Blake3, &[(stamp(&days), &days)]);
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(peer.any_reply(), Some(WorkerReply::Heartbeat));
        peer.send(&WorkerRequest::Heartbeat, &[]);
    }
    assert!(start.elapsed() < 3 * HEARTBEAT_INTERVAL + HEARTBEAT_TIMEOUT);
}

#[test]
fn a_silent_controller_is_disconnected_and_redialled() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    let start = Instant::now();
    while peer.any_reply().is_some() {
        assert!(start.elapsed() < DEADLINE);
    }
    assert!(start.elapsed() + HEARTBEAT_INTERVAL > HEARTBEAT_TIMEOUT, "not before its time");
    worker.says("no sign of life in 5 seconds");
    let (mut peer, _) = controller.welcome();
    check_works(&mut peer);
}

#[test]
fn a_killed_worker_is_noticed_at_once() {
    let controller = Controller::new();
    let mut worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    worker.kill();
    peer.closed();
}

#[test]
fn a_signal_ends_a_worker_that_has_no_controller() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::start_in(dir.path(), &[]);
    worker.says("no connection");
    kill(worker.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(worker.exit().code(), Some(0));
}

/// A frame around `body`.
fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// An `Assign` of lease 1-1 to `algorithm` (its wire number), with `work` as encoded.
fn encoded(algorithm: u8, work: &[u8]) -> Vec<u8> {
    frame(&[&[0, 1, 1, 1, 1, algorithm], work, &[0, 0]].concat())
}

#[test]
fn malformed_messages_cost_the_controller_only_its_connection() {
    const BLAKE3: u8 = 5;
    let mut whole = Vec::new();
    let work = Work::Inline { lens: vec![3], data: Blob(b"abc".to_vec()) };
    let request = assign(LeaseId { epoch: 1, number: 1 }, 1, Algorithm::Sha256, work);
    codec::encode_frame(&request, &mut whole).unwrap();
    let body = &whole[4..];
    let oversize = u32::try_from(BODY_LEN_MAX + 1).unwrap().to_le_bytes();
    let mut cases = vec![
        ("an empty frame", vec![0; 4], "frame of length 0"),
        ("the longest length", vec![0xff; 4], "frame of 4294967295 bytes"),
        ("a length just too long", oversize.to_vec(), "frame of 1048577 bytes"),
        ("an unknown message", frame(&[9]), "malformed"),
        ("an unknown algorithm", encoded(99, &[1, 0, 0]), "malformed"),
        ("unknown work", encoded(BLAKE3, &[9]), "malformed"),
        ("a trailing byte", frame(&[body, &[0]].concat()), "1 bytes after the message"),
        ("a length that lies", encoded(BLAKE3, &[1, 1, 3, 253, 0, 0, 0, 0, 0, 0, 0, 255]), ""),
        ("no messages", encoded(0, &[1, 0, 0]), "messages is 0"),
        ("lengths of other bytes", encoded(0, &[1, 1, 4, 3, 1, 2, 3]), "sum of lengths"),
        ("a file without its descriptor", encoded(0, &[0, 0, 1, 0, 0, 0, 0]), "with 0 descriptors"),
        ("a range beyond its file", encoded(0, &[0, 0, 1, 9, 0, 0, 1, 5, 5]), "end of a range"),
        (
            "a subtree beyond its file",
            encoded(BLAKE3, &[2, 0, 100, 0, 0, 0, 0, 101]),
            "subtree end",
        ),
        ("a merge of nothing", encoded(BLAKE3, &[4, 1, 0, 1]), "values is 0"),
        ("a ragged segment", encoded(0, &[4, 2, 0, 1, 7, 0]), "segment length modulo 128"),
    ];
    for cut in 0..body.len() {
        cases.push(("a cut message", frame(&body[..cut]), ""));
    }
    let controller = Controller::new();
    let worker = Worker::start(&controller, &[]);
    for (what, bytes, text) in cases {
        let (mut peer, _) = controller.welcome();
        worker.says("connected");
        // A sign of life first: a controller that was good once is asked again soon.
        peer.send(&WorkerRequest::Heartbeat, &[]);
        peer.send_raw(&bytes, &[]);
        peer.closed();
        let line = format!("warning: lost the controller at {}", controller.dir.path().display());
        worker.says_after(&line, text, what);
    }
    let (mut peer, _) = controller.welcome();
    check_works(&mut peer);
}

#[test]
fn unclaimed_descriptors_are_closed_with_the_connection() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &[]);
    let source = file(b"x");
    let (mut peer, _) = controller.welcome();
    worker.says("connected");
    let before = worker.open_descriptors();
    for _ in 0..3 {
        let mut bytes = Vec::new();
        codec::encode_frame(&WorkerRequest::Heartbeat, &mut bytes).unwrap();
        peer.send_raw(&bytes, &[source.as_fd(); 253]);
        peer.closed();
        worker.says("descriptors that no message claims");
        peer = controller.welcome().0;
        worker.says("connected");
        worker.awaits_open_descriptors(before);
    }
}

#[test]
fn a_malformed_welcome_fails_the_handshake() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &[]);
    let mut peer = controller.accept();
    peer.hello();
    peer.send_raw(&frame(&[7; 20]), &[]);
    peer.closed();
    worker.says("no connection to the controller");
    let mut peer = controller.accept();
    peer.hello();
    drop(peer);
    let mut peer = controller.accept();
    peer.hello();
    peer.send(&welcome(), &[]);
    assert!(matches!(peer.reply(), WorkerReply::Credit { .. }));
    check_works(&mut peer);
}
