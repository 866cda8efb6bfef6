//! The main job: files of the host, hashed by VMs, in the form that other tools print.

use crate::site::{Site, kill, until};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use test_kit::{Ended, Random, hostile_names, write_file};

const FILES: u64 = 2_000;
/// More than any soft limit of open files that shells have.
const TINY_FILES: u64 = 30_000;
const BIG: &str = "data/big";
const BIG_LEN: u64 = 64 << 20;

/// Hostile names, a few in each of 37 directories, and a big file.
fn write_data(dir: &Path) {
    let stems = hostile_names().into_iter().filter(|name| name.len() < 255);
    let stems: Vec<Vec<u8>> = stems.chain(["\u{fc}ml\u{e4}ut".into()]).collect();
    let mut random = Random::new(7);
    for (i, stem) in (0..FILES).zip(stems.iter().cycle()) {
        let sub = dir.join(format!("tree/d{}", i % 37));
        fs::create_dir_all(&sub).unwrap();
        let name = [&stem[..], format!("{i}").as_bytes()].concat();
        let len = [0, 1, 63, 64, 65, 1_000, 4_096, 9_000][usize::try_from(i % 8).unwrap()];
        write_file(&sub.join(OsStr::from_bytes(&name)), len, random.next_u64());
    }
    write_file(&dir.join("big"), BIG_LEN, 1);
}

/// Output of `PROGRAM` for all files, in the order in which `hashctl sum -r` does.
fn oracle(site: &Site, program: &str, find: &str) -> Vec<u8> {
    let line = format!("{find} -type f -print0 | LC_ALL=C sort -z | xargs -0 {program}");
    let mut command = site.command(Path::new("bash"));
    command.args(["-c", &line]);
    let ended = site.succeed(command);
    ended.printed
}

#[track_caller]
fn assert_prints(ended: &Ended, want: &[u8]) {
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        !want.is_empty() && ended.printed == want,
        "not what the tool prints: {}",
        ended.stderr
    );
}

#[test]
fn vms_print_what_the_tools_print_even_if_one_dies() {
    let site = Site::new(3);
    write_data(&site.path("data"));
    let up = site.succeed(site.run_sh(&["--dataset", "files=data"]));
    for row in ["controller", "worker1", "worker2", "healthy", "127.0.0.1:"] {
        assert!(up.stdout.contains(row), "{}", up.stdout);
    }

    let sha256 = oracle(&site, "sha256sum", "find data");
    let sum = site.finish(site.hashctl(&["sum", "-v", "-r", "data"]));
    assert_prints(&sum, &sha256);
    let sent = "sent 1 file by name in dataset files, 2000 files inline\n";
    assert!(sum.stderr.contains(sent), "{}", sum.stderr);

    // A file that is replaced between two looks at it has the digest of what is there.
    for seed in 0..3 {
        write_file(&site.path("fresh"), 20_000, seed);
        fs::rename(site.path("fresh"), site.path("data/replaced")).unwrap();
        let sum = site.finish(site.hashctl(&["sum", "data/replaced"]));
        assert_prints(&sum, &oracle(&site, "sha256sum", "find data/replaced"));
    }
    fs::remove_file(site.path("data/replaced")).unwrap();

    // A file outside of all datasets goes as bytes.
    write_file(&site.path("elsewhere"), 20 << 20, 9);
    let sum = site.finish(site.hashctl(&["sum", "elsewhere"]));
    assert_prints(&sum, &oracle(&site, "sha256sum", "find elsewhere"));

    // b3sum 1.2 prints replacement characters for what is no UTF-8, and carriage returns as such.
    let plain = "find data -not -name '*carriage*' -not -name '*latin*'";
    let blake3 = oracle(&site, "b3sum", plain);
    let mut command = site.command(Path::new("bash"));
    let hashctl = site.hashctl(&[]).get_program().to_str().unwrap().to_owned();
    let line =
        format!("{plain} -type f -print0 | LC_ALL=C sort -z | xargs -0 {hashctl} sum -a blake3 --");
    command.args(["-c", &line]);
    assert_prints(&site.finish(command), &blake3);

    let hashed = |name| site.worker(name, "bytes").unwrap();
    let before = [hashed("worker1"), hashed("worker2")];
    let big = site.finish(site.hashctl(&["sum", "-a", "blake3", BIG]));
    assert!(blake3.starts_with(&big.printed) && !big.printed.is_empty(), "{}", big.stdout);
    let shares = [hashed("worker1") - before[0], hashed("worker2") - before[1]];
    // Chaining values that are merged count as well, 64 bytes a pair.
    assert!((BIG_LEN..BIG_LEN + 4_096).contains(&(shares[0] + shares[1])), "{shares:?}");
    assert!(shares.iter().all(|&share| share > BIG_LEN / 10), "{shares:?}");

    fs::write(site.path("manifest"), &sha256).unwrap();
    let check = site.succeed(site.hashctl(&["check", "manifest"]));
    let mut theirs = site.command(Path::new("sha256sum"));
    theirs.args(["-c", "manifest"]);
    assert_eq!(check.printed, site.finish(theirs).printed);

    let (start, qemu) = (hashed("worker2"), site.qemu_pid("worker2").unwrap());
    let run = site.start(site.hashctl(&["sum", "-r", "data"]));
    until("work at worker2", || (hashed("worker2") > start).then_some(()));
    kill(qemu, "KILL");
    assert_prints(&run.end(), &sha256);
    until("another worker2", || {
        let pid = site.qemu_pid("worker2").filter(|&pid| pid != qemu);
        pid.and(site.worker("worker2", "items"))
    });

    // The workers still have the directory that was there before.
    fs::rename(site.path("data"), site.path("before")).unwrap();
    fs::create_dir(site.path("data")).unwrap();
    write_file(&site.path("data/new"), 100_000, 3);
    let sum = site.finish(site.hashctl(&["sum", "data/new"]));
    assert_prints(&sum, &oracle(&site, "sha256sum", "find data/new"));

    site.succeed(site.script("stop.sh", &[]));
    site.assert_clean();
}

