//! Peers that connect faster than they are accepted.

use ipc_socket::Listener;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

/// Most peers that may be ahead of an honest one.
const AHEAD_MAX: usize = 32;

/// Connects, unless that would wait.
fn try_connect(path: &Path) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let peer = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
    match connect(peer.as_raw_fd(), &UnixAddr::new(path).expect("a short path")) {
        Ok(()) => Some(peer),
        Err(Errno::EAGAIN) => None,
        Err(errno) => panic!("{errno}"),
    }
}

#[test]
fn a_flood_of_connections_waits_in_connect_and_a_peer_behind_it_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = Listener::unix(UnixListener::bind(&path).unwrap()).unwrap();
    let flood: Vec<OwnedFd> = std::iter::from_fn(|| try_connect(&path)).take(5000).collect();
    assert!((1..=AHEAD_MAX).contains(&flood.len()), "{} are ahead", flood.len());
    let honest = thread::spawn(move || UnixStream::connect(path).unwrap());
    for _ in 0..flood.len() {
        listener.accept().unwrap();
    }
    let _honest = honest.join().unwrap();
    listener.accept().expect("the honest peer");
}
