//! Options of `sum`: which files, and where their digests go.

use crate::engine::Engine;
use crate::oracle::line;
use crate::program::{Outcome, finish, hashctl, hashctl_alone, run, run_with, start};
use ipc_proto::Algorithm;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::{TempDir, tempdir};
use test_kit::Random;

/// A directory with files that hold "x".
fn tree(names: &[&str]) -> TempDir {
    let dir = tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    dir
}

fn sum(dir: &Path, args: &[&str]) -> Outcome {
    run(hashctl_alone().current_dir(dir).arg("sum").args(args))
}

fn lines(names: &[&str]) -> String {
    names.iter().map(|name| line(Algorithm::Sha256, b"x", name)).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn patterns_choose_files_below_a_directory() {
    let dir = tree(&["a.c", "a.o", "sub/b.c", "sub/b.o", "sub/deep/c.c", "target/t.c"]);
    for (args, want) in [
        (&["--exclude", "*.o"][..], &["./a.c", "./sub/b.c", "./sub/deep/c.c", "./target/t.c"][..]),
        (&["--exclude", "target/", "--include", "*.c"], &["./a.c", "./sub/b.c", "./sub/deep/c.c"]),
        (&["--include", "sub/*.o", "--include", "a.*"], &["./a.c", "./a.o", "./sub/b.o"]),
        (&["--exclude", "/sub"], &["./a.c", "./a.o", "./target/t.c"]),
        (&["--exclude", "**/deep/**", "--include", "*.c"], &["./a.c", "./sub/b.c", "./target/t.c"]),
    ] {
        let ours = sum(dir.path(), &[&["-r", "."], args].concat());
        assert_eq!((ours.out(), ours.code), (lines(want), 0), "{args:?}: {}", ours.stderr);
    }
    assert_eq!(sum(dir.path(), &["-r", "--exclude", "[", "."]).code, 2);
    assert_eq!(sum(dir.path(), &["--exclude", "*.o", "."]).code, 2, "only with -r");
}

#[test]
fn only_files_that_are_newer_are_hashed() {
    let dir = tree(&["old", "new", "mark"]);
    let set = |name: &str, seconds| {
        let file = File::options().write(true).open(dir.path().join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    };
    set("old", 1_000_000_000);
    set("mark", 1_000_000_001);
    set("new", 1_100_000_000);
    for when in ["mark", "@1000000001", "2001-09-10"] {
        let ours = sum(dir.path(), &["-r", "--newer-than", when, "."]);
        assert_eq!((ours.out(), ours.code), (lines(&["./new"]), 0), "{when}: {}", ours.stderr);
    }
    assert_eq!(sum(dir.path(), &["-r", "--newer-than", "1d", "."]).out(), "");
    assert_eq!(sum(dir.path(), &["-r", "--newer-than", "x", "."]).code, 2);
}

#[test]
fn links_are_followed_if_asked_and_loops_are_left_out() {
    let dir = tree(&["d/f", "out"]);
    symlink("../out", dir.path().join("d/link")).unwrap();
    symlink("..", dir.path().join("d/up")).unwrap();
    let ours = sum(dir.path(), &["-r", "d"]);
    assert_eq!((ours.out(), ours.code), (lines(&["d/f"]), 0));
    assert_eq!(ours.stderr, "hashctl: left out: 2 symbolic links\n");
    for args in [&["-r", "-L", "d"][..], &["-r", "-P", "-L", "d"]] {
        let ours = sum(dir.path(), args);
        let want = lines(&["d/f", "d/link", "d/up/out"]);
        assert_eq!((ours.out(), ours.code), (want, 0), "{}", ours.stderr);
        let want = "hashctl: d/up/d: skipped: a symbolic link to a directory that it is in\n\
                    hashctl: left out: 1 link to a directory above it\n";
        assert_eq!(ours.stderr, want);
    }
    assert_eq!(sum(dir.path(), &["-r", "-L", "-P", "d"]).out(), lines(&["d/f"]));
}

#[test]
fn what_is_left_out_is_counted() {
    let dir = tree(&["f"]);
    mkfifo(&dir.path().join("fifo"), Mode::S_IRUSR).unwrap();
    symlink("f", dir.path().join("link")).unwrap();
    let ours = sum(dir.path(), &["-r", "."]);
    let want = "hashctl: ./fifo: skipped: a FIFO\nhashctl: left out: 1 symbolic link, 1 FIFO\n";
    assert_eq!((&*ours.stderr, ours.code), (want, 0));
}

#[test]
fn names_come_from_a_file_or_standard_input() {
    let dir = tree(&["a", "b c", "d/e", "-", "n\nl"]);
    fs::write(dir.path().join("names"), "b c\n\n-\nd\n").unwrap();
    let ours = sum(dir.path(), &["-r", "--files-from", "names", "a"]);
    assert_eq!((ours.out(), ours.code), (lines(&["a", "b c", "./-", "d/e"]), 0), "{}", ours.stderr);
    let mut command = hashctl_alone();
    command.current_dir(dir.path()).args(["sum", "-0", "--files-from", "-"]);
    let ours = run_with(&mut command, b"n\nl\0a\0".to_vec());
    let want = line(Algorithm::Sha256, b"x", "n\\nl");
    assert_eq!((ours.out(), ours.code), (format!("\\{want}{}", lines(&["a"])), 0));
    let ours = sum(dir.path(), &["--files-from", "gone"]);
    assert_eq!((&*ours.stderr, ours.code), ("hashctl: gone: No such file or directory\n", 1));
    fs::write(dir.path().join("names"), b"a\0b\na\n").unwrap();
    let ours = sum(dir.path(), &["--files-from", "names"]);
    assert_eq!(
        (ours.out(), &*ours.stderr, ours.code),
        (lines(&["a"]), "hashctl: a: Invalid argument\n", 1)
    );
}

#[test]
fn the_output_in_the_tree_is_left_out_with_a_line() {
    let dir = tree(&["a", "b"]);
    let output = File::create(dir.path().join("list")).unwrap();
    let ours = run(hashctl_alone().current_dir(dir.path()).args(["sum", "-r", "."]).stdout(output));
    let want = "hashctl: ./list: skipped: the output of this command\n\
                hashctl: left out: 1 output of this command\n";
    assert_eq!((&*ours.stderr, ours.code), (want, 0));
    assert_eq!(fs::read_to_string(dir.path().join("list")).unwrap(), lines(&["./a", "./b"]));
}

#[test]
fn a_file_of_digests_is_replaced_when_all_are_there() {
    let dir = tree(&["a", "list"]);
    let list = dir.path().join("list");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o640)).unwrap();
    let ours = sum(dir.path(), &["-r", "--output", "list", "."]);
    let want = "hashctl: ./list: skipped: the output of this command\n\
                hashctl: left out: 1 output of this command\n";
    assert_eq!((&*ours.out(), &*ours.stderr, ours.code), ("", want, 0));
    assert_eq!(fs::read_to_string(&list).unwrap(), lines(&["./a"]));
    assert_eq!(fs::metadata(&list).unwrap().mode() & 0o777, 0o640);
    assert_eq!(names(dir.path()), ["a", "list"]);
    // What has no digest is reported; the rest is all there.
    let ours = sum(dir.path(), &["-o", "new", "a", "gone"]);
    assert_eq!((&*ours.stderr, ours.code), ("hashctl: gone: No such file or directory\n", 1));
    assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), lines(&["a"]));
    let ours = sum(dir.path(), &["-o", "no/such", "a"]);
    assert_eq!((&*ours.stderr, ours.code), ("hashctl: no/such: No such file or directory\n", 1));
}

