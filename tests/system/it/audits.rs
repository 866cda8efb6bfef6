//! Durable audits of real processes, and what `hashctl audit` says of the same tree.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use test_kit::{Cluster, Options, Random, until};

const FILES: usize = 3_000;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn name(i: usize) -> String {
    format!("{}/{}/{i}", i % 7, i % 50)
}

/// Other bytes of the same length, `later_s` after the time of before.
fn overwrite(path: &Path, later_s: i64) {
    let meta = fs::metadata(path).unwrap();
    fs::write(path, vec![b'!'; usize::try_from(meta.len()).unwrap()]).unwrap();
    let shift = Duration::from_secs(later_s.unsigned_abs());
    let before = meta.modified().unwrap();
    let time = if later_s < 0 { before - shift } else { before + shift };
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// Every kind of difference.
fn change(data: &Path) {
    for i in (0..FILES).step_by(37) {
        let path = data.join(name(i));
        match i / 37 % 8 {
            0 => overwrite(&path, 9),
            1 => overwrite(&path, -9),
            2 => overwrite(&path, 0),
            3 => fs::remove_file(&path).unwrap(),
            4 => fs::rename(&path, data.join(format!("moved-{i}"))).unwrap(),
            5 => drop(fs::copy(&path, path.with_extension("copy")).unwrap()),
            6 => fs::write(path.with_extension("new"), format!("new {i}")).unwrap(),
            _ => fs::write(path.with_extension("empty"), "").unwrap(),
        }
    }
}

fn sorted(text: &[u8], data: &Path) -> Vec<String> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let text = text.replace(&format!("{}/", data.display()), "");
    let lines = text.lines().filter(|line| !line.contains("\"matched\","));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Writes the files of the tree.
fn plant(data: &Path, random: &mut Random) {
    for i in 0..FILES {
        let path = data.join(name(i));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let len = random.index(2_000);
        fs::write(&path, [format!("{i} ").as_bytes(), &random.bytes(len)].concat()).unwrap();
    }
}

/// A cluster whose dataset `d` is `data`, with a journal in `dir`.
fn cluster(dir: &Path, data: &Path) -> Cluster {
    let cluster = Cluster::start(Options {
        workers: 2,
        datasets: vec![("d", data.to_owned())],
        controller_args: vec![format!("--state-dir={}", dir.join("state").display())],
        ..Options::default()
    });
    cluster.link_datasets();
    cluster.wait_ready(2);
    cluster
}

fn kill_controller(cluster: &mut Cluster) {
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    cluster.restart_controller();
}

#[test]
fn a_durable_audit_says_what_hashctl_audit_says_however_often_the_controller_is_killed() {
    let mut random = Random::from_entropy();
    let dir = tempfile::tempdir().unwrap();
    let (data, list) = (dir.path().join("data"), dir.path().join("list"));
    plant(&data, &mut random);
    // A later change of what is read within two seconds of a change could leave no trace.
    let written = SystemTime::now();
    until("time", || (written.elapsed().unwrap() > Duration::from_secs(4)).then_some(()));
    let mut cluster = cluster(dir.path(), &data);
    let mut sum = cluster.hashctl();
    let sums = run(sum.args(["--embedded", "sum", "-r", "."]).current_dir(&data)).stdout;
    fs::write(data.join("SUMS"), sums).unwrap();
    run(cluster.hashctl().args(["submit", "--wait", "--id", "base"]).arg(&data));
    run(cluster.hashctl().args(["--embedded", "update"]).arg(&list).arg(&data));
    let audit = |cluster: &Cluster, key: &str| {
        let args = ["submit", "--audit", "--against-job", "base", "--id", key];
        run(cluster.hashctl().args(args));
    };
    audit(&cluster, "same");
    run(cluster.hashctl().args(["wait", "--timeout", "120", "same"]));
    let same = run(cluster.hashctl().args(["result", "same"]));
    assert_eq!((same.stdout.len(), text(&same.stderr)), (0, "hashctl: 3001 matched\n".to_owned()));

    change(&data);
    audit(&cluster, "changed");
    let list_audit = ["submit", "--audit", "--dataset", "d", "--against", "SUMS", "--id", "listed"];
    run(cluster.hashctl().args(list_audit));
    let refused = cluster.hashctl().args(["retry", "base"]).output().unwrap();
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("an audit is compared"), "{said}");
    for _ in 0..8 {
        kill_controller(&mut cluster);
        let pause = Duration::from_millis(random.below(300));
        let restarted = SystemTime::now();
        until("a moment", || (restarted.elapsed().unwrap() >= pause).then_some(()));
    }
    let wait = cluster.hashctl().args(["wait", "--timeout", "120", "changed"]).output().unwrap();
    assert_eq!(wait.status.code(), Some(1), "{wait:?}");
    let wait = cluster.hashctl().args(["wait", "--timeout", "120", "listed"]).output().unwrap();
    assert_eq!(wait.status.code(), Some(1), "{wait:?}");
    let sums = data.join("SUMS");
    for (job, list, form) in [
        ("changed", &list, &[][..]),
        ("changed", &list, &["--json"]),
        ("listed", &sums, &[]),
        ("listed", &sums, &["--json"]),
    ] {
        let result = cluster.hashctl().args(["result", job]).args(form).output().unwrap();
        let mut local = cluster.hashctl();
        local.args(["--embedded", "audit"]).args(form).arg(list).arg(&data);
        let local = local.output().unwrap();
        assert_eq!((result.status.code(), local.status.code()), (Some(1), Some(1)), "{result:?}");
        assert_eq!(sorted(&result.stdout, &data), sorted(&local.stdout, &data));
        // With --json the numbers are the last object.
        let said = |output| form.is_empty().then(|| summary(output));
        assert_eq!(said(&result), said(&local));
    }
    let shown = run(cluster.hashctl().args(["show", "--json", "changed"])).stdout;
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!((&shown["kind"], &shown["failed"]), (&"audit".into(), &0.into()));
    for finding in ["modified", "older", "rotted", "missing", "moved", "copied", "new"] {
        assert!(shown["findings"][finding].as_u64() > Some(5), "{finding}: {shown}");
    }
    // Nothing needs it any more.
    run(cluster.hashctl().args(["rm", "base"]));
    run(cluster.hashctl().args(["rm", "changed"]));
}

