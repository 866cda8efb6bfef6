//! Starts that are refused, and their messages.

use crate::harness::Bench;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::time::Instant;
use test_kit::Ended;

const UP: [&str; 7] = ["up", "--runtime-dir", "run", "--bin-dir", "bin", "--workers", "1"];

#[track_caller]
fn check(ended: &Ended, status: i32, parts: &[&str]) {
    assert_eq!(ended.status.code(), Some(status), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part:?} in {}", ended.stderr);
    }
}

#[test]
fn a_directory_that_is_not_ours_alone_is_refused() {
    let bench = Bench::new("dirs", "");
    let (open, link) = (bench.path("open"), bench.path("link"));
    fs::DirBuilder::new().mode(0o700).create(&open).unwrap();
    fs::set_permissions(&open, PermissionsExt::from_mode(0o750)).unwrap();
    symlink("/tmp", &link).unwrap();
    // Root's for an ordinary user; for root, that of whomever it gives this one to.
    let (theirs, owner) = if std::os::unix::fs::chown(bench.path("bin"), Some(1), None).is_ok() {
        (bench.path("bin"), "belongs to uid 1")
    } else {
        ("/etc".into(), "belongs to uid 0")
    };
    for (dir, parts) in [
        (&open, &["has mode 0750", "chmod 700"][..]),
        (&link, &["is no directory, or a symlink"]),
        (&theirs, &[owner]),
    ] {
        check(&bench.finish(&["up", "--runtime-dir", dir.to_str().unwrap()]), 3, parts);
    }
    assert!(fs::read_dir(open).unwrap().next().is_none(), "nothing was made in it");
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_before_anything_is_made() {
    let bench = Bench::new("long", "");
    let name = "x".repeat(100);
    check(&bench.finish(&["up", "--runtime-dir", &name]), 3, &["socket path of", "at most 107"]);
    assert!(!bench.path(&name).exists());
}

#[test]
fn a_name_that_would_end_a_line_is_refused_before_anything_is_made() {
    let bench = Bench::new("line", "");
    check(&bench.finish(&["up", "--runtime-dir", "a\nb"]), 3, &["a\\nb\" has a control character"]);
    assert!(!bench.path("a\nb").exists());
}

#[test]
fn a_missing_program_is_named_with_how_to_build_it() {
    let bench = Bench::new("missing", "");
    let ended = bench.finish(&["up", "--runtime-dir", "run", "--bin-dir", "nowhere"]);
    check(&ended, 3, &["nowhere/hashcluster-controller", "cargo xtask build"]);
}

#[test]
fn vms_of_an_image_for_arm_are_machines_of_arm_without_kvm() {
    let bench = Bench::new("arm", "");
    fs::create_dir(bench.path("image")).unwrap();
    let text = format!("digest sha256:{}\narch aarch64\nkind dev\n", "0".repeat(64));
    for (name, text) in [("kernel", "k"), ("initrd", "i"), ("image.txt", &text)] {
        fs::write(bench.path("image").join(name), text).unwrap();
    }
    fs::write(bench.path("ports.conf"), "2221\n2222\n").unwrap();
    let words = ["up", "--dry-run", "--runtime-dir", "run", "--ports", "ports.conf", "--image"];
    let words = [&words[..], &["image"]].concat();
    let shown = bench.finish_vms(&words);
    assert!(shown.status.success(), "{}", shown.stderr);
    let parts = [
        "qemu-system-aarch64",
        "virt,memory-backend=mem",
        "console=ttyAMA0 ",
        "pci-serial,chardev=syslog",
        "tcg",
    ];
    for part in parts {
        assert_eq!(shown.stdout.matches(part).count(), 2, "{part} in {}", shown.stdout);
    }
    let refused = bench.finish_vms(&[&words[..], &["--accel", "kvm"]].concat());
    check(&refused, 1, &["--accel kvm: the image is for aarch64, this host is not"]);
}

#[test]
fn a_controller_that_dies_at_its_start_shows_its_last_words() {
    let bench = Bench::new("badstart", "controller:die");
    let parts = [
        "controller failed: its process (pid",
        "exited with status 1; it wrote:",
        "    controller: told to die",
    ];
    check(&bench.finish(&UP), 3, &parts);
    assert!(!bench.run_dir().join("supervisor.pid").exists());
}

#[test]
fn a_worker_that_keeps_dying_at_its_start_ends_the_start() {
    let bench = Bench::new("badworker", "w1:die");
    let ended = bench.finish(&UP);
    check(&ended, 3, &["exited with status 1; it wrote:", "    w1: told to die"]);
    assert_eq!(ended.stderr.matches("it starts again in").count(), 2, "{}", ended.stderr);
}

#[test]
fn an_interrupted_start_stops_what_it_had_started() {
    let mut bench = Bench::new("cut", "controller:mute");
    let up = bench.start(&UP);
    bench.wait_for("controller start");
    up.signal(Signal::SIGTERM);
    check(&up.end(), 4, &["interrupted by SIGTERM before the cluster was ready"]);
    bench.wait_for("controller gone");
}

#[test]
fn a_command_that_does_not_exist_stops_the_cluster_at_once() {
    let mut bench = Bench::new("nocommand", "");
    let started = Instant::now();
    let ended = bench.finish(&["run", "--bin-dir", "bin", "--", "no-such-command"]);
    check(&ended, 127, &["cannot run no-such-command"]);
    bench.wait_for("controller gone");
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn run_does_not_take_over_a_directory_in_use() {
    let bench = Bench::new("occupied", "");
    let up = bench.up("1", &[]);
    let line = ["run", "--runtime-dir", "run", "--bin-dir", "bin", "--", "true"];
    check(&bench.finish(&line), 1, &["a cluster already runs in run (pid"]);
    up.signal(Signal::SIGTERM);
    assert!(up.end().status.success());
}
