//! Schedules of real processes that are killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use test_kit::{Cluster, Options, Running, output, text, until};

const TASKS: usize = 20;
const KILLS: usize = 4;

fn cluster(dir: &Path) -> Cluster {
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    for task in 0..TASKS {
        fs::create_dir(data.join(format!("t{task}"))).unwrap();
        for file in 0..20 {
            fs::write(data.join(format!("t{task}/{file}")), format!("{task} {file}")).unwrap();
        }
    }
    let cluster = Cluster::start(Options {
        datasets: vec![("d", data)],
        controller_args: vec![
            format!("--state-dir={}", dir.join("state").display()),
            format!("--http=unix:{}", dir.join("http.sock").display()),
        ],
        ..Options::default()
    });
    cluster.link_datasets();
    cluster.wait_ready(1);
    cluster
}

/// Standard output of `hashctl schedule` with these arguments, which succeeds.
fn schedule(cluster: &Cluster, args: &[&str]) -> String {
    let output = output(cluster.hashctl().arg("schedule").args(args));
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs that ended so, as metrics have it.
fn ended(dir: &Path, outcome: &str) -> u64 {
    let mut stream = UnixStream::connect(dir.join("http.sock")).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let series = format!("hashcluster_controller_runs_total{{outcome=\"{outcome}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(series.as_str()));
    line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
}

#[test]
fn a_run_goes_on_after_kills_of_the_controller_with_one_job_per_task() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = cluster(dir.path());
    let tasks: String =
        (0..TASKS).map(|i| format!("      t{i}: {{kind: sum, path: t{i}}}\n")).collect();
    let file = dir.path().join("s.yaml");
    let schedules = format!("dataset: d\nschedules:\n  tree:\n    sequential:\n{tasks}");
    fs::write(&file, schedules).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(schedule(&cluster, &["apply", file]), "tree: added\n");
    let jobs = |cluster: &Cluster| -> Vec<String> {
        let listed = output(cluster.hashctl().args(["jobs", "--json"]));
        let keys = json(&text(&listed.stdout)).into_iter();
        keys.map(|job| job["key"].as_str().unwrap().to_owned())
            .filter(|key| key.starts_with("schedule:tree:"))
            .collect()
    };
    let mut run = cluster.hashctl();
    let run = Running::start(run.args(["schedule", "run", "tree", "--wait"]), test_kit::DEADLINE);
    for kill in 1..=KILLS {
        until("some more jobs", || {
            (jobs(&cluster).len() >= TASKS * kill / (KILLS + 1)).then_some(())
        });
        cluster.controller.kill().unwrap();
        cluster.controller.wait().unwrap();
        cluster.restart_controller();
    }
    let run = run.end();
    assert!(run.status.success(), "{}", run.stderr);
    let shown = json(&schedule(&cluster, &["show", "tree", "1", "--json"]));
    assert_eq!(shown[0]["outcome"], "succeeded", "{shown:?}");
    let tasks = shown[0]["tasks"].as_array().unwrap();
    let of = |key: &str| tasks.iter().map(|task| task[key].to_string()).collect::<Vec<_>>();
    let names: Vec<String> = (0..TASKS).map(|i| format!("\"t{i}\"")).collect();
    assert_eq!(of("task"), names);
    assert!(of("attempts").iter().all(|attempts| attempts == "1"), "{tasks:?}");
    let jobs = jobs(&cluster);
    assert_eq!(jobs.len(), TASKS, "one job per task: {jobs:?}");
    assert_eq!(of("job").iter().collect::<BTreeSet<_>>().len(), TASKS);
}

#[test]
fn schedules_are_applied_compared_shown_changed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    let path = dir.path().join("s.yaml");
    let file = path.to_str().unwrap();
    let write = |text: &str| fs::write(file, text).unwrap();
    let fails = |args: &[&str]| {
        let output = output(cluster.hashctl().arg("schedule").args(args));
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        (text(&output.stdout), text(&output.stderr))
    };
    write(
        "dataset: d\nschedules:\n  a: {kind: sum}\n  b: {kind: sum, at: 0 3 * * *, timezone: Europe/Berlin}\n",
    );
    assert_eq!(
        schedule(&cluster, &["apply", "--dry-run", file]),
        "a: would be added\nb: would be added\n"
    );
    assert_eq!(json(&schedule(&cluster, &["list", "--json"])).len(), 0);
    assert!(fails(&["diff", file]).0.contains("+++ a ("));
    schedule(&cluster, &["apply", file]);
    assert_eq!(schedule(&cluster, &["apply", file]), "a: unchanged\nb: unchanged\n");
    assert_eq!(schedule(&cluster, &["diff", file]), "");
    let listed = schedule(&cluster, &["list"]);
    let rows: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..4], ["a", "waiting", "by", "hand"]);
    assert!(rows[2][2].contains("T03:00:00+0"), "local to its time zone: {listed}");

    write("dataset: d\nschedules:\n  a: {kind: sum, priority: 3}\n");
    let (changes, _) = fails(&["diff", "--prune", file]);
    assert!(changes.contains("\n-") && changes.contains("\n+"), "{changes}");
    assert!(changes.contains("--- b (controller)"), "{changes}");
    assert_eq!(schedule(&cluster, &["apply", "--prune", file]), "a: changed\nb: removed\n");
    assert_eq!(ended(dir.path(), "succeeded"), 0);
    assert_eq!(schedule(&cluster, &["run", "--wait", "a"]), "1\n");
    assert_eq!((ended(dir.path(), "succeeded"), ended(dir.path(), "failed")), (1, 0));
    let shown = schedule(&cluster, &["show", "a"]);
    assert!(shown.contains("last         run 1, succeeded, 20"), "{shown}");
    let run = schedule(&cluster, &["show", "a", "1"]);
    assert!(run.contains("outcome      succeeded") && run.contains("by hand"), "{run}");
    assert!(schedule(&cluster, &["runs", "a"]).contains("succeeded"));

    // A task of a directory that is missing fails, and the reason is shown.
    write("dataset: d\nschedules:\n  a: {kind: sum, path: nowhere}\n");
    schedule(&cluster, &["apply", file]);
    let (_, said) = fails(&["run", "--wait", "a"]);
    assert_eq!((ended(dir.path(), "succeeded"), ended(dir.path(), "failed")), (1, 1));
    assert!(said.contains("run 2 of a: failed") && said.contains("No such file"), "{said}");
    write("dataset: e\nschedules:\n  a: {kind: sum}\n");
    assert!(fails(&["apply", file]).1.contains("a: there is no dataset e"));
    assert!(fails(&["cancel", "a"]).1.contains("no run of a is active"));
    schedule(&cluster, &["pause", "a"]);
    assert!(schedule(&cluster, &["list"]).contains("paused"));
    schedule(&cluster, &["resume", "a"]);
    schedule(&cluster, &["rm", "a"]);
    assert!(fails(&["show", "a"]).1.contains("there is no schedule a"));

    let submitted = output(
        cluster.hashctl().args(["submit", "--wait", "--id", "x"]).arg(dir.path().join("data/t0")),
    );
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    let job = output(cluster.hashctl().args(["show", "x"]));
    let line = text(&job.stdout).lines().find(|line| line.starts_with("ended")).unwrap().to_owned();
    assert!(line.contains("T") && line.ends_with('Z'), "{line}");
}

