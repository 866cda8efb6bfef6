//! Files that are named in a dataset: their digests, and what is not opened.

use crate::controller::{Controller, DEADLINE, Peer, Worker, assign, pattern, stamp};
use engine::hash::Backend;
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::message::{Failure, FileSource, LeaseId, Stamp, Work};
use ipc_proto::{Algorithm, Blob, codec};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tempfile::TempDir;

/// `nobody` on every Linux.
const NOBODY: u32 = 65534;

/// A worker with dataset `d`.
struct Setup {
    controller: Controller,
    _worker: Worker,
    peer: Peer,
    dir: TempDir,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let controller = Controller::new();
        let dataset = format!("d={}", dir.path().join("d").display());
        let worker = Worker::start(&controller, &["--threads", "2", "--dataset", &dataset]);
        let (peer, _) = controller.welcome();
        Self { controller, _worker: worker, peer, dir }
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        self.dir.path().join("d").join(OsStr::from_bytes(name))
    }

    fn write(&self, name: &[u8], bytes: &[u8]) -> Named {
        fs::write(self.path(name), bytes).unwrap();
        named(name, stamp(&File::open(self.path(name)).unwrap()))
    }

    #[track_caller]
    fn hash(&mut self, files: &[Named]) -> (Vec<u8>, Vec<(u32, Failure)>) {
        let work = names("d", files);
        let lease = self.peer.assign(Algorithm::Sha256, work, &[]);
        self.peer.done(lease)
    }

    /// Each of these fails, alone and fast, between two files that do not.
    #[track_caller]
    fn check_refused(&mut self, cases: &[(&[u8], Failure)]) {
        let good = self.write(b"good", b"good");
        let claim = Stamp { size: 4, ..good.stamp };
        let mut files = vec![good.clone()];
        files.extend(cases.iter().map(|(name, _)| named(name, claim)));
        files.push(good);
        let want: Vec<_> = (1..).zip(cases).map(|(at, &(_, failure))| (at, failure)).collect();
        let started = Instant::now();
        assert_eq!(self.hash(&files), (digests(&[b"good", b"good"]), want));
        assert!(started.elapsed() < DEADLINE / 2, "nothing was waited for");
        for (name, failure) in cases {
            let file = named(name, claim);
            let work = part("d", &file, 0, 4);
            let lease = self.peer.assign(Algorithm::Blake3, work, &[]);
            assert_eq!(self.peer.done(lease), (vec![], vec![(0, *failure)]), "a part");
        }
    }
}

/// A file of a dataset, as its client saw it.
#[derive(Clone)]
struct Named {
    path: Vec<u8>,
    stamp: Stamp,
}

fn named(path: &[u8], stamp: Stamp) -> Named {
    Named { path: path.to_vec(), stamp }
}

fn source(dataset: &str, files: &[Named]) -> FileSource {
    let paths = files.iter().map(|file| Blob::from(&file.path[..])).collect();
    FileSource::Dataset { name: dataset.to_owned(), paths }
}

fn names(dataset: &str, files: &[Named]) -> Work {
    let items = files.iter().map(|file| file.stamp.into()).collect();
    Work::Files { source: source(dataset, files), files: items }
}

fn part(dataset: &str, file: &Named, offset: u64, len: u64) -> Work {
    let source = source(dataset, std::slice::from_ref(file));
    Work::Subtree { source, file: file.stamp.into(), offset, len }
}

fn digests(inputs: &[&[u8]]) -> Vec<u8> {
    Backend::PORTABLE.digests(Algorithm::Sha256, inputs)
}

const fn io(errno: i32) -> Failure {
    Failure::Io { errno }
}

#[test]
fn files_of_every_size_and_name_get_their_digests_in_order() {
    let mut setup = Setup::new();
    let longest = [b'x'; 255];
    let names: [&[u8]; 9] = [
        b"plain",
        b"two\nlines",
        b"back\\slash",
        b"latin-\xe9\xff",
        b"-dash",
        b"...",
        b"~ $(x)",
        b"\x01",
        &longest,
    ];
    let lens = [0, 1, 4096, 131_071, 131_072, 131_073, 200_000, 1_048_577, 7];
    let contents = lens.map(pattern);
    let files: Vec<_> =
        names.iter().zip(&contents).map(|(name, bytes)| setup.write(name, bytes)).collect();
    let want = digests(&contents.each_ref().map(Vec::as_slice));
    assert_eq!(setup.hash(&files), (want, vec![]));
    fs::create_dir_all(setup.path(b"a/\xff/c")).unwrap();
    let below = setup.write(b"a/\xff/c/d", b"below");
    assert_eq!(setup.hash(&[below]), (digests(&[b"below"]), vec![]));
}

