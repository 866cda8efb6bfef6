//! `monitoring` with stand-ins for docker and Prometheus; the real ones are in `tests/system/monitoring`.

use crate::harness::{Bench, kill};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use test_kit::{DEADLINE, Ended, Running};

/// Writes a program for bash into the directory of stand-ins.
fn stand_in(bench: &Bench, name: &str, script: &str) -> PathBuf {
    let path = bench.path("stand-ins").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `monitoring ARGS…`, for which the stand-ins come first.
fn monitoring(bench: &Bench, args: &[&str]) -> Ended {
    let files = test_kit::repository("monitoring");
    let mut command = bench.command(&["monitoring", "--runtime-dir", "run", "--settings", "."]);
    command.arg("--files").arg(files).args(args);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", bench.path("stand-ins").display()));
    Running::start(&mut command, DEADLINE).end()
}

/// A docker that notes how compose is called, has containers and starts none.
const DOCKER: &str = r#"case "$*" in
  'info --format {{.SecurityOptions}}') echo '[name=seccomp,profile=builtin]' ;;
  info | 'compose version') ;;
  *' ps --quiet') echo 0123 ;;
  *' up '*) env >env; printf '%s\n' "$*" >args; exit 9 ;;
  *) printf '%s\n' "$*" >down ;;
esac"#;

#[test]
fn containers_get_a_password_of_their_own_and_directories_of_this_user() {
    let bench = Bench::new("containers", "");
    stand_in(&bench, "docker", DOCKER);
    for _ in 0..2 {
        let ended = monitoring(&bench, &["up"]);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("compose up failed: exit status: 9"), "{}", ended.stderr);
    }
    let args = fs::read_to_string(bench.path("args")).unwrap();
    assert!(args.starts_with("compose --project-name hashcluster-monitoring --file /"), "{args}");
    let env = fs::read_to_string(bench.path("env")).unwrap();
    let data = bench.run_dir().join("state/monitoring");
    let owner = format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
    for line in [
        format!("MONITORING_DATA={}", data.display()),
        format!("MONITORING_USER={owner}"),
        format!("HASHCLUSTER_TARGETS={}", bench.run_dir().join("targets").display()),
    ] {
        assert!(env.lines().any(|found| found == line), "{line} in\n{env}");
    }
    assert!(env.contains("/alertmanager/alertmanager.yml\n"), "the example, as there is no other");
    let password = data.join("grafana-password");
    assert_eq!(fs::metadata(&password).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&password).unwrap();
    assert!(secret.len() == 32 && secret.bytes().all(|b| b.is_ascii_hexdigit()), "{secret}");
    assert!(
        !env.contains(&secret) && !args.contains(&secret),
        "others see a command's environment"
    );

    let down = monitoring(&bench, &["down"]);
    assert!(down.status.success(), "{}", down.stderr);
    assert!(fs::read_to_string(bench.path("down")).unwrap().ends_with("down --remove-orphans\n"));
    assert_eq!(fs::read_to_string(&password).unwrap(), secret, "data outlive the containers");
    assert_eq!(monitoring(&bench, &["down"]).status.code(), Some(3));
}

#[test]
fn alerts_go_where_the_users_own_file_says() {
    let bench = Bench::new("alerts", "");
    stand_in(&bench, "docker", DOCKER);
    fs::write(bench.path("alertmanager.yml"), "").unwrap();
    monitoring(&bench, &["up"]);
    let env = fs::read_to_string(bench.path("env")).unwrap();
    let line = format!("MONITORING_ALERTS={}", bench.path("alertmanager.yml").display());
    assert!(env.lines().any(|found| found == line), "{line} in\n{env}");
}

#[test]
fn without_docker_and_without_prometheus_the_packages_are_named() {
    let bench = Bench::new("packages", "");
    stand_in(&bench, "docker", "echo 'Cannot connect to the daemon' >&2; exit 1");
    let files = test_kit::repository("monitoring");
    let mut command =
        bench.command(&["monitoring", "--runtime-dir", "run", "--settings", ".", "up"]);
    command.arg("--files").arg(files);
    // With timeout(1), and without Prometheus.
    std::os::unix::fs::symlink("/usr/bin/timeout", bench.path("stand-ins/timeout")).unwrap();
    std::os::unix::fs::symlink("/bin/bash", bench.path("stand-ins/bash")).unwrap();
    command.env("PATH", bench.path("stand-ins"));
    let ended = Running::start(&mut command, DEADLINE).end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("(Cannot connect to the daemon)"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("install -y --no-install-recommends prometheus"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_program_that_ends_at_once_is_reported_with_its_last_words() {
    let bench = Bench::new("ends", "");
    stand_in(&bench, "prometheus-alertmanager", "echo 'no space left on device' >&2; exit 1");
    stand_in(&bench, "prometheus", "sleep 60");
    let port = test_kit::free_ports(1)[0];
    let ended = monitoring(&bench, &["up", "--native", "--port", &port.to_string()]);
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    let want = "alertmanager ended; it wrote:\n    no space left on device";
    assert!(ended.stderr.contains(want), "{}", ended.stderr);
    let down = monitoring(&bench, &["down"]);
    assert!(down.status.success(), "{}", down.stderr);
}

/// A Prometheus or Alertmanager that only says that it is ready. It keeps the name that it is started by.
const READY: &str = r#"#!/usr/bin/python3
import http.server, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

address = next(arg for arg in sys.argv if arg.startswith("--web.listen-address="))
http.server.HTTPServer(("127.0.0.1", int(address.rsplit(":", 1)[1])), Ready).serve_forever()
"#;

#[test]
fn a_program_that_ends_while_a_cluster_runs_is_started_again() {
    let mut bench = Bench::new("goes", "");
    for name in ["prometheus", "prometheus-alertmanager"] {
        let path = stand_in(&bench, name, "");
        fs::write(path, READY).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let args = ["up", "--runtime-dir", "run", "--bin-dir", "bin", "--workers", "1"];
    let mut command = bench.command(&args);
    command.env("PATH", format!("{}:{path}", bench.path("stand-ins").display()));
    let mut up = Running::start(&mut command, DEADLINE);
    up.wait_for("are ready in");
    // Four ports from the first one on are for it.
    let port = test_kit::free_ports(4).into_iter().find(|port| *port < 65_000).unwrap().to_string();
    let started = monitoring(&bench, &["up", "--native", "--port", &port]);
    assert!(started.status.success(), "{}", started.stderr);
    let pid_of = |name: &str| -> Option<u32> {
        let text = fs::read_to_string(bench.run_dir().join(format!("state/monitoring/{name}.pid")));
        text.ok()?.split(' ').next()?.parse().ok()
    };
    let before = ["prometheus", "alertmanager"].map(pid_of);
    kill(nix::sys::signal::Signal::SIGKILL, before[0].unwrap());
    up.wait_for("warning: prometheus has ended, though nobody stopped it; it is started again");
    test_kit::until("another prometheus", || {
        pid_of("prometheus").filter(|pid| Some(*pid) != before[0])
    });
    assert_eq!(pid_of("alertmanager"), before[1], "it runs on");
    // What somebody stops stays stopped, and is not named.
    let stopped = monitoring(&bench, &["down"]);
    assert!(stopped.status.success(), "{}", stopped.stderr);
    up.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = up.end();
    assert_eq!(ended.stderr.matches("has ended, though").count(), 1, "{}", ended.stderr);
    bench.wait_for("controller gone");
}
