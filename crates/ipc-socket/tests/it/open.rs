//! A blocking peer against controllers that answer, refuse, lie, and say nothing.

use crate::support::{borrow, files, files_message, frame, inodes};
use ipc_proto::Blob;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::frame::FrameError;
use ipc_proto::limits::{BODY_LEN_MAX, HELLO_TIMEOUT};
use ipc_proto::message::{
    ClientIntro, ClientReply, ClientRequest, HelloReply, Items, JobId, RefuseReason, Role, Versions,
};
use ipc_socket::{ConnectError, Connection, InboxError, ReceiveError};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_kit::{DESCRIPTORS, FakeController, Peer, welcome};

/// Repetitions of a race.
const RACES: usize = 200;

fn role() -> Role {
    Role::Client(ClientIntro { software: "test".to_owned(), token: Blob::default() })
}

fn refused() -> HelloReply {
    let (reason, text) = (RefuseReason::Busy, "full".to_owned());
    HelloReply::Refused { reason, text, versions: Versions::OURS }
}

/// A controller of one connection, in a thread.
struct Controller<T> {
    dir: TempDir,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Controller<T> {
    fn start(serve: impl FnOnce(Peer) -> T + Send + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = FakeController::listen(dir.path().join("socket"));
        Self { dir, thread: thread::spawn(move || serve(listener.accept())) }
    }

    /// A controller that welcomes the client first.
    fn welcoming(serve: impl FnOnce(&mut Peer) -> T + Send + 'static) -> Self {
        Self::start(|mut peer| {
            assert_eq!(peer.welcome("", DESCRIPTORS), role());
            serve(&mut peer)
        })
    }

    fn open(&self) -> Result<Connection, ConnectError> {
        Connection::open(&Endpoint::Unix(self.dir.path().join("socket")), role())
    }

    fn join(self) -> T {
        self.thread.join().expect("the controller of the test")
    }
}

fn next(peer: &mut Peer) -> (ClientRequest, Vec<OwnedFd>) {
    peer.next_message().expect("the client stays")
}

/// Opens a connection to a controller that sends `answer` to whatever comes, and closes.
#[track_caller]
fn open_answered(answer: &[u8]) -> ConnectError {
    let answer = answer.to_vec();
    let controller = Controller::start(move |mut peer| {
        peer.hello();
        peer.send_bytes(&answer, &[]);
    });
    let error = controller.open().expect_err("no welcome");
    controller.join();
    error
}

#[test]
fn a_welcome_opens_the_connection_and_messages_pass_both_ways() {
    let controller = Controller::welcoming(|peer| {
        let (request, descriptors) = next(peer);
        peer.send(&ClientReply::Ready { workers: 3, enough: true }, &[]);
        (request, inodes(&descriptors))
    });
    let mut connection = controller.open().unwrap();
    assert_eq!(HelloReply::Welcome(connection.welcome), welcome("", DESCRIPTORS));
    let (message, files) = (files_message(0, 3), files(3));
    connection.sender.send(&message, &borrow(&files)).unwrap();
    let (reply, descriptors) = connection.receiver.receive::<ClientReply>().unwrap();
    assert_eq!(reply, ClientReply::Ready { workers: 3, enough: true });
    assert!(descriptors.is_empty());
    assert_eq!(controller.join(), (message, inodes(&files)));
    let end = connection.receiver.receive::<ClientReply>();
    assert!(matches!(end, Err(ReceiveError::Closed)), "{end:?}");
}

#[test]
fn messages_longer_than_the_sockets_buffer_pass() {
    let items = Items::Inline { lens: vec![512 << 10], data: Blob(vec![5; 512 << 10]) };
    let large = ClientRequest::Items { job: JobId::default(), first: 0, items };
    let want = large.clone();
    let controller = Controller::welcoming(move |peer| {
        (0..4).for_each(|_| assert_eq!(next(peer).0, want));
    });
    let mut connection = controller.open().unwrap();
    for _ in 0..4 {
        connection.sender.send(&large, &[]).unwrap();
    }
    controller.join();
}

#[test]
fn a_message_that_fits_no_frame_is_an_error_before_anything_is_sent() {
    let controller = Controller::welcoming(|peer| next(peer).0);
    let mut connection = controller.open().unwrap();
    let outputs = Blob(vec![0; BODY_LEN_MAX]);
    let results =
        ClientReply::Results { job: JobId::default(), runs: vec![], outputs, failures: vec![] };
    let error = connection.sender.send(&results, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    connection.sender.send(&ClientRequest::Status, &[]).unwrap();
    assert_eq!(controller.join(), ClientRequest::Status);
}

#[test]
fn the_connection_survives_a_read_timeout() {
    let controller = Controller::welcoming(|peer| {
        next(peer);
        peer.send(&ClientReply::Ready { workers: 0, enough: false }, &[]);
    });
    let mut connection = controller.open().unwrap();
    connection.receiver.set_timeout(Some(Duration::from_millis(20))).unwrap();
    let nothing = connection.receiver.receive::<ClientReply>();
    assert!(matches!(nothing, Err(ReceiveError::TimedOut)), "{nothing:?}");
    connection.receiver.set_timeout(None).unwrap();
    connection.sender.send(&ClientRequest::Status, &[]).unwrap();
    connection.receiver.receive::<ClientReply>().unwrap();
    controller.join();
}

#[test]
fn close_ends_a_blocked_receive() {
    let controller = Controller::welcoming(|peer| peer.next_message::<ClientRequest>());
    let connection = controller.open().unwrap();
    let mut receiver = connection.receiver;
    let blocked = thread::spawn(move || receiver.receive::<ClientReply>().unwrap_err());
    connection.sender.close();
    let error = blocked.join().unwrap();
    assert!(matches!(error, ReceiveError::Closed), "{error:?}");
    assert_eq!(controller.join().map(|(request, _)| request), None);
}

#[test]
fn no_controller_is_an_error_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    for (want, why) in [
        (ErrorKind::NotFound, "nothing there"),
        (ErrorKind::ConnectionRefused, "the socket of a controller that is dead"),
    ] {
        let error = Connection::open(&Endpoint::Unix(path.clone()), role()).unwrap_err();
        assert!(matches!(&error, ConnectError::Io(e) if e.kind() == want), "{why}: {error:?}");
        drop(UnixListener::bind(&path));
    }
}

#[test]
fn a_refusal_has_the_controllers_text() {
    let error = open_answered(&frame(&refused()));
    assert_eq!(error.to_string(), "refused: full");
    assert!(matches!(error, ConnectError::Refused { reason: RefuseReason::Busy, .. }));
}

#[test]
fn a_refusal_arrives_though_the_controller_reads_nothing() {
    for race in 0..RACES {
        let controller = Controller::start(|mut peer| peer.send(&refused(), &[]));
        let error = controller.open().unwrap_err();
        assert_eq!(error.to_string(), "refused: full", "race {race}");
        controller.join();
    }
}

#[test]
fn a_controller_that_closes_at_once_is_an_error_of_the_system() {
    for race in 0..RACES {
        let controller = Controller::start(drop);
        let error = controller.open().unwrap_err();
        let gone = |kind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        assert!(matches!(&error, ConnectError::Io(e) if gone(e.kind())), "race {race}: {error:?}");
        controller.join();
    }
}

#[test]
fn garbage_is_a_protocol_error() {
    let error = open_answered(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(
        matches!(error, ConnectError::Protocol(InboxError::Frame(FrameError::Oversize { .. }))),
        "{error:?}"
    );
    let error = open_answered(&[0; 4]);
    assert!(
        matches!(error, ConnectError::Protocol(InboxError::Frame(FrameError::Empty))),
        "{error:?}"
    );
    let error = open_answered(&[3, 0, 0, 0, 9, 9, 9]);
    assert!(matches!(error, ConnectError::Protocol(InboxError::Codec(_))), "{error:?}");
}

#[test]
fn a_truncated_reply_is_not_a_welcome() {
    let reply = frame(&welcome("", DESCRIPTORS));
    let error = open_answered(&reply[..reply.len() - 1]);
    assert!(
        matches!(&error, ConnectError::Io(e) if e.kind() == ErrorKind::ConnectionReset),
        "{error:?}"
    );
}

#[test]
fn a_controller_that_never_answers_times_out() {
    let controller = Controller::start(|mut peer| {
        assert_eq!(peer.hello(), role());
        peer.drain();
    });
    let start = Instant::now();
    let error = controller.open().unwrap_err();
    let waited = start.elapsed();
    assert!(matches!(&error, ConnectError::Io(e) if e.kind() == ErrorKind::TimedOut), "{error:?}");
    assert!((2 * HELLO_TIMEOUT..5 * HELLO_TIMEOUT).contains(&waited), "{waited:?}");
    controller.join();
}

#[test]
fn the_peer_is_us() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let stream = UnixStream::connect(dir.path().join("socket")).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let client = ipc_socket::peer(stream.as_fd()).unwrap();
    assert_eq!(client, ipc_socket::peer(accepted.as_fd()).unwrap());
    assert_eq!(client.pid, process::id());
    assert_eq!(client.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(client.gid, nix::unistd::getegid().as_raw());
}