#[test]
fn symbolic_links_are_not_followed_and_no_path_escapes() {
    let mut setup = Setup::new();
    fs::write(setup.dir.path().join("secret"), "four").unwrap();
    fs::create_dir(setup.path(b"sub")).unwrap();
    setup.write(b"sub/file", b"four");
    let secret = setup.dir.path().join("secret");
    for (link, target) in [
        ("last", Path::new("good")),
        ("dir", Path::new("sub")),
        ("up", Path::new("..")),
        ("absolute", Path::new("/")),
        ("secret", &secret),
        ("relative", Path::new("../secret")),
        ("magic", Path::new("/proc/self/root")),
        ("dangling", Path::new("nowhere")),
        ("loop", Path::new("loop")),
    ] {
        symlink(target, setup.path(link.as_bytes())).unwrap();
    }
    let mut magic = b"magic".to_vec();
    magic.extend_from_slice(secret.as_os_str().as_bytes());
    let cases: Vec<(&[u8], Failure)> = [
        &b"last"[..],
        b"dir/file",
        b"up/secret",
        b"absolute/etc/passwd",
        b"secret",
        b"relative",
        b"dangling",
        b"loop",
        &magic,
    ]
    .map(|name| (name, io(libc::ELOOP)))
    .into();
    setup.check_refused(&cases);
}

