//! Options: what they do, and what a wrong one gets.

use crate::controller::{Controller, Worker};
use ipc_proto::message::SandboxLayer;
use nix::unistd::{Uid, geteuid};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

fn worker() -> &'static str {
    test_kit::program("hashcluster-worker")
}

/// `nobody` on every Linux.
const NOBODY: u32 = 65534;

fn run(options: &[&str]) -> Output {
    Command::new(worker()).args(options).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_wrong_option_is_a_usage_error() {
    for (options, text) in [
        (&["--threads", "0"][..], "--threads"),
        (&["--threads", "4097"], "--threads"),
        (&["--cpuset", "3-1"], "write cores as 0,2-3"),
        (&["--nice", "20"], "--nice"),
        (&["--sched", "fifo"], "fifo:PRIO"),
        (&["--sched", "fifo:100"], "fifo:PRIO"),
        (&["--name", ""], "1 to 64 bytes"),
        (&["--name", "a\nb"], "no control characters"),
        (&["--connect", "@abstract"], "abstract sockets"),
        (&["--connect", "vsock:any:5000"], "any CID is only for listening"),
        (&["--connect", "vsock:2:x"], "is not a number from 1 to"),
        (&["--connect", "unix:/a", "--runtime-dir", "/b"], "cannot be used with"),
        (&["--io-threads", "d"], "write NAME=N"),
        (&["--io-threads", "d=0"], "N from 1 on"),
        (&["--io-threads", "d=+1"], "N from 1 on"),
        (&["--io-threads", "d=65536"], "N from 1 on"),
        (&["--io-threads", "D=1"], "a-z"),
        (&["--reading", "fast"], "auto, uring, plain"),
        (&["--backend", "fast"], "not available here; these are: "),
        (&["--backend", ""], "not available here; these are: "),
        (&["file"], "unexpected argument"),
    ] {
        let output = run(options);
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(stderr(&output).contains(text), "{options:?}: {}", stderr(&output));
    }
    let image = |value: &str| {
        let mut worker = Command::new(worker());
        worker.args(["--connect", "/nowhere/worker.sock"]).env("HASHCLUSTER_IMAGE", value);
        stderr(&worker.output().unwrap())
    };
    assert!(image(&"x".repeat(65)).contains("HASHCLUSTER_IMAGE is longer than 64 bytes"));
    assert!(image("a b").contains("HASHCLUSTER_IMAGE is not printable"));
    let deep = format!("/{}", "x".repeat(120));
    let output = run(&["--runtime-dir", &deep]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("at most 107"), "{}", stderr(&output));
}

#[test]
fn an_unknown_backend_is_reported_with_the_available_ones() {
    let mut worker = Command::new(worker());
    worker.args(["--backend", "sha256_sha_ni_x2"]).env("HASHCLUSTER_DENY_CPU", "sha");
    worker.env_remove("HASHCLUSTER_REQUIRE_BACKENDS");
    let output = worker.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains("'sha256_sha_ni_x2' for '--backend <NAME>': it is not available here"),
        "{text}"
    );
    let (_, listed) = text.split_once("these are:").unwrap();
    let listed = listed.lines().next().unwrap();
    assert!(listed.contains(" portable") && !listed.contains("sha256_sha_ni_x2"), "{text}");
}

