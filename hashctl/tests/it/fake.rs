//! One connection of a controller, message by message.

use crate::program::DEADLINE;
use ipc_proto::codec;
use ipc_proto::handshake;
use ipc_proto::limits::HELLO_TIMEOUT;
use ipc_proto::message::{
    ClientIntro, ClientReply, ClientRequest, HelloReply, Message, Planes, RefuseReason, Role,
    Versions, Welcome,
};
use ipc_socket::{Inbox, Scratch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const DESCRIPTORS: Planes =
    Planes { descriptors: true, inline: true, datasets: Vec::new() };
pub(crate) const INLINE: Planes = Planes { descriptors: false, inline: true, datasets: Vec::new() };

/// A controller for one client, played by a function in a thread of its own.
pub(crate) struct Fake<T> {
    _dir: TempDir,
    socket: PathBuf,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Fake<T> {
    pub(crate) fn start(play: impl FnOnce(&mut Peer) -> T + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("client.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            play(&mut Peer { stream, inbox: Inbox::new(), scratch: Scratch::default() })
        });
        Self { _dir: dir, socket, thread }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the play came to; its panic, if it had one.
    #[track_caller]
    pub(crate) fn join(self) -> T {
        self.thread.join().expect("the controller's part went as written")
    }
}

/// The client, as the controller sees it.
pub(crate) struct Peer {
    stream: UnixStream,
    inbox: Inbox,
    scratch: Scratch,
}

impl Peer {
    /// Plays the vsock device between the client and the controller.
    pub(crate) fn lead_to(&mut self, port: u32) {
        let want = format!("CONNECT {port}\n");
        let mut line = vec![0; want.len()];
        self.stream.read_exact(&mut line).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), want);
        self.stream.write_all(b"OK 1073741824\n").unwrap();
    }

    /// Says `bytes`, whatever they mean, and nothing more until the client leaves.
    pub(crate) fn babble(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        // A client that leaves early resets the connection.
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    fn hello(&mut self) -> ClientIntro {
        self.stream.set_read_timeout(Some(HELLO_TIMEOUT)).unwrap();
        loop {
            if let Some(body) = self.inbox.next_body().unwrap() {
                match handshake::accept(&body).unwrap().role {
                    Role::Client(intro) => return intro,
                    Role::Worker(intro) => panic!("hashctl is no worker: {intro:?}"),
                }
            }
            let received = self.inbox.receive(self.stream.as_fd(), &mut self.scratch).unwrap();
            assert!(received.bytes_len > 0, "a client says hello");
        }
    }

    pub(crate) fn welcome(&mut self, planes: Planes) {
        self.welcome_from("", planes);
    }

    /// Welcomes the client in the name of a controller of this image, and gives its token.
    pub(crate) fn welcome_from(&mut self, image: &str, planes: Planes) -> Vec<u8> {
        let intro = self.hello();
        let (version, software) = (Versions::OURS.max, "9.8.7".to_owned());
        let image = image.to_owned();
        self.put(&HelloReply::Welcome(Welcome { version, software, image, planes }));
        intro.token.0
    }

    pub(crate) fn refuse(&mut self, text: &str) {
        self.hello();
        self.put(&HelloReply::Refused {
            reason: RefuseReason::Forbidden,
            text: text.to_owned(),
            versions: Versions::OURS,
        });
    }

    pub(crate) fn send(&self, reply: &ClientReply) {
        self.put(reply);
    }

    fn put<M: Message>(&self, message: &M) {
        let mut frame = Vec::new();
        codec::encode_frame(message, &mut frame).unwrap();
        let mut sent = 0;
        while sent < frame.len() {
            match ipc_socket::send(self.stream.as_fd(), &frame[sent..], &[]) {
                Ok(len) => sent += len,
                // A client that left; the play sees it when it reads.
                Err(_) => return,
            }
        }
    }

    /// The next request; `None` when the client is gone.
    pub(crate) fn next(&mut self) -> Option<(ClientRequest, Vec<OwnedFd>)> {
        match self.poll_next(DEADLINE) {
            Polled::Request(request, files) => Some((request, files)),
            Polled::Gone => None,
            Polled::Quiet => panic!("the client says nothing"),
        }
    }

    /// The next request, if one comes in time.
    pub(crate) fn poll_next(&mut self, timeout: Duration) -> Polled {
        loop {
            if let Some((request, files)) = self.inbox.next_message().unwrap() {
                return Polled::Request(request, files);
            }
            let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(timeout).unwrap()).unwrap() == 0 {
                return Polled::Quiet;
            }
            match self.inbox.receive(self.stream.as_fd(), &mut self.scratch) {
                Ok(received) if received.bytes_len > 0 => {}
                Ok(_) | Err(_) => return Polled::Gone,
            }
        }
    }
}

/// What came, if anything.
#[derive(Debug)]
pub(crate) enum Polled {
    Request(ClientRequest, Vec<OwnedFd>),
    Quiet,
    Gone,
}
