//! Open files: the one type for all that is read, however it arrived.
//!
//! A [`Handle`] is any descriptor; it can be read without waiting only. An [`OpenFile`] is known to be
//! regular, and has the way in which its content is validated as a property.
//!
//! Invariants:
//! - nothing waits for a FIFO, terminal or device: reads that may wait need an [`OpenFile`];
//! - every read names its offset: a shared file position does not matter and does not move.
//!
//! Not here: whether what was read is good (`quiet`). A file system that never answers (FUSE) holds its
//! thread, which nothing here can change: the controller revokes the lease, and the worker counts the thread.

use crate::input::sys::{self, Probe};
use ipc_proto::message::{Failure, Stamp};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::SFlag;
use nix::sys::statfs::fstatfs;
use nix::sys::uio::pread;
use nix::unistd::{Whence, lseek64};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that a thread reads at once. BLAKE3 gains from more (8 % from 256 KiB to 1 MiB).
pub(crate) const BUFFER_LEN: usize = 1 << 20;

/// Validation of a file's content: a property of its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validation {
    /// This kernel's clock stamps it, and every writer goes through this kernel.
    LocalClock,
    /// Another clock stamps it, and writers elsewhere cannot be probed for: NFS, FUSE, virtiofs, and
    /// whatever is not known.
    ForeignClock,
    /// It is on an image that nobody can write to.
    ReadOnly,
    /// Its size and stamps say nothing: it is made while it is read (`/proc`, `/sys`).
    Sizeless,
}

/// Magic numbers of statfs(2) whose stamps are this kernel's: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, and
/// overlayfs, whose layers nobody else may write to. On each of them [`OpenFile::wait_for_writes`] does.
const LOCAL_CLOCK: [u32; 6] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x794c_7630];

/// EROFS, SquashFS, ISO 9660, cramfs, romfs.
const READ_ONLY: [u32; 5] = [0xe0f5_e1e2, 0x7371_7368, 0x9660, 0x28cd_3d45, 0x7275];

/// procfs, sysfs, debugfs, tracefs, securityfs, configfs, cgroup2, cgroup, bpf, efivarfs, selinuxfs,
/// binfmt_misc, pstore.
const SIZELESS: [u32; 13] = [
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x6265_6570,
    0x6367_7270,
    0x0027_e0eb,
    0xcafe_4a11,
    0xde5e_81e4,
    0xf97c_ff8c,
    0x4249_4e4d,
    0x6165_676c,
];

impl Validation {
    fn of_file_system(magic: u32) -> Self {
        match magic {
            _ if LOCAL_CLOCK.contains(&magic) => Self::LocalClock,
            _ if READ_ONLY.contains(&magic) => Self::ReadOnly,
            _ if SIZELESS.contains(&magic) => Self::Sizeless,
            _ => Self::ForeignClock,
        }
    }
}

/// The file system of the last file, so that one call per batch asks for it. Numbers of devices are
/// used again after an unmount: not to be kept while none of its files is open.
#[derive(Debug, Default)]
pub(crate) struct LastFileSystem(Option<((u32, u32), Validation)>);

impl LastFileSystem {
    fn validation(
        &mut self,
        file: BorrowedFd<'_>,
        device: (u32, u32),
    ) -> Result<Validation, Failure> {
        if let Some((last, validation)) = self.0
            && last == device
        {
            return Ok(validation);
        }
        let magic = fstatfs(file).map_err(failure)?.filesystem_type().0;
        // 32 bits, which some C libraries extend by their sign.
        let magic = u32::try_from(magic & 0xffff_ffff).unwrap_or(0);
        let validation = Validation::of_file_system(magic);
        self.0 = Some((device, validation));
        Ok(validation)
    }
}

/// A descriptor that may be of anything.
#[derive(Debug)]
pub(crate) enum Handle<'a> {
    Passed(BorrowedFd<'a>),
    Owned(OwnedFd),
}

impl AsFd for Handle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Passed(file) => *file,
            Self::Owned(file) => file.as_fd(),
        }
    }
}

impl<'a> Handle<'a> {
    /// Reads cached bytes from its start: `None` if there are none, or that is unknown.
    /// `are_supported` becomes false where the kind of file has no such reads.
    pub(crate) fn read_ready(
        &self,
        buffer: &mut [u8],
        are_supported: &mut bool,
    ) -> Result<Option<usize>, Failure> {
        if !*are_supported {
            return Ok(None);
        }
        match sys::read_ready(self.as_fd(), buffer, 0) {
            Ok(len) => Ok(Some(len)),
            Err(Errno::EAGAIN) => Ok(None),
            errno => {
                // A special file is reported as that, whatever the error of its read.
                regular_stamp(self.as_fd())?;
                match errno {
                    Err(Errno::EOPNOTSUPP) => {
                        *are_supported = false;
                        Ok(None)
                    }
                    other => other.map(Some).map_err(failure),
                }
            }
        }
    }

