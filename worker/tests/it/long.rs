//! Long files: two interleaved, and what stays of them in the page cache.

use crate::controller::{
    Controller, Peer, Worker, endless, file, pattern, read_only, stamp, subtree,
};
use engine::hash::Backend;
use ipc_proto::Algorithm;
use ipc_proto::message::{Failure, FileSource, LeaseId, Stamp, Work, WorkerReply, WorkerRequest};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    Backend::PORTABLE.digests(algorithm, &[bytes])
}

/// The backends that interleave messages, each with two algorithms that it serves.
fn interleaving() -> impl Iterator<Item = (Backend, [Algorithm; 2])> {
    let pairs = [[Algorithm::Sha256, Algorithm::Sha224], [Algorithm::Sha512, Algorithm::Sha384]];
    Backend::available().iter().filter(|backend| backend.preferred_batch() > 1).flat_map(
        move |&backend| {
            let is_served = move |pair: &[Algorithm; 2]| pair.iter().all(|&a| backend.serves(a));
            pairs.into_iter().filter(is_served).map(move |pair| (backend, pair))
        },
    )
}

/// By each backend that does it, and not by the fastest of this moment, which may be another.
#[test]
fn a_thread_interleaves_two_long_files_and_answers_each() {
    for (backend, algorithms) in interleaving() {
        let controller = Controller::new();
        let options = ["--threads", "1", "--report-every", "4294967296"];
        let options = [&options[..], &["--backend", backend.name()]].concat();
        let worker = Worker::start(&controller, &options);
        let (mut peer, _) = controller.welcome();
        let before = worker.open_descriptors();
        let (days, bytes) = (endless(), pattern(6_000_001));
        let long = read_only(&file(&bytes));
        let first = peer.assign_files(algorithms[0], &[(stamp(&days), &days)]);
        for algorithm in algorithms {
            let second = peer.assign_files(algorithm, &[(stamp(&long), &long)]);
            assert_eq!(
                peer.done(second),
                (digest(algorithm, &bytes), vec![]),
                "interleaved with days of work by {}",
                backend.name()
            );
        }
        let other = peer.assign_files(algorithms[0], &[(stamp(&days), &days)]);
        peer.send(&WorkerRequest::Revoke { leases: vec![other] }, &[]);
        assert_eq!(peer.credit(), 1);
        let second = peer.assign_files(algorithms[0], &[(stamp(&long), &long)]);
        assert_eq!(peer.done(second).0, digest(algorithms[0], &bytes), "its place is free");
        peer.send(&WorkerRequest::Revoke { leases: vec![first] }, &[]);
        assert_eq!(peer.credit(), 1);
        worker.awaits_open_descriptors(before);
    }
}

/// The next checkpoint that is reported.
fn point(peer: &mut Peer) -> (LeaseId, Stamp, u64, ipc_proto::Blob) {
    let reply = peer.reply();
    let WorkerReply::Progress { lease, attempt: 1, file, offset, state } = reply else {
        panic!("progress, not {reply:?}");
    };
    (lease, file, offset, state)
}

#[test]
fn another_worker_resumes_a_killed_workers_file_from_its_checkpoint() {
    let controller = Controller::new();
    let options = ["--threads", "1", "--report-every", "1048576"];
    let mut worker = Worker::start(&controller, &options);
    let (mut peer, _) = controller.welcome();
    let bytes = pattern(9 << 20);
    let path = controller.dir.path().join("long");
    fs::write(&path, &bytes).unwrap();
    // Nobody can write to it: what was read of it counts.
    let source = File::open(path).unwrap();
    let lease = peer.assign_files(Algorithm::Sha512, &[(stamp(&source), &source)]);
    point(&mut peer);
    let (told_of, file, offset, state) = point(&mut peer);
    assert_eq!((told_of, file, offset), (lease, stamp(&source), 2 << 20));
    worker.kill();
    drop(worker);
    let _worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    let work = Work::Resume { source: FileSource::Descriptors, file: file.into(), offset, state };
    let lease = peer.assign(Algorithm::Sha512, work, &[source.as_fd()]);
    assert_eq!(peer.done(lease), (digest(Algorithm::Sha512, &bytes), vec![]));
}

