//! Many peers, hostile peers, few descriptors.

use client::{Address, Client, Event, JobOptions};
use ipc_proto::codec::encode_frame;
use ipc_proto::endpoint::{CLIENT_SOCKET, Endpoint, WORKER_SOCKET};
use ipc_proto::message::{ClientIntro, ClientRequest, Hello, Items, JobId, Role, Stamp};
use ipc_proto::{Algorithm, Blob};
use ipc_socket::Connection;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;
use test_kit::{
    Cluster, DEADLINE, FakeWorker, MessageJob, Options, bin, lingering_socket, output, text, until,
    worker_role,
};

/// Looks in a row that have to find the controller asleep.
const IDLE_LOOKS: u32 = 20;

fn open_files(cluster: &Cluster) -> usize {
    fs::read_dir(format!("/proc/{}/fd", cluster.controller.id())).unwrap().count()
}

/// True if every thread of the controller waits for an event: none runs, and none is ready to run.
fn is_asleep(cluster: &Cluster) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", cluster.controller.id())).unwrap();
    tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap()).all(|stat| {
        // Behind the name, which is in brackets (proc_pid_stat(5)).
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
    })
}

fn resident_kib(cluster: &Cluster) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.controller.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn client_role() -> Role {
    Role::Client(ClientIntro { software: "test".to_owned(), token: Blob::default() })
}

fn hello() -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&Hello::new(client_role()), &mut frame).unwrap();
    frame
}

#[test]
fn a_peer_that_breaks_the_protocol_is_closed_counted_and_logged_and_nobody_else_notices() {
    let cluster = Cluster::start(Options::default());
    let mut good = cluster.client();
    let files_before = open_files(&cluster);
    let memory_before = resident_kib(&cluster);
    let mut status_frame = Vec::new();
    encode_frame(&ClientRequest::Status, &mut status_frame).unwrap();
    let mut after_hello: Vec<Vec<u8>> = vec![
        vec![0; 4],
        vec![0xff; 4],
        vec![1, 0, 0, 0, 99],
        vec![2, 0, 0, 0, 5, 0],
        // A list of files whose length lies: 2^64 - 1 of them.
        [&[15, 0, 0, 0, 1, 0, 0, 0, 0, 0, 253][..], &[0xff; 8]].concat(),
        // A message of files without descriptors.
        [&[11, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0][..]].concat(),
    ];
    let big = {
        let mut frame = Vec::new();
        let lens = vec![5; 100];
        let data = Blob(vec![7; 500]);
        let items = Items::Inline { lens, data };
        let message = ClientRequest::Items { job: JobId::default(), first: 0, items };
        encode_frame(&message, &mut frame).unwrap();
        frame
    };
    after_hello.extend((1..big.len()).step_by(37).map(|cut| big[..cut].to_vec()));
    let faulty = after_hello.len() as u64;
    for bytes in after_hello {
        let mut peer = UnixStream::connect(cluster.client_socket()).unwrap();
        peer.write_all(&hello()).unwrap();
        let mut welcome = [0; 4];
        peer.read_exact(&mut welcome).unwrap();
        peer.write_all(&bytes).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // Closed: at its end or reset, but not left open.
        if let Err(error) = peer.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{bytes:?}");
        }
    }
    for cut in 0..hello().len() {
        let mut peer = UnixStream::connect(cluster.client_socket()).unwrap();
        peer.write_all(&hello()[..cut]).unwrap();
    }
    until("the count of faulty peers", || {
        (cluster.status().counters.peers_faulty >= faulty).then_some(())
    });
    assert!(cluster.logs().contains("closed: "), "{}", cluster.logs());
    good.status().unwrap();
    until("every descriptor closed", || (open_files(&cluster) <= files_before).then_some(()));
    let grown = resident_kib(&cluster).saturating_sub(memory_before);
    assert!(grown < 4096, "the controller grew by {grown} KiB");
}

#[test]
fn the_wrong_socket_a_taken_name_and_silence_are_refused_in_words() {
    let cluster = Cluster::start(Options::default());
    let worker_socket = cluster.dir().join(WORKER_SOCKET);
    let refusal = |path: &Path, role| {
        Connection::open(&Endpoint::Unix(path.to_owned()), role).unwrap_err().to_string()
    };
    assert!(refusal(&worker_socket, client_role()).contains("workers' socket"));
    assert!(refusal(&cluster.client_socket(), worker_role("x")).contains("clients' socket"));
    assert!(refusal(&worker_socket, worker_role("w0")).contains("connected already"));
    let mut silent = UnixStream::connect(cluster.client_socket()).unwrap();
    let mut words = Vec::new();
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    silent.read_to_end(&mut words).unwrap();
    assert!(text(&words).contains("no hello in time"));
    assert_eq!(cluster.status().counters.peers_refused, 4);
}

#[test]
fn two_hundred_clients_on_a_controller_with_64_files_cost_little_and_leave_it_serving() {
    let options = Options { controller_ulimit: Some("-n 64"), ..Options::default() };
    let cluster = Cluster::start(options);
    let peers: Vec<UnixStream> =
        (0..200).map(|_| UnixStream::connect(cluster.client_socket()).unwrap()).collect();
    for mut peer in &peers {
        // Those that were refused by now do not take it.
        let _ = peer.write_all(&hello());
    }
    let mut looks = 0;
    until("an idle controller", || {
        looks = if is_asleep(&cluster) { looks + 1 } else { 0 };
        (looks == IDLE_LOOKS).then_some(())
    });
    drop(peers);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    until("service", || {
        let sum = output(cluster.hashctl().args(["sum", "a"]).current_dir(&dir));
        sum.status.success().then_some(())
    });
}

