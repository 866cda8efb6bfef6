//! A vsock device without a VM: what it takes at its socket it leads to Unix sockets.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// Longest first line that is read.
const LINE_LEN_MAX: usize = 32;

/// A device that leads ports to sockets for as long as the test runs.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    streams: Arc<Mutex<Vec<UnixStream>>>,
}

impl Device {
    /// Listens at `path`, and leads each port to the socket beside it.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(path: PathBuf, ports: &[(u32, PathBuf)]) -> Self {
        let listener = UnixListener::bind(&path).expect("the device listens");
        let ports: Arc<BTreeMap<u32, PathBuf>> = Arc::new(ports.iter().cloned().collect());
        let streams = Arc::default();
        let open: Arc<Mutex<Vec<UnixStream>>> = Arc::clone(&streams);
        thread::spawn(move || {
            for peer in listener.incoming().map_while(Result::ok) {
                let (ports, open) = (Arc::clone(&ports), Arc::clone(&open));
                // A peer that leaves, or asks for what is not there, is closed.
                thread::spawn(move || lead(peer, &ports, &open));
            }
        });
        Self { path, streams }
    }

    /// The endpoint of `port` behind it.
    #[must_use]
    pub fn endpoint(&self, port: u32) -> String {
        format!("vsock-unix:{}:{port}", self.path.display())
    }

    /// The device's socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes every connection, as the end of a VM does.
    ///
    /// # Panics
    /// If one of its threads did.
    pub fn cut(&self) {
        for stream in self.streams.lock().expect("no thread panics").drain(..) {
            close(&stream);
        }
    }
}

fn lead(
    mut peer: UnixStream,
    ports: &BTreeMap<u32, PathBuf>,
    open: &Mutex<Vec<UnixStream>>,
) -> io::Result<()> {
    let mut line = Vec::new();
    while line.len() < LINE_LEN_MAX && !line.ends_with(b"\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte)?;
        line.extend(byte);
    }
    let line = String::from_utf8_lossy(&line);
    let port = line.strip_prefix("CONNECT ").and_then(|rest| rest.trim_end().parse().ok());
    let Some(path) = port.and_then(|port: u32| ports.get(&port)) else { return Ok(()) };
    let target = UnixStream::connect(path)?;
    open.lock().expect("no thread panics").extend([peer.try_clone()?, target.try_clone()?]);
    peer.write_all(b"OK 1073741824\n")?;
    let (back, front) = (target.try_clone()?, peer.try_clone()?);
    thread::spawn(move || pass(back, front));
    pass(peer, target);
    Ok(())
}

/// Passes on until either closes: then both are, in both directions.
fn pass(mut from: UnixStream, mut to: UnixStream) {
    // However it ends, it has ended.
    let _ = io::copy(&mut from, &mut to);
    close(&from);
    close(&to);
}

fn close(stream: &UnixStream) {
    // It may be closed already.
    let _ = stream.shutdown(Shutdown::Both);
}
