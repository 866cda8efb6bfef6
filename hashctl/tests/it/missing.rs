//! No controller, one that refuses, and arguments that make no sense.

use crate::engine::Engine;
use crate::fake::{DESCRIPTORS, Fake};
use crate::program::{hashctl, hashctl_alone, run};
use ipc_proto::Blob;
use ipc_proto::message::{ClientReply, ClientRequest, JobId, RejectReason, Run, Window};
use std::process::Command;
use tempfile::tempdir;

const JOB: JobId = JobId { epoch: 1, number: 2 };

#[test]
fn a_missing_controller_is_one_line_with_its_place_and_a_remedy() {
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
        let ours = run(command.arg("status"));
        ours.stderr.split([' ', '(']).nth(4).unwrap().to_owned()
    };
    let plain = || {
        let mut command = hashctl_alone();
        command.env("XDG_RUNTIME_DIR", dir.path());
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
fn a_refusal_is_reported_on_one_line_in_the_controllers_words() {
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
        let Some((ClientRequest::Open { tag, .. }, _)) = peer.next() else { panic!("an open") };
        let (reason, text) = (RejectReason::TooManyJobs, "too many open jobs".to_owned());
        peer.send(&ClientReply::Rejected { tag, reason, text });
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
fn suspect_digests_are_reported_and_fail_the_run() {
    let fake = Fake::start(|peer| {
        peer.welcome(DESCRIPTORS);
        let options = peer.open(JOB, Window { items: 100, bytes: 1 << 20 }, 1);
        while let Some((request, _)) = peer.next() {
            if let ClientRequest::Items { .. } = request {
                let (runs, outputs) = (vec![Run { first: 0, len: 1 }], Blob(vec![7; 32]));
                peer.send(&ClientReply::Results { job: JOB, runs, outputs, failures: vec![] });
                let worker = "w\n1".to_owned();
                peer.send(&ClientReply::Suspect { job: JOB, worker, items: 1 });
            } else if let ClientRequest::Finish { .. } = request {
                peer.send(&ClientReply::Finished { job: JOB, items: 1, failed: 0 });
            }
        }
        options
    });
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let args = ["sum", "--cross-check", "1/9", "--strict-reads"];
    let ours = run(hashctl(fake.socket()).args(args).arg(dir.path().join("f")));
    assert!(ours.out().starts_with("07070707"), "{}", ours.out());
    let want = "hashctl: worker w 1 gave a wrong digest: 1 others of this run that it gave were not \
                checked and may be wrong; run it again\n";
    assert_eq!((ours.code, &*ours.stderr), (1, want));
    assert_eq!(fake.join(), (9, true), "the job has the options of the command");
}

#[test]
fn results_that_make_no_sense_are_not_printed() {
    for (runs, output_len, want) in [
        (vec![Run { first: 0, len: 1 }], 31, "a result that is no digest"),
        (vec![Run { first: 1, len: 1 }], 32, "a result that nothing waits for"),
        (vec![Run { first: 0, len: 1 }; 2], 32, "a result that nothing waits for"),
    ] {
        let fake = Fake::start(move |peer| {
            peer.welcome(DESCRIPTORS);
            peer.open(JOB, Window { items: 100, bytes: 1 << 20 }, 1);
            let items = peer.next();
            assert!(matches!(items, Some((ClientRequest::Items { .. }, _))), "{items:?}");
            let outputs = Blob(vec![7; output_len * runs.len()]);
            peer.send(&ClientReply::Results { job: JOB, runs, outputs, failures: vec![] });
            while peer.next().is_some() {}
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        let ours = run(hashctl(fake.socket()).arg("sum").arg(file.path()));
        assert_eq!((ours.code, &*ours.out()), (3, ""), "{want}");
        assert!(ours.stderr.contains(want), "{want}: {}", ours.stderr);
    }
}

#[test]
fn help_groups_the_options_by_what_they_are_about() {
    for command in ["sum", "check"] {
        let ours = run(hashctl("none".as_ref()).args([command, "--help"]));
        let out = ours.out();
        let headings: Vec<_> = out.lines().filter(|line| line.ends_with(':')).collect();
        let want = ["Arguments:", "Options:", "Hashing:", "Output:", "Connection:"];
        let headings: Vec<_> = headings.into_iter().filter(|line| want.contains(line)).collect();
        assert_eq!((headings, ours.code), (want.to_vec(), 0), "{command}");
        let ungrouped = out.split("\nOptions:\n").nth(1).unwrap().split("\nHashing:\n").next();
        assert_eq!(ungrouped.unwrap().matches("  -").count(), 1, "only --help: {ungrouped:?}");
    }
}

#[test]
fn invalid_arguments_are_usage_errors() {
    let fake = Engine::default().start();
    for args in [
        &[][..],
        &["sum", "--no-such-option"],
        &["sum", "-a", "md4"],
        &["sum", "--json", "--tag"],
        &["sum", "--cross-check", "1/0"],
        &["check", "--cross-check", "2/3", "m"],
        &["status", "--timeout-s", "3"],
        &["--runtime-dir", "/x", "status"],
        &["frobnicate"],
    ] {
        let ours = run(hashctl(fake.socket()).args(args));
        assert_eq!(ours.code, 2, "{args:?}: {}", ours.stderr);
        assert!(!ours.stderr.is_empty());
    }
    let ours = run(hashctl_alone().args(["--connect", "@x", "status"]));
    assert_eq!(ours.code, 2);
    assert!(ours.stderr.contains("abstract sockets are not taken"), "{}", ours.stderr);
}
