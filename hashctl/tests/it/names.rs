//! Files that go by name: which do, what is sent of them, and what is reported.

use crate::engine::Engine;
use crate::fake::{Fake, INLINE};
use crate::oracle::line;
use crate::program::{hashctl, hashctl_alone, run, tool};
use ipc_proto::Algorithm;
use ipc_proto::message::{Failure, Planes, Window};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use test_kit::Random;

/// `data`, which is dataset `d`, and its sibling `out`.
struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["data", "out"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn engine(&self) -> Engine {
        let planes = Planes { datasets: vec!["d".to_owned()], ..INLINE };
        Engine { planes, root: self.path("data"), ..Engine::default() }
    }

    /// `hashctl` in our directory; the runtime directory is that of `fake`, where `data` is linked.
    fn hashctl<T: Send + 'static>(&self, fake: &Fake<T>) -> Command {
        let dir = fake.socket().parent().unwrap();
        fs::create_dir(dir.join("datasets")).unwrap();
        symlink(self.path("data"), dir.join("datasets/d")).unwrap();
        let mut command = hashctl_alone();
        command.env("HASHCLUSTER_RUNTIME_DIR", dir).current_dir(self.dir.path());
        command
    }
}

#[test]
fn files_in_a_dataset_go_by_name_and_the_others_inline() {
    let host = Host::new();
    let hostile: [&[u8]; 4] = [b"two\nlines", b"back\\slash", b"-dash", b"latin-\xe9\xff"];
    for name in hostile {
        fs::write(host.path("data").join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(host.path("out/file"), "out").unwrap();
    symlink(host.path("data/-dash"), host.path("out/link")).unwrap();
    for shuffle in [None, Some(Random::new(7))] {
        let fake = Engine { shuffle, ..host.engine() }.start();
        let mut ours = host.hashctl(&fake);
        ours.args(["-v", "sum", "-r", "data", "out/file", "out/link"]);
        let ours = run(&mut ours);
        let script = "find data -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; \
                      sha256sum out/file out/link";
        let theirs = run(tool("sh", host.dir.path()).args(["-c", script]));
        assert_eq!((ours.out(), ours.code), (theirs.out(), 0), "{}", ours.stderr);
        assert_eq!(ours.stdout, theirs.stdout);
        assert!(ours.stderr.contains("; files go by name in dataset d, or inline\n"));
        let sent = "sent 5 files by name in dataset d, 1 file inline\n";
        assert!(ours.stderr.contains(sent), "{}", ours.stderr);
        let report = fake.join();
        assert_eq!((report.names, report.messages, report.files), (5, 1, 0));
    }
}

#[test]
fn a_controller_that_is_named_by_its_socket_gets_no_names() {
    let host = Host::new();
    fs::write(host.path("data/f"), "x").unwrap();
    let fake = host.engine().start();
    drop(host.hashctl(&fake));
    let ours = run(hashctl(fake.socket()).current_dir(&host.dir).args(["sum", "data/f"]));
    assert_eq!((ours.out(), ours.code), (line(Algorithm::Sha256, b"x", "data/f"), 0));
    assert_eq!(fake.join().names, 0, "the links may be those of another controller");
}

#[test]
fn one_plane_can_be_forced() {
    let host = Host::new();
    for file in ["data/f", "out/f"] {
        fs::write(host.path(file), "x").unwrap();
    }
    let all = Planes { descriptors: true, inline: true, datasets: vec!["d".to_owned()] };
    for (plane, files, names, messages) in
        [("auto", 2, 0, 0), ("descriptors", 2, 0, 0), ("dataset", 0, 1, 0), ("inline", 0, 0, 2)]
    {
        let fake = Engine { planes: all.clone(), ..host.engine() }.start();
        let mut ours = host.hashctl(&fake);
        let ours = run(ours.args(["--plane", plane, "sum", "data/f", "out/f"]));
        let report = fake.join();
        assert_eq!((report.files, report.names, report.messages), (files, names, messages));
        if plane == "dataset" {
            let want = "hashctl: out/f: in no dataset that this host and the controller have in \
                        common\n";
            assert_eq!((ours.code, &*ours.stderr), (1, want));
        } else {
            assert_eq!((ours.code, &*ours.stderr), (0, ""), "{plane}");
        }
    }
    let fake = Fake::start(|peer| peer.welcome(INLINE));
    let ours = run(host.hashctl(&fake).args(["--plane", "dataset", "sum", "data/f"]));
    let want = "hashctl: this host and the controller have no dataset in common\n";
    assert_eq!((ours.code, &*ours.stderr), (3, want));
}

/// The dataset's directory was replaced, or something was mounted in it, after the workers started.
#[test]
fn files_that_the_workers_do_not_see_go_as_bytes() {
    let host = Host::new();
    let stale = host.path("stale");
    fs::create_dir(&stale).unwrap();
    for name in ["data/longer", "stale/same", "data/same"] {
        fs::write(host.path(name), "some content").unwrap();
    }
    fs::write(stale.join("longer"), "some").unwrap();
    fs::create_dir(host.path("data/new")).unwrap();
    for i in 0..300 {
        fs::write(host.path(&format!("data/new/{i}")), i.to_string()).unwrap();
    }
    fs::write(host.path("data/large"), vec![7; 200_000]).unwrap();
    symlink("new/1", host.path("data/link")).unwrap();
    let theirs = run(tool("sh", host.dir.path()).args([
        "-c",
        "find data -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; sha256sum data/link",
    ]));
    for shuffle in [None, Some(Random::new(7))] {
        let window = Window { items: 40, bytes: 1 << 20 };
        let fake = Engine { shuffle, window, root: stale.clone(), ..host.engine() }.start();
        let mut ours = host.hashctl(&fake);
        let ours = run(ours.args(["-v", "sum", "-r", "data", "data/link"]));
        assert_eq!((ours.out(), ours.code), (theirs.out(), 0), "{}", ours.stderr);
        let said = " differently (No such file or directory)\n";
        assert_eq!(ours.stderr.matches(said).count(), 1, "{}", ours.stderr);
        let said = "303 files that the workers see differently went inline after all\n";
        assert!(ours.stderr.contains(said), "{}", ours.stderr);
        assert_eq!(fake.join().names, 304);
    }
    let no_bytes = Planes { inline: false, ..host.engine().planes };
    for (plane, planes) in [("auto", no_bytes), ("dataset", host.engine().planes)] {
        let fake = Engine { planes, root: stale.clone(), ..host.engine() }.start();
        let mut ours = host.hashctl(&fake);
        let ours = run(ours.args(["--plane", plane, "sum", "data/longer", "data/large"]));
        let want = "hashctl: data/longer: the workers see something else under its name (changed while \
                    it was read), and it may not go to them as bytes\n\
                    hashctl: data/large: the workers see something else under its name (No such file or \
                    directory), and it may not go to them as bytes\n";
        assert_eq!((ours.code, &*ours.stderr), (1, want), "{plane}");
    }
}

#[test]
fn small_files_of_a_live_dataset_go_as_bytes() {
    let host = Host::new();
    for (name, len) in [("large", 16_385), ("small", 16_384)] {
        fs::write(host.path("data").join(name), vec![1; len]).unwrap();
    }
    let fake = host.engine().start();
    let mut ours = host.hashctl(&fake);
    fs::write(fake.socket().with_file_name("datasets/.live"), "d\n").unwrap();
    let ours = run(ours.args(["-v", "sum", "data/large", "data/small", "-r", "data"]));
    assert_eq!(ours.code, 0, "{}", ours.stderr);
    let said = "files go by name in dataset d (live: from 16.0 KiB on), or inline\n";
    assert!(ours.stderr.contains(said), "{}", ours.stderr);
    let report = fake.join();
    assert_eq!((report.names, report.messages), (2, 2));
}

#[test]
fn long_paths_wait_for_the_window_and_go_in_several_frames() {
    let host = Host::new();
    let deep = format!("data/{0}/{0}/{0}", "d".repeat(255));
    fs::create_dir_all(host.path(&deep)).unwrap();
    let mut want = String::new();
    for i in 0..300 {
        let name = format!("{deep}/{i:03}{}", "n".repeat(252));
        fs::write(host.path(&name), "x").unwrap();
        want.push_str(&line(Algorithm::Sha256, b"x", &name));
    }
    for window in [Window { items: 4096, bytes: 8 << 20 }, Window { items: 500, bytes: 1500 }] {
        let fake = Engine { window, ..host.engine() }.start();
        let ours = run(host.hashctl(&fake).args(["sum", "-r", "data"]));
        assert_eq!((ours.out() == want, ours.code, &*ours.stderr), (true, 0, ""));
        let report = fake.join();
        assert_eq!(report.names, 300);
        let one_by_one = window.bytes < 2 * 1023;
        assert_eq!(report.unresolved_max == 1, one_by_one, "{}", report.unresolved_max);
    }
}

#[test]
fn a_file_no_worker_finds_is_reported_and_the_run_continues() {
    let host = Host::new();
    for (file, content) in
        [("a", "gone"), ("b", "changed"), ("c", "unknown"), ("d", "good"), ("e", "deadly")]
    {
        fs::write(host.path("data").join(file), content).unwrap();
    }
    let fail = |data: &[u8]| match data {
        b"gone" => Some(Failure::Io { errno: libc::ENOENT }),
        b"changed" => Some(Failure::Changed),
        b"unknown" => Some(Failure::UnknownDataset),
        b"deadly" => Some(Failure::WorkersLost { attempts: 3 }),
        _ => None,
    };
    let fake = Engine { fail, ..host.engine() }.start();
    let ours = run(host.hashctl(&fake).args(["--plane", "dataset", "sum", "-r", "data"]));
    assert_eq!((ours.out(), ours.code), (line(Algorithm::Sha256, b"good", "data/d"), 1));
    let want = [
        "No such file or directory",
        "changed while it was read",
        "does not know the dataset",
        "lost 3 workers",
    ];
    assert_eq!(ours.stderr.lines().count(), want.len(), "{}", ours.stderr);
    for (line, want) in ours.stderr.lines().zip(want) {
        assert!(line.contains(want), "{line}");
    }
    drop(fake);
    // What killed workers is not sent to them once more.
    let fake = Engine { fail, ..host.engine() }.start();
    let ours = run(host.hashctl(&fake).args(["sum", "-r", "data"]));
    assert_eq!((ours.out().lines().count(), ours.code), (4, 1));
    assert!(ours.stderr.contains("data/e: lost 3 workers"), "{}", ours.stderr);
    assert_eq!(fake.join().messages, 3);
}

/// From the second name in a directory on, files are looked at there and not opened.
#[test]
fn regular_files_are_told_apart_from_special_and_unreadable_ones() {
    let host = Host::new();
    for (file, content) in
        [("data/a", "1"), ("data/b", "22"), ("data/locked", "333"), ("out/x", "4")]
    {
        fs::write(host.path(file), content).unwrap();
    }
    fs::set_permissions(host.path("data/locked"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(host.path("data/sub")).unwrap();
    symlink(host.path("out/x"), host.path("data/link")).unwrap();
    symlink(host.path("data"), host.path("out/up")).unwrap();
    nix::unistd::mkfifo(&host.path("data/fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let files = ["data/a", "data/b", "data/locked", "data/link", "data/a", "out/up/a", "out/up/b"];
    let theirs = run(tool("sha256sum", host.dir.path()).args(files));
    let may_read = theirs.code == 0;
    let fake = host.engine().start();
    let mut ours = host.hashctl(&fake);
    let others = ["data/fifo", "data/sub", "data/missing"];
    let ours = run(ours.arg("sum").args(files).args(others));
    assert_eq!((ours.out(), ours.code), (theirs.out(), 1), "{}", ours.stderr);
    let locked = if may_read { "" } else { "hashctl: data/locked: Permission denied\n" };
    let want = format!(
        "{locked}hashctl: data/fifo: skipped: a FIFO\nhashctl: data/sub: Is a directory\n\
         hashctl: data/missing: No such file or directory\n"
    );
    assert_eq!(ours.stderr, want);
    let report = fake.join();
    assert_eq!((report.names, report.messages), (5 + u64::from(may_read), 1));

    let fake = host.engine().start();
    fs::write(host.path("manifest"), &theirs.stdout).unwrap();
    let ours = run(host.hashctl(&fake).args(["check", "manifest"]));
    let theirs = run(tool("sha256sum", host.dir.path()).args(["-c", "manifest"]));
    assert_eq!((ours.out(), ours.code), (theirs.out(), theirs.code), "{}", ours.stderr);
    assert_eq!(fake.join().messages, 1);
}
