//! No controller, one that refuses, and arguments that make no sense.

use crate::engine::Engine;
use crate::fake::{DESCRIPTORS, Fake};
use crate::program::{hashctl, run};
use ipc_proto::message::{ClientReply, ClientRequest, RejectReason};
use std::process::{Command, Stdio};
use tempfile::tempdir;

#[test]
fn without_a_controller_one_line_says_where_and_what_to_do() {
    let dir = tempdir().unwrap();
    let socket = dir.path().join("client.sock");
    let ready = ["status", "--ready", "1", "--timeout-s", "1"];
    for args in [&["sum", "/dev/null"][..], &["check", "m"], &["status"], &ready] {
        let ours = run(hashctl(&socket).args(args));
        let want = format!(
            "hashctl: no controller at {} (No such file or directory); start one with \
             ./run.sh --local, or name its socket with --connect\n",
            socket.display()
        );
        assert_eq!((ours.code, ours.stderr), (3, want), "{args:?}");
    }
}

#[test]
fn the_runtime_directory_is_taken_from_argument_environment_or_user() {
    let dir = tempdir().unwrap();
    let tried = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ours = run(command.arg("status"));
        ours.stderr.split([' ', '(']).nth(4).unwrap().to_owned()
    };
    let plain = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hashctl"));
        command.env_clear().env("XDG_RUNTIME_DIR", dir.path());
        command
    };
    let at = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(tried(plain().arg("--runtime-dir").arg(dir.path().join("x"))), at("x/client.sock"));
    assert_eq!(
        tried(plain().env("HASHCLUSTER_RUNTIME_DIR", dir.path().join("y"))),
        at("y/client.sock")
    );
    if !std::path::Path::new("/run/hashcluster").is_dir() {
        assert_eq!(tried(&mut plain()), at("hashcluster/client.sock"));
    }
}

#[test]
fn a_refusal_is_told_in_the_controllers_words_on_one_line() {
    let fake = Fake::start(|peer| peer.refuse("uid 7 is not\nallowed"));
    let ours = run(hashctl(fake.socket()).args(["sum", "/dev/null"]));
    let want = format!(
        "hashctl: the controller at {} refused: uid 7 is not allowed\n",
        fake.socket().display()
    );
    assert_eq!((ours.code, ours.stderr), (3, want));
}

#[test]
fn a_job_that_is_rejected_ends_the_run() {
    let fake = Fake::start(|peer| {
        peer.welcome(DESCRIPTORS);
        let Some((ClientRequest::Open { job, .. }, _)) = peer.next() else { panic!("an open") };
        let (reason, text) = (RejectReason::TooManyJobs, "too many open jobs".to_owned());
        peer.send(&ClientReply::Rejected { job, reason, text });
        while peer.next().is_some() {}
    });
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let ours = run(hashctl(fake.socket()).arg("sum").arg(dir.path().join("f")));
    assert_eq!((ours.code, &*ours.out()), (3, ""));
    assert!(
        ours.stderr.starts_with("hashctl: the controller rejected the job: too many open jobs\n"),
        "{}",
        ours.stderr
    );
}

#[test]
fn arguments_that_make_no_sense_are_usage() {
    let fake = Engine::default().start();
    for args in [
        &[][..],
        &["sum", "--no-such-option"],
        &["sum", "-a", "md5"],
        &["sum", "--json", "--tag"],
        &["check"],
        &["status", "--timeout-s", "3"],
        &["--runtime-dir", "/x", "status"],
        &["frobnicate"],
    ] {
        let ours = run(hashctl(fake.socket()).args(args));
        assert_eq!(ours.code, 2, "{args:?}: {}", ours.stderr);
        assert!(!ours.stderr.is_empty());
    }
    let mut abstract_name = Command::new(env!("CARGO_BIN_EXE_hashctl"));
    abstract_name.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ours = run(abstract_name.args(["--connect", "@x", "status"]));
    assert_eq!(ours.code, 2);
    assert!(ours.stderr.contains("abstract sockets are not taken"), "{}", ours.stderr);
}
