//! Clusters between their start and their end.

use crate::harness::{Bench, kill};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const RUN: [&str; 5] = ["run", "--bin-dir", "bin", "--workers", "2"];

#[test]
fn workers_start_after_the_controller_stop_before_it_and_leave_no_socket() {
    let mut bench = Bench::new("order", "");
    let up = bench.up("2", &[]);
    let mode = |name| fs::metadata(bench.run_dir().join(name)).unwrap().permissions().mode();
    assert_eq!((mode("") & 0o7777, mode("log/controller.log") & 0o7777), (0o700, 0o600));
    up.signal(Signal::SIGTERM);
    let ended = up.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    let events = bench.events_until("controller leaves");
    let at = |start: &str| events.iter().position(|event| event.starts_with(start)).unwrap();
    for worker in ["w1", "w2"] {
        assert!(at("controller start") < at(&format!("{worker} start")), "{events:#?}");
        assert!(at(&format!("{worker} leaves")) < at("controller SIGTERM"), "{events:#?}");
    }
    let run_dir = bench.run_dir().display().to_string();
    let worker = &events[at("w2 start")];
    let args =
        format!("--runtime-dir {run_dir} --name w2 --threads 1 --http unix:{run_dir}/w2.http");
    assert!(worker.ends_with(&args), "{worker}");
    let names = fs::read_dir(bench.run_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["lock", "log", "state"]);
}

#[test]
fn a_second_start_says_that_it_runs_already_and_harms_nothing() {
    let mut bench = Bench::new("second", "");
    let up = bench.up("1", &[]);
    let second = bench.finish(&["up", "--runtime-dir", "run", "--bin-dir", "bin"]);
    assert!(second.status.success());
    let pid = up.id();
    let says = format!("already runs in run (pid {pid})");
    assert!(second.stderr.contains(&says), "{}", second.stderr);
    let same = ["up", "--runtime-dir", "run", "--bin-dir", "bin", "--workers", "1"];
    assert!(bench.finish(&same).status.success());
    let status = bench.finish(&["status", "--runtime-dir", "run"]);
    assert!(status.status.success());
    let rows: Vec<&str> = status.stdout.lines().collect();
    assert!(rows[1].starts_with("controller  controller  healthy "), "{}", status.stdout);
    assert!(rows[2].starts_with("w1          worker      healthy "), "{}", status.stdout);
    let ps = bench.finish(&["ps", "--json", "--runtime-dir", "run"]);
    let report: Value = serde_json::from_str(&ps.stdout).unwrap();
    assert_eq!((ps.status.code(), &report["state"]), (Some(0), &"healthy".into()), "{report}");
    assert_eq!(report["pid"], pid);
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
    let events = bench.events_until("controller leaves");
    assert_eq!(events.len(), 6, "start, signal and leave of two: {events:#?}");
}

#[test]
fn a_command_runs_while_the_supervisor_is_stopped_and_the_controller_answers() {
    let bench = Bench::new("stuck", "");
    let up = bench.up("1", &[]);
    up.signal(Signal::SIGSTOP);
    let run =
        ["run", "--runtime-dir", "run", "--default-image", "none", "--", "sh", "-c", "exit 5"];
    let ran = bench.finish_vms(&run);
    assert_eq!(ran.status.code(), Some(5), "{}", ran.stderr);
    assert!(ran.stderr.contains("its supervisor does not answer"), "{}", ran.stderr);
    up.signal(Signal::SIGCONT);
    let ran = bench.finish_vms(&run);
    assert_eq!(ran.status.code(), Some(5), "{}", ran.stderr);
    assert!(!ran.stderr.contains("does not answer"), "{}", ran.stderr);
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
}

