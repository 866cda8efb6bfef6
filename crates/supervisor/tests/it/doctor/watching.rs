//! The doctor on metrics pages and on monitoring programs: stand-ins that answer, hang, or are gone.

use super::assert_only;
use super::fakes::{FakeHost, FakeVms, own};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;
use test_kit::{free_ports, output, text, until};

/// Answers at the port of its command line that it is ready, unless the file `hang` beside its directory says
/// no. It ends by itself if a test leaves it.
const MONITORING_PROGRAM: &str = r#"#!/usr/bin/python3
import http.server, os, sys, threading
port = next(int(arg.rsplit(":", 1)[1]) for arg in sys.argv if arg.startswith("--web.listen-address="))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists(os.environ["HOME"] + "/hang") else 200)
        self.end_headers()
    def log_message(self, *args): pass
timer = threading.Timer(120, os._exit, [1]); timer.daemon = True; timer.start()
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"#;

/// `monitoring ARGS…` of the host.
#[track_caller]
fn monitoring(host: &FakeHost, args: &[&str]) {
    let mut command = host.command(own());
    command.arg("monitoring").args(args).arg("--runtime-dir").arg(host.path("run"));
    command.arg("--files").arg(test_kit::repository("monitoring"));
    let ran = output(command.arg("--settings").arg(host.dir.path()));
    assert!(ran.status.success(), "{}", text(&ran.stderr));
}

#[test]
fn monitoring_programs_that_died_or_hang_are_named_and_come_back_by_the_remedy() {
    let host = FakeHost::new();
    let healthy = host.problems(&[]);
    for name in ["prometheus", "prometheus-alertmanager"] {
        host.write(&format!("bin/{name}"), MONITORING_PROGRAM);
        host.mode(&format!("bin/{name}"), 0o755);
    }
    let port = free_ports(2)[0];
    monitoring(&host, &["up", "--native", "--port", &port.to_string()]);
    assert_eq!(host.fresh(&healthy, &[]), [], "all are ready");

    let pidfile = fs::read_to_string(host.path("run/state/monitoring/prometheus.pid")).unwrap();
    let pid = pidfile.split(' ').next().unwrap().parse().unwrap();
    crate::harness::kill(Signal::SIGKILL, pid);
    until("a port that is free", || TcpListener::bind(("127.0.0.1", port)).ok());
    let found = host.fresh(&healthy, &[]);
    assert_only(&found, "monitoring-down", "monitoring", "prometheus was started");
    host.run_remedy(&found[0]);
    assert_eq!(host.fresh(&healthy, &[]), [], "after {found:?}");

    host.write("hang", "");
    let found = host.fresh(&healthy, &[]);
    let silent = found.iter().filter(|problem| problem.fault == "monitoring-silent").count();
    assert_eq!((silent, found.len()), (2, 2), "{found:#?}");
    fs::remove_file(host.path("hang")).unwrap();
    host.run_remedy(&found[0]);
    assert_eq!(host.fresh(&healthy, &[]), [], "after {found:?}");
    monitoring(&host, &["down"]);
}

#[test]
fn a_metrics_page_that_does_not_answer_is_named_with_the_holder_of_its_port() {
    let mut vms = FakeVms::new();
    let healthy = vms.host.problems(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    vms.set("/members/1/http", json!(address.to_string()));
    let served = listener.try_clone().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = served.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok\n").unwrap();
    });
    assert_eq!(vms.host.fresh(&healthy, &[]), [], "a page that answers");
    server.join().unwrap();

    // Nobody takes connections of this holder.
    let mut holder = Command::new("sleep");
    let pid = vms.host.child(holder.arg("60").stdin(OwnedFd::from(listener)));
    drop(holder);
    let found = vms.host.fresh(&healthy, &[]);
    assert_only(&found, "metrics-silent", "worker1", &format!("sleep (pid {pid})"));
    let command = found[0].command.as_deref().unwrap_or_default();
    assert!(command.starts_with(&format!("kill {pid} && ")), "{command}");
    assert!(command.contains(" restart ") && command.ends_with(" worker1"), "{command}");
}
