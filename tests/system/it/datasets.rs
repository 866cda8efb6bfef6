//! Files that go by name: the real binaries against the installed tools.

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;
use tempfile::TempDir;
use test_kit::{Cluster, Options, Random, bin, hostile_names, oracle, output, text, write_file};

/// Two workers that have `workers_dir` as `d`, and a host on which `host_dir` is `d`.
fn cluster(workers_dir: &Path, host_dir: &Path) -> Cluster {
    let datasets = vec![("d", workers_dir.to_owned())];
    let cluster = Cluster::start(Options { datasets, ..Options::default() });
    fs::create_dir(cluster.dir().join("datasets")).unwrap();
    symlink(host_dir, cluster.dir().join("datasets/d")).unwrap();
    cluster
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_tree_of_hostile_names_goes_by_name_and_comes_out_as_the_installed_tools_say() {
    let dir = dir();
    // `b3sum` prints the last two otherwise.
    let names = hostile_names();
    for (i, name) in (0..).zip(&names) {
        let sub = dir.path().join("tree").join(OsStr::from_bytes(name));
        fs::create_dir_all(&sub).unwrap();
        for (j, name) in (0..).zip(&names) {
            write_file(&sub.join(OsStr::from_bytes(name)), 1 << ((i + j) % 20), i * 100 + j);
        }
    }
    let cluster = cluster(&dir.path().join("tree"), &dir.path().join("tree"));
    let files = names.len() * names.len();
    for (algorithm, program, skipped) in [("sha256", "sha256sum", 0), ("blake3", "b3sum", 2)] {
        // The last ones are skipped where the other tool prints them otherwise.
        for name in &names[names.len() - skipped..] {
            fs::remove_dir_all(dir.path().join("tree").join(OsStr::from_bytes(name))).unwrap();
            for other in &names[..names.len() - skipped] {
                let sub = dir.path().join("tree").join(OsStr::from_bytes(other));
                fs::remove_file(sub.join(OsStr::from_bytes(name))).unwrap();
            }
        }
        let mut ours = cluster.hashctl();
        ours.args(["-v", "--plane", "dataset", "sum", "-r", "-a", algorithm, "tree"]);
        let ours = output(ours.current_dir(dir.path()));
        let theirs = oracle(program, dir.path(), "tree");
        let said = text(&ours.stderr);
        assert!(ours.status.success() && theirs.status.success(), "{said}");
        assert!(!ours.stdout.is_empty());
        assert_eq!(text(&ours.stdout), text(&theirs.stdout));
        assert_eq!(ours.stdout, theirs.stdout);
        let left = if skipped == 0 { files } else { (names.len() - skipped).pow(2) };
        assert!(said.contains(&format!("sent {left} files by name in dataset d\n")), "{said}");
    }
    let status = cluster.status();
    assert!(status.workers.iter().all(|worker| worker.items > 0), "{:?}", status.workers);
    assert_eq!((status.limits.items, status.limits.bytes), (0, 0));
}

/// The name leads to another file of the same length: its time tells.
#[test]
fn a_dataset_that_is_another_directory_gives_no_digest_unless_bytes_may_be_sent() {
    let (host, workers) = (dir(), dir());
    for (dir, content) in [(&host, "ours"), (&workers, "else")] {
        fs::write(dir.path().join("other"), content).unwrap();
        fs::write(dir.path().join("same"), "same").unwrap();
        let same = File::options().write(true).open(dir.path().join("same")).unwrap();
        same.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    fs::write(host.path().join("only-here"), "x").unwrap();
    let other = File::options().write(true).open(workers.path().join("other")).unwrap();
    other.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let cluster = cluster(workers.path(), host.path());
    let mut ours = cluster.hashctl();
    ours.args(["--plane", "dataset", "sum", "only-here", "other", "same"]);
    let ours = output(ours.current_dir(host.path()));
    let theirs = output(Command::new("sha256sum").arg("same").current_dir(host.path()));
    assert_eq!((text(&ours.stdout), ours.status.code()), (text(&theirs.stdout), Some(1)));
    let want = "hashctl: only-here: the workers see something else under its name (No such file or \
                directory), and it may not go to them as bytes\n\
                hashctl: other: the workers see something else under its name (changed while it was \
                read), and it may not go to them as bytes\n";
    assert_eq!(text(&ours.stderr), want);
}

#[test]
fn a_controller_takes_only_datasets_that_can_be() {
    let many: Vec<String> = (0..17).flat_map(|i| ["--dataset".into(), format!("d{i}")]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (args, code, want) in [
        (&["--dataset", "A"][..], 2, "a-z"),
        (&["--dataset", ""], 2, "name"),
        (&["--dataset", "d", "--dataset", "d"], 1, "dataset d is named twice"),
        (&many, 1, "17 datasets, at most 16 are possible"),
    ] {
        let output = output(Command::new(bin("hashcluster-controller")).args(args));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(want), "{said}");
    }
}

/// Writes `path` and makes it wait for the disk when it is read, if it is on one.
fn write_cold(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

#[test]
fn however_what_is_not_in_memory_is_read_digests_and_failures_are_the_same() {
    let dir = dir();
    let mut random = Random::new(20_261_121);
    fs::create_dir(dir.path().join("tree")).unwrap();
    nix::unistd::mkfifo(&dir.path().join("tree/fifo"), Mode::S_IRUSR).unwrap();
    symlink("0/000", dir.path().join("tree/link")).unwrap();
    let mut write_all = || {
        for i in 0..300 {
            let sub = dir.path().join(format!("tree/{}", i % 7));
            fs::create_dir_all(&sub).unwrap();
            let lens = [0, 1, 4095, 4096, 4097, 70_000, 262_144, 524_288, 524_289];
            let len = if i < 9 { lens[i] } else { random.index(9000) };
            write_cold(&sub.join(format!("{i:03}")), &random.bytes(len));
        }
    };
    for reading in ["plain", "uring"] {
        let datasets = vec![("d", dir.path().to_owned())];
        let worker_args = vec!["--reading", reading, "--io-threads", "d=1"];
        let cluster = Cluster::start(Options { datasets, worker_args, ..Options::default() });
        cluster.link_datasets();
        let name = if reading == "uring" { "io_uring" } else { reading };
        assert!(cluster.status().workers.iter().all(|worker| worker.reading == name));
        for plane in ["dataset", "descriptors"] {
            write_all();
            let mut ours = cluster.hashctl();
            ours.args(["--plane", plane, "sum", "-r", "tree"]).current_dir(dir.path());
            let ours = output(&mut ours);
            let theirs = oracle("sha256sum", dir.path(), "tree");
            assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{reading} by {plane}");
            let said = text(&ours.stderr);
            let want =
                "hashctl: tree/fifo: skipped: a FIFO\nhashctl: left out: 1 symbolic link, 1 FIFO\n";
            assert_eq!(said, want, "{reading} by {plane}");
        }
    }
}
