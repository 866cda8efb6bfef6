//! The controller's disk, an ext4 file system in a file: what can be known of it before a boot.
//!
//! A guest has written it, so only the superblock is read, and no tool of the host repairs it by itself:
//! the operator is given the command.

use crate::cluster::Error;
use crate::quote;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Offset of the superblock; its fields: ext4(5), "The Super Block" in the kernel's documentation.
const SUPERBLOCK: u64 = 1024;
const BLOCKS_COUNT: usize = 0x04;
const LOG_BLOCK_LEN: usize = 0x18;
const MAGIC: usize = 0x38;
const STATE: usize = 0x3a;
const INCOMPATIBLE: usize = 0x60;
const SUPERBLOCK_LEN: usize = 0x64;

const EXT4_MAGIC: u16 = 0xef53;

/// Bit of the state after an unmount.
const IS_UNMOUNTED: u16 = 1;

/// Bit of the state that the kernel sets when it finds an error, and only e2fsck(8) takes away.
const HAS_ERRORS: u16 = 2;

/// Bit of the incompatible features while the journal is to be replayed.
const NEEDS_RECOVERY: u32 = 4;

/// Free room of the host under which a warning is given.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// The fields of a superblock that are judged.
#[derive(Debug)]
pub(crate) struct Superblock {
    state: u16,
    incompatible_features: u32,
    /// Length of the file system, in bytes.
    len: u64,
}

impl Superblock {
    /// Reads that of `file`; `None` if there is no ext4 file system.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut block = [0; SUPERBLOCK_LEN];
        match file.read_exact_at(&mut block, SUPERBLOCK) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let word = |at: usize| {
            u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
        };
        // A disk of ours has less than 2^32 blocks.
        let block_len = 1024_u64.checked_shl(word(LOG_BLOCK_LEN)).unwrap_or(u64::MAX);
        Ok((half(MAGIC) == EXT4_MAGIC).then(|| Self {
            state: half(STATE),
            incompatible_features: word(INCOMPATIBLE),
            len: u64::from(word(BLOCKS_COUNT)).saturating_mul(block_len),
        }))
    }

    pub(crate) const fn has_errors(&self) -> bool {
        self.state & HAS_ERRORS != 0
    }

    pub(crate) const fn is_clean(&self) -> bool {
        self.state & IS_UNMOUNTED != 0 && self.incompatible_features & NEEDS_RECOVERY == 0
    }
}

/// Commands that mend the disk at `path`, or take it away: nothing is deleted.
pub(crate) fn remedy(path: &Path) -> String {
    let path = quote::path(path);
    format!(
        "`e2fsck -f -y {path}` mends it, or `mv {path} {path}.bad` lets the next start make an empty one"
    )
}

/// The same for a disk that is full.
pub(crate) fn remedy_when_full(path: &Path) -> String {
    let path = quote::path(path);
    format!(
        "`truncate -s +1G {path} && e2fsck -f -p {path} && resize2fs {path}` makes it larger, or \
         `mv {path} {path}.bad` lets the next start make an empty one"
    )
}

/// Checks the disk at `path` before a VM gets it.
///
/// # Errors
/// [`Error::Refused`] says what is wrong, and what mends it.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    let refused =
        |what: String| Error::Refused(format!("the controller's disk {} {what}", path.display()));
    let metadata =
        fs::symlink_metadata(path).map_err(Error::step("look at the controller's disk"))?;
    let broken = |what: &str| refused(format!("{what}; {}", remedy(path)));
    if !metadata.is_file() {
        let path = quote::path(path);
        let what =
            format!("is no regular file; `mv {path} {path}.bad` lets the next start make one");
        return Err(refused(what));
    }
    let opened =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let file = opened.map_err(|error| {
        let remedy = if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            "; name another --state-dir".to_owned()
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            format!("; `chmod u+rw {}`", quote::path(path))
        } else {
            String::new()
        };
        refused(format!("cannot be opened for writing: {error}{remedy}"))
    })?;
    match fault(&file, metadata.len()) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(broken(what)),
        Err(error) => Err(broken(&format!("cannot be read: {error}"))),
    }
}

/// Fault that the superblock of a disk of `len` bytes shows.
fn fault(file: &File, len: u64) -> io::Result<Option<&'static str>> {
    if len < SUPERBLOCK + SUPERBLOCK_LEN as u64 {
        return Ok(Some("is shorter than a file system"));
    }
    let Some(superblock) = Superblock::read(file)? else {
        return Ok(Some("holds no ext4 file system, or a damaged one"));
    };
    if superblock.len > len {
        return Ok(Some("is shorter than the file system in it, as after a copy that was cut off"));
    }
    Ok(superblock.has_errors().then_some("has errors, which a guest found"))
}

/// Warns if the host has too little room for the disk at `path` to grow: it is sparse.
pub(super) fn warn_of_room(path: &Path) {
    let Some(dir) = path.parent() else { return };
    let Ok(room) = nix::sys::statvfs::statvfs(dir) else { return };
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    if free < FREE_BYTES_MIN {
        crate::say::say(format_args!(
            "{} has {} MiB left: when it is full, the controller's disk becomes read-only",
            dir.display(),
            free >> 20
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A disk whose superblock says `blocks` of 4 KiB and this state.
    fn disk(path: &Path, len: u64, blocks: u32, state: u16) {
        let mut block = [0; SUPERBLOCK_LEN];
        block[BLOCKS_COUNT..BLOCKS_COUNT + 4].copy_from_slice(&blocks.to_le_bytes());
        block[LOG_BLOCK_LEN] = 2;
        block[MAGIC..MAGIC + 2].copy_from_slice(&EXT4_MAGIC.to_le_bytes());
        block[STATE..STATE + 2].copy_from_slice(&state.to_le_bytes());
        let file = File::create(path).unwrap();
        file.set_len(len).unwrap();
        file.write_all_at(&block, SUPERBLOCK).unwrap();
    }

    #[test]
    fn a_disk_that_no_guest_could_use_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("controller.ext4");
        disk(&path, 1 << 20, 256, 1);
        check(&path).expect("it is as it should be");
        type Spoil = fn(&Path);
        let cases: [(Spoil, &str, &str); 7] = [
            (|path| disk(path, 1 << 20, 257, 1), "shorter than the file system", "e2fsck -f -y"),
            (|path| disk(path, 1 << 20, 256, 3), "has errors", "e2fsck -f -y"),
            (|path| fs::write(path, b"").unwrap(), "shorter than a file system", ".bad"),
            (|path| fs::write(path, [0; 1 << 16]).unwrap(), "no ext4", ".bad"),
            (|path| fs::write(path, [0xff; 1 << 16]).unwrap(), "no ext4", ".bad"),
            (|path| fs::create_dir(path).unwrap(), "no regular file", ".bad"),
            (|path| symlink("/etc/passwd", path).unwrap(), "no regular file", ".bad"),
        ];
        for (spoil, what, remedy) in cases {
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
            spoil(&path);
            let error = check(&path).unwrap_err().to_string();
            let words = [what, remedy, path.to_str().unwrap()];
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
