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
    for (file, content) in [("a", "gone"), ("b", "changed"), ("c", "unknown"), ("d", "good")] {
        fs::write(host.path("data").join(file), content).unwrap();
    }
    let fail = |data: &[u8]| match data {
        b"gone" => Some(Failure::Io { errno: libc::ENOENT }),
        b"changed" => Some(Failure::Changed),
        b"unknown" => Some(Failure::UnknownDataset),
        _ => None,
    };
    let fake = Engine { fail, ..host.engine() }.start();
    let ours = run(host.hashctl(&fake).args(["sum", "-r", "data"]));
    assert_eq!((ours.out(), ours.code), (line(Algorithm::Sha256, b"good", "data/d"), 1));
    let want = "hashctl: data/a: No such file or directory\n\
                hashctl: data/b: changed while it was read\n\
                hashctl: data/c: the controller does not know the dataset that it is in\n";
    assert_eq!(ours.stderr, want);
    drop(fake);
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
