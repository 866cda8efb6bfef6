//! Ends of runs: exit statuses, messages, and nothing left behind.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use test_kit::{Cluster, DEADLINE, Options, Running, bin, output, text, until, write_file};

const LARGE_LEN: u64 = 1 << 30;

/// Bytes that the workers have read so far: proc_pid_io(5).
fn read_len(cluster: &Cluster) -> u64 {
    let of = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    cluster.workers.iter().map(|worker| of(worker.id())).sum()
}

#[test]
fn a_file_that_changes_while_it_is_read_has_no_digest_and_harms_no_worker() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("moving");
    write_file(&path, 600 << 20, 1);
    let cluster = Cluster::start(Options::default());
    let pids = cluster.pids();
    for cut in [false, true] {
        let before = read_len(&cluster);
        let mut run = cluster
            .hashctl()
            .args(["sum", "-a", "sha512"])
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A worker that had not looked yet would only see what the file is by then.
        until("reading", || (read_len(&cluster) > before + (16 << 20)).then_some(()));
        let mut file = File::options().write(true).open(&path).unwrap();
        // Again and again, for as long as it takes to read it three times.
        for len in 1000.. {
            if cut {
                file.set_len((300 << 20) + len).unwrap();
            } else {
                file.seek(SeekFrom::Start(599 << 20)).unwrap();
                file.write_all(&len.to_le_bytes()).unwrap();
            }
            if run.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let run = run.wait_with_output().unwrap();
        assert_eq!((run.status.code(), text(&run.stdout)), (Some(1), String::new()));
        assert!(text(&run.stderr).contains("changed while it was read"), "{}", text(&run.stderr));
    }
    assert_eq!(cluster.status().workers.len(), 2);
    assert_eq!(cluster.pids(), pids, "truncation kills no worker");
}

/// A large file that was written just now, with few blocks on the disk; its line.
fn young_file(path: &Path) -> String {
    let file = File::create(path).unwrap();
    file.set_len(LARGE_LEN).unwrap();
    for part in 0..16_u8 {
        file.write_all_at(&[part + 1; 4096], u64::from(part) * (LARGE_LEN / 16) + 4096).unwrap();
    }
    // As sha256sum says, which takes longer than all the rest.
    let digest = "d2efaff25d5321543c8e0811bc6701047ffe932b1cb8ed1e089938c7508146ac";
    format!("{digest}  {}\n", path.display())
}

#[test]
fn a_large_file_is_read_once_right_after_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let cluster = Cluster::start(Options::default());
    let want = young_file(&path);
    let before = read_len(&cluster);
    let run = output(cluster.hashctl().arg("sum").arg(&path));
    assert_eq!((text(&run.stdout), text(&run.stderr)), (want, String::new()));
    let read = read_len(&cluster) - before;
    assert!((LARGE_LEN..LARGE_LEN + LARGE_LEN / 64).contains(&read), "{read} bytes were read");
}

#[test]
fn links_modes_and_access_times_of_a_large_file_change_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let cluster = Cluster::start(Options::default());
    let want = young_file(&path);
    let before = read_len(&cluster);
    let mut run = Running::start(cluster.hashctl().arg("sum").arg(&path), DEADLINE);
    for (i, command) in ["ln large other", "chmod 600 large", "touch -a large"].iter().enumerate() {
        let len = (i as u64 + 1) * LARGE_LEN / 8;
        until("reading", || (read_len(&cluster) > before + len).then_some(()));
        let mut shell = Command::new("sh");
        assert!(output(shell.args(["-c", command]).current_dir(&dir)).status.success());
        assert!(run.is_running(), "{command} was too late");
    }
    let ended = run.end();
    assert_eq!((ended.stdout, &*ended.stderr), (want, ""));
}

#[test]
fn an_interrupt_cancels_the_job_and_leaves_no_work() {
    let dir = tempfile::tempdir().unwrap();
    write_file(&dir.path().join("large"), 1 << 30, 1);
    let cluster = Cluster::start(Options::default());
    let names = vec!["large"; 40];
    let run = cluster
        .hashctl()
        .args(["sum", "-a", "sha512"])
        .args(names)
        .current_dir(&dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("leases", || (cluster.status().counters.leases > 0).then_some(()));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(run.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let run = run.wait_with_output().unwrap();
    assert_eq!(run.status.code(), Some(4), "{}", text(&run.stderr));
    until("an idle cluster", || {
        let status = cluster.status();
        let idle = status.jobs.is_empty() && status.workers.iter().all(|w| w.leases == 0);
        idle.then_some(())
    });
}

#[test]
fn a_dead_controllers_socket_is_replaced_and_a_live_ones_never() {
    let mut cluster = Cluster::start(Options::default());
    let second =
        output(Command::new(bin("hashcluster-controller")).arg("--runtime-dir").arg(cluster.dir()));
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another controller"), "{}", text(&second.stderr));
    assert_eq!(cluster.status().workers.len(), 2, "the first still serves");
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    assert!(cluster.client_socket().exists(), "killed, it left its socket");
    cluster.restart_controller();
    cluster.wait_ready(2);
    assert!(cluster.terminate_controller());
    assert!(!cluster.client_socket().exists(), "in order, it takes its socket along");
    cluster.restart_controller();
    cluster.wait_ready(2);
}
