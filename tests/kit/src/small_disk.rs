//! A file system that is soon full: a tmpfs.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::Path;
use tempfile::TempDir;

/// A mounted tmpfs, which is gone when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// Mounts one of `mib` MiB: the tests need root.
    pub fn new(mib: u32) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let data = format!("size={mib}m,mode=0700");
        mount(Some("small"), dir.path(), Some("tmpfs"), flags, Some(&*data))
            .expect("tests of full disks need the right to mount");
        Self { dir }
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Fills it up with a file of that name.
    pub fn fill(&self, name: &str) {
        let mut file = std::fs::File::create(self.path().join(name)).expect("a new file");
        let written = std::io::copy(&mut std::io::repeat(0), &mut file);
        let error = written.expect_err("the disk is small");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still has a file in it keeps it until it ends.
        let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
    }
}
