//! A controller whose every byte the test chooses, and a worker process that belongs to it.

use ipc_proto::message::{
    Failures, FileSource, HelloReply, LeaseId, Message, Role, Stamp, Work, WorkerIntro,
    WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Family};
use nix::sys::stat::fstat;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;
use tempfile::TempDir;
use test_kit::FakeController;
pub(crate) use test_kit::{DEADLINE, file, pattern, until};

pub(crate) const NAME: &str = "under-test";

/// A controller in its own directory.
pub(crate) struct Controller {
    pub(crate) dir: TempDir,
    fake: FakeController,
}

impl Controller {
    pub(crate) fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap())
    }

    pub(crate) fn in_dir(dir: TempDir) -> Self {
        let fake = FakeController::listen(dir.path().join("worker.sock"));
        Self { dir, fake }
    }

    /// The next connection, before a byte was exchanged on it.
    pub(crate) fn accept(&self) -> Peer {
        Peer { fake: self.fake.accept(), leases: 0 }
    }

    /// The next connection, welcomed, with the credit that it gave.
    pub(crate) fn welcome(&self) -> (Peer, u16) {
        let mut peer = self.accept();
        peer.hello();
        peer.send(&welcome(), &[]);
        let batches = peer.credit();
        (peer, batches)
    }
}

pub(crate) fn welcome() -> HelloReply {
    test_kit::welcome("", test_kit::DESCRIPTORS)
}

/// Reply of a worker to one batch.
pub(crate) struct Answer {
    pub(crate) lease: LeaseId,
    pub(crate) credit: u16,
    pub(crate) outputs: Vec<u8>,
    pub(crate) failures: Failures,
}

/// One connection of a worker.
pub(crate) struct Peer {
    fake: test_kit::Peer,
    leases: u64,
}

impl Peer {
    /// Answers as the vsock device between the worker and the controller.
    pub(crate) fn lead_to(&mut self, port: u32) {
        self.fake.play_device(port);
    }

    pub(crate) fn hello(&mut self) -> WorkerIntro {
        let Role::Worker(intro) = self.fake.hello() else { panic!("a worker, not a client") };
        intro
    }

    pub(crate) fn send<M: Message>(&mut self, message: &M, descriptors: &[BorrowedFd<'_>]) {
        self.fake.send(message, descriptors);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        self.fake.send_bytes(bytes, descriptors);
    }

    /// Assigns a batch and gives its lease.
    pub(crate) fn assign(
        &mut self,
        algorithm: Algorithm,
        work: Work,
        descriptors: &[BorrowedFd<'_>],
    ) -> LeaseId {
        self.leases += 1;
        let lease = LeaseId { epoch: 1, number: self.leases };
        self.send(&assign(lease, 1, algorithm, work), descriptors);
        lease
    }

    pub(crate) fn assign_files(
        &mut self,
        algorithm: Algorithm,
        files: &[(Stamp, &File)],
    ) -> LeaseId {
        let descriptors: Vec<_> = files.iter().map(|(_, file)| file.as_fd()).collect();
        let files = files.iter().map(|&(stamp, _)| stamp.into()).collect();
        self.assign(algorithm, Work::Files { source: FileSource::Descriptors, files }, &descriptors)
    }

    /// The next message that is not a heartbeat.
    pub(crate) fn reply(&mut self) -> WorkerReply {
        loop {
            match self.any_reply() {
                Some(WorkerReply::Heartbeat) => self.send(&WorkerRequest::Heartbeat, &[]),
                Some(reply) => return reply,
                None => panic!("the worker closed the connection"),
            }
        }
    }

    /// The next message, or `None` at the end of the stream.
    pub(crate) fn any_reply(&mut self) -> Option<WorkerReply> {
        self.fake.next_message().map(|(reply, _)| reply)
    }

    /// The outcome of a batch, which must be the next answer and give one credit.
    #[track_caller]
    pub(crate) fn done(&mut self, want: LeaseId) -> (Vec<u8>, Failures) {
        let answer = self.answer();
        assert_eq!((answer.lease, answer.credit), (want, 1));
        (answer.outputs, answer.failures)
    }

    /// The next message, which must be the outcome of a batch.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let reply = self.reply();
        let WorkerReply::Done { lease, attempt: 1, credit, outputs, failures, .. } = reply else {
            panic!("a batch is done, not {reply:?}");
        };
        Answer { lease, credit, outputs: outputs.0, failures }
    }

    /// The next message, which must give credit.
    #[track_caller]
    pub(crate) fn credit(&mut self) -> u16 {
        let reply = self.reply();
        let WorkerReply::Credit { batches } = reply else { panic!("credit, not {reply:?}") };
        batches
    }

    /// Waits until the worker closes the connection.
    pub(crate) fn closed(&mut self) {
        let start = Instant::now();
        while self.any_reply().is_some() {
            assert!(start.elapsed() < DEADLINE, "still open");
        }
    }
}

/// A worker process, killed when the test is over.
pub(crate) struct Worker {
    child: Child,
    lines: Receiver<String>,
    backends: Receiver<String>,
    reading: Receiver<String>,
}

impl Worker {
    pub(crate) fn start(controller: &Controller, options: &[&str]) -> Self {
        Self::start_in(controller.dir.path(), options)
    }

