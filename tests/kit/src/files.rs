//! Files with known contents, and descriptors with known behaviour.

use crate::Random;
use nix::sys::socket::{setsockopt, sockopt};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An open file without a name that holds `bytes`.
pub fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().expect("a temporary file");
    file.write_all_at(bytes, 0).expect("room for a file");
    file
}

/// An open file without a name, of `len` bytes of zeros that take no space.
pub fn sparse_file(len: u64) -> File {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(len).expect("a length that the file system takes");
    file
}

/// Writes a file that nobody else can read.
pub fn write_secret(path: &Path, content: impl AsRef<[u8]>) {
    let options = File::options().write(true).create(true).truncate(true).mode(0o600).clone();
    let mut file = options.open(path).expect("a new file");
    file.write_all(content.as_ref()).expect("room");
}

/// Writes a file of `len` random bytes.
pub fn write_file(path: &Path, len: u64, seed: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a new file"));
    let mut random = Random::new(seed);
    let mut left = len;
    while left > 0 {
        let bytes = random.next_u64().to_le_bytes();
        let take = left.min(8);
        file.write_all(&bytes[..usize::try_from(take).expect("at most 8")]).expect("room");
        left -= take;
    }
    file.flush().expect("room");
}

/// Writes `files` files of `len` random bytes below `dir`, 500 per directory; their paths, sorted.
pub fn write_tree(dir: &Path, files: usize, len: u64) -> Vec<PathBuf> {
    (0..files)
        .map(|i| {
            let sub = dir.join(format!("d{:04}", i / 500));
            if i % 500 == 0 {
                fs::create_dir_all(&sub).expect("a new directory");
            }
            let path = sub.join(format!("f{i:06}"));
            write_file(&path, len, i as u64);
            path
        })
        .collect()
}

/// Names that break what splits, escapes or decodes them; `b3sum` prints the last two otherwise.
pub fn hostile_names() -> Vec<Vec<u8>> {
    let longest = [vec![b'n'; 255], [&b"\\"[..], &[b'\n'; 254]].concat()];
    let names: [&[u8]; 13] = [
        b"two\nlines",
        b"back\\slash",
        b"both\\\nof them",
        b" spaces  inside ",
        b"-dash",
        b"--help",
        b"*star",
        b"quote'\"`$(x);&",
        b"(b) = c",
        b"...",
        b"tab\tbell\x07",
        b"latin-\xe9\xff",
        b"carriage\rreturn",
    ];
    longest.into_iter().chain(names.map(<[u8]>::to_vec)).collect()
}

/// A file of this repository, wherever it is now: cargo takes the tests of a copied tree for fresh.
pub fn repository(path: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.or_else(|| std::env::current_dir().ok()).expect("a working directory");
    let is_root = |dir: &&Path| dir.join("xtask/Cargo.toml").is_file();
    package.ancestors().find(is_root).expect("cargo runs the tests of the workspace").join(path)
}

/// A socket whose last close(2) waits for ten minutes, or until the other end is gone.
#[must_use]
pub fn lingering_socket() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket of this host");
    let mut socket = TcpStream::connect(listener.local_addr().expect("a socket of this host"))
        .expect("a socket of this host");
    let (other_end, _) = listener.accept().expect("a socket of this host");
    let linger = libc::linger { l_onoff: 1, l_linger: 600 };
    setsockopt(&socket, sockopt::Linger, &linger).expect("a socket of this host");
    socket.set_nonblocking(true).expect("a socket of this host");
    while socket.write(&[0; 1 << 16]).is_ok() {}
    (socket, other_end)
}

/// Output of `tool` for all regular files below `top` in `dir`, in the order in which hashctl walks.
pub fn oracle(tool: &str, dir: &Path, top: &str) -> Output {
    let script = "find \"$1\" -type f -print0 | LC_ALL=C sort -z | xargs -0 \"$0\" --";
    crate::output(Command::new("sh").args(["-c", script, tool, top]).current_dir(dir))
}