#[test]
fn a_special_or_missing_file_fails_alone_without_blocking() {
    let mut setup = Setup::new();
    mkfifo(&setup.path(b"fifo"), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(setup.path(b"socket")).unwrap();
    fs::create_dir(setup.path(b"dir")).unwrap();
    let too_long = [b'x'; 256];
    setup.check_refused(&[
        (b"fifo", Failure::NotRegular),
        (b"socket", Failure::NotRegular),
        (b"dir", io(libc::EISDIR)),
        (b"missing", io(libc::ENOENT)),
        (b"dir/missing", io(libc::ENOENT)),
        (b"good/below", io(libc::ENOTDIR)),
        (&too_long, io(libc::ENAMETOOLONG)),
    ]);
}

/// The whole of `/dev` as a dataset, and files without a size.
#[test]
fn devices_have_no_digest_and_files_of_procfs_have_one() {
    let controller = Controller::new();
    let options = ["--dataset", "dev=/dev", "--dataset", "proc=/proc"];
    let _worker = Worker::start(&controller, &options);
    let (mut peer, _) = controller.welcome();
    for (dataset, path, failure) in [
        ("dev", "zero", Failure::NotRegular),
        ("dev", "null", Failure::NotRegular),
        ("dev", "full", Failure::NotRegular),
        ("proc", "self/version", io(libc::ELOOP)),
        ("other", "version", Failure::UnknownDataset),
    ] {
        let files = vec![named(path.as_bytes(), Stamp::default())];
        let work = names(dataset, &files);
        let lease = peer.assign(Algorithm::Sha256, work, &[]);
        assert_eq!(peer.done(lease), (vec![], vec![(0, failure)]), "{dataset}/{path}");
    }
    let files = vec![named(b"version", stamp(&File::open("/proc/version").unwrap()))];
    let work = names("proc", &files);
    let lease = peer.assign(Algorithm::Sha256, work, &[]);
    let want = digests(&[&fs::read("/proc/version").unwrap()]);
    assert_eq!(peer.done(lease), (want, vec![]));
}

#[test]
fn a_replaced_file_is_reported_as_changed() {
    let mut setup = Setup::new();
    for len in [5, 300_000] {
        let file = setup.write(b"f", &pattern(len));
        let path = setup.path(b"f");
        let other_ctime = Stamp { ctime_ns: 1, ..file.stamp };
        let want = digests(&[&pattern(len)]);
        assert_eq!(setup.hash(&[named(b"f", other_ctime)]), (want, vec![]), "as of a snapshot");
        let changed = (vec![], vec![(0, Failure::Changed)]);
        for stamp in [
            Stamp { size: file.stamp.size + 1, ..file.stamp },
            Stamp { size: 0, ..file.stamp },
            Stamp { size: u64::MAX, ..file.stamp },
            Stamp { mtime_ns: file.stamp.mtime_ns + 1, ..file.stamp },
            Stamp { ctime_ns: i64::MAX, mtime_ns: 0, ..file.stamp },
        ] {
            assert_eq!(setup.hash(&[named(b"f", stamp)]), changed, "{stamp:?}");
        }
        fs::write(setup.path(b"new"), pattern(len)).unwrap();
        let new = File::options().write(true).open(setup.path(b"new")).unwrap();
        new.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        fs::rename(setup.path(b"new"), &path).unwrap();
        assert_eq!(setup.hash(&[file]), changed, "replaced by an older one with the same content");
    }
}

#[test]
fn a_subtree_of_a_named_file_has_its_chaining_value() {
    let mut setup = Setup::new();
    let bytes = pattern((1 << 20) + 4097);
    let file = setup.write(b"large", &bytes);
    let mut values = Vec::new();
    for (offset, len) in [(0, 1 << 20), (1 << 20, 4097)] {
        let lease = setup.peer.assign(Algorithm::Blake3, part("d", &file, offset, len), &[]);
        values.extend(setup.peer.done(lease).0);
    }
    let want = *blake3::hash(&bytes).as_bytes();
    assert_eq!(engine::hash::merge(&values, true), Some(want), "as of passed files");
    let lease = setup.peer.assign(Algorithm::Blake3, part("e", &file, 0, 1 << 20), &[]);
    assert_eq!(setup.peer.done(lease), (vec![], vec![(0, Failure::UnknownDataset)]));
}

/// A frame that names `path`, which the sending side would refuse: the same with a path of one
/// byte, and the bytes put in its place.
fn frame_with(path: &[u8], stamp: Stamp) -> Vec<u8> {
    let work = names("d", &[named(b"P", stamp)]);
    let mut frame = Vec::new();
    let request = assign(LeaseId { epoch: 1, number: 99 }, 1, Algorithm::Sha256, work);
    codec::encode_frame(&request, &mut frame).unwrap();
    let at = frame.iter().position(|&byte| byte == b'P').unwrap();
    frame[at - 1] = u8::try_from(path.len()).unwrap();
    frame.splice(at..=at, path.iter().copied());
    let body_len = u32::try_from(frame.len() - PREFIX_LEN).unwrap();
    frame[..PREFIX_LEN].copy_from_slice(&body_len.to_le_bytes());
    frame
}

/// The check of the protocol comes before any file system: the worker hangs up.
#[test]
fn an_invalid_path_ends_the_connection() {
    for path in [&b"../d/good"[..], b"/etc/passwd", b"a//b", b"./a", b"a/..", b"", b"a\0b"] {
        let mut setup = Setup::new();
        let good = setup.write(b"good", b"good");
        setup.peer.send_raw(&frame_with(path, good.stamp), &[]);
        setup.peer.closed();
        let (peer, _) = setup.controller.welcome();
        setup.peer = peer;
        assert_eq!(setup.hash(&[good]), (digests(&[b"good"]), vec![]), "and comes back");
    }
}

/// Root may read everything, so the worker becomes somebody else first.
#[test]
fn an_unreadable_file_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::new();
    let open = fs::Permissions::from_mode(0o777);
    for path in [dir.path(), controller.dir.path(), &controller.dir.path().join("worker.sock")] {
        fs::set_permissions(path, open.clone()).unwrap();
    }
    let copy = dir.path().join("worker");
    // By another process, as in `command_line`.
    let binary = test_kit::program("hashcluster-worker");
    assert!(Command::new("cp").arg(binary).arg(&copy).status().unwrap().success());
    fs::write(dir.path().join("closed"), "four").unwrap();
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = Command::new(&copy);
    if geteuid().is_root() {
        command.uid(NOBODY);
    }
    let dataset = format!("d={}", dir.path().display());
    let options = ["--threads", "1", "--dataset", &dataset];
    let _worker = Worker::start_as(command, controller.dir.path(), &options);
    let (mut peer, _) = controller.welcome();
    let files = vec![named(b"closed", Stamp::default())];
    let work = names("d", &files);
    let lease = peer.assign(Algorithm::Sha256, work, &[]);
    assert_eq!(peer.done(lease), (vec![], vec![(0, io(libc::EACCES))]));
}

#[test]
fn a_missing_dataset_prevents_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let at = |name: &str| format!("d={}", dir.path().join(name).display());
    let root = at(".");
    for (options, code, text) in [
        (vec!["--dataset", "d"], 2, "NAME=DIR"),
        (vec!["--dataset", "D=/"], 2, "a-z"),
        (vec!["--dataset", &at("missing")], 1, "missing: No such file or directory"),
        (vec!["--dataset", &at("file")], 1, "file: Not a directory"),
        (vec!["--dataset", &root, "--dataset", &root], 1, "dataset d is named twice"),
    ] {
        let binary = test_kit::program("hashcluster-worker");
        let output = Command::new(binary).args(&options).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{options:?}: {stderr}");
        assert!(stderr.contains(text), "{options:?}: {stderr}");
    }
}

#[test]
fn a_worker_announces_its_datasets() {
    let controller = Controller::new();
    let options = ["--dataset", "b=/", "--dataset", "a-1=/dev"];
    let _worker = Worker::start(&controller, &options);
    let intro = controller.accept().hello();
    assert_eq!(intro.planes.datasets, ["a-1", "b"]);
}
