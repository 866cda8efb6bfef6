//! Clusters that are changed while they run, and signals that are not meant to stop them.

use crate::harness::{Bench, kill};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};
use test_kit::{Ended, Running, until_within};

fn of(bench: &Bench, word: &str, names: &[&str]) -> Ended {
    bench.finish(&[&[word, "--runtime-dir", "run"], names].concat())
}

/// The start of a local cluster of two workers with the file `cluster.toml`, and others that change it.
const UP: [&str; 7] =
    ["up", "--runtime-dir", "run", "--bin-dir", "bin", "--config", "cluster.toml"];

fn up_with(bench: &Bench, toml: &str, args: &[&str]) -> Ended {
    fs::write(bench.path("cluster.toml"), toml).unwrap();
    bench.finish(&[&UP[..], args].concat())
}

fn start_with(bench: &mut Bench, toml: &str) -> Running {
    fs::write(bench.path("cluster.toml"), toml).unwrap();
    let mut up = bench.start(&[&UP[..], &["--workers", "2"]].concat());
    up.wait_for("are ready in");
    for name in ["controller", "w1", "w2"] {
        bench.wait_for(&format!("{name} start"));
    }
    up
}

#[test]
fn a_hangup_reads_the_file_again_and_restarts_what_differs() {
    let mut bench = Bench::new("hangup", "");
    let mut up = start_with(&mut bench, "[defaults]\nreading = 'auto'\n");
    fs::write(bench.path("cluster.toml"), "[defaults]\nreading = 'plain'\n").unwrap();
    up.signal(Signal::SIGHUP);
    up.wait_for("hashcluster-vm: apply: ~ w1: --reading plain; restarts");
    up.wait_for("hashcluster-vm: apply: w2: healthy");
    for name in ["w1", "w2"] {
        assert!(bench.wait_for(&format!("{name} start")).ends_with("--reading plain"));
    }
    // What cannot be read changes nothing.
    fs::write(bench.path("cluster.toml"), "[defaults]\nreading = 'mmap'\n").unwrap();
    up.signal(Signal::SIGHUP);
    let line = up.wait_for("hashcluster-vm: error: apply: ");
    assert!(line.contains("cluster.toml:2: reading: bad value"), "{line}");
    let status = of(&bench, "status", &[]);
    assert!(status.status.success() && status.stdout.contains("healthy"), "{}", status.stdout);
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
    let events = bench.events_until("controller leaves");
    assert!(!events.iter().any(|event| event.contains(" start ")), "{events:#?}");
}

#[test]
fn a_second_start_changes_what_differs_and_only_that() {
    let mut bench = Bench::new("again", "");
    let toml = "[defaults]\nreading = 'plain'\n";
    let up = start_with(&mut bench, toml);
    let same = up_with(&bench, toml, &[]);
    assert_eq!(
        (same.status.code(), same.stdout.lines().next()),
        (Some(0), Some("nothing to change"))
    );
    assert!(same.stderr.contains("already runs in"), "{}", same.stderr);

    let dry = up_with(&bench, toml, &["--workers", "3", "--dry-run"]);
    assert_eq!((dry.status.code(), &*dry.stdout), (Some(0), "+ w3\n"));
    let grown = up_with(&bench, toml, &["--workers", "3"]);
    assert!(grown.stdout.starts_with("+ w3\nw3: healthy\n"), "{}{}", grown.stdout, grown.stderr);
    bench.wait_for("w3 start");

    // An option that is not given stays; one that is gone goes; the controller has flags of its own.
    let toml = "[defaults]\ncross_check = '1/8'\n";
    let changed = up_with(&bench, toml, &["--stop-limit-ms", "7000"]);
    let lines: Vec<&str> = changed.stdout.lines().collect();
    assert_eq!(
        lines[..5],
        [
            "~ stop limit: 5000 ms -> 7000 ms; without a restart",
            "~ w1: no --reading; restarts",
            "~ w2: no --reading; restarts",
            "~ w3: no --reading; restarts",
            "~ controller: --cross-check 1/8; restarts last, clients lose their connections",
        ],
        "{}{}",
        changed.stdout,
        changed.stderr
    );
    assert_eq!(lines[5..9], ["w1: healthy", "w2: healthy", "w3: healthy", "controller: healthy"]);
    let events = bench.events_until("controller start");
    let order = ["w1 start", "w2 start", "w3 start", "controller start"];
    let at = order.map(|start| events.iter().position(|event| event.starts_with(start)));
    assert!(at.is_sorted() && at.iter().all(Option::is_some), "{events:#?}");

    let fewer = up_with(&bench, toml, &["--workers", "1"]);
    assert!(fewer.stdout.starts_with("- w2\n- w3\n"), "{}{}", fewer.stdout, fewer.stderr);
    let status = of(&bench, "status", &[]);
    assert!(!status.stdout.contains("w2"), "{}", status.stdout);

    let fixed = up_with(&bench, toml, &["--metrics-port", "9000"]);
    assert_eq!(fixed.status.code(), Some(1), "{}", fixed.stdout);
    assert!(
        fixed.stderr.contains("--metrics-port 9000: the supervisor serves"),
        "{}",
        fixed.stderr
    );
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
}

