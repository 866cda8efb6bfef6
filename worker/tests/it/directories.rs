//! Pages of directories of a dataset: what they show, and what is not listed.

use crate::controller::{Controller, Peer, Worker, assign};
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::message::{
    DirEntry, EntryKind, Failure, LeaseId, ListOutcome, ListWork, Stamp, Work, WorkerReply,
    WorkerRequest,
};
use ipc_proto::{Algorithm, Blob, codec};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// `nobody` on every Linux.
const NOBODY: u32 = 65534;

fn work(dataset: &str, dir: &[u8], after: &[u8], entries_max: u16) -> ListWork {
    let dataset = dataset.to_owned();
    ListWork { dataset, dir: dir.into(), after: after.into(), entries_max, claims: None }
}

#[track_caller]
fn list(peer: &mut Peer, work: &ListWork) -> ListOutcome {
    let lease = peer.assign(Algorithm::Sha256, Work::List(work.clone()), &[]);
    let reply = peer.reply();
    let WorkerReply::Listed { lease: of, attempt: 1, credit: 1, outcome, .. } = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(of, lease);
    assert!(outcome.fits(work), "{outcome:?}");
    outcome
}

#[track_caller]
fn page(peer: &mut Peer, work: &ListWork) -> (Vec<DirEntry>, bool) {
    match list(peer, work) {
        ListOutcome::Page { entries, more } => (entries, more),
        other @ (ListOutcome::Failed { .. } | ListOutcome::Claims { .. }) => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_failed(peer: &mut Peer, dataset: &str, dir: &[u8], errno: i32) {
    let failure = Failure::Io { errno };
    let outcome = list(peer, &work(dataset, dir, b"", 9));
    assert_eq!(outcome, ListOutcome::Failed { failure }, "{:?}", dir.escape_ascii().to_string());
}

/// The entry of a path as std shows it.
fn seen(path: &Path, name: &[u8], kind: EntryKind) -> DirEntry {
    let metadata = fs::symlink_metadata(path.join(OsStr::from_bytes(name))).unwrap();
    let time = |s: i64, ns: i64| s * 1_000_000_000 + ns;
    let stamp = Stamp {
        size: metadata.size(),
        mtime_ns: time(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: time(metadata.ctime(), metadata.ctime_nsec()),
    };
    DirEntry { name: name.into(), kind, stamp, inode: metadata.ino(), device: metadata.dev() }
}

#[test]
fn entries_of_every_kind_and_name_are_listed_in_the_order_of_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
    let longest = [b'x'; 255];
    fs::create_dir(path(b"a")).unwrap();
    fs::write(path(b"a/below"), "not of this directory").unwrap();
    for name in [&b"a.txt"[..], b"-dash", b"two\nlines", b"latin-\xe9\xff", b"...", &longest] {
        fs::write(path(name), "some bytes").unwrap();
    }
    symlink("a", path(b"to a directory")).unwrap();
    symlink("/etc/passwd", path(b"to a file")).unwrap();
    symlink("nowhere", path(b"to nothing")).unwrap();
    mkfifo(&path(b"fifo"), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(path(b"socket")).unwrap();
    let want: Vec<DirEntry> = [
        (&b"-dash"[..], EntryKind::File),
        (b"...", EntryKind::File),
        (b"a", EntryKind::Directory),
        (b"a.txt", EntryKind::File),
        (b"fifo", EntryKind::Fifo),
        (b"latin-\xe9\xff", EntryKind::File),
        (b"socket", EntryKind::Socket),
        (b"to a directory", EntryKind::Symlink),
        (b"to a file", EntryKind::Symlink),
        (b"to nothing", EntryKind::Symlink),
        (b"two\nlines", EntryKind::File),
        (&longest, EntryKind::File),
    ]
    .map(|(name, kind)| seen(dir.path(), name, kind))
    .into();
    let controller = Controller::new();
    let dataset = format!("d={}", dir.path().display());
    let _worker = Worker::start(&controller, &["--threads", "2", "--dataset", &dataset]);
    let (mut peer, _) = controller.welcome();
    for entries_max in [1, 5, 12, 4096] {
        let mut all: Vec<DirEntry> = Vec::new();
        loop {
            let after = all.last().map_or(Blob::default(), |entry| entry.name.clone());
            let (entries, more) = page(&mut peer, &work("d", b"", &after, entries_max));
            all.extend(entries);
            if !more {
                break;
            }
        }
        assert_eq!(all, want, "pages of {entries_max}");
    }
    let below = seen(&path(b"a"), b"below", EntryKind::File);
    assert_eq!(page(&mut peer, &work("d", b"a", b"", 9)), (vec![below], false));
    assert_eq!(page(&mut peer, &work("d", b"a", b"c", 9)), (vec![], false));
}

#[test]
fn a_directory_that_is_none_or_leads_elsewhere_is_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join("d").join(name);
    fs::create_dir_all(at("sub/sub")).unwrap();
    File::create(at("file")).unwrap();
    mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    for (link, target) in [("up", ".."), ("root", "/"), ("link", "sub"), ("loop", "loop")] {
        symlink(target, at(link)).unwrap();
    }
    symlink("/proc/self/root", at("magic")).unwrap();
    let controller = Controller::new();
    let dataset = format!("d={}", at("").display());
    let _worker = Worker::start(&controller, &["--threads", "1", "--dataset", &dataset]);
    let (mut peer, _) = controller.welcome();
    for (path, errno) in [
        ("missing", libc::ENOENT),
        ("sub/missing", libc::ENOENT),
        ("file", libc::ENOTDIR),
        ("file/below", libc::ENOTDIR),
        ("fifo", libc::ENOTDIR),
        ("up", libc::ELOOP),
        ("root", libc::ELOOP),
        ("root/etc", libc::ELOOP),
        ("link", libc::ELOOP),
        ("link/sub", libc::ELOOP),
        ("loop", libc::ELOOP),
        ("magic", libc::ELOOP),
    ] {
        check_failed(&mut peer, "d", path.as_bytes(), errno);
    }
    let unknown = ListOutcome::Failed { failure: Failure::UnknownDataset };
    assert_eq!(list(&mut peer, &work("e", b"", b"", 9)), unknown);
    fs::remove_dir(at("sub/sub")).unwrap();
    check_failed(&mut peer, "d", b"sub/sub", libc::ENOENT);
}

/// `/dev`, below which file systems are mounted on most hosts.
#[test]
fn a_mount_point_shows_the_file_system_that_is_mounted_there() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "1", "--dataset", "dev=/dev"]);
    let (mut peer, _) = controller.welcome();
    let (entries, more) = page(&mut peer, &work("dev", b"", b"", 4096));
    assert!(!more);
    let null = entries.iter().find(|entry| *entry.name == *b"null").expect("it is everywhere");
    assert_eq!(null.kind, EntryKind::CharDevice);
    let device_of = |path: &Path| fs::symlink_metadata(path).ok().map(|metadata| metadata.dev());
    let root = device_of(Path::new("/dev")).unwrap();
    let mut mounts = 0;
    for DirEntry { name, kind, device, .. } in &entries {
        let path = Path::new("/dev").join(OsStr::from_bytes(name));
        let Some(want) = device_of(&path).filter(|_| *kind == EntryKind::Directory) else {
            continue;
        };
        assert_eq!(*device, want, "{}", path.display());
        mounts += u32::from(want != root);
    }
    assert!(mounts > 0, "no file system is mounted in /dev: {entries:?}");
}

