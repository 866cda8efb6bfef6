//! A file that never answers a read: on FUSE, served by the test itself.

use crate::DEADLINE;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tempfile::TempDir;

/// A mounted file system with one file; reads end with an error when it is dropped.
#[derive(Debug)]
pub struct HungFile {
    dir: TempDir,
    reads: Receiver<()>,
    is_dead: Arc<AtomicBool>,
}

impl HungFile {
    /// Mounts it: the tests need root and `/dev/fuse`.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.expect("tests of files that hang need /dev/fuse");
        let options = "rootmode=40000,user_id=0,group_id=0,allow_other";
        let data = format!("fd={},{options}", device.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("hung"), dir.path(), Some("fuse"), flags, Some(&*data))
            .expect("tests of files that hang need the right to mount");
        let (is_read, reads) = channel();
        let is_dead = Arc::<AtomicBool>::default();
        let is_over = Arc::clone(&is_dead);
        thread::spawn(move || serve(device, &is_read, &is_over));
        Self { dir, reads, is_dead }
    }

    /// Waits until another read hangs.
    pub fn wait_for_read(&self) {
        self.reads.recv_timeout(DEADLINE).expect("the file is read");
    }

    /// Answers nothing any more, what the file is included.
    pub fn die(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("hung")
    }
}

impl Default for HungFile {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for HungFile {
    fn drop(&mut self) {
        // Forced, so that all requests end.
        let _ = umount2(self.dir.path(), MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}

const ROOT: u64 = 1;

/// Answers what leads to a read (linux/fuse.h), and never a read, until the end of the mount.
fn serve(mut device: File, is_read: &Sender<()>, is_dead: &AtomicBool) {
    let mut request = vec![0; 1 << 20];
    while let Ok(len) = device.read(&mut request) {
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().expect("four"));
        let long = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().expect("eight"));
        assert!(len >= 40, "a request has a header");
        let (unique, node) = (long(8), long(16));
        if is_dead.load(Ordering::Relaxed) {
            continue;
        }
        let answer = match word(4) {
            // LOOKUP: node, generation, times of validity, attributes.
            1 => Ok([numbers(&[2, 0, 60, 0, 0]), attributes(2)].concat()),
            // FORGET, INTERRUPT and BATCH_FORGET.
            2 | 36 | 42 => continue,
            // READ; nobody may wait for it.
            15 => {
                let _ = is_read.send(());
                continue;
            }
            // GETATTR.
            3 => Ok([numbers(&[0, 0]), attributes(node)].concat()),
            // OPEN.
            14 => Ok(numbers(&[1, 0])),
            // STATFS.
            17 => Ok(vec![0; 80]),
            // RELEASE and FLUSH.
            18 | 25 => Ok(Vec::new()),
            // INIT: version 7.31, readahead and flags, limits.
            26 => Ok(numbers(&[7 | 31 << 32, 0, 4096 << 32, 1, 0, 0, 0, 0])),
            _ => Err(libc::ENOSYS),
        };
        let body = answer.as_deref().unwrap_or_default();
        let error = answer.as_ref().err().map_or(0, |errno| -errno);
        let len = u32::try_from(16 + body.len()).expect("short");
        let header = [&len.to_le_bytes()[..], &error.to_le_bytes(), &unique.to_le_bytes()].concat();
        // The request may have ended meanwhile.
        let _ = device.write_all(&[&header, body].concat());
    }
}

/// `struct fuse_attr`: the root is a directory, everything else a file of 100 bytes.
fn attributes(node: u64) -> Vec<u8> {
    let mode: u64 = if node == ROOT { 0o040_755 } else { 0o100_644 };
    let size = if node == ROOT { 0 } else { 100 };
    numbers(&[node, size, 1, 1, 1, 1, 0, mode << 32, 1, 0, 4096])
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