#[test]
fn stop_ends_the_cluster_and_then_finds_nothing() {
    let bench = Bench::new("stop", "");
    let up = bench.up("2", &[]);
    let stop = bench.finish(&["stop", "--runtime-dir", "run"]);
    assert!(stop.status.success());
    assert!(stop.stderr.contains("stopped workers and controller"), "{}", stop.stderr);
    assert!(up.end().status.success());
    let again = bench.finish(&["stop", "--runtime-dir", "run"]);
    assert!(again.status.success());
    assert!(again.stderr.contains("nothing runs in run"), "{}", again.stderr);
    let status = bench.finish(&["status", "--runtime-dir", "run"]);
    assert_eq!((status.status.code(), &*status.stdout), (Some(3), ""));
    assert!(status.stderr.contains("no cluster runs in run"), "{}", status.stderr);
    let ps = bench.finish(&["ps", "--json", "--runtime-dir", "run"]);
    let report: Value = serde_json::from_str(&ps.stdout).unwrap();
    assert_eq!((ps.status.code(), &report["state"]), (Some(3), &"down".into()), "{report}");
}

#[test]
fn a_cluster_tells_its_state_while_it_starts_and_counts_restarts_with_reasons() {
    let mut bench = Bench::new("ps", "w2:mute");
    let args = ["up", "--runtime-dir", "run", "--bin-dir", "bin", "--workers", "2"];
    let up = bench.start(&args);
    let first = bench.pid_of("w2");
    let ps = |bench: &Bench| {
        let ps = bench.finish(&["ps", "--json", "--runtime-dir", "run"]);
        let report: Value = serde_json::from_str(&ps.stdout).unwrap();
        (ps.status.code(), report)
    };
    let (code, report) = ps(&bench);
    assert_eq!((code, &report["state"]), (Some(1), &"starting".into()), "{report}");
    assert_eq!(report["members"][2]["phase"], "booting", "{report}");
    kill(Signal::SIGKILL, first);
    bench.pid_of("w2");
    let page = bench.supervisor_page();
    for line in [
        "hashcluster_supervisor_boots_total{vm=\"w2\"} 2",
        "hashcluster_supervisor_restarts_total{vm=\"w2\",reason=\"ended\"} 1",
        "hashcluster_supervisor_restarts_total{vm=\"w1\",reason=\"ended\"} 0",
        "hashcluster_supervisor_member_state{vm=\"w2\",state=\"booting\"} 1",
        "hashcluster_supervisor_metrics_up{vm=\"controller\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "no {line} in {page}");
    }
    let (_, report) = ps(&bench);
    let restarts = &report["members"][2]["restarts"];
    assert_eq!(restarts["count"], 1, "{report}");
    let reason = restarts["last"][0]["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("(pid {first}) was killed by SIGKILL")), "{reason}");
    up.signal(Signal::SIGTERM);
    assert_eq!(up.end().status.code(), Some(4));
}

#[test]
fn a_cluster_whose_run_directory_is_removed_is_found_and_ends_in_order() {
    let mut bench = Bench::new("lost", "w1:deaf");
    let up = bench.up("1", &["--stop-limit-ms", "600000"]);
    let pid = up.id();
    fs::remove_dir_all(bench.run_dir()).unwrap();
    bench.wait_for("w1 SIGTERM");
    let all = bench.finish(&["ps", "--all"]);
    let run_dir = bench.run_dir().display().to_string();
    assert!(all.stdout.contains(&format!("{run_dir} (pid {pid})")), "{}", all.stdout);
    assert!(all.stderr.contains("its run directory was removed"), "{}", all.stderr);
    assert_eq!(all.status.code(), Some(3));
    // A second signal kills the worker that does not stop.
    let stop = bench.finish(&["stop", "--runtime-dir", "run"]);
    assert!(
        stop.status.success() && stop.stderr.contains(&format!("(pid {pid})")),
        "{}",
        stop.stderr
    );
    let ended = up.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stderr.contains("run was removed: nobody can reach"), "{}", ended.stderr);
    bench.wait_for("controller gone");
    assert!(!bench.run_dir().exists());
}

