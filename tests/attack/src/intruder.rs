//! The attacker's end of a connection to the real controller.

use crate::wire::{self, Body};
use ipc_proto::message::{
    ClientReply, Hello, HelloReply, JobId, Message, RefuseReason, Role, Versions, Window,
    WorkerIntro, WorkerRequest,
};
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;
use test_kit::{Peer, Polled};

/// The longest that the controller may take to close a connection or to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A connection on which everything may be sent.
pub(crate) struct Intruder {
    stream: UnixStream,
    peer: Peer,
}

impl Intruder {
    /// Connects; where the backlog is full, again.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("{}: {error}", path.display()),
            }
        };
        Self::on(stream)
    }

    /// The attacker's end of `stream`.
    pub(crate) fn on(stream: UnixStream) -> Self {
        let peer = Peer::new(stream.try_clone().unwrap());
        Self { stream, peer }
    }

    /// Connects as a client, and is admitted.
    pub(crate) fn client(path: &Path) -> Self {
        let mut client = Self::connect(path);
        let version = Versions::OURS.max.into();
        client.send(&wire::client_hello([version; 2], b"attack").frame());
        client.welcome();
        client
    }

    /// Connects as a worker, and is admitted.
    pub(crate) fn worker(path: &Path, intro: WorkerIntro) -> Self {
        let mut worker = Self::connect(path);
        worker.peer.send(&Hello::new(Role::Worker(intro)), &[]);
        worker.welcome();
        worker
    }

    fn welcome(&mut self) {
        let reply = self.receive::<HelloReply>();
        assert!(matches!(reply, Some(HelloReply::Welcome(_))), "{reply:?} instead of a welcome");
    }

    /// Sends bytes as long as the controller takes them.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.peer.send_bytes(bytes, &[]);
    }

    pub(crate) fn send_with<F: AsFd>(&mut self, bytes: &[u8], descriptors: &[F]) {
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        self.peer.send_bytes(bytes, &descriptors);
    }

    pub(crate) fn say(&mut self, body: &Body) {
        self.send(&body.frame());
    }

    /// Sends nothing more.
    pub(crate) fn half_close(&self) {
        // The controller may have closed it.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next message; `None` if the connection is closed.
    pub(crate) fn receive<M: Message>(&mut self) -> Option<M> {
        match self.peer.poll_next(ANSWER_LIMIT) {
            Polled::Message(message, _) => Some(message),
            Polled::Gone => None,
            Polled::Silent => panic!("neither an answer nor an end within {ANSWER_LIMIT:?}"),
        }
    }

    /// The next request to a worker that is not closed.
    pub(crate) fn request(&mut self) -> WorkerRequest {
        self.receive().expect("a worker that is not closed")
    }

    /// The next request to a worker, if one comes in time.
    pub(crate) fn poll_request(&mut self, timeout: Duration) -> Option<WorkerRequest> {
        match self.peer.poll_next(timeout) {
            Polled::Message(request, _) => Some(request),
            Polled::Silent | Polled::Gone => None,
        }
    }

    /// The next reply to a client that is not closed.
    pub(crate) fn reply(&mut self) -> ClientReply {
        self.receive().expect("a client that is not closed")
    }

    /// Waits until the controller closes the connection; the replies before.
    pub(crate) fn closed<M: Message>(&mut self) -> Vec<M> {
        std::iter::from_fn(|| self.receive()).collect()
    }

    /// Waits until it is refused; the reason and the text.
    pub(crate) fn refused(&mut self) -> (RefuseReason, String) {
        let replies = self.closed();
        match &replies[..] {
            [HelloReply::Refused { reason, text, .. }] => (*reason, text.clone()),
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    /// Opens a job of one algorithm by its tag.
    pub(crate) fn open_job(&mut self, algorithm: u8) -> (JobId, Window) {
        self.open(&[algorithm])
    }

    /// Opens a job of the slowest algorithms together: workers are slower than who sends.
    pub(crate) fn open_slow_job(&mut self) -> (JobId, Window) {
        self.open(&[0, 3, 6, 8])
    }

    fn open(&mut self, algorithms: &[u8]) -> (JobId, Window) {
        self.say(&wire::tag(0).number(7).blob(algorithms).raw(&[0, 0]));
        match self.reply() {
            ClientReply::Opened { job, window, .. } => (job, window),
            other => panic!("{other:?} instead of a job"),
        }
    }

    /// Asks something that every admitted client may ask, and waits for the answer.
    pub(crate) fn is_served(&mut self) {
        self.say(&wire::tag(5));
        loop {
            if matches!(self.reply(), ClientReply::Status(_)) {
                return;
            }
        }
    }
}