#[test]
fn a_run_says_which_files_differ_and_which_rotted() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    let (file, data) = (dir.path().join("s.yaml"), dir.path().join("data/t0"));
    fs::write(&file, "schedules:\n  s: {kind: audit, dataset: d, path: t0}\n").unwrap();
    schedule(&cluster, &["apply", file.to_str().unwrap()]);
    // A file that was written to within the last two seconds could be written to again unseen.
    let written = fs::metadata(data.join("19")).unwrap().modified().unwrap();
    until("files that are old enough", || {
        written.elapsed().is_ok_and(|age| age > Duration::from_secs(3)).then_some(())
    });
    assert_eq!(schedule(&cluster, &["run", "--wait", "s"]), "1\n");
    let run = |number: &str| json(&schedule(&cluster, &["show", "s", number, "--json"])).remove(0);
    assert_eq!(run("1")["differences"], serde_json::Value::Null, "the first one");
    // The same size and time of modification, another content.
    let rotten = fs::File::options().write(true).open(data.join("3")).unwrap();
    let modified = rotten.metadata().unwrap().modified().unwrap();
    rotten.write_at(b"9", 0).unwrap();
    rotten.set_modified(modified).unwrap();
    fs::write(data.join("4"), "another content").unwrap();
    fs::rename(data.join("5"), data.join("elsewhere")).unwrap();
    fs::remove_file(data.join("6")).unwrap();
    fs::write(data.join("new"), "new").unwrap();
    let older = fs::File::options().write(true).open(data.join("7")).unwrap();
    older.write_at(b"8", 0).unwrap();
    older.set_modified(modified - Duration::from_secs(1_000)).unwrap();
    schedule(&cluster, &["run", "--wait", "s"]);
    let one_each = serde_json::json!(
        {"new": 1, "gone": 1, "changed": 1, "moved": 1, "rotted": 1, "older": 1}
    );
    let second = run("2");
    assert_eq!((&second["differences"], &second["outcome"]), (&one_each, &"succeeded".into()));
    assert_eq!(second["tasks"][0]["differences"], one_each);
    let listed = schedule(&cluster, &["differences", "s"]);
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    let want = [
        "changed  t0/4",
        "gone     t0/6",
        "moved    t0/elsewhere (from t0/5)",
        "new      t0/new",
        "older    t0/7",
        "rotted   t0/3",
    ];
    assert_eq!(lines, want);
    let rows = json(&schedule(&cluster, &["differences", "s", "2", "--json"]));
    let moved = rows.iter().find(|row| row["difference"] == "moved").unwrap();
    assert_eq!((&moved["name"], &moved["from"]), (&"t0/elsewhere".into(), &"t0/5".into()));
    assert!(schedule(&cluster, &["runs", "s"]).contains("1 rotted"));
    let socket = dir.path().join("http.sock");
    let get = |path: &str| -> serde_json::Value {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--unix-socket"]).arg(&socket);
        let page = output(curl.arg(format!("http://localhost/v1/{path}"))).stdout;
        serde_json::from_slice(&page).unwrap()
    };
    let listed = get("schedules");
    assert_eq!(listed["schedules"][0]["schedule"], "s", "{listed}");
    let page = get("runs?schedule=s&limit=1");
    assert_eq!((&page["runs"][0]["run"], &page["runs"][0]["differences"]), (&2.into(), &one_each));
    assert_eq!(page["next"], "/v1/runs?schedule=s&before=2&limit=1");
    assert_eq!(get("runs?schedule=s&before=2&limit=1")["runs"][0]["run"], 1);
    assert_eq!(get("runs?schedule=t")["status"], 404);
    assert_eq!(get("runs")["status"], 400);
    // Who did what is in the audit trail, whose commits come after the replies.
    let events = until("the last event", || {
        let page = get("events");
        let all = page["events"].as_array()?.clone();
        all.iter().any(|event| event["event"] == "files-rotted").then_some(all)
    });
    let of_schedule = events.iter().filter(|event| event["subject"] == "s");
    let words: Vec<String> = of_schedule
        .map(|event| format!("{} {}", event["event"].as_str().unwrap(), event["text"]))
        .collect();
    let want = [
        r#"schedule-applied """#,
        r#"run-started "run 1""#,
        r#"run-ended "run 1: succeeded""#,
        r#"run-started "run 2""#,
        r#"run-ended "run 2: succeeded""#,
        r#"files-rotted "run 2: 1 files""#,
    ];
    assert_eq!(words, want);
    assert!(cluster.logs().contains("1 files rotted"), "{}", cluster.logs());
}