/// A frame with a path that the sending side would refuse, put in the place of one of one byte.
fn frame_with(path: &[u8], is_after: bool) -> Vec<u8> {
    let (dir, after) = if is_after { (&b""[..], &b"P"[..]) } else { (&b"P"[..], &b""[..]) };
    let work = Work::List(work("d", dir, after, 1));
    let request = assign(LeaseId { epoch: 1, number: 99 }, 1, Algorithm::Sha256, work);
    let mut frame = Vec::new();
    codec::encode_frame(&request, &mut frame).unwrap();
    let at = frame.iter().rposition(|&byte| byte == b'P').unwrap();
    frame[at - 1] = u8::try_from(path.len()).unwrap();
    frame.splice(at..=at, path.iter().copied());
    let body_len = u32::try_from(frame.len() - PREFIX_LEN).unwrap();
    frame[..PREFIX_LEN].copy_from_slice(&body_len.to_le_bytes());
    frame
}

/// The check of the protocol comes before any file system: the worker hangs up.
#[test]
fn an_invalid_directory_ends_the_connection() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "1", "--dataset", "d=/usr"]);
    for (path, is_after) in
        [(&b".."[..], false), (b"/etc", false), (b"a/..", false), (b".", false), (b"a/b", true)]
    {
        let (mut peer, _) = controller.welcome();
        peer.send_raw(&frame_with(path, is_after), &[]);
        peer.closed();
    }
    let (mut peer, _) = controller.welcome();
    assert!(!page(&mut peer, &work("d", b"", b"", 9)).0.is_empty(), "and comes back");
}

/// Root may read everything, so the worker becomes somebody else first.
#[test]
fn a_directory_without_rights_is_not_listed_and_one_without_search_shows_names_alone() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::new();
    for path in [dir.path(), controller.dir.path(), &controller.dir.path().join("worker.sock")] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let copy = dir.path().join("worker");
    let binary = test_kit::program("hashcluster-worker");
    assert!(Command::new("cp").arg(binary).arg(&copy).status().unwrap().success());
    for (name, mode) in [("closed", 0o000), ("names", 0o444)] {
        fs::create_dir(dir.path().join(name)).unwrap();
        File::create(dir.path().join(name).join("file")).unwrap();
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(&copy);
    if geteuid().is_root() {
        command.uid(NOBODY);
    }
    let dataset = format!("d={}", dir.path().display());
    let options = ["--threads", "1", "--dataset", &dataset];
    let _worker = Worker::start_as(command, controller.dir.path(), &options);
    let (mut peer, _) = controller.welcome();
    check_failed(&mut peer, "d", b"closed", libc::EACCES);
    let kind = EntryKind::Unknown { errno: libc::EACCES };
    let file =
        DirEntry { name: b"file"[..].into(), kind, stamp: Stamp::default(), inode: 0, device: 0 };
    assert_eq!(page(&mut peer, &work("d", b"names", b"", 9)), (vec![file], false));
    for name in ["closed", "names"] {
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_revoked_list_is_not_answered_and_its_credit_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::new();
    let dataset = format!("d={}", dir.path().display());
    let _worker = Worker::start(&controller, &["--threads", "1", "--dataset", &dataset]);
    let (mut peer, _) = controller.welcome();
    let lease = peer.assign(Algorithm::Sha256, Work::List(work("d", b"", b"", 1)), &[]);
    peer.send(&WorkerRequest::Revoke { leases: vec![lease] }, &[]);
    // It was done before, or is dropped.
    let reply = peer.reply();
    if let WorkerReply::Listed { lease: of, credit: 1, .. } = reply {
        assert_eq!(of, lease);
    } else {
        assert_eq!(reply, WorkerReply::Credit { batches: 1 });
    }
    assert_eq!(page(&mut peer, &work("d", b"", b"", 1)), (vec![], false));
}