/// Bytes of the file that are in memory, as the installed tool says.
fn resident_len(path: &Path) -> u64 {
    let mut fincore = Command::new("fincore");
    let output = fincore.args(["--bytes", "--noheadings", "--output", "RES"]).arg(path).output();
    let output = output.expect("fincore of util-linux");
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("a number of bytes")
}

/// Returns true if the system reports which pages of a file are cached: cachestat(2), Linux 6.5.
/// Without it a file of this size is left alone.
fn knows_what_is_cached() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(5))
}

#[test]
fn drop_behind_evicts_a_large_file_behind_the_reader() {
    const LEN: usize = 64 << 20;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("large");
    let bytes = pattern(LEN);
    fs::write(&path, &bytes).unwrap();
    let source = File::open(&path).unwrap();
    source.sync_all().unwrap();
    let knows = knows_what_is_cached();
    for (options, algorithm, work, is_kept) in [
        (&["--drop-behind"][..], Algorithm::Sha256, None, !knows),
        (&["--drop-behind"], Algorithm::Blake3, None, !knows),
        (&["--drop-behind"], Algorithm::Blake3, Some(LEN as u64), !knows),
        (&[], Algorithm::Sha256, None, true),
    ] {
        nix::fcntl::posix_fadvise(
            &source,
            0,
            0,
            nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )
        .unwrap();
        assert_eq!(resident_len(&path), 0, "the page cache lets go of it");
        let controller = Controller::new();
        let _worker = Worker::start(&controller, options);
        let (mut peer, _) = controller.welcome();
        let file = stamp(&source);
        let work = match work {
            Some(len) => subtree(file, 0, len),
            None => Work::Files { source: FileSource::Descriptors, files: vec![file.into()] },
        };
        let what = format!("{algorithm}, {work:?}, {options:?}");
        let is_whole = matches!(work, Work::Files { .. });
        let lease = peer.assign(algorithm, work, &[source.as_fd()]);
        let (got, failures) = peer.done(lease);
        assert_eq!((got.len(), failures), (32, vec![]), "{what}");
        assert!(!is_whole || got == digest(algorithm, &bytes), "{what}");
        // The system may take a little of it at any time.
        let resident_len = resident_len(&path);
        match is_kept {
            true => assert!(resident_len > LEN as u64 / 8 * 7, "{resident_len} bytes of {what}"),
            false => assert_eq!(resident_len, 0, "{what}"),
        }
    }
}

#[test]
fn a_short_file_does_not_wait_for_long_ones_that_all_threads_have() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "2"]);
    let (mut peer, _) = controller.welcome();
    let (days, bytes) = (endless(), pattern(70_000));
    let short = file(&bytes);
    // Neither has checkpoints, nor can be interleaved.
    let long: Vec<LeaseId> =
        (0..2).map(|_| peer.assign_files(Algorithm::Blake3, &[(stamp(&days), &days)])).collect();
    for _ in 0..2 {
        let lease = peer.assign_files(Algorithm::Sha256, &[(stamp(&short), &short)]);
        assert_eq!(peer.done(lease).0, digest(Algorithm::Sha256, &bytes));
    }
    peer.send(&WorkerRequest::Revoke { leases: long }, &[]);
    assert_eq!(peer.credit() + peer.credit(), 2);
}

#[test]
fn a_file_that_is_much_longer_than_was_said_is_not_read() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    let days = endless();
    let seen = Stamp { size: 10, ..stamp(&days) };
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let lease = peer.assign_files(algorithm, &[(seen, &days)]);
        assert_eq!(peer.done(lease), (vec![], vec![(0, Failure::Changed)]));
    }
}