fn json(bytes: &[u8]) -> Vec<serde_json::Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_scheduled_audit_finds_what_differs_from_its_list_however_often_the_controller_is_killed() {
    let mut random = Random::from_entropy();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    plant(&data, &mut random);
    let mut cluster = cluster(dir.path(), &data);
    let mut sum = cluster.hashctl();
    let sums = run(sum.args(["--embedded", "sum", "-r", "."]).current_dir(&data)).stdout;
    fs::write(data.join("SUMS"), sums).unwrap();
    let file = dir.path().join("s.yaml");
    // 3 MB: some seconds.
    let task = "{kind: audit, dataset: d, manifest: SUMS, rate: 1M}";
    fs::write(&file, format!("schedules:\n  s: {task}\n")).unwrap();
    run(cluster.hashctl().args(["schedule", "apply"]).arg(&file));
    run(cluster.hashctl().args(["schedule", "run", "--wait", "s"]));
    let shown = |cluster: &Cluster, number: &str| {
        let args = ["schedule", "show", "s", number, "--json"];
        json(&run(cluster.hashctl().args(args)).stdout).remove(0)
    };
    let none = serde_json::json!(
        {"new": 0, "gone": 0, "changed": 0, "moved": 0, "rotted": 0, "older": 0}
    );
    assert_eq!(shown(&cluster, "1")["differences"], none);

    change(&data);
    let found = |cluster: &Cluster, number: &str| {
        let run_of = shown(cluster, number);
        assert_eq!(run_of["outcome"], "succeeded", "{run_of}");
        let job = run_of["tasks"][0]["job"].as_str().unwrap().to_owned();
        let result = cluster.hashctl().args(["result", "--json", &job]).output().unwrap();
        assert_eq!(result.status.code(), Some(1), "{result:?}");
        let args = ["schedule", "differences", "s", number];
        let listed = run(cluster.hashctl().args(args)).stdout;
        (run_of["differences"].clone(), text(&listed), text(&result.stdout))
    };
    run(cluster.hashctl().args(["schedule", "run", "--wait", "s"]));
    let want = found(&cluster, "2");
    let lines = |word: &str| want.1.lines().filter(|line| line.starts_with(word)).count();
    for word in ["changed", "gone", "moved", "new"] {
        assert!(lines(word) > 5, "{word}: {}", want.1);
        assert_eq!(want.0[word], lines(word), "{word}");
    }
    assert!(want.1.lines().any(|line| line.contains(" (copy of ")), "{}", want.1);

    run(cluster.hashctl().args(["schedule", "run", "s"]));
    for number in 1..=4 {
        until("a job that goes on", || {
            let jobs = json(&run(cluster.hashctl().args(["jobs", "--json"])).stdout);
            let job = jobs.iter().find(|job| job["key"].as_str().unwrap().contains(":3:"))?;
            let is_over = job["state"] == "done";
            assert!(!is_over, "before kill {number}: {job}");
            (job["done"].as_u64() >= Some(number * 400)).then_some(())
        });
        kill_controller(&mut cluster);
    }
    until("the end of the run", || {
        (shown(&cluster, "3")["outcome"] != serde_json::Value::Null).then_some(())
    });
    assert_eq!(found(&cluster, "3"), want);
    assert_eq!(shown(&cluster, "3")["tasks"][0]["attempts"], 1);
}

/// The last line for people: numbers of files.
fn summary(output: &Output) -> Option<String> {
    text(&output.stderr).lines().last().map(str::to_owned)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