#[test]
fn a_program_that_a_build_has_replaced_is_started_in_place_of_the_old_one() {
    let mut bench = Bench::new("rebuilt", "");
    let up = start_with(&mut bench, "");
    let worker = bench.path("bin/hashcluster-worker");
    let fake = fs::canonicalize(&worker).unwrap();
    fs::remove_file(&worker).unwrap();
    fs::copy(&fake, &worker).unwrap();
    let ps = until_within(Duration::from_secs(20), "drift", || {
        let ps = of(&bench, "ps", &["--json"]);
        ps.stdout.contains("its program was replaced").then_some(ps)
    });
    assert!(ps.status.success(), "{}", ps.stdout);
    let applied = of(&bench, "apply", &[]);
    let want = "~ w1: its program was replaced; restarts\n~ w2: its program was replaced; restarts\n\
                w1: healthy\nw2: healthy\n";
    assert_eq!((applied.status.code(), &*applied.stdout), (Some(0), want), "{}", applied.stderr);
    assert_eq!(of(&bench, "apply", &[]).stdout, "nothing to change\n");
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
}

#[test]
fn a_collector_that_is_named_while_a_cluster_runs_gets_its_events() {
    let mut bench = Bench::new("logs-again", "");
    let collector = UnixDatagram::bind(bench.path("log")).unwrap();
    collector.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut up = start_with(&mut bench, "");
    let toml = format!("[logs]\nsyslog = '{}'\n", bench.path("log").display());
    let changed = up_with(&bench, &toml, &[]);
    let says = format!("~ logs: to off -> {}; without a restart\n", bench.path("log").display());
    assert!(changed.stdout.starts_with(&says), "{}{}", changed.stdout, changed.stderr);
    // The supervisor sends what they write from now on, so they restart to leave that to it.
    assert!(changed.stdout.contains("~ w1: --syslog off; restarts\n"), "{}", changed.stdout);
    kill(Signal::SIGKILL, bench.pid_of("w1"));
    up.wait_for("w1 failed");
    until_within(Duration::from_secs(20), "a line of the collector", || {
        let mut bytes = [0; 4096];
        let len = collector.recv(&mut bytes).ok()?;
        String::from_utf8_lossy(&bytes[..len]).contains("w1 failed").then_some(())
    });
    let nowhere = up_with(&bench, "[logs]\nsyslog = '/nowhere/at/all'\n", &[]);
    assert_eq!(nowhere.status.code(), Some(1), "{}", nowhere.stdout);
    let says = "send logs to /nowhere/at/all, as cluster.toml says";
    assert!(nowhere.stderr.contains(says), "{}", nowhere.stderr);
    let off = up_with(&bench, "", &[]);
    assert!(off.stdout.contains(" -> off; without a restart\n"), "{}", off.stdout);
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
fn a_worker_that_restarts_is_drained_first_and_undrained_before_it_comes_back() {
    let mut bench = Bench::new("drained", "");
    let up = bench.up("2", &[]);
    bench.wait_for("w2 start");
    let restart = of(&bench, "restart", &["w2"]);
    assert_eq!((restart.status.code(), &*restart.stdout), (Some(0), "w2: healthy\n"));
    let mut events = bench.events_until("w2 start");
    events.retain(|event| event.contains("drains w2") || event.starts_with("w2 "));
    let want = ["controller drains w2", "w2 SIGTERM", "w2 leaves", "controller undrains w2"];
    assert_eq!(events[..4], want, "{events:#?}");
    // Nobody works without it: it is not drained.
    assert!(of(&bench, "restart", &["controller"]).status.success());
    assert!(!bench.events_until("controller start").iter().any(|event| event.contains("drains")));
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
}

#[test]
fn an_option_of_vms_changes_no_cluster_without_them() {
    let bench = Bench::new("fixed", "");
    let up = bench.up("1", &[]);
    for (option, value) in [("--ports", "none.conf"), ("--image", "none")] {
        let apply = of(&bench, "apply", &[option, value]);
        assert_eq!(apply.status.code(), Some(1), "{}", apply.stderr);
        let says = format!("{option} is an option of VMs, and a cluster without them runs");
        assert!(apply.stderr.contains(&says), "{}", apply.stderr);
    }
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
    let apply = of(&bench, "apply", &[]);
    assert_eq!(apply.status.code(), Some(3), "{}", apply.stderr);
}

#[test]
fn a_cluster_that_lives_as_long_as_its_command_is_changed_by_nobody() {
    let bench = Bench::new("short", "");
    let script = "hashcluster-vm apply --runtime-dir \"$HASHCLUSTER_RUNTIME_DIR\"";
    let vm = test_kit::program("hashcluster-vm");
    let line = script.replacen("hashcluster-vm", vm, 1);
    let args = ["run", "--bin-dir", "bin", "--workers", "1", "--", "sh", "-c", &line];
    let ended = bench.finish(&args);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("lives as long as its command"), "{}", ended.stderr);
}
