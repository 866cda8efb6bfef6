//! A process of another user that floods the controller: connections without end, hellos and frames that
//! are never finished, nonsense.

use ipc_proto::codec::encode_frame;
use ipc_proto::endpoint::{CLIENT_SOCKET, WORKER_SOCKET};
use ipc_proto::message::{ClientIntro, ClientRequest, Hello, Role};
use ipc_proto::{Algorithm, Blob};
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use test_kit::Random;

/// A user who may connect, and one who may not.
pub(crate) const ALLOWED: u32 = 60_002;
pub(crate) const STRANGER: u32 = 60_003;

/// Most connections that are held at once.
const HELD_MAX: usize = 200;

/// Floods the sockets in `dir` as `uid` until it is killed.
pub(crate) fn flood(uid: u32, dir: &Path) -> ExitCode {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setresgid(group, group, group).expect("root may become anybody");
    setresuid(user, user, user).expect("root may become anybody");
    let mut random = Random::from_entropy();
    let mut held = Vec::new();
    loop {
        let socket = random.one_of(&[CLIENT_SOCKET, CLIENT_SOCKET, WORKER_SOCKET]);
        // A full backlog, or one of a socket that is not for us.
        let Ok(mut stream) = UnixStream::connect(dir.join(socket)) else { continue };
        // The controller may close it at any byte.
        let _ = stream.write_all(&bytes(&mut random));
        held.push(stream);
        while held.len() > random.index(HELD_MAX) {
            held.swap_remove(random.index(held.len()));
        }
    }
}

/// The start of a conversation, of which any part may be missing.
fn bytes(random: &mut Random) -> Vec<u8> {
    let intro = ClientIntro { software: "flood".to_owned(), token: Blob::default() };
    let mut bytes = Vec::new();
    encode_frame(&Hello::new(Role::Client(intro)), &mut bytes).expect("it fits");
    let (tag, algorithms) = (1, Algorithm::Sha256.into());
    let open = ClientRequest::Open { tag, algorithms, cross_check: 0, strict_reads: false };
    for _ in 0..random.index(4) {
        encode_frame(&open, &mut bytes).expect("it fits");
        encode_frame(&ClientRequest::Status, &mut bytes).expect("it fits");
    }
    if random.chance(20) {
        bytes.extend(random.bytes(200));
    }
    if random.chance(70) {
        bytes.truncate(random.index(bytes.len() + 1));
    }
    bytes
}
