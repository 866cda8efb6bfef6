//! Log lines that a worker sends to a collector, from inside its sandbox.

use crate::controller::{Controller, NAME, Worker};
use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use test_kit::DEADLINE;

/// Datagrams of a collector.
enum Received<'a> {
    Unix(&'a UnixDatagram),
    Udp(&'a UdpSocket),
}

impl Received<'_> {
    fn next(&self) -> String {
        let mut line = vec![0; 4096];
        let len = match self {
            Self::Unix(socket) => {
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                socket.recv(&mut line)
            }
            Self::Udp(socket) => {
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                socket.recv(&mut line)
            }
        };
        line.truncate(len.expect("a line in time"));
        String::from_utf8(line).unwrap()
    }

    /// Lines up to one of `event`, which is returned.
    fn until(&self, event: &str) -> String {
        let is_event = |line: &String| line.contains(&format!(" event=\"{event}\""));
        std::iter::repeat_with(|| self.next()).find(is_event).unwrap()
    }
}

/// The controller welcomes the worker, and leaves it.
fn connect_and_leave(controller: &Controller) {
    drop(controller.welcome());
}

fn options<'a>(target: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--threads", "1", "--syslog", target], more].concat()
}

fn check_unix(dir: &Path, more: &[&str]) {
    let path = dir.join("collector");
    let collector = UnixDatagram::bind(&path).unwrap();
    let controller = Controller::new();
    let mut worker = Worker::start(&controller, &options(path.to_str().unwrap(), more));
    connect_and_leave(&controller);
    let line = Received::Unix(&collector).until("Connected");
    let pid = worker.pid();
    assert!(line.starts_with("<30>1 2"), "{line}");
    assert!(line.contains(&format!(" hashcluster-worker {pid} ")), "{line}");
    Received::Unix(&collector).until("Lost");
    // The collector ends, and another one takes its place: nothing of the time between is lost.
    drop(collector);
    fs::remove_file(&path).unwrap();
    connect_and_leave(&controller);
    worker.says("connected");
    worker.says("lost");
    worker.says("connected");
    worker.says("lost");
    let collector = UnixDatagram::bind(&path).unwrap();
    let received = Received::Unix(&collector);
    received.until("Connected");
    received.until("Lost");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    received.until("Stopping");
    assert!(worker.exit().success());
}

#[test]
fn a_collector_that_starts_again_gets_all_lines_from_inside_the_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    check_unix(dir.path(), &[]);
}

#[test]
fn a_collector_that_starts_again_gets_all_lines_without_a_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    check_unix(dir.path(), &["--sandbox", "off"]);
}

#[test]
fn a_collector_behind_udp_gets_lines_from_inside_the_sandbox() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &options(&format!("udp:{address}"), &[]));
    connect_and_leave(&controller);
    Received::Udp(&collector).until("Lost");
    // Its host refuses lines until it is back.
    drop(collector);
    connect_and_leave(&controller);
    connect_and_leave(&controller);
    let collector = UdpSocket::bind(address).unwrap();
    let received = Received::Udp(&collector);
    for _ in 0..2 {
        received.until("Connected");
        received.until("Lost");
    }
}

#[test]
fn a_collector_without_a_directory_is_an_error_that_names_it() {
    let controller = Controller::new();
    let mut worker = Worker::start(&controller, &["--syslog", "/nowhere/log"]);
    worker.says("error: --syslog /nowhere/log: No such file");
    assert_eq!(worker.exit().code(), Some(1));
}

#[test]
fn json_on_standard_error_is_an_object_per_line() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &["--log-format", "json", "--syslog", "off"]);
    connect_and_leave(&controller);
    let is_connected = |line: &serde_json::Value| line["event"] == "Connected";
    let lines = std::iter::repeat_with(|| serde_json::from_str(&worker.next_line()).unwrap());
    let line: serde_json::Value = lines.take(30).find(is_connected).expect("an event");
    assert_eq!((&line["level"], &line["program"]), (&"info".into(), &"hashcluster-worker".into()));
    assert!(line["fields"]["endpoint"].as_str().unwrap().ends_with("worker.sock"), "{line}");
    assert_ne!(line["host"], NAME);
}
