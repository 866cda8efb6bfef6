//! Clusters that are changed while they run, and signals that are not meant to stop them.

use crate::harness::Bench;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use std::fs::File;
use std::time::Instant;
use test_kit::Ended;

fn of(bench: &Bench, word: &str, names: &[&str]) -> Ended {
    bench.finish(&[&[word, "--runtime-dir", "run"], names].concat())
}

#[test]
fn a_hangup_stops_no_cluster() {
    let bench = Bench::new("hangup", "");
    let mut up = bench.up("1", &[]);
    up.signal(Signal::SIGHUP);
    up.wait_for("hashcluster-vm: warning: SIGHUP: a cluster without VMs reads nothing again");
    let status = of(&bench, "status", &[]);
    assert!(status.status.success() && status.stdout.contains("healthy"), "{}", status.stdout);
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
}

#[test]
fn a_terminal_that_goes_ends_what_was_in_its_foreground() {
    let mut bench = Bench::new("terminal", "");
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let terminal = posix_openpt(flags).unwrap();
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).unwrap();
    let place = ptsname_r(&terminal).unwrap();
    let input = File::options().read(true).write(true).open(place).unwrap();
    let args = ["up", "--runtime-dir", "run", "--bin-dir", "bin", "--workers", "1"];
    let mut command = bench.command(&args);
    command.stdin(input);
    let mut up = test_kit::Running::start(&mut command, std::time::Duration::from_secs(20));
    // It holds the terminal open until then.
    drop(command);
    up.wait_for("stop  ");
    drop(terminal);
    up.signal(Signal::SIGHUP);
    assert!(up.end().status.success());
    bench.wait_for("controller gone");
}

#[test]
fn a_worker_is_not_waited_for_while_the_controller_is_stopped() {
    let bench = Bench::new("headless", "");
    let up = bench.up("1", &[]);
    for names in [&["w1"][..], &["controller"]] {
        let stop = of(&bench, "stop", names);
        assert!(stop.status.success(), "{}", stop.stderr);
    }
    let begun = Instant::now();
    let start = of(&bench, "start", &["w1"]);
    assert_eq!(start.status.code(), Some(1), "{}", start.stderr);
    let says = "w1: no worker works while the controller is stopped; scripts/start.sh controller";
    assert!(start.stderr.contains(says), "{}", start.stderr);
    assert!(begun.elapsed().as_secs() < 10, "the limit of a start is 30 s");
    let start = of(&bench, "start", &["w1", "controller"]);
    assert!(start.status.success(), "{}", start.stderr);
    assert_eq!(start.stdout, "controller: healthy\nw1: healthy\n", "in the order that works");
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
}

#[test]
fn a_command_that_waits_holds_up_no_other_one() {
    let mut bench = Bench::new("beside", "w1:deaf");
    let up = bench.up("2", &["--stop-limit-ms", "600000"]);
    let waits = bench.start(&["stop", "--runtime-dir", "run", "w1"]);
    bench.wait_for("w1 SIGTERM");
    let restart = of(&bench, "restart", &["w2"]);
    assert!(restart.status.success(), "{}", restart.stderr);
    assert_eq!(restart.stdout, "w2: healthy\n");
    let unknown = of(&bench, "stop", &["w2", "w9"]);
    assert!(unknown.stderr.contains("no VM is called w9"), "{}", unknown.stderr);
    assert_eq!(of(&bench, "stop", &["w2"]).stdout, "w2: stopped\n", "none before all exist");
    up.signal(Signal::SIGTERM);
    let waited = waits.end();
    assert_eq!(waited.status.code(), Some(1), "{}", waited.stderr);
    assert!(waited.stderr.contains("the cluster is being stopped"), "{}", waited.stderr);
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
}

#[test]
fn a_cluster_without_vms_is_changed_by_nobody() {
    let bench = Bench::new("fixed", "");
    let up = bench.up("1", &[]);
    let apply = of(&bench, "apply", &[]);
    assert_eq!(apply.status.code(), Some(1), "{}", apply.stderr);
    assert!(apply.stderr.contains("a cluster without VMs runs in"), "{}", apply.stderr);
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
    let apply = of(&bench, "apply", &[]);
    assert_eq!(apply.status.code(), Some(3), "{}", apply.stderr);
}
