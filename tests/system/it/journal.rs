//! The state directory of a real controller.

use ipc_proto::message::{ServiceRefusal, ServiceReply, ServiceRequest};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use test_kit::{Cluster, Options, SmallDisk, bin, until};

/// A cluster whose controller keeps its state in `state` and shows itself at a socket.
fn cluster(state: &Path, http: &Path) -> Cluster {
    Cluster::start(Options {
        workers: 1,
        controller_args: vec![
            format!("--state-dir={}", state.display()),
            format!("--http=unix:{}", http.display()),
        ],
        ..Options::default()
    })
}

/// A page of the controller.
fn page(http: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(http).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Waits until the journal is in that state, as metrics have it.
#[track_caller]
fn wait_for_state(http: &Path, state: &str) {
    let line = format!("hashcluster_controller_journal_state{{state=\"{state}\"}} 1");
    until(&line, || page(http, "/metrics").contains(&line).then_some(()));
}

#[test]
fn a_full_disk_is_said_and_the_controller_goes_on_when_there_is_space() {
    let disk = SmallDisk::new(2);
    let dir = tempfile::tempdir().unwrap();
    let http = dir.path().join("http.sock");
    let mut cluster = cluster(disk.path(), &http);
    wait_for_state(&http, "ok");
    assert!(page(&http, "/readyz").contains("\"ready\":true"));
    assert!(cluster.terminate_controller());
    disk.fill("fill");
    cluster.restart_controller();
    cluster.wait_ready(1);
    wait_for_state(&http, "full");
    let reason = "the journal is full: No space left on device";
    assert!(page(&http, "/readyz").contains(reason), "{}", page(&http, "/readyz"));
    assert!(cluster.logs().contains("no space for the journal"), "{}", cluster.logs());
    let status = cluster.hashctl().arg("status").output().unwrap().stdout;
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("\njournal: full: No space left on device"), "{status}");
    let sum = cluster.hashctl().args(["sum", "/etc/passwd"]).output().unwrap();
    assert!(sum.status.success(), "what needs no journal goes on: {sum:?}");
    fs::remove_file(disk.path().join("fill")).unwrap();
    wait_for_state(&http, "ok");
    assert!(page(&http, "/readyz").contains("\"ready\":true"));
    assert!(cluster.logs().contains("the journal is written to again"), "{}", cluster.logs());
    assert!(cluster.terminate_controller());
}

/// A controller with sockets of its own that is to refuse `state`.
fn refused(state: &Path) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(bin("hashcluster-controller"));
    command.arg("--runtime-dir").arg(dir.path()).arg("--state-dir").arg(state);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_state_directory_is_for_one_controller_and_a_damaged_journal_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (state, http) = (dir.path().join("state"), dir.path().join("http.sock"));
    let mut cluster = cluster(&state, &http);
    wait_for_state(&http, "ok");
    let second = refused(&state);
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    let holder = format!("another controller (pid {}) uses this state", cluster.controller.id());
    assert!(!second.status.success() && text.contains(&holder), "{text}");
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    cluster.restart_controller();
    wait_for_state(&http, "ok");
    assert!(cluster.terminate_controller());
    let journal = state.join("journal.redb");
    let mut bytes = fs::read(&journal).unwrap();
    let len = bytes.len();
    bytes[4096..len].fill(0xa5);
    fs::write(&journal, &bytes).unwrap();
    let damaged = refused(&state);
    let text = String::from_utf8_lossy(&damaged.stderr).into_owned();
    let remedy = format!("'mv {0} {0}.damaged'", journal.display());
    assert!(!damaged.status.success() && text.contains(&remedy), "{text}");
    assert!(fs::read(&journal).unwrap() == bytes, "it is left as it is");
}

/// `format-1.backup` was made by a controller whose journal had format 1: the job `old` over the messages `1` to `140`,
/// a line each, by the names `f1` to `f140`.
#[test]
fn results_of_a_backup_of_format_1_are_those_that_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let (state, backup) = (dir.path().join("state"), dir.path().join("backup"));
    fs::write(&backup, include_bytes!("format-1.backup")).unwrap();
    let mut restore = Command::new(bin("hashcluster-controller"));
    restore.arg("--state-dir").arg(&state).arg("--restore-from").arg(&backup);
    assert!(restore.status().unwrap().success());
    let names: Vec<String> = (1..=140).map(|number| format!("f{number}")).collect();
    for (number, name) in (1..).zip(&names) {
        fs::write(dir.path().join(name), format!("{number}\n")).unwrap();
    }
    let want = Command::new("sha256sum").args(&names).current_dir(&dir).output().unwrap().stdout;
    let mut cluster = cluster(&state, &dir.path().join("http.sock"));
    let result = |cluster: &Cluster| cluster.hashctl().args(["result", "old"]).output().unwrap();
    assert!(result(&cluster).stdout == want, "{:?}", result(&cluster));
    assert!(cluster.terminate_controller());
    let mut compact = Command::new(bin("hashcluster-controller"));
    let compacted = compact.arg("--compact").arg("--state-dir").arg(&state).output().unwrap();
    let said = String::from_utf8_lossy(&compacted.stderr);
    assert!(compacted.status.success() && said.contains("the journal had "), "{said}");
    cluster.restart_controller();
    assert!(result(&cluster).stdout == want, "{:?}", result(&cluster));
}

