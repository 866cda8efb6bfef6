//! Reports of a cluster to the service manager that started it.

use crate::harness::{Bench, kill};
use nix::sys::signal::Signal;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use test_kit::Running;

const DEADLINE: Duration = Duration::from_secs(20);

const UP: [&str; 7] = ["up", "--runtime-dir", "run", "--bin-dir", "bin", "--workers", "2"];

/// Stands in for the manager: a socket, and the reports that it received.
struct FakeManager {
    socket: UnixDatagram,
    seen: Vec<String>,
}

impl FakeManager {
    fn at(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, seen: Vec::new() }
    }

    /// Receives reports up to the first that is `wanted`.
    #[track_caller]
    fn wait_for(&mut self, wanted: &str) {
        loop {
            let mut bytes = [0; 4096];
            let len = self.socket.recv(&mut bytes);
            let len = len.unwrap_or_else(|_| panic!("no {wanted:?} after {:#?}", self.seen));
            let report = String::from_utf8_lossy(&bytes[..len]).into_owned();
            self.seen.push(report);
            if self.seen.last().unwrap() == wanted {
                return;
            }
        }
    }
}

fn start(bench: &Bench, notify_socket: &str, more: &[(&str, &str)]) -> Running {
    let mut command = bench.command(&UP);
    command.env("NOTIFY_SOCKET", notify_socket).envs(more.iter().copied());
    Running::start(&mut command, DEADLINE)
}

#[test]
fn a_service_manager_is_told_of_readiness_of_health_and_of_the_end() {
    let mut bench = Bench::new("notify", "");
    let path = bench.path("notify.sock");
    let mut manager = FakeManager::at(&SocketAddr::from_pathname(&path).unwrap());
    let up = start(&bench, path.to_str().unwrap(), &[]);
    manager.wait_for("READY=1");
    let all = "STATUS=3 of 3 members healthy";
    assert!(manager.seen.iter().any(|report| report == all), "{:#?}", manager.seen);
    let worker = bench.pid_of("w1");
    let environment = fs::read(format!("/proc/{worker}/environ")).unwrap();
    assert!(!environment.windows(13).any(|name| name == b"NOTIFY_SOCKET"), "w1 could report, too");
    kill(Signal::SIGKILL, worker);
    manager.wait_for("STATUS=2 of 3 members healthy, not w1");
    manager.wait_for(all);
    // `systemctl reload` waits for what SIGHUP begins.
    manager.seen.clear();
    up.signal(Signal::SIGHUP);
    manager.wait_for("READY=1");
    let reloading =
        manager.seen.iter().position(|report| report.starts_with("RELOADING=1\nMONOTONIC"));
    let ready = manager.seen.iter().position(|report| report == "READY=1");
    assert!(reloading.is_some() && reloading < ready, "{:#?}", manager.seen);
    up.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1");
    assert!(up.end().status.success());
}

#[test]
fn a_watchdog_is_fed_at_an_abstract_address() {
    let bench = Bench::new("watchdog", "");
    let name = format!("hcvm-{}-watchdog", std::process::id());
    let mut manager = FakeManager::at(&SocketAddr::from_abstract_name(&name).unwrap());
    let up = start(&bench, &format!("@{name}"), &[("WATCHDOG_USEC", "300000")]);
    manager.wait_for("READY=1");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
    let for_another =
        start(&bench, &format!("@{name}"), &[("WATCHDOG_USEC", "300000"), ("WATCHDOG_PID", "1")]);
    manager.seen.clear();
    manager.wait_for("STATUS=3 of 3 members healthy");
    for_another.signal(Signal::SIGTERM);
    assert!(for_another.end().status.success());
    manager.wait_for("STOPPING=1");
    let start = manager.seen.iter().position(|report| report.starts_with("STATUS=0")).unwrap();
    assert!(!manager.seen[start..].iter().any(|report| report == "WATCHDOG=1"));
}

#[test]
fn a_service_manager_that_is_not_there_is_named_and_the_cluster_runs() {
    let bench = Bench::new("nobody", "");
    for (address, what) in
        [("/nowhere/notify", "No such file"), ("relative", "neither an absolute")]
    {
        let mut up = start(&bench, address, &[]);
        let line = up.wait_for("the service manager at NOTIFY_SOCKET is told nothing");
        assert!(line.contains(what), "{line}");
        up.wait_for("are ready in");
        up.signal(Signal::SIGTERM);
        assert!(up.end().status.success());
    }
}
