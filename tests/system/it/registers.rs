//! `hashctl get` and `hashctl search` of a real cluster.

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use test_kit::{Cluster, Options};

fn hashctl(cluster: &Cluster, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = cluster.hashctl().args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

#[track_caller]
fn objects(cluster: &Cluster, args: &[&str]) -> Vec<Value> {
    let (code, stdout, stderr) = hashctl(cluster, &[args, &["--json"]].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn registers_are_listed_chosen_from_watched_and_searched() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("photos")).unwrap();
    fs::write(data.join("photos/a"), "a").unwrap();
    let mut cluster = Cluster::start(Options {
        workers: 2,
        datasets: vec![("d", data.clone())],
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    cluster.link_datasets();
    let photos = data.join("photos");
    let path = photos.to_str().unwrap();
    for key in ["first", "second"] {
        let submitted =
            hashctl(&cluster, &["submit", "--wait", "--id", key, "--label", "Nightly", path]);
        assert_eq!(submitted.0, Some(0), "{submitted:?}");
    }

    let names = |rows: &[Value], key: &str| -> Vec<String> {
        rows.iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&objects(&cluster, &["get", "workers"]), "name"), ["w0", "w1"]);
    assert_eq!(names(&objects(&cluster, &["get", "worker", "w1"]), "name"), ["w1"]);
    assert_eq!(names(&objects(&cluster, &["get", "datasets"]), "name"), ["d"]);
    assert_eq!(names(&objects(&cluster, &["get", "jobs"]), "key"), ["first", "second"]);
    let chosen = ["get", "jobs", "--selector", "state=done,labels=Nightly,key=second"];
    assert_eq!(names(&objects(&cluster, &chosen), "key"), ["second"]);
    assert!(objects(&cluster, &["get", "jobs", "--selector", "state=running"]).is_empty());
    let (code, text, _) = hashctl(&cluster, &["get", "jobs", "first"]);
    assert_eq!((code, text.lines().count()), (Some(0), 2), "{text}");
    assert!(text.starts_with("JOB ") && text.contains("done"), "{text}");
    for (args, want) in [
        (&["get", "workers", "w7"][..], "hashctl: there is no worker w7\n"),
        (&["get", "jobs", "1-1"], "hashctl: there is no job 1-1\n"),
        (
            &["get", "workers", "--selector", "colour=red"],
            "hashctl: no worker has a key colour; --json shows them\n",
        ),
        (&["search", "nowhere"], "hashctl: nothing has nowhere\n"),
    ] {
        let (code, stdout, stderr) = hashctl(&cluster, args);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(1), "", want), "{args:?}");
    }
    let (code, _, stderr) = hashctl(&cluster, &["get", "workers", "--selector", "name"]);
    assert!(code == Some(2) && stderr.contains("KEY=VALUE"), "{stderr}");

    let (code, found, _) = hashctl(&cluster, &["search", "nightly"]);
    assert_eq!((code, found.lines().count()), (Some(0), 2), "{found}");
    assert!(found.lines().all(|line| line.ends_with("labels: Nightly")), "{found}");
    let (_, found, _) = hashctl(&cluster, &["search", "W1"]);
    let found: Vec<_> = found.lines().collect();
    assert_eq!(found.first(), Some(&"worker   w1  name: w1"));
    assert!(found[1..].iter().all(|line| line.starts_with("event ")), "{found:?}");
    assert!(found[1..].iter().any(|line| line.ends_with("  subject: w1")), "{found:?}");

    // What happened, and who may do what.
    let file = dir.path().join("s.yaml");
    fs::write(&file, "dataset: d\nschedules:\n  nightly: {at: 0 3 * * *, kind: sum}\n").unwrap();
    for args in [
        &["schedule", "apply", file.to_str().unwrap()][..],
        &["schedule", "run", "nightly", "--wait"],
    ] {
        assert_eq!(hashctl(&cluster, args).0, Some(0), "{args:?}");
    }
    let schedules = objects(&cluster, &["get", "schedules"]);
    assert_eq!(
        (names(&schedules, "schedule"), &schedules[0]["tasks"]),
        (vec!["nightly".to_owned()], &Value::from(1))
    );
    let runs = objects(&cluster, &["get", "runs", "nightly"]);
    assert_eq!(
        (names(&runs, "outcome"), &runs[0]["run"]),
        (vec!["succeeded".to_owned()], &Value::from(1))
    );
    assert_eq!(objects(&cluster, &["get", "run", "nightly/1"]), runs);
    let [rule] = &objects(&cluster, &["get", "policies"])[..] else { panic!("one rule") };
    assert_eq!(
        (&rule["datasets"], &rule["token"]),
        (&serde_json::json!(["*"]), &Value::from(false))
    );
    let events = objects(&cluster, &["get", "events"]);
    let numbers: Vec<u64> = events.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let kinds = names(&events, "event");
    for kind in ["worker-joined", "job-submitted", "schedule-applied", "run-started", "run-ended"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind}: {kinds:?}");
    }
    let [worker] = &objects(&cluster, &["get", "worker", "w1"])[..] else { panic!("one worker") };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!((worker["host"].as_str(), worker["image"].as_str()), (Some(host.trim()), Some("")));
    assert!(!worker["cpu"].as_str().unwrap().is_empty(), "{worker}");
    assert_eq!(worker["history"][0]["event"], "worker-joined");
    let has_speed = |row: &Value| row["speeds"]["sha256"].as_u64().is_some_and(|speed| speed > 0);
    assert!(objects(&cluster, &["get", "workers"]).iter().any(has_speed));
    let (_, text, _) = hashctl(&cluster, &["get", "worker", "w1"]);
    let head = format!("worker     w1\nhealth     ready\nhost       {}\n", host.trim());
    assert!(text.starts_with(&head) && text.ends_with("Z  joined\n"), "{text}");
    let of_schedule = objects(&cluster, &["get", "events", "nightly"]);
    assert!(
        of_schedule.len() >= 3 && of_schedule.iter().all(|event| event["subject"] == "nightly")
    );
    let (_, found, _) = hashctl(&cluster, &["search", "nightly"]);
    for line in ["schedule nightly  schedule: nightly", "run      nightly/1  schedule: nightly"] {
        assert!(found.lines().any(|found| found == line), "{line}: {found}");
    }
    let mentions = |line: &str| line.starts_with("event ") && line.ends_with("  subject: nightly");
    assert!(found.lines().any(mentions), "{found}");
    let (_, found, _) = hashctl(&cluster, &["search", "see-jobs"]);
    assert!(found.lines().any(|line| line.starts_with("policy   1  may: ")), "{found}");

    let mut trail = cluster.hashctl();
    trail.args(["get", "events", "w1", "--watch", "--json"]).stdout(Stdio::piped());
    let mut trail = trail.spawn().unwrap();
    let mut news = BufReader::new(trail.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(news.next().unwrap().contains("worker-joined"));
    let mut watch = cluster.hashctl();
    watch.args(["get", "workers", "--watch"]).stdout(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let head: Vec<String> = lines.by_ref().take(3).collect();
    assert!(head[0].starts_with("WORKER") && head[2].starts_with("w1 "), "{head:?}");
    cluster.workers[1].kill().unwrap();
    cluster.workers[1].wait().unwrap();
    assert!(lines.any(|line| line == "w1  gone"));
    assert!(news.any(|line| line.contains("\"worker-left\"") && line.contains("\"w1\"")));
    for child in [&mut watch, &mut trail] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn without_a_journal_everything_else_is_searched() {
    let cluster = Cluster::start(Options { workers: 1, ..Options::default() });
    let (code, found, stderr) = hashctl(&cluster, &["search", "w0"]);
    assert_eq!((code, found.as_str(), stderr.as_str()), (Some(0), "worker   w0  name: w0\n", ""));
    let (code, _, stderr) = hashctl(&cluster, &["get", "jobs"]);
    assert!(code == Some(1) && stderr.contains("--state-dir"), "{stderr}");
}
