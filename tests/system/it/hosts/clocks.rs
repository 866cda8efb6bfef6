//! Hosts whose clocks are off, by libfaketime in the bridge, and files from a server whose clock is ahead.
//!
//! A time namespace does not shift the clock that tells the date, and a program that is linked statically preloads nothing: so this
//! is the bridge that cargo builds for tests, beside the test program, and not the one that is shipped. Controllers and workers have
//! the clock of this machine.

use super::{
    LIMIT, ServingHost, bridge, configure, listed_hosts, make_dataset, manifest_by_sha256sum,
};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use test_kit::{Broker, Running, bin, output, text};

/// Difference between the clocks, in seconds.
const SKEW_S: i64 = 600;

/// The library, wherever Debian has it on this processor.
fn library() -> PathBuf {
    let dirs = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut paths = dirs.map(|dir| dir.join("faketime/libfaketime.so.1"));
    paths.find(|path| path.is_file()).expect("libfaketime is installed")
}

/// The bridge that cargo built beside this program.
fn dynamic_bridge() -> PathBuf {
    const NAME: &str = "hashcluster-bridge";
    let own = std::env::current_exe().unwrap();
    let dir = own.ancestors().find(|dir| dir.join(NAME).is_file());
    dir.expect(
        "cargo build -p hashcluster-bridge makes the program that a library can be put before",
    )
    .join(NAME)
}

/// Programs of which the bridge takes its time for `skew_s` later than it is.
fn programs_with_skew(dir: &Path, skew_s: i64) -> PathBuf {
    let programs = dir.join(format!("bin{skew_s:+}"));
    fs::create_dir(&programs).unwrap();
    for name in ["hashcluster-controller", "hashcluster-worker", "hashctl"] {
        std::os::unix::fs::symlink(bin(name), programs.join(name)).unwrap();
    }
    // Waiting is by the monotonic clock, which nobody sets.
    let script = format!(
        "#!/bin/sh\nLD_PRELOAD={:?} FAKETIME='{skew_s:+}s' DONT_FAKE_MONOTONIC=1 exec {:?} \"$@\"\n",
        library(),
        dynamic_bridge()
    );
    let bridge = programs.join("hashcluster-bridge");
    fs::write(&bridge, script).unwrap();
    fs::set_permissions(&bridge, fs::Permissions::from_mode(0o755)).unwrap();
    programs
}

/// Gives every file below `dir` this time of modification.
fn stamp_all(dir: &Path, time: SystemTime) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            stamp_all(&path, time);
        } else {
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
    }
}

#[test]
fn hosts_whose_clocks_are_ten_minutes_off_do_their_work_and_are_listed_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    make_dataset(&root, "5f0c-5", 4, 3000);
    // As a host sees them whose clock is behind that of the file server.
    stamp_all(&root, SystemTime::now() + Duration::from_secs(SKEW_S.unsigned_abs()));
    let want = manifest_by_sha256sum(&root);
    let broker = Broker::start();
    let ports = [broker.port()];
    let start = |name: &str, skew_s| {
        let programs = programs_with_skew(dir.path(), skew_s);
        let mut host = ServingHost::prepare(Some(programs), &root, |rest| {
            configure(dir.path(), name, &ports, rest)
        });
        host.restart_bridge();
        host
    };
    let hosts = [start("ahead", SKEW_S), start("behind", -SKEW_S)];
    let config = configure(dir.path(), "h0", &ports, &format!("datasets.d = {root:?}\n"));
    let mut submit = bridge("submit", &config);
    submit.arg("--ledger").arg(dir.path().join("ledger")).arg("d");
    let ended = Running::start(&mut submit, LIMIT).end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, want);
    let (listed, status) = listed_hosts(&config);
    for (host, want, state) in
        [("ahead", SKEW_S, "serving"), ("behind", -SKEW_S, "serving"), ("h0", 0, "left")]
    {
        let ahead = listed[host]["clock_ahead_s"].as_i64().unwrap();
        assert!((ahead - want).abs() <= 3, "{host} is {ahead} s ahead: {listed}");
        assert_eq!(listed[host]["state"], state, "{listed}");
    }
    assert_eq!(status, Some(0), "{listed}");
    let table = text(&output(&mut bridge("hosts", &config)).stdout);
    let row = |host: &str| table.lines().find(|line| line.starts_with(host)).unwrap().to_owned();
    assert!(row("ahead").contains(" +6") || row("ahead").contains(" +59"), "{table}");
    assert!(row("behind").contains(" -6") || row("behind").contains(" -59"), "{table}");
    drop(hosts);
}
