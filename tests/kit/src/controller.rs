//! A controller whose every byte a test chooses.

use crate::DEADLINE;
use ipc_proto::codec;
use ipc_proto::handshake;
use ipc_proto::message::{HelloReply, Message, Planes, RefuseReason, Role, Versions, Welcome};
use ipc_socket::{Inbox, Passed, Scratch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All planes but datasets.
pub const DESCRIPTORS: Planes = Planes { descriptors: true, inline: true, datasets: Vec::new() };

/// The plane of bytes on the wire alone.
pub const INLINE: Planes = Planes { descriptors: false, inline: true, datasets: Vec::new() };

/// A socket on which a test plays the controller.
#[derive(Debug)]
pub struct FakeController {
    path: PathBuf,
    listener: UnixListener,
}

impl FakeController {
    /// Listens at `path`, in the place of whoever did before.
    pub fn listen(path: PathBuf) -> Self {
        // There may be none.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket in a directory of the test");
        Self { path, listener }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, before a byte was exchanged on it.
    pub fn accept(&self) -> Peer {
        assert!(is_readable(self.listener.as_fd(), DEADLINE), "nobody connects");
        let (stream, _) = self.listener.accept().expect("somebody connects");
        Peer::new(stream)
    }
}

/// A peer's next move.
#[derive(Debug)]
pub enum Polled<M> {
    /// A message with its descriptors.
    Message(M, Vec<OwnedFd>),
    /// Nothing came in time.
    Silent,
    /// The connection is closed.
    Gone,
}

/// The test's end of a connection of a client or worker.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    inbox: Inbox,
    scratch: Scratch,
}

impl Peer {
    /// The peer behind an accepted connection.
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("an open socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("an open socket");
        Self { stream, inbox: Inbox::new(), scratch: Scratch::default() }
    }

    /// Answers as the vsock device of a VM that has the controller at `port`.
    pub fn play_device(&mut self, port: u32) {
        let want = format!("CONNECT {port}\n");
        let mut line = vec![0; want.len()];
        self.stream.read_exact(&mut line).expect("a line for the device");
        assert_eq!(String::from_utf8_lossy(&line), want);
        self.stream.write_all(b"OK 1073741824\n").expect("the peer waits for the device");
    }

    /// Receives the peer's hello.
    pub fn hello(&mut self) -> Role {
        loop {
            if let Some(body) = self.inbox.next_body().expect("a whole frame") {
                return handshake::accept(&body).expect("an acceptable hello").role;
            }
            assert!(self.receive(), "closed before a hello");
        }
    }

    /// Receives the peer's hello and accepts it, in the name of a controller of `image`.
    pub fn welcome(&mut self, image: &str, planes: Planes) -> Role {
        let role = self.hello();
        self.send(&welcome(image, planes), &[]);
        role
    }

    /// Receives the peer's hello and refuses it.
    pub fn refuse(&mut self, text: &str) {
        self.hello();
        let (reason, text) = (RefuseReason::Forbidden, text.to_owned());
        self.send(&HelloReply::Refused { reason, text, versions: Versions::OURS }, &[]);
    }

    /// Sends a message; a peer that left shows when the test receives.
    pub fn send<M: Message>(&mut self, message: &M, descriptors: &[BorrowedFd<'_>]) {
        let mut frame = Vec::new();
        codec::encode_frame(message, &mut frame).expect("a message within its limits");
        self.send_bytes(&frame, descriptors);
    }

    /// Sends bytes, whatever they mean, with descriptors on the first of them.
    pub fn send_bytes(&mut self, mut bytes: &[u8], mut descriptors: &[BorrowedFd<'_>]) {
        while !bytes.is_empty() {
            let Ok(sent) = ipc_socket::send(self.stream.as_fd(), bytes, descriptors) else {
                return;
            };
            bytes = &bytes[sent..];
            descriptors = &[];
        }
    }

    /// The next message; `None` when the connection is closed.
    pub fn next_message<M: Message>(&mut self) -> Option<(M, Vec<OwnedFd>)> {
        match self.poll_next(DEADLINE) {
            Polled::Message(message, descriptors) => Some((message, descriptors)),
            Polled::Gone => None,
            Polled::Silent => panic!("nothing came within {DEADLINE:?}"),
        }
    }

    /// The next message, if one comes within `timeout`.
    pub fn poll_next<M: Message>(&mut self, timeout: Duration) -> Polled<M> {
        loop {
            let next = self.inbox.next_message().expect("a message of this kind");
            if let Some((message, descriptors)) = next {
                let own = descriptors.into_iter().map(Passed::into_inner);
                return Polled::Message(message, own.collect());
            }
            if !is_readable(self.stream.as_fd(), timeout) {
                return Polled::Silent;
            }
            if !self.receive() {
                return Polled::Gone;
            }
        }
    }

    /// Receives and drops bytes until the peer closes the connection.
    pub fn drain(&mut self) {
        // A peer that leaves early resets the connection.
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    /// Receives once; false at the end of the stream.
    fn receive(&mut self) -> bool {
        match self.inbox.receive(self.stream.as_fd(), &mut self.scratch) {
            Ok(received) => received.bytes_len > 0,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came within {DEADLINE:?}: {error}"),
        }
    }
}

/// The acceptance of a hello by a controller of `image`.
pub fn welcome(image: &str, planes: Planes) -> HelloReply {
    HelloReply::Welcome(Welcome {
        version: Versions::OURS.max,
        software: "9.8.7".to_owned(),
        image: image.to_owned(),
        planes,
    })
}

fn is_readable(fd: BorrowedFd<'_>, timeout: Duration) -> bool {
    let timeout = PollTimeout::try_from(timeout).expect("less than a month");
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, timeout).expect("poll of an open descriptor") > 0
}
