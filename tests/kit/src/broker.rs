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
    /// Further options of the server.
    more: Vec<String>,
    process: Child,
}

impl Broker {
    /// Starts one with an empty store, and waits until it listens.
    ///
    /// # Panics
    /// nats-server is not installed, or does not listen.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Vec::new())
    }

    /// The same with a page about itself, and the port of that.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with_page() -> (Self, u16) {
        let page = free_ports(1)[0];
        (Self::start_with(vec!["-m".to_owned(), page.to_string()]), page)
    }

    fn start_with(more: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_ports(1)[0];
        let process = spawn(dir.path(), port, &more);
        Self { dir, port, more, process }
    }

    /// Its port of 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it at once and starts it again.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn crash(&mut self) {
        self.process.kill().expect("our own process");
        self.process.wait().expect("our own process");
        self.process = spawn(self.dir.path(), self.port, &self.more);
    }
}

fn spawn(dir: &Path, port: u16, more: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).expect("a log");
    let mut command = Command::new("nats-server");
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]);
    command.arg(dir.join("store")).args(more).stdin(Stdio::null());
    let process = command.stderr(log).spawn().expect("nats-server is installed");
    until("the broker listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    process
}

/// Starts three that are one cluster: it has a leader some seconds later.
///
/// # Panics
/// As [`Broker::start`].
#[must_use]
pub fn broker_cluster() -> [Broker; 3] {
    let ports = free_ports(3);
    let routes: Vec<String> =
        ports[3..].iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    [0, 1, 2].map(|number: usize| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = [
            ["--server_name", &format!("n{number}")],
            ["--cluster_name", "cluster"],
            ["--cluster", &routes[number]],
            ["--routes", &routes.join(",")],
        ];
        let more: Vec<String> = options.as_flattened().iter().map(|&o| o.to_owned()).collect();
        let process = spawn(dir.path(), ports[number], &more);
        Broker { dir, port: ports[number], more, process }
    })
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
