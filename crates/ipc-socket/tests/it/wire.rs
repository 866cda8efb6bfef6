//! Dialling through the socket of a vsock device that the test plays, well and badly.

use crate::support::{borrow, files, files_message, frame};
use ipc_proto::Blob;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::limits::DIAL_TIMEOUT;
use ipc_proto::message::{
    ClientIntro, ClientReply, ClientRequest, Hello, HelloReply, RefuseReason, Role, Versions,
};
use ipc_socket::{ConnectError, Connection, Listener, WireError};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_kit::{DESCRIPTORS, INLINE};

const PORT: u32 = 5001;

fn role() -> Role {
    Role::Client(ClientIntro { software: "test".to_owned(), token: Blob(b"secret".to_vec()) })
}

fn welcome() -> Vec<u8> {
    frame(&test_kit::welcome("", DESCRIPTORS))
}

/// A device of one connection, in a thread.
struct Device<T> {
    dir: TempDir,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Device<T> {
    /// Answers the dial's line as `serve` does.
    fn start(serve: impl FnOnce(UnixStream) -> T + Send + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(dir.path().join("c.vsock")).expect("a socket");
        let accept = move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            read(&mut stream, b"CONNECT 5001\n");
            serve(stream)
        };
        Self { dir, thread: thread::spawn(accept) }
    }

    fn open(&self) -> Result<Connection, ConnectError> {
        let path = self.dir.path().join("c.vsock");
        Connection::open(&Endpoint::VsockUnix { path, port: PORT }, role())
    }

    fn join(self) -> T {
        self.thread.join().expect("the device of the test")
    }
}

#[track_caller]
fn read(stream: &mut UnixStream, want: &[u8]) {
    let mut got = vec![0; want.len()];
    stream.read_exact(&mut got).expect("bytes");
    assert_eq!(got, want, "{:?}", String::from_utf8_lossy(&got));
}

#[track_caller]
fn check_wire(serve: impl FnOnce(UnixStream) + Send + 'static, want: &WireError) -> Duration {
    let device = Device::start(serve);
    let start = Instant::now();
    let error = device.open().expect_err("no controller");
    assert!(matches!(&error, ConnectError::Wire(got) if got == want), "{error:?}, not {want:?}");
    start.elapsed()
}

#[test]
fn the_protocol_starts_after_the_devices_line() {
    let device = Device::start(|mut stream| {
        for byte in b"OK 1073741824\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        read(&mut stream, &frame(&Hello::new(role())));
        stream.write_all(&welcome()).unwrap();
        read(&mut stream, &frame(&ClientRequest::Status));
        stream.write_all(&frame(&ClientReply::Ready { workers: 3, enough: true })).unwrap();
    });
    let mut connection = device.open().unwrap();
    connection.sender.send(&ClientRequest::Status, &[]).unwrap();
    let (reply, _) = connection.receiver.receive::<ClientReply>().unwrap();
    assert_eq!(reply, ClientReply::Ready { workers: 3, enough: true });
    device.join();
}