#[test]
fn prints_help_and_version() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for text in ["--runtime-dir", "--connect", "--sched", "--backend", "SIGTERM", "Exit status"] {
        assert!(help.contains(text), "{text}");
    }
    let version = String::from_utf8(run(&["--version"]).stdout).unwrap();
    assert_eq!(version, format!("hashcluster-worker {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_environment_variable_with_an_unavailable_value_prevents_the_start() {
    for (variable, value, fault) in [
        ("HASHCLUSTER_DENY_CPU", "sha1", "unknown feature"),
        ("HASHCLUSTER_REQUIRE_BACKENDS", "portable,fast", "unknown backend"),
        ("HASHCLUSTER_REQUIRE_BACKENDS", "sha_ni_x2", "unknown backend"),
    ] {
        let mut worker = Command::new(worker());
        worker.args(["--connect", "/nowhere/worker.sock"]).env(variable, value);
        let output = worker.output().unwrap();
        assert!(!output.status.success(), "{variable}={value}");
        let (text, name) = (stderr(&output), value.rsplit(',').next().unwrap());
        assert!(text.contains(&format!("{variable}: {fault} {name:?}; known: ")), "{text}");
    }
}

#[test]
fn forbidden_cores_are_one_error_line_and_status_1() {
    let output = run(&["--cpuset", "1023"]);
    assert_eq!(output.status.code(), Some(1));
    let line = stderr(&output);
    let start = "hashcluster-worker: error: cannot run on cores 1023: ";
    assert!(line.starts_with(start), "{line}");
    assert_eq!(line.lines().count(), 1);
}

/// Root may do everything, so root becomes somebody else first.
#[test]
fn a_forbidden_priority_is_one_error_line_and_status_1() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("worker");
    // By another process: were the copy open for writing here, a child that another test forks at
    // that moment would have it open as well, and it could not be executed ("text file busy").
    assert!(Command::new("cp").arg(worker()).arg(&copy).status().unwrap().success());
    for (options, text) in [
        (["--sched", "fifo:99"], "cannot set the scheduling policy to fifo:99: "),
        (["--nice", "-20"], "cannot set the nice value to -20: "),
    ] {
        let mut command = Command::new(&copy);
        if geteuid().is_root() {
            command.uid(Uid::from_raw(NOBODY).as_raw());
        }
        let output = command.args(options).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let line = stderr(&output);
        assert!(line.contains(text) && line.contains("CAP_SYS_NICE"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}

/// Fields 18 and later of /proc/PID/task/TID/stat, of the thread called `name`.
fn thread_stat(worker: &Worker, name: &str) -> Vec<String> {
    let tasks = format!("/proc/{}/task", worker.pid());
    for task in fs::read_dir(tasks).unwrap() {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (head, tail) = stat.rsplit_once(") ").unwrap();
        if head.ends_with(&format!("({name}")) {
            return tail.split_whitespace().map(str::to_owned).collect();
        }
    }
    panic!("no thread called {name}");
}

#[test]
fn hashing_threads_get_their_cores_and_priority() {
    let controller = Controller::new();
    let options = ["--cpuset", "0", "--threads", "2", "--nice", "7", "--sched", "batch"];
    let worker = Worker::start(&controller, &options);
    controller.welcome();
    for name in ["hash-0", "hash-1"] {
        let stat = thread_stat(&worker, name);
        // After pid and name, proc(5) counts from 3: 19 is nice, 39 the core, 41 the policy.
        assert_eq!((&*stat[16], &*stat[36], &*stat[38]), ("7", "0", "3"), "{name}");
    }
}

#[test]
fn the_reading_method_is_logged_announced_and_can_be_forced() {
    for (asked, name, text) in [
        ("plain", "plain", ": reads by plain calls"),
        ("uring", "io_uring", ": reads what is not in memory through io_uring"),
        ("auto", "io_uring", ": reads what is not in memory through io_uring"),
    ] {
        let controller = Controller::new();
        let worker = Worker::start(&controller, &["--reading", asked]);
        assert_eq!(controller.accept().hello().reading, name, "{asked}");
        let line = worker.reading();
        assert!(line.ends_with(text), "{asked}: {line}");
    }
}

#[test]
fn io_threads_requires_a_mounted_dataset() {
    let output = run(&["--dataset", "d=/", "--io-threads", "e=1"]);
    assert_eq!(output.status.code(), Some(1));
    let want = "--io-threads for dataset e, which is not given";
    assert!(stderr(&output).contains(want), "{}", stderr(&output));
}

#[test]
fn the_layers_of_the_sandbox_are_announced() {
    for mode in ["enforce", "best-effort", "off"] {
        let controller = Controller::new();
        let _worker = Worker::start(&controller, &["--sandbox", mode]);
        let layers = controller.accept().hello().sandbox;
        let required = [SandboxLayer::Landlock, SandboxLayer::Capabilities, SandboxLayer::Seccomp];
        for layer in required {
            assert_eq!(layers.has(layer), mode != "off", "{mode}: {layer:?} of {layers:?}");
        }
    }
}