    pub(crate) fn start_in(dir: &Path, options: &[&str]) -> Self {
        Self::start_as(Command::new(test_kit::program("hashcluster-worker")), dir, options)
    }

    /// `command` is the worker, without options.
    pub(crate) fn start_as(mut command: Command, dir: &Path, options: &[&str]) -> Self {
        command.arg("--runtime-dir").arg(dir).args(["--name", NAME]).args(options);
        Self::spawn(&mut command)
    }

    /// A worker that reaches its controller through a vsock device.
    pub(crate) fn start_behind_device(controller: &Controller, port: u32, image: &str) -> Self {
        let device = controller.dir.path().join("worker.sock");
        let mut command = Command::new(test_kit::program("hashcluster-worker"));
        command.arg("--connect").arg(format!("vsock-unix:{}:{port}", device.display()));
        Self::spawn(command.args(["--name", NAME]).env("HASHCLUSTER_IMAGE", image))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let ((sender, lines), (chosen, backends)) = (channel(), channel());
        let (how, reading) = channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| {
                if line.contains(": reads ") {
                    return how.send(line);
                }
                if line.contains(": sandbox: ") {
                    return Ok(());
                }
                let is_choice = line.contains(": backends for ");
                if is_choice { &chosen } else { &sender }.send(line)
            })
        });
        Self { child, lines, backends, reading }
    }

    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Lines that it logged about its backends, one per family of algorithms.
    pub(crate) fn backends(&self) -> [String; Family::ALL.len()] {
        Family::ALL.map(|_| self.backends.recv_timeout(DEADLINE).expect("a line in time"))
    }

    /// The line that it logged about how it reads.
    pub(crate) fn reading(&self) -> String {
        self.reading.recv_timeout(DEADLINE).expect("a line in time")
    }

    /// The next line that the worker logs.
    pub(crate) fn next_line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a line in time")
    }

    /// The next line that the worker logs must contain `text`.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        let line = self.lines.recv_timeout(DEADLINE).expect("a line in time");
        assert!(line.contains(text), "'{text}' is not in '{line}'");
    }

    /// The next line must start with `start`, behind the program's name, and contain `text`.
    #[track_caller]
    pub(crate) fn says_after(&self, start: &str, text: &str, what: &str) {
        let line = self.lines.recv_timeout(DEADLINE).expect("a line in time");
        let said = line.strip_prefix("hashcluster-worker: ").expect("the program's name");
        assert!(said.starts_with(start) && said.contains(text), "{what}: {line}");
    }

    /// Nothing that was not asked for was logged, and nothing will be.
    #[track_caller]
    pub(crate) fn says_no_more(self) {
        let Self { lines, .. } = &self;
        let more: Vec<_> = lines.try_iter().collect();
        assert!(more.is_empty(), "{more:?}");
    }

    /// Waits until it exits by itself and returns its status.
    #[track_caller]
    pub(crate) fn exit(&mut self) -> ExitStatus {
        let pid = self.pid();
        let (sender, done) = channel::<()>();
        let watchdog = thread::spawn(move || {
            if done.recv_timeout(DEADLINE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        });
        let status = self.child.wait().unwrap();
        drop(sender);
        watchdog.join().unwrap();
        status
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until as many descriptors are open, as they are closed by threads of their own.
    pub(crate) fn awaits_open_descriptors(&self, want: usize) {
        until("descriptors are closed", || (self.open_descriptors() == want).then_some(()));
    }

    pub(crate) fn open_descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Descriptors that the kernel's table of them has room for.
    pub(crate) fn descriptor_table_len(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let len = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        len.trim().parse().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn assign(
    lease: LeaseId,
    attempt: u32,
    algorithm: Algorithm,
    work: Work,
) -> WorkerRequest {
    let (algorithms, strict_reads) = (algorithm.into(), false);
    WorkerRequest::Assign { lease, attempt, algorithms, work, check: false, strict_reads }
}

/// A subtree of a passed file.
pub(crate) fn subtree(file: Stamp, offset: u64, len: u64) -> Work {
    Work::Subtree { source: FileSource::Descriptors, file: file.into(), offset, len }
}

pub(crate) fn stamp(file: &File) -> Stamp {
    let stat = fstat(file).unwrap();
    Stamp {
        size: stat.st_size.try_into().unwrap(),
        mtime_ns: stat.st_mtime * 1_000_000_000 + stat.st_mtime_nsec,
        ctime_ns: stat.st_ctime * 1_000_000_000 + stat.st_ctime_nsec,
    }
}

/// The same file by a descriptor that cannot write, and is the only one: it is read once.
pub(crate) fn read_only(file: &File) -> File {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

/// A file that takes days to hash and no space.
pub(crate) fn endless() -> File {
    test_kit::sparse_file(1 << 43)
}