    /// An open file, with its stamp now.
    ///
    /// # Errors
    /// Why the item fails: [`Failure::NotRegular`], or `EISDIR` for a directory.
    pub(crate) fn look(self, last: &mut LastFileSystem) -> Result<(OpenFile<'a>, Stamp), Failure> {
        let (validation, stamp) = self.look_at(last)?;
        Ok((OpenFile { handle: self, validation }, stamp))
    }

    /// As [`Self::look`], of a file that stays a handle.
    pub(crate) fn look_at(
        &self,
        last: &mut LastFileSystem,
    ) -> Result<(Validation, Stamp), Failure> {
        if let Some((device, validation @ Validation::LocalClock)) = last.0 {
            let status = sys::local_status(self.as_fd()).map_err(failure)?;
            if status.device == device {
                return Ok((validation, regular(status)?.stamp));
            }
        }
        let status = regular(sys::status(self.as_fd()).map_err(failure)?)?;
        Ok((last.validation(self.as_fd(), status.device)?, status.stamp))
    }

    /// The descriptor, if it is ours.
    pub(crate) fn into_owned(self) -> Option<OwnedFd> {
        match self {
            Self::Owned(file) => Some(file),
            Self::Passed(_) => None,
        }
    }
}

/// A regular file.
#[derive(Debug)]
pub(crate) struct OpenFile<'a> {
    handle: Handle<'a>,
    validation: Validation,
}

impl AsFd for OpenFile<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl OpenFile<'_> {
    /// Validation of its content.
    pub(crate) fn validation(&self) -> Validation {
        self.validation
    }

    /// Its stamp now.
    pub(crate) fn stamp(&self) -> Result<Stamp, Failure> {
        regular_stamp(self.as_fd())
    }

    /// The descriptor, if it is ours.
    pub(crate) fn into_owned(self) -> Option<OwnedFd> {
        self.handle.into_owned()
    }

    /// As [`Handle::read_ready`].
    pub(crate) fn read_ready(
        &self,
        buffer: &mut [u8],
        are_supported: &mut bool,
    ) -> Result<Option<usize>, Failure> {
        self.handle.read_ready(buffer, are_supported)
    }

    /// Probes for programs that could write to it.
    pub(crate) fn probe_writers(&self) -> Probe {
        match self.validation {
            Validation::LocalClock => sys::probe_writers(self.as_fd()),
            Validation::ForeignClock => Probe::Unknown,
            Validation::ReadOnly | Validation::Sizeless => Probe::Free,
        }
    }

    /// Waits for a write call that is in progress: to look for data beyond the end takes the lock that a
    /// write holds (XFS has it taken by each read), and fails without moving the file position.
    pub(crate) fn wait_for_writes(&self) {
        if self.validation == Validation::LocalClock {
            let result = lseek64(self, i64::MAX, Whence::SeekData);
            assert_ne!(result, Err(Errno::EPERM), "a sandbox that denies it lets digests be torn");
        }
    }

    /// Reads from `offset` on until `buffer`, of which `len` bytes are there, is full or the file ends;
    /// returns how many bytes are in it.
    ///
    /// # Errors
    /// Why the item fails; `EAGAIN` if what is made while it is read would have to be waited for.
    pub(crate) fn fill_at(
        &self,
        buffer: &mut [u8],
        mut len: usize,
        offset: u64,
    ) -> Result<usize, Failure> {
        while len < buffer.len() {
            if self.validation == Validation::Sizeless && !self.is_ready() {
                return Err(failure(Errno::EAGAIN));
            }
            match self.read_at(&mut buffer[len..], offset.saturating_add(len as u64))? {
                0 => break,
                read_len => len += read_len,
            }
        }
        Ok(len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
        let offset = i64::try_from(offset).map_err(|_| failure(Errno::EINVAL))?;
        loop {
            match pread(self, buffer, offset) {
                Err(Errno::EINTR) => {}
                result => return result.map_err(failure),
            }
        }
    }

    /// Returns true if a read does not wait for an event, as one of `/proc/kmsg` does.
    fn is_ready(&self) -> bool {
        let mut files = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        // A file that cannot be polled does not wait.
        !matches!(poll(&mut files, PollTimeout::ZERO), Ok(0))
    }
}

/// The stamp of `file`, which must be regular.
///
/// # Errors
/// Why the item fails: [`Failure::NotRegular`], or `EISDIR` for a directory.
pub(crate) fn regular_stamp(file: BorrowedFd<'_>) -> Result<Stamp, Failure> {
    Ok(regular(sys::status(file).map_err(failure)?)?.stamp)
}

