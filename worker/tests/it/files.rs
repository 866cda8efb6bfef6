//! Files passed as descriptors: their digests, and the failures of what is not a regular file.

use crate::controller::{Controller, Worker, file, pattern, stamp};
use engine::hash::Backend;
use ipc_proto::Algorithm;
use ipc_proto::limits::FRAME_DESCRIPTORS_MAX;
use ipc_proto::message::{Failure, Stamp};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

fn digests(algorithm: Algorithm, inputs: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
    Backend::PORTABLE.digests(algorithm, &inputs)
}

#[test]
fn files_of_every_size_get_their_digests_in_order() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "2"]);
    let (mut peer, _) = controller.welcome();
    let lens = [0, 1, 55, 56, 57, 63, 64, 65, 4096, 131_071, 131_072, 131_073, 3_000_001];
    let contents = lens.map(pattern);
    let files = contents.each_ref().map(|bytes| file(bytes));
    for algorithm in Algorithm::ALL {
        let batch: Vec<_> = files.iter().map(|file| (stamp(file), file)).collect();
        let lease = peer.assign_files(algorithm, &batch);
        assert_eq!(peer.done(lease), (digests(algorithm, &contents), vec![]), "{algorithm}");
    }
}

#[test]
fn hashes_memfds_and_files_with_a_moved_position() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    let mut memory = File::from(memfd_create("test", MFdFlags::empty()).unwrap());
    memory.write_all_at(b"in memory", 0).unwrap();
    memory.seek(SeekFrom::End(0)).unwrap();
    let lease = peer.assign_files(Algorithm::Sha256, &[(stamp(&memory), &memory)]);
    let want = digests(Algorithm::Sha256, &[b"in memory".to_vec()]);
    assert_eq!(peer.done(lease), (want, vec![]));
    assert_eq!(memory.stream_position().unwrap(), 9, "the position is the client's");
}

#[test]
fn a_special_file_fails_alone_without_blocking() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    let fifo_path = controller.dir.path().join("fifo");
    mkfifo(&fifo_path, Mode::S_IRWXU).unwrap();
    let fifo = OpenOptions::new().read(true).write(true).open(fifo_path).unwrap();
    let zeroes = File::open("/dev/zero").unwrap();
    let dir = File::open(controller.dir.path()).unwrap();
    let socket = File::from(std::os::fd::OwnedFd::from(UnixStream::pair().unwrap().0));
    let write_only =
        OpenOptions::new().write(true).create_new(true).open(controller.dir.path().join("w"));
    let write_only = write_only.unwrap();
    write_only.write_all_at(b"secret", 0).unwrap();
    let good = file(b"good");
    for size in [0, 100, u64::MAX] {
        let claim = Stamp { size, ..Stamp::default() };
        let batch = [
            (claim, &fifo),
            (stamp(&good), &good),
            (claim, &zeroes),
            (claim, &dir),
            (claim, &socket),
            (claim, &write_only),
            (stamp(&good), &good),
        ];
        let lease = peer.assign_files(Algorithm::Sha256, &batch);
        let want = vec![
            (0, Failure::NotRegular),
            (2, Failure::NotRegular),
            (3, Failure::Io { errno: libc::EISDIR }),
            (4, Failure::NotRegular),
            (5, Failure::Io { errno: libc::EBADF }),
        ];
        let good = b"good".to_vec();
        let digests = digests(Algorithm::Sha256, &[good.clone(), good]);
        assert_eq!(peer.done(lease), (digests, want), "claimed to have {size} bytes");
    }
}

#[test]
fn descriptors_are_closed_when_their_batch_is_done() {
    let controller = Controller::new();
    let worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, credit) = controller.welcome();
    let source = file(b"x");
    let (before, table_len) = (worker.open_descriptors(), worker.descriptor_table_len());
    assert!(table_len >= 1024, "{table_len}: reserved before the first thread");
    let batch = vec![(stamp(&source), &source); FRAME_DESCRIPTORS_MAX];
    for _ in 0..4 {
        let leases: Vec<_> =
            (0..credit).map(|_| peer.assign_files(Algorithm::Sha256, &batch)).collect();
        for lease in leases {
            assert_eq!(peer.done(lease).0.len(), FRAME_DESCRIPTORS_MAX * 32);
        }
    }
    worker.awaits_open_descriptors(before);
    assert_eq!(worker.descriptor_table_len(), table_len, "it did not grow while threads share it");
}

#[test]
fn a_worker_in_its_sandbox_reads_all_files_of_a_batch() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "1"]);
    let (mut peer, _) = controller.welcome();
    let files: Vec<File> = (0..100).map(|_| file(b"abc")).collect();
    let batch: Vec<_> = files.iter().map(|file| (stamp(file), file)).collect();
    let lease = peer.assign_files(Algorithm::Sha256, &batch);
    let (digests, failures) = peer.done(lease);
    assert_eq!((digests.len(), failures), (100 * 32, vec![]));
}
