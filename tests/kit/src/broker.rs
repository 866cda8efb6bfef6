//! A broker of its own for each test.

use crate::{free_ports, until};
use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A nats-server with JetStream on a port of its own; killed when it is dropped.
#[derive(Debug)]
pub struct Broker {
    dir: TempDir,
    port: u16,
    process: Child,
}

impl Broker {
    /// Starts one with an empty store, and waits until it listens.
    ///
    /// # Panics
    /// nats-server is not installed, or does not listen.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_ports(1)[0];
        let process = spawn(dir.path(), port);
        Self { dir, port, process }
    }

    /// Its port of 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it at once and starts it again.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn crash(&mut self) {
        self.process.kill().expect("our own process");
        self.process.wait().expect("our own process");
        self.process = spawn(self.dir.path(), self.port);
    }
}

fn spawn(dir: &Path, port: u16) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).expect("a log");
    let mut command = Command::new("nats-server");
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]);
    command.arg(dir.join("store")).stdin(Stdio::null());
    let process = command.stderr(log).spawn().expect("nats-server is installed");
    until("the broker listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    process
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