fn regular(status: sys::Status) -> Result<sys::Status, Failure> {
    match SFlag::from_bits_truncate(status.mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Ok(status),
        SFlag::S_IFDIR => Err(failure(Errno::EISDIR)),
        _ => Err(Failure::NotRegular),
    }
}

pub(crate) fn failure(errno: Errno) -> Failure {
    Failure::Io { errno: errno as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::net::UnixStream;

    fn look(file: &File) -> (OpenFile<'_>, Stamp) {
        Handle::Passed(file.as_fd()).look(&mut LastFileSystem::default()).unwrap()
    }

    #[test]
    fn validation_depends_on_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "four").unwrap();
        let (file, stamp) = (dir.path().join("f"), 4);
        for (path, validation, size) in [
            (&*file, Validation::LocalClock, stamp),
            ("/proc/version".as_ref(), Validation::Sizeless, 0),
            ("/sys/kernel/notes".as_ref(), Validation::Sizeless, u64::MAX),
        ] {
            let file = File::open(path).unwrap();
            let (file, stamp) = look(&file);
            assert_eq!(file.validation(), validation, "{}", path.display());
            assert!(stamp.size == size || size == u64::MAX, "{stamp:?}");
        }
        for (magic, want) in [
            (0x6969, Validation::ForeignClock),
            (0x6573_5546, Validation::ForeignClock),
            (0x4d44, Validation::ForeignClock),
            (0xe0f5_e1e2, Validation::ReadOnly),
        ] {
            assert_eq!(Validation::of_file_system(magic), want, "{magic:x}");
        }
    }

    #[test]
    fn caches_the_last_file_system_by_device_number() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("f"), "/proc/version".into(), dir.path().join("f")];
        fs::write(&paths[0], "").unwrap();
        let mut last = LastFileSystem::default();
        let validations = paths.map(|path| {
            let file = File::open(path).unwrap();
            Handle::Passed(file.as_fd()).look(&mut last).unwrap().0.validation()
        });
        use Validation::{LocalClock, Sizeless};
        assert_eq!(validations, [LocalClock, Sizeless, LocalClock]);
    }

    #[test]
    fn reads_ignore_the_file_position() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for len in [0, 1, 4095, 4096, 4097] {
            let bytes = vec![7; len];
            fs::write(&path, &bytes).unwrap();
            let file = File::open(&path).unwrap();
            let mut buffer = [0xff; 5000];
            let ready_len = Handle::Passed(file.as_fd()).read_ready(&mut buffer, &mut true);
            assert_eq!(ready_len, Ok(Some(len)), "it was just written");
            let (open, stamp) = look(&file);
            assert_eq!(stamp.size, len as u64);
            for offset in [0, len / 2] {
                let mut buffer = [0xff; 5000];
                assert_eq!(open.fill_at(&mut buffer, 0, offset as u64), Ok(len - offset));
                assert_eq!(buffer[..len - offset], bytes[offset..]);
            }
            let mut buffer = [7; 5000];
            assert_eq!(open.fill_at(&mut buffer, len / 2, 0), Ok(len));
        }
    }

    #[test]
    fn refuses_special_files_without_blocking() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        let zeroes = File::open("/dev/zero").unwrap();
        let dir = File::open("/").unwrap();
        for (file, want) in [
            (socket.as_fd(), Failure::NotRegular),
            (pipe.as_fd(), Failure::NotRegular),
            (zeroes.as_fd(), Failure::NotRegular),
            (dir.as_fd(), failure(Errno::EISDIR)),
        ] {
            let handle = Handle::Passed(file);
            // A device may have bytes for whoever reads.
            let ready = handle.read_ready(&mut [0; 100], &mut true);
            assert!(ready == Err(want) || ready == Ok(Some(100)) || ready == Ok(None), "{ready:?}");
            assert_eq!(handle.look(&mut LastFileSystem::default()).map(|_| ()), Err(want));
        }
    }

    /// `/proc/kmsg` has no more once it was read, and then waits for the kernel's next line.
    #[test]
    fn refuses_reads_that_would_block() {
        let (reader, writer) = std::io::pipe().unwrap();
        let handle = Handle::Owned(reader.into());
        let open = OpenFile { handle, validation: Validation::Sizeless };
        assert_eq!(open.fill_at(&mut [0; 10], 0, 0), Err(failure(Errno::EAGAIN)));
        drop(writer);
        assert_eq!(open.fill_at(&mut [0; 10], 0, 0), Err(failure(Errno::ESPIPE)), "it is read");
    }
}