#[test]
fn a_scheduled_check_says_how_many_files_are_not_as_their_list_says() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    let data = dir.path().join("data");
    let mut sum = Command::new("sha256sum");
    let list = output(sum.args((0..20).map(|file| file.to_string())).current_dir(data.join("t0")));
    fs::write(data.join("t0/SUMS"), &list.stdout).unwrap();
    let mut sum = Command::new("md5sum");
    let list = output(sum.args(["0", "1"]).current_dir(data.join("t1")));
    fs::write(data.join("t2/LIST"), &list.stdout).unwrap();
    let file = dir.path().join("s.yaml");
    let text = "dataset: d\nschedules:\n  checks:\n    on_failure: continue\n    sequential:\n\
                \x20     own: {kind: check, manifest: t0/SUMS}\n\
                \x20     other: {kind: check, path: t1, manifest: t2/LIST}\n";
    fs::write(&file, text).unwrap();
    schedule(&cluster, &["apply", file.to_str().unwrap()]);
    schedule(&cluster, &["run", "checks", "--wait"]);
    fs::write(data.join("t0/7"), "rotten").unwrap();
    fs::remove_file(data.join("t0/8")).unwrap();
    let run = output(cluster.hashctl().args(["schedule", "run", "checks", "--wait"]));
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let shown = json(&schedule(&cluster, &["show", "checks", "2", "--json"]));
    let tasks = &shown[0]["tasks"];
    assert_eq!(
        (&tasks[0]["outcome"], &tasks[1]["outcome"]),
        (&"failed".into(), &"succeeded".into())
    );
    let reason = tasks[0]["reason"].as_str().unwrap();
    assert_eq!(reason, "1 of 20 files have no digest, 1 not the expected one", "{shown:?}");
}