#[test]
fn one_command_boots_hashes_and_leaves_nothing() {
    let site = Site::new(3);
    write_data(&site.path("data"));
    fs::create_dir(site.path("data/tiny")).unwrap();
    for i in 0..TINY_FILES {
        fs::write(site.path(&format!("data/tiny/{i}")), i.to_string()).unwrap();
    }
    let want = oracle(&site, "sha256sum", "find data");
    // By name, the file server has more files open than the soft limit of a shell.
    let sum = ["sum", "-v", "--plane", "dataset", "-r", "data"];
    let sum = site.finish(site.run_sh_once(&sum));
    assert_prints(&sum, &want);
    assert!(sum.stderr.contains("32001 files by name in dataset paths"), "{}", sum.stderr);
    let order = ["worker1: booting", "controller: healthy", "worker1: healthy", "ready"];
    let places = order.map(|what| sum.stderr.find(what).expect(what));
    assert!(places.is_sorted(), "{}", sum.stderr);
    // What hashctl says is said through: its status, and what it found.
    let line = format!("{}  data/none\n", "0".repeat(64));
    let mut manifest = line.into_bytes();
    let is_tiny = |line: &&[u8]| line[64..].starts_with(b"  data/tiny/");
    let others = want.split_inclusive(|&byte| byte == b'\n').filter(|line| !is_tiny(line));
    others.skip(1).for_each(|line| manifest.extend(line));
    fs::write(site.path("manifest"), manifest).unwrap();
    let check = site.finish(site.run_sh_once(&["check", "--quiet", "manifest"]));
    assert_eq!(check.status.code(), Some(1), "{}", check.stderr);
    assert_eq!(check.stdout, "data/none: FAILED open or read\n");
    site.assert_clean();
    let kept: Vec<_> = fs::read_dir(site.path("tmp")).unwrap().flatten().collect();
    let dirs = kept.iter().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(dirs, 0, "{kept:?}");
}

#[test]
fn a_snapshot_is_what_was_there_at_the_start() {
    let site = Site::new(2);
    fs::create_dir_all(site.path("odd dir, with 'quotes' $(x)")).unwrap();
    let dir = "odd dir, with 'quotes' $(x)";
    write_file(&site.path(dir).join("kept"), 100_000, 1);
    write_file(&site.path(dir).join("edited"), 100_000, 2);
    let dataset = format!("files={dir}");
    site.succeed(site.run_sh(&["--snapshot", "--dataset", &dataset]));
    let want = oracle(&site, "sha256sum", &format!("find \"{}\"", dir.replace('$', "\\$")));
    assert_prints(&site.finish(site.hashctl(&["sum", "-r", dir])), &want);
    // The VMs still have the old bytes: they are never given out as those of today's file.
    write_file(&site.path(dir).join("edited"), 100_001, 3);
    let want = oracle(&site, "sha256sum", &format!("find \"{}\"", dir.replace('$', "\\$")));
    assert_prints(&site.finish(site.hashctl(&["sum", "-r", dir])), &want);
    let sum = site.finish(site.hashctl(&["--plane", "dataset", "sum", "-r", dir]));
    assert_eq!(sum.status.code(), Some(1), "{}", sum.stderr);
    assert!(sum.stderr.contains("edited") && sum.stderr.contains("changed"), "{}", sum.stderr);
    assert_eq!(sum.stdout.lines().count(), 1, "{}", sum.stdout);
}