#[test]
fn an_interrupted_sum_leaves_the_old_file() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let dir = tree(&["a"]);
        fs::write(dir.path().join("list"), "old").unwrap();
        mkfifo(&dir.path().join("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let mut command = hashctl_alone();
        command.current_dir(dir.path()).args(["sum", "--output", "list", "a", "fifo"]);
        let child = start(&mut command);
        // Once there is a reader, the command is at work; then it waits for what comes.
        let writer = OpenOptions::new().write(true).open(dir.path().join("fifo")).unwrap();
        // Where files can be without a name, nothing is there that could be left.
        let mut unnamed = OpenOptions::new();
        unnamed.write(true).custom_flags(libc::O_TMPFILE);
        let can_be_unnamed = unnamed.open(dir.path()).is_ok();
        assert_eq!(names(dir.path()).len(), if can_be_unnamed { 3 } else { 4 });
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let ours = finish(child);
        drop(writer);
        assert_eq!(fs::read(dir.path().join("list")).unwrap(), b"old", "{signal}");
        if signal != Signal::SIGKILL {
            assert_eq!(
                (&*ours.stderr, ours.code),
                ("hashctl: interrupted\nhashctl: list: not written\n", 4)
            );
        }
        if signal != Signal::SIGKILL || can_be_unnamed {
            assert_eq!(names(dir.path()), ["a", "fifo", "list"], "{signal}");
        }
    }
}

