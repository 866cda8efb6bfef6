//! The progress line on a terminal.

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread;
use test_kit::{Cluster, Options, output, text, until, write_file};

#[test]
fn a_terminal_is_shown_how_far_the_run_is() {
    let dir = tempfile::tempdir().unwrap();
    write_file(&dir.path().join("file"), 3 << 20, 1);
    let cluster = Cluster::start(Options { workers: 1, ..Options::default() });
    let worker = Pid::from_raw(i32::try_from(cluster.workers[0].id()).unwrap());
    let pty = openpty(None, None).unwrap();
    // Until the line was there, nothing gets done.
    kill(worker, Signal::SIGSTOP).unwrap();
    let mut run = cluster
        .hashctl()
        .args(["sum", "file"])
        .current_dir(&dir)
        .stdout(File::create(dir.path().join("out")).unwrap())
        .stderr(pty.slave)
        .spawn()
        .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (sink, mut master) = (Arc::clone(&seen), File::from(pty.master));
    let reader = thread::spawn(move || {
        let mut bytes = [0; 256];
        // The last writer's end is an error.
        while let Ok(len @ 1..) = master.read(&mut bytes) {
            sink.lock().unwrap().extend_from_slice(&bytes[..len]);
        }
    });
    let shown = || text(&seen.lock().unwrap());
    until("a line", || shown().contains("0 B of 3.0 MiB, 0 of 1 files").then_some(()));
    kill(worker, Signal::SIGCONT).unwrap();
    assert!(run.wait().unwrap().success());
    drop(run);
    reader.join().unwrap();
    assert!(shown().ends_with("\r\x1b[K") && !shown().contains('\n'), "{:?}", shown());
    let out = fs::read_to_string(dir.path().join("out")).unwrap();
    assert!(out.len() == 64 + 2 + 5 && out.ends_with("  file\n"), "{out}");
}

#[test]
fn a_long_file_advances_while_the_cluster_hashes_it() {
    const LEN: u64 = 2 << 30;
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("file")).unwrap().set_len(LEN).unwrap();
    let cluster = Cluster::start(Options { workers: 1, ..Options::default() });
    let mut command = cluster.hashctl();
    command.args(["--progress", "json", "sum", "-a", "sha512", "file"]).current_dir(&dir);
    let done: Vec<u64> = text(&output(&mut command).stderr)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line))
        .map(|line| line["bytes_done"].as_u64().unwrap())
        .collect();
    assert!(done.iter().any(|&done| 0 < done && done < LEN) && done.is_sorted(), "{done:?}");
    assert_eq!(done.last(), Some(&LEN));
}