#[test]
fn every_cluster_of_this_user_is_listed_with_its_state() {
    let bench = Bench::new("all", "");
    let up = bench.up("1", &[]);
    let all = bench.finish(&["ps", "--all", "--json"]);
    let of = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let ours = all.stdout.lines().map(of).find(|report| report["pid"] == up.id()).unwrap();
    assert_eq!(ours["state"], "healthy", "{ours}");
    assert_eq!(ours["run_dir"], bench.run_dir().to_str().unwrap());
}

#[test]
fn commands_of_members_name_what_is_wrong_before_they_do_anything() {
    let bench = Bench::new("members", "");
    let _up = bench.up("1", &[]);
    for (args, status, says) in [
        (&["restart"][..], 2, "restart needs a NAME"),
        (&["start"], 2, "start needs a NAME"),
        (&["restart", "w1", "w9"], 2, "no VM is called w9; there are controller, w1"),
        (&["stop", "w 1"], 2, "there are controller, w1"),
        (&["ssh", "w1"], 3, "has no VMs"),
        (&["exec", "w1", "--", "ls"], 3, "has no VMs"),
        (&["cp", "a", "w1:b"], 1, "cannot read a"),
        (&["cp", "a", "b"], 2, "NAME:PATH"),
        (&["logs", "w9"], 2, "there are controller, w1"),
        (&["logs", "--since", "soon"], 2, "such as 10m"),
    ] {
        let in_dir = ["--runtime-dir", "run"];
        let ended = bench.finish(&[&args[..1], &in_dir, &args[1..]].concat());
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.status.code(), Some(status), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn logs_stand_side_by_side_behind_their_names_also_after_a_stop() {
    let bench = Bench::new("logs", "");
    let up = bench.up("2", &[]);
    fs::write(bench.run_dir().join("log/w1.log"), "one\x1b[2J\ntwo").unwrap();
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
    let logs = bench.finish(&["logs", "--runtime-dir", "run"]);
    assert_eq!(
        (logs.status.code(), &*logs.stdout),
        (Some(0), "w1         | one?[2J\nw1         | two\n")
    );
    let none = bench.finish(&["logs", "--runtime-dir", "gone"]);
    assert_eq!(none.status.code(), Some(3), "{}", none.stderr);
}

#[test]
fn a_killed_member_is_started_again_and_logged_once() {
    for name in ["controller", "w1"] {
        let mut bench = Bench::new(&format!("again-{name}"), "");
        let mut up = bench.up("1", &[]);
        let first = bench.pid_of(name);
        kill(Signal::SIGKILL, first);
        let logged = up.wait_for(&format!("hashcluster-vm: warning: {name} failed: its process "));
        assert!(logged.contains(&format!("(pid {first}) was killed by SIGKILL")), "{logged}");
        assert_ne!(bench.pid_of(name), first);
        up.signal(Signal::SIGTERM);
        let ended = up.end();
        assert!(ended.status.success());
        assert_eq!(ended.stderr.matches(&format!("{name} failed")).count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn a_worker_that_does_not_stop_is_killed_and_named() {
    let mut bench = Bench::new("deaf", "w2:deaf");
    let up = bench.up("2", &["--stop-limit-ms", "50"]);
    up.signal(Signal::SIGTERM);
    let ended = up.end();
    assert!(ended.status.success());
    let says = "w2 did not stop in time and is killed";
    assert_eq!(ended.stderr.matches("is killed").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains(says), "{}", ended.stderr);
    bench.wait_for("w2 gone");
    bench.wait_for("controller gone");
}

#[test]
fn a_second_signal_does_not_wait_for_the_limit() {
    let mut bench = Bench::new("impatient", "w1:deaf");
    let up = bench.up("1", &["--stop-limit-ms", "600000"]);
    up.signal(Signal::SIGINT);
    bench.wait_for("w1 SIGTERM");
    up.signal(Signal::SIGINT);
    assert!(up.end().stderr.contains("w1 did not stop"));
}

#[test]
fn a_killed_supervisor_leaves_nothing_behind() {
    let mut bench = Bench::new("orphan", "w1:deaf controller:deaf");
    let up = bench.up("2", &[]);
    up.signal(Signal::SIGKILL);
    for name in ["controller", "w1", "w2"] {
        bench.wait_for(&format!("{name} gone"));
    }
    drop(up);
    let up = bench.up("1", &["--stop-limit-ms", "10"]);
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success(), "the stale pidfile and sockets are in nobody's way");
}

#[test]
fn run_gives_the_commands_status_and_removes_its_directory() {
    let mut bench = Bench::new("run", "");
    let script = "ls $HASHCLUSTER_RUNTIME_DIR; echo oops >&2; exit 42";
    let ended = bench.finish(&[&RUN[..], &["--", "sh", "-c", script]].concat());
    assert_eq!(ended.status.code(), Some(42));
    let files =
        "client.sock control.sock lock log supervisor.http supervisor.pid targets worker.sock";
    assert_eq!(ended.stdout.split_ascii_whitespace().collect::<Vec<_>>().join(" "), files);
    assert_eq!(ended.stderr, "oops\n", "a run has nothing to say of itself");
    bench.wait_for("controller gone");
    let left = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["bin", "events", "life"]);
}

#[test]
fn an_early_command_runs_while_workers_start_and_ends_if_they_cannot() {
    let early = [&RUN[..], &["--early", "--"]].concat();
    let bench = Bench::new("early", "w1:mute w2:mute");
    let ended = bench.finish(&[&early[..], &["sh", "-c", "exit 3"]].concat());
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(3), ""), "none was waited for");
    let mut bench = Bench::new("early-fails", "w2:die");
    let ended = bench.finish(&[&early[..], &["bin/command"]].concat());
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("w2: told to die"), "{}", ended.stderr);
    for name in ["command", "w1", "controller"] {
        bench.wait_for(&format!("{name} gone"));
    }
}