#[test]
fn every_form_of_output_reports_a_full_device() {
    let dir = tree(&["a"]);
    fs::write(dir.path().join("m"), lines(&["a"])).unwrap();
    for args in [
        &["sum", "a"][..],
        &["sum", "--tag", "a"],
        &["sum", "-z", "a"],
        &["sum", "-b", "a"],
        &["sum", "--json", "a"],
        &["sum", "-r", "."],
        &["sum", "-c", "m"],
        &["check", "m"],
        &["check", "--json", "m"],
        &["check", "-z", "m"],
        &["--help"],
        &["sum", "--help"],
        &["--version"],
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ours = run(hashctl_alone().current_dir(dir.path()).args(args).stdout(full));
        let want = "hashctl: standard output: No space left on device\n";
        assert!(ours.stderr.ends_with(want), "{args:?}: {}", ours.stderr);
        assert_eq!(ours.code, 1, "{args:?}");
    }
    let ours = sum(dir.path(), &["--output", "/dev/full", "a"]);
    assert_eq!((&*ours.stderr, ours.code), ("hashctl: /dev/full: No space left on device\n", 1));
    assert!(!fs::metadata("/dev/full").unwrap().is_file());
}

#[test]
fn options_of_sha256sum_do_what_they_do_there() {
    let dir = tree(&["a"]);
    assert_eq!(sum(dir.path(), &["-b", "a"]).out(), lines(&["a"]).replace("  a", " *a"));
    assert_eq!(sum(dir.path(), &["-t", "a"]).out(), lines(&["a"]));
    fs::write(dir.path().join("m"), lines(&["a"]) + "junk\n").unwrap();
    let ours = sum(dir.path(), &["-c", "m"]);
    assert_eq!((&*ours.out(), ours.code), ("a: OK\n", 0));
    let ours = sum(dir.path(), &["-c", "--strict", "--quiet", "m"]);
    assert_eq!((&*ours.out(), ours.code), ("", 1));
    let ours = sum(dir.path(), &["--quiet", "a"]);
    assert_eq!((&*ours.stderr, ours.code), ("hashctl: --quiet is for --check\n", 2));
}

#[test]
fn directories_on_other_file_systems_are_left_out_if_asked() {
    // Below /proc there is one more file system at least, and names that are few enough.
    let ours = run(hashctl_alone().args([
        "sum",
        "-r",
        "--one-file-system",
        "--include",
        "no-such",
        "/dev",
    ]));
    let devices: Vec<u64> = ["/dev", "/dev/shm", "/dev/pts"]
        .iter()
        .filter_map(|dir| Some(fs::metadata(dir).ok()?.dev()))
        .collect();
    let has_other = devices.iter().any(|device| *device != devices[0]);
    assert_eq!(ours.stderr.contains("file system"), has_other, "{}", ours.stderr);
}

#[test]
fn names_of_any_bytes_match_patterns() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"\xff.o")), "x").unwrap();
    fs::write(dir.path().join("a.c"), "x").unwrap();
    let ours = sum(dir.path(), &["-r", "--exclude", "*.o", "."]);
    assert_eq!((ours.out(), ours.code), (lines(&["./a.c"]), 0));
}

#[test]
fn a_file_that_takes_long_holds_back_no_other_where_order_does_not_matter() {
    let dir = tree(&["a", "b"]);
    mkfifo(&dir.path().join("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut command = hashctl_alone();
    command.current_dir(dir.path()).args([
        "sum",
        "--unordered",
        "--threads",
        "2",
        "fifo",
        "a",
        "b",
    ]);
    let mut child = start(&mut command);
    let mut writer = OpenOptions::new().write(true).open(dir.path().join("fifo")).unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut others = String::new();
    for _ in 0..2 {
        stdout.read_line(&mut others).unwrap();
    }
    let mut others: Vec<&str> = others.lines().collect();
    others.sort_unstable();
    let want = lines(&["a", "b"]);
    assert_eq!(others, want.lines().collect::<Vec<_>>());
    writer.write_all(b"x").unwrap();
    drop(writer);
    let mut last = String::new();
    stdout.read_to_string(&mut last).unwrap();
    assert_eq!(last, lines(&["fifo"]));
    assert_eq!(finish(child).code, 0);
}

#[test]
fn unordered_digests_are_those_of_the_ordered_ones() {
    let names: Vec<String> = (0..500).map(|i| format!("f{i:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let dir = tree(&names);
    let fake = Engine { shuffle: Some(Random::from_entropy()), ..Engine::default() }.start();
    let mut command = hashctl(fake.socket());
    let ours = run(command.current_dir(dir.path()).args(["sum", "--unordered"]).args(&names));
    let mut lines_sorted: Vec<String> = ours.out().lines().map(str::to_owned).collect();
    lines_sorted.sort_by(|a, b| a[66..].cmp(&b[66..]));
    let want = lines(&names);
    assert_eq!(lines_sorted, want.lines().collect::<Vec<_>>());
    assert_eq!((ours.code, &*ours.stderr), (0, ""));
}
