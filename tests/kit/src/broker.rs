//! A broker of its own for each test.

use crate::{free_ports, until};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Place of a broker: how it is started, and where it listens.
#[derive(Clone, Debug)]
pub struct BrokerPlace {
    /// Command that becomes the program in its arguments; none where that is started as it is.
    pub wrapper: Vec<String>,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
}

impl BrokerPlace {
    fn here(port: u16) -> Self {
        Self { wrapper: Vec::new(), address: "127.0.0.1".to_owned(), port }
    }
}

/// A nats-server with JetStream; killed when it is dropped.
#[derive(Debug)]
pub struct Broker {
    dir: TempDir,
    place: BrokerPlace,
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
        Self::start_at(BrokerPlace::here(free_ports(1)[0]), more)
    }

    fn start_at(place: BrokerPlace, more: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let process = spawn(dir.path(), &place, &more);
        Self { dir, place, more, process }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// Everything it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(self.dir.path())
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
        self.process = spawn(self.dir.path(), &self.place, &self.more);
    }
}

fn read_log(dir: &Path) -> String {
    crate::text(&fs::read(dir.join("log")).unwrap_or_default())
}

fn spawn(dir: &Path, place: &BrokerPlace, more: &[String]) -> Child {
    const READY: &str = "Server is ready";
    let before = read_log(dir).matches(READY).count();
    let log = File::options().create(true).append(true).open(dir.join("log")).expect("a log");
    let words = [&place.wrapper[..], &["nats-server".to_owned()]].concat();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["-a", &place.address, "-p", &place.port.to_string()]);
    command.args(["-js", "-sd"]).arg(dir.join("store")).args(more).stdin(Stdio::null());
    let process = command.stderr(log).spawn().expect("nats-server is installed");
    until("the broker listens", || (read_log(dir).matches(READY).count() > before).then_some(()));
    process
}

/// Starts three that are one cluster: it has a leader some seconds later.
///
/// # Panics
/// As [`Broker::start`].
#[must_use]
pub fn broker_cluster() -> [Broker; 3] {
    let ports = free_ports(3);
    let routes = [3, 4, 5].map(|at| ports[at]);
    broker_cluster_at([0, 1, 2].map(|at| BrokerPlace::here(ports[at])), routes, &[])
}

/// The same at these places, with these ports for each other, and with further options.
///
/// # Panics
/// As [`Broker::start`].
#[must_use]
pub fn broker_cluster_at(
    places: [BrokerPlace; 3],
    route_ports: [u16; 3],
    more: &[String],
) -> [Broker; 3] {
    let routes = [0, 1, 2].map(|at| format!("nats://{}:{}", places[at].address, route_ports[at]));
    let mut number = 0;
    places.map(|place| {
        let options = [
            ["--server_name", &format!("n{number}")],
            ["--cluster_name", "cluster"],
            ["--cluster", &routes[number]],
            ["--routes", &routes.join(",")],
        ];
        number += 1;
        let options = options.as_flattened().iter().map(|&option| option.to_owned());
        Broker::start_at(place, options.chain(more.iter().cloned()).collect())
    })
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