/// Starts a controller on a restored backup, and returns the ids, keys and numbers of items of its jobs.
fn jobs_of(backup: &Path, dir: &Path) -> Vec<(String, String)> {
    let state = dir.join("restored");
    let mut restore = Command::new(bin("hashctl"));
    restore.arg("restore").arg(backup).arg("--state-dir").arg(&state);
    let restored = restore.output().unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let cluster = Cluster::start(Options {
        workers: 0,
        controller_args: vec![format!("--state-dir={}", state.display())],
        ..Options::default()
    });
    let jobs = cluster.hashctl().args(["jobs", "--json"]).output().unwrap();
    assert!(jobs.status.success(), "{jobs:?}");
    drop(cluster);
    fs::remove_dir_all(&state).unwrap();
    let lines = String::from_utf8(jobs.stdout).unwrap();
    let jobs = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    jobs.map(|job| (job["key"].to_string(), job["items"].to_string())).collect()
}

#[test]
fn a_backup_of_a_running_controller_is_of_one_moment_and_a_killed_one_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (backups, large) = (dir.path().join("backups"), dir.path().join("large"));
    fs::create_dir(&backups).unwrap();
    fs::write(&large, vec![7; 300_000]).unwrap();
    let cluster = Cluster::start(Options {
        workers: 0,
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    let submit = |key: usize| {
        let mut submit = cluster.hashctl();
        submit.args(["submit", "--inline", "--id", &key.to_string()]).args([&large; 4]);
        let submitted = submit.output().unwrap();
        assert!(submitted.status.success(), "{submitted:?}");
    };
    (0..3).for_each(submit);
    let file = backups.join("b");
    let names = || fs::read_dir(&backups).unwrap().count();
    std::thread::scope(|scope| {
        let submitting = scope.spawn(|| (3..12).for_each(submit));
        for _ in 0..3 {
            let backup = cluster.hashctl().arg("backup").arg(&file).output().unwrap();
            assert!(backup.status.success(), "{backup:?}");
            let jobs = jobs_of(&file, dir.path());
            // Those that were acknowledged before it began, and of the others the first ones.
            assert!(jobs.len() >= 3, "{jobs:?}");
            let keys: Vec<String> = (0..jobs.len()).map(|key| format!("\"{key}\"")).collect();
            assert_eq!(jobs.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), keys);
            let whole = jobs.len() - 1;
            assert!(jobs[..whole].iter().all(|(_, items)| items == "4"), "{jobs:?}");
        }
        submitting.join().unwrap();
    });
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!((mode & 0o777, names()), (0o600, 1));
    let all = jobs_of(&file, dir.path()).len();
    for pause_ms in 0..12 {
        let mut backup = cluster.hashctl();
        let mut killed = backup.arg("backup").arg(&file).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        killed.kill().unwrap();
        killed.wait().unwrap();
        // A temporary name, which is there for a moment at the end, leads to a whole one.
        for entry in fs::read_dir(&backups).unwrap() {
            let jobs = jobs_of(&entry.unwrap().path(), dir.path());
            assert!(jobs.len() >= all, "killed after {pause_ms} ms: {jobs:?}");
        }
    }
}

#[test]
fn one_backup_is_made_at_a_time_and_it_ends_with_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    fs::write(&large, vec![7; 400_000]).unwrap();
    let cluster = Cluster::start(Options {
        workers: 0,
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    let mut submit = cluster.hashctl();
    submit.args(["submit", "--inline"]).args([&large; 4]);
    assert!(submit.status().unwrap().success());
    let ask = |client: &mut client::Client, from| {
        client.service(ServiceRequest::Backup { from }).expect("the controller answers")
    };
    let refusal = |reply: ServiceReply| {
        let ServiceReply::Refused { reason, .. } = reply else { return None };
        Some(reason)
    };
    let (mut first, mut second) = (cluster.client(), cluster.client());
    let ServiceReply::Backup { from: 0, bytes, is_last: false } = ask(&mut first, 0) else {
        panic!("a first piece")
    };
    assert_eq!(refusal(ask(&mut second, 0)), Some(ServiceRefusal::TooMuch));
    for from in [1, bytes.len() as u64] {
        assert_eq!(refusal(ask(&mut second, from)), Some(ServiceRefusal::WrongState));
    }
    assert_eq!(refusal(ask(&mut first, 1)), Some(ServiceRefusal::WrongState));
    let next = ask(&mut first, bytes.len() as u64);
    assert!(matches!(next, ServiceReply::Backup { from, .. } if from == bytes.len() as u64));
    drop(first);
    let again = until("the end of the first backup", || {
        let ServiceReply::Backup { bytes, .. } = ask(&mut second, 0) else { return None };
        Some(bytes)
    });
    assert_eq!(again[..32], bytes[..32]);
}
