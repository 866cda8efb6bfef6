//! Standard output that is full, closed or broken.

use crate::engine::Engine;
use crate::oracle::line;
use crate::program::{finish, hashctl, run, shell, start};
use ipc_proto::Algorithm;
use std::fs::{self, OpenOptions};
use std::io::Read;
use tempfile::{TempDir, tempdir};

fn file() -> TempDir {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    dir
}

#[test]
fn a_full_standard_output_is_an_error() {
    let dir = file();
    let fake = Engine::default().start();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "f"]).stdout(full));
    assert_eq!(ours.stderr, "hashctl: standard output: No space left on device\n");
    assert_eq!(ours.code, 1);
}

#[test]
fn a_closed_standard_output_is_an_error() {
    let dir = file();
    for args in [&["sum", "f"][..], &["--help"], &["version"], &["check", "m"]] {
        let fake = Engine::default().start();
        fs::write(dir.path().join("m"), line(Algorithm::Sha256, b"x", "f")).unwrap();
        let mut ours = shell("exec \"$0\" \"$@\" >&-", fake.socket(), args);
        let ours = run(ours.current_dir(dir.path()));
        assert_eq!(ours.stderr, "hashctl: standard output: Bad file descriptor\n", "{args:?}");
        assert_eq!(ours.code, 1, "{args:?}");
    }
}

#[test]
fn nothing_to_write_needs_no_standard_output() {
    let dir = file();
    fs::write(dir.path().join("m"), line(Algorithm::Sha256, b"x", "f")).unwrap();
    let fake = Engine::default().start();
    let mut ours = shell("exec \"$0\" \"$@\" >&-", fake.socket(), &["check", "--status", "m"]);
    let ours = run(ours.current_dir(dir.path()));
    assert_eq!((ours.code, &*ours.stderr), (0, ""));
}

#[test]
fn dev_null_is_no_closed_standard_output_however_it_was_opened() {
    let dir = file();
    for script in ["exec \"$0\" \"$@\" >/dev/null", "exec \"$0\" \"$@\" 1<>/dev/null"] {
        let fake = Engine::default().start();
        let mut ours = shell(script, fake.socket(), &["sum", "f"]);
        let ours = run(ours.current_dir(dir.path()));
        assert_eq!((ours.code, &*ours.stderr), (0, ""), "{script}");
    }
}

#[test]
fn a_broken_pipe_is_an_error_and_ends_the_job() {
    let dir = tempdir().unwrap();
    let names: Vec<String> = (0..3000).map(|i| format!("{i:04}-{}", "x".repeat(100))).collect();
    for name in &names {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let fake = Engine::default().start();
    let mut child = start(hashctl(fake.socket()).current_dir(dir.path()).arg("sum").args(&names));
    let mut first = [0; 64];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let ours = finish(child);
    assert_eq!((ours.code, &*ours.stderr), (1, "hashctl: standard output: Broken pipe\n"));
    let want = line(Algorithm::Sha256, names[0].as_bytes(), &names[0]);
    assert_eq!(first, want.as_bytes()[..64]);
    fake.join();
}

#[test]
fn an_invalid_option_moves_no_terminal() {
    let fake = Engine::default().start();
    let ours = run(hashctl(fake.socket()).args(["sum", "--\u{1b}[2J\u{202e}\u{9b}"]));
    assert_eq!(ours.code, 2);
    assert!(ours.stderr.contains("unexpected argument '-- [2J  '"), "{:?}", ours.stderr);
}
