//! `monitoring up` with the real programs, as processes of this user.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use test_kit::{DEADLINE, Running, bin, free_ports, output, repository, text};

/// `hashcluster-vm monitoring ARGS…` for the cluster in `run`.
pub(crate) fn monitoring(run: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(bin("hashcluster-vm"));
    command.arg("monitoring").args(args).arg("--runtime-dir").arg(run);
    output(command.arg("--files").arg(repository("monitoring")).arg("--settings").arg(run))
}

#[test]
fn prometheus_and_alertmanager_start_are_shown_and_stop() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("a [run] dir");
    let port = free_ports(1)[0];
    let port_arg = port.to_string();
    let up = || monitoring(&run, &["up", "--native", "--port", &port_arg]);
    assert_eq!(monitoring(&run, &["status"]).status.code(), Some(3));

    let ports = [port, port + 3];
    for port in ports {
        let holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let refused = up();
        assert_eq!(refused.status.code(), Some(1));
        let pid = std::process::id();
        let said = text(&refused.stderr);
        assert!(
            said.contains(&format!("port {port} of ")) && said.contains(&format!("(pid {pid})")),
            "{said}"
        );
        drop(holder);
    }
    assert_eq!(monitoring(&run, &["status"]).status.code(), Some(3), "nothing was started");

    // Twice: what runs already is left alone.
    let pids = || {
        let names = ["prometheus", "alertmanager"].into_iter();
        let files = names.map(|name| run.join(format!("state/monitoring/{name}.pid")));
        files.map(|path| fs::read_to_string(path).unwrap()).collect::<Vec<_>>()
    };
    let started = up();
    assert!(started.status.success(), "{}", text(&started.stderr));
    let first = pids();
    assert!(up().status.success());
    assert_eq!(pids(), first);

    let status = monitoring(&run, &["status"]);
    let shown = text(&status.stdout);
    assert!(status.status.success(), "{shown}");
    for (name, port) in ["prometheus", "alertmanager"].into_iter().zip(ports) {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("ready") && line.ends_with(&format!("127.0.0.1:{port}")), "{shown}");
        // Of all addresses: none but that one can be bound.
        assert!(TcpListener::bind(("127.0.0.2", port)).is_ok(), "{name} listens elsewhere, too");
    }
    assert_eq!(monitoring(&run, &["targets"]).status.code(), Some(3), "no cluster runs");

    let down = monitoring(&run, &["down"]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    for port in ports {
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "{port} is still held");
    }
    assert!(run.join("state/monitoring/prometheus/wal").is_dir(), "data outlive the programs");
    assert_eq!(monitoring(&run, &["status"]).status.code(), Some(3));
}

/// `run.sh --monitoring` and `run.sh down`.
#[test]
fn monitoring_that_starts_with_the_cluster_stops_after_it_and_one_by_itself_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let port = free_ports(1)[0];
    let run_sh = |args: &[&str]| {
        let mut command = Command::new(bin("hashcluster-vm"));
        command.arg("front").arg(repository(".")).arg(dir.path()).arg("--runtime-dir").arg(&run);
        command.args(args).env("HASHCLUSTER_MONITORING_PORT", port.to_string());
        command
    };
    let is_up = || monitoring(&run, &["status"]).status.code() == Some(0);

    let mut cluster = Running::start(&mut run_sh(&["--monitoring", "--local", "1"]), DEADLINE);
    cluster.wait_for("prometheus: http://127.0.0.1:");
    cluster.wait_for("are ready in");
    assert!(is_up());
    let down = output(&mut run_sh(&["down"]));
    assert!(down.status.success(), "{}", text(&down.stderr));
    cluster.end();
    assert!(!is_up(), "it was started with the cluster");

    let port = port.to_string();
    assert!(monitoring(&run, &["up", "--native", "--port", &port]).status.success());
    let mut cluster = Running::start(&mut run_sh(&["--monitoring", "--local", "1"]), DEADLINE);
    cluster.wait_for("are ready in");
    assert!(output(&mut run_sh(&["down"])).status.success());
    cluster.end();
    assert!(is_up(), "it was started by itself");
    assert!(monitoring(&run, &["down"]).status.success());

    let refused = output(&mut run_sh(&["--monitoring", "--local", "sum", "x"]));
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
}
