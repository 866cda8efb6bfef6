//! A fake controller for one client, in its own thread.

use ipc_proto::message::{ClientReply, ClientRequest, JobId, Planes, Role, Window};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;
pub(crate) use test_kit::{DESCRIPTORS, INLINE};
use test_kit::{FakeController, Polled};

pub(crate) struct Fake<T> {
    _dir: TempDir,
    socket: PathBuf,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Fake<T> {
    pub(crate) fn start(play: impl FnOnce(&mut Peer) -> T + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("client.sock");
        let controller = FakeController::listen(socket.clone());
        let thread = thread::spawn(move || play(&mut Peer(controller.accept())));
        Self { _dir: dir, socket, thread }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The result of the play; its panic, if it had one.
    #[track_caller]
    pub(crate) fn join(self) -> T {
        self.thread.join().expect("the controller's part went as written")
    }
}

/// The client, as the controller sees it.
pub(crate) struct Peer(test_kit::Peer);

impl Peer {
    /// Plays the vsock device between the client and the controller.
    pub(crate) fn lead_to(&mut self, port: u32) {
        self.0.play_device(port);
    }

    /// Sends `bytes`, whatever they mean, and nothing more until the client leaves.
    pub(crate) fn babble(&mut self, bytes: &[u8]) {
        self.0.send_bytes(bytes, &[]);
        self.0.drain();
    }

    pub(crate) fn welcome(&mut self, planes: Planes) {
        self.welcome_from("", planes);
    }

    /// Welcomes the client in the name of a controller of this image, and gives its token.
    pub(crate) fn welcome_from(&mut self, image: &str, planes: Planes) -> Vec<u8> {
        match self.0.welcome(image, planes) {
            Role::Client(intro) => intro.token.0,
            Role::Worker(intro) => panic!("hashctl is no worker: {intro:?}"),
        }
    }

    /// Receives the request for a job and opens `job`; returns its share of cross-checks, and if it
    /// has strict reads.
    pub(crate) fn open(&mut self, job: JobId, window: Window, workers: u32) -> (u32, bool) {
        let open = self.next();
        let Some((ClientRequest::Open { tag, cross_check, strict_reads, .. }, _)) = open else {
            panic!("{open:?}")
        };
        self.send(&ClientReply::Opened { tag, job, window, workers });
        (cross_check, strict_reads)
    }

    pub(crate) fn refuse(&mut self, text: &str) {
        self.0.refuse(text);
    }

    pub(crate) fn send(&mut self, reply: &ClientReply) {
        self.0.send(reply, &[]);
    }

    /// The next request; `None` when the client is gone.
    pub(crate) fn next(&mut self) -> Option<(ClientRequest, Vec<OwnedFd>)> {
        self.0.next_message()
    }

    /// The next request, if one comes in time.
    pub(crate) fn poll_next(&mut self, timeout: Duration) -> Polled<ClientRequest> {
        self.0.poll_next(timeout)
    }
}