#[test]
fn a_thousand_workers_are_served_at_once() {
    let cluster = Cluster::start(Options { workers: 0, ..Options::default() });
    let mut workers: Vec<FakeWorker> = (0..1000)
        .map(|i| {
            let mut worker = FakeWorker::join(&cluster, &format!("w{i:04}"));
            worker.give_credit(1);
            worker
        })
        .collect();
    cluster.wait_ready(1000);
    let mut job = MessageJob::on(&cluster);
    (0..1000).for_each(|_| job.send(1, 1));
    for worker in &mut workers {
        let lease = worker.next_lease();
        worker.finish(lease, 9);
    }
    assert_eq!(job.finish(), 1000);
    assert!(cluster.status().workers.iter().all(|worker| worker.items == 1));
}

#[test]
fn a_descriptor_that_takes_minutes_to_close_makes_nobody_wait() {
    let cluster = Cluster::start(Options::default());
    let mut others = cluster.client();
    let mut other_ends = Vec::new();
    for with_a_frame in [false, true] {
        let (socket, other_end) = lingering_socket();
        other_ends.push(other_end);
        // It closes last, and not this test: it takes nothing until the descriptor here is closed.
        let controller = Pid::from_raw(i32::try_from(cluster.controller.id()).unwrap());
        let signal = |signal| kill(controller, signal).unwrap();
        if with_a_frame {
            let (submitter, mut replies) = cluster.client().split();
            let mut job = submitter.open(Algorithm::Sha256, JobOptions::default()).unwrap();
            while !matches!(replies.receive().unwrap(), Some(Event::Opened { .. })) {}
            signal(Signal::SIGSTOP);
            job.send_files(&[Stamp::default()], &[&socket], &[1]).unwrap();
            drop(socket);
            signal(Signal::SIGCONT);
            job.finish().unwrap();
            while !matches!(replies.receive().unwrap(), Some(Event::Finished { .. })) {}
        } else {
            let peer = UnixStream::connect(cluster.client_socket()).unwrap();
            signal(Signal::SIGSTOP);
            ipc_socket::send(peer.as_fd(), &[0; 4], &[socket.as_fd()]).unwrap();
            drop(socket);
            signal(Signal::SIGCONT);
            peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            (&peer).read_to_end(&mut Vec::new()).expect("it is refused and closed");
        }
        others.status().unwrap();
        let mut job = MessageJob::on(&cluster);
        job.send(1, 10);
        job.receive();
        job.finish();
    }
}

#[test]
fn hundreds_of_unfinished_frames_take_little_memory_and_leave_others_served() {
    let cluster = Cluster::start(Options::default());
    let (mut others, mut job) = (cluster.client(), MessageJob::on(&cluster));
    let memory_before = resident_kib(&cluster);
    // A frame of 1 MiB, as much of it as the socket's buffer takes.
    let start = [hello(), (1_u32 << 20).to_le_bytes().to_vec(), vec![7; 1 << 20]].concat();
    let peers: Vec<UnixStream> = (0..800)
        .map(|_| {
            let mut peer = UnixStream::connect(cluster.client_socket()).unwrap();
            peer.set_nonblocking(true).unwrap();
            // Who has its share of connections is refused and closed.
            let _ = peer.write(&start);
            peer
        })
        .collect();
    for _ in 0..100 {
        others.status().unwrap();
        job.round_trip();
        for mut peer in &peers {
            let _ = peer.write(&[7; 4096]);
        }
    }
    let status = others.status().unwrap();
    assert!(status.limits.clients > 100 && status.counters.peers_refused > 100, "{status:?}");
    let grown = resident_kib(&cluster).saturating_sub(memory_before);
    assert!(grown < 40 << 10, "the controller grew by {grown} KiB");
    drop(peers);
    job.finish();
}

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (_reader, log) = io::pipe().unwrap();
    let set = |flags| fcntl(&log, FcntlArg::F_SETFL(flags)).unwrap();
    set(OFlag::O_NONBLOCK);
    while (&log).write(&[b'x'; 4096]).is_ok() {}
    set(OFlag::empty());
    let start = |name, args: &[&str]| {
        let mut command = Command::new(bin(name));
        command.arg("--runtime-dir").arg(dir.path()).args(args);
        Killed(command.stderr(log.try_clone().unwrap()).spawn().unwrap())
    };
    let mut controller = start("hashcluster-controller", &[]);
    let address = Address::unix(dir.path().join(CLIENT_SOCKET)).unwrap();
    let mut client = until("a controller", || Client::connect(&address).ok());
    let mut worker = start("hashcluster-worker", &["--name", "w1"]);
    assert!(client.wait_ready(1, DEADLINE).unwrap().enough);
    for _ in 0..3000 {
        let mut peer = UnixStream::connect(dir.path().join(CLIENT_SOCKET)).unwrap();
        let _ = peer.write_all(&[0; 4]);
    }
    assert_eq!(client.status().unwrap().workers.len(), 1);
    for Killed(child) in [&mut worker, &mut controller] {
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status =
            until("its end although its last words are not taken", || child.try_wait().unwrap());
        assert!(status.success(), "{status:?}");
    }
}

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}
