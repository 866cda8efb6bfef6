//! The threads that open files: their descriptors and their descriptor tables.

use crate::engine::Engine;
use crate::fake::{DESCRIPTORS, Fake, Peer};
use crate::oracle::line;
use crate::program::{Outcome, finish, hashctl, run, shell, start};
use ipc_proto::Algorithm;
use ipc_proto::message::{ClientRequest, JobId, Window};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

/// Directories of three files each, and what is printed of them.
fn tree(dirs: usize) -> (tempfile::TempDir, String) {
    let (dir, mut want) = (tempfile::tempdir().unwrap(), String::new());
    for i in 0..dirs {
        let sub = format!("./{i:04}");
        fs::create_dir(dir.path().join(&sub)).unwrap();
        for name in ["a", "b", "c"] {
            let (name, data) = (format!("{sub}/{name}"), format!("{i}{name}"));
            fs::write(dir.path().join(&name), &data).unwrap();
            want += &line(Algorithm::Sha256, data.as_bytes(), &name);
        }
    }
    (dir, want)
}

/// Runs `hashctl sum -r .` in `dir` with at most `limit` open files.
fn sum_limited(dir: &Path, limit: u32) -> Outcome {
    let fake = Engine::default().start();
    let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
    run(shell(&script, fake.socket(), &["sum", "-r", "."]).current_dir(dir))
}

/// Forbids unshare(2) to this thread and the programs that it starts.
fn forbid_unshare() {
    let allow = SeccompAction::Allow;
    let forbid = SeccompAction::Errno(libc::EPERM.try_into().unwrap());
    let rules = [(libc::SYS_unshare, vec![])].into();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, allow, forbid, arch).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

#[test]
fn running_out_of_descriptors_fails_no_file() {
    let (dir, want) = tree(60);
    let ours = sum_limited(dir.path(), 32);
    assert_eq!((ours.out(), ours.code, &*ours.stderr), (want, 0, ""));
}

#[test]
fn openers_share_one_table_where_unshare_is_forbidden() {
    let (dir, want) = tree(60);
    let outcomes = thread::spawn(move || {
        forbid_unshare();
        [32, 1024].map(|limit| sum_limited(dir.path(), limit))
    });
    for ours in outcomes.join().unwrap() {
        assert_eq!((ours.out(), ours.code, &*ours.stderr), (want.clone(), 0, ""));
    }
}

/// Takes items until there are `count`, and holds them.
fn receive(peer: &mut Peer, count: usize) {
    let mut received = 0;
    while received < count {
        let request = peer.next();
        let Some((ClientRequest::Items { items, .. }, _)) = request else { panic!("{request:?}") };
        received += items.items_len();
    }
}

#[test]
fn the_descriptor_table_does_not_grow_during_a_run() {
    let (started, pid) = mpsc::channel::<u32>();
    let fake = Fake::start(move |peer| {
        let pid = pid.recv().unwrap();
        let table_len = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let len = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
            len.unwrap().trim().to_owned()
        };
        peer.welcome(DESCRIPTORS);
        let before = table_len();
        peer.open(JobId::default(), Window { items: 4096, bytes: 1 << 20 }, 1);
        receive(peer, 3 * 400);
        (before, table_len())
    });
    let (dir, _) = tree(400);
    let child = start(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "-r", "."]));
    started.send(child.id()).unwrap();
    let (before, after) = fake.join();
    assert_eq!(before, ipc_socket::DESCRIPTOR_TABLE_LEN.to_string(), "reserved at the start");
    assert_eq!(after, before);
    assert_eq!(finish(child).code, 3, "the controller left");
}