#[test]
fn no_byte_after_the_devices_line_is_lost() {
    let device = Device::start(|mut stream| {
        let (reason, text) = (RefuseReason::Busy, "full".to_owned());
        let refused = frame(&HelloReply::Refused { reason, text, versions: Versions::OURS });
        stream.write_all(&[&b"OK 7\n"[..], &refused].concat()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    assert_eq!(device.open().unwrap_err().to_string(), "refused: full");
    device.join();
}

#[test]
fn no_descriptors_are_offered_or_sent_over_a_device() {
    let device = Device::start(|mut stream| {
        stream.write_all(b"OK 7\n").unwrap();
        read(&mut stream, &frame(&Hello::new(role())));
        stream.write_all(&welcome()).unwrap();
        read(&mut stream, &frame(&ClientRequest::Status));
    });
    let mut connection = device.open().unwrap();
    assert_eq!(connection.welcome.planes, INLINE);
    let files = files(2);
    let error = connection.sender.send(&files_message(0, 2), &borrow(&files)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "descriptors cannot be passed over vsock");
    connection.sender.send(&ClientRequest::Status, &[]).unwrap();
    device.join();
}

#[test]
fn a_device_that_closes_has_no_listener() {
    check_wire(drop, &WireError::Closed);
    check_wire(|mut stream| stream.write_all(b"OK 1").unwrap(), &WireError::Closed);
}

#[test]
fn an_answer_other_than_ok_and_a_number_is_not_a_device() {
    for answer in [
        &b"HTTP/1.1 400\n"[..],
        b"OK\n",
        b"OK \n",
        b"OK x\n",
        b"OK 1 2\n",
        b"OK -1\n",
        b"OK 1\r\n",
        b"ok 1\n",
        b"\n",
        b"ERR 1\n",
    ] {
        let rubbish = WireError::Rubbish { answer: answer.to_vec() };
        check_wire(move |mut stream| stream.write_all(answer).unwrap(), &rubbish);
    }
    let error = WireError::Rubbish { answer: b"\x1b[2J\n".to_vec() };
    assert_eq!(error.to_string(), "not a vsock device: it answered \"\\x1b[2J\\n\"");
}

#[test]
fn an_endless_line_is_not_read_forever() {
    let waited = check_wire(
        |mut stream| {
            // The peer leaves before it has taken it all.
            let _ = stream.write_all(&[b'1'; 1 << 20]);
        },
        &WireError::Rubbish { answer: vec![b'1'; 32] },
    );
    assert!(waited < DIAL_TIMEOUT, "{waited:?}");
}

#[test]
fn a_silent_or_incomplete_device_times_out() {
    let silent = |mut stream: UnixStream| {
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    let slow = |mut stream: UnixStream| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        // The peer leaves in the middle.
        while stream.write_all(b"1").is_ok() && stream.read(&mut [0]).is_err() {}
    };
    let waits = [
        thread::spawn(move || check_wire(silent, &WireError::Silent)),
        thread::spawn(move || check_wire(slow, &WireError::Silent)),
    ];
    for wait in waits {
        let waited = wait.join().expect("the dial ends");
        assert!((DIAL_TIMEOUT..2 * DIAL_TIMEOUT).contains(&waited), "{waited:?}");
    }
}

#[test]
fn a_device_with_a_full_queue_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.vsock");
    let address = UnixAddr::new(&path).unwrap();
    let stream = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let listener = stream().unwrap();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let first = stream().unwrap();
    connect(first.as_raw_fd(), &address).unwrap();
    let start = Instant::now();
    let error = Connection::open(&Endpoint::VsockUnix { path, port: PORT }, role()).unwrap_err();
    let waited = start.elapsed();
    assert!(matches!(error, ConnectError::Wire(WireError::Silent)), "{error:?}");
    assert!((DIAL_TIMEOUT..2 * DIAL_TIMEOUT).contains(&waited), "{waited:?}");
}

#[test]
fn no_device_is_an_error_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.vsock");
    let endpoint = Endpoint::VsockUnix { path: path.clone(), port: PORT };
    for want in [ErrorKind::NotFound, ErrorKind::ConnectionRefused] {
        let error = Connection::open(&endpoint, role()).unwrap_err();
        assert!(matches!(&error, ConnectError::Io(e) if e.kind() == want), "{error:?}");
        drop(UnixListener::bind(&path));
    }
}

/// Holds on kernels with vsock, with and without its loopback, and on kernels without it.
#[test]
fn a_vsock_port_where_nobody_listens_is_an_error_in_time() {
    let start = Instant::now();
    let error = Connection::open(&Endpoint::Vsock { cid: Some(1), port: 0xfff_fff1 }, role());
    let waited = start.elapsed();
    let error = error.expect_err("nobody listens");
    assert!(matches!(error, ConnectError::Io(_) | ConnectError::Wire(_)), "{error:?}");
    assert!(waited < 2 * DIAL_TIMEOUT, "{waited:?}");
    let any = Connection::open(&Endpoint::Vsock { cid: None, port: 5000 }, role()).unwrap_err();
    assert!(matches!(&any, ConnectError::Io(e) if e.kind() == ErrorKind::AddrNotAvailable));
}

#[test]
fn a_listener_does_not_wait_and_neither_does_what_it_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = Listener::unix(UnixListener::bind(&path).unwrap()).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let _client = UnixStream::connect(&path).unwrap();
    let socket = listener.accept().unwrap();
    assert!(socket.is_local());
    let nothing = ipc_socket::recv(socket.as_fd(), &mut [0], &mut Vec::new()).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
}