#[test]
fn run_passes_its_input_on() {
    let bench = Bench::new("input", "");
    let mut command = bench.command(&[&RUN[..], &["--", "cat"]].concat());
    let output = command.stdin(test_kit::file(b"words\n")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "words\n");
    assert!(output.status.success());
}

#[test]
fn an_interrupted_run_lets_its_command_decide_and_then_stops_the_cluster() {
    let mut bench = Bench::new("interrupt", "");
    let run = bench.start(&[&RUN[..], &["--", "bin/command"]].concat());
    bench.wait_for("command dir ");
    run.signal(Signal::SIGINT);
    bench.wait_for("command SIGINT");
    assert_eq!(run.end().status.code(), Some(7), "the command's own status");
    bench.wait_for("w1 gone");
    bench.wait_for("controller gone");
}

#[test]
fn ctrl_c_reaches_the_command_and_none_of_the_cluster() {
    let mut bench = Bench::new("group", "");
    let run = bench.start(&[&RUN[..], &["--", "bin/command"]].concat());
    bench.wait_for("command dir ");
    run.interrupt();
    assert_eq!(run.end().status.code(), Some(7));
    let mut events = bench.events_until("command leaves");
    bench.wait_for("w1 gone");
    events.extend(bench.events_until("controller gone"));
    let hit: Vec<_> = events.iter().filter(|event| event.ends_with("SIGINT")).collect();
    assert!(hit.iter().all(|event| event.starts_with("command")), "{events:#?}");
}

#[test]
fn a_command_that_a_signal_killed_gives_the_status_of_a_shell() {
    let bench = Bench::new("killed", "");
    let ended = bench.finish(&[&RUN[..], &["--", "sh", "-c", "kill -TERM $$"]].concat());
    assert_eq!(ended.status.code(), Some(128 + 15), "{}", ended.stderr);
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let bench = Bench::new("twice", "");
    let line = [&RUN[..], &["--", "sh", "-c", "echo $HASHCLUSTER_RUNTIME_DIR"]].concat();
    let (first, second) = (bench.start(&line), bench.start(&line));
    let (first, second) = (first.end(), second.end());
    assert!(first.status.success() && second.status.success());
    assert_ne!(first.stdout, second.stdout);
}
