//! Opening a name without waiting for anything, or only looking at it, and seeing what it is.

use crate::problem::Special;
use ipc_proto::message::Stamp;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::Uid;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// Something that was opened.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A regular file.
    File(OwnedFd, Stamp),
    /// A directory.
    Directory(OwnedFd),
    /// Anything else.
    Special(Special),
}

/// Kind of a file that need not be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Special(Special),
}

/// Treatment of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

/// Way back to a file by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The path, whatever it leads to.
    Path,
    /// This many bytes of it lead to a tree; no link is followed behind them.
    Below(u32),
}

/// Something that was opened and not looked at.
#[derive(Debug)]
pub(crate) enum OpenedAny {
    /// Of any kind.
    Open(OwnedFd),
    /// Something that cannot be opened.
    Special(Special),
}

/// Opens `name` for reading, and sees what it is. A FIFO, device or socket does not hold it up.
pub(crate) fn open_at(dir: BorrowedFd<'_>, name: &CStr, links: Links) -> Result<Opened, Errno> {
    let file = match open_any(dir, name, links)? {
        OpenedAny::Open(file) => file,
        OpenedAny::Special(special) => return Ok(Opened::Special(special)),
    };
    seen(file)
}

/// Opens the file `path` once more.
pub(crate) fn open_again(path: &CStr, way: Way) -> Result<Opened, Errno> {
    let Way::Below(root_len) = way else { return open_at(AT_FDCWD, path, Links::Follow) };
    let (root, rest) = path.to_bytes().split_at(root_len as usize);
    let root = open_start(&CString::new(root).expect("a part of a path holds no zero byte"))?;
    let rest = &rest[rest.iter().take_while(|&&byte| byte == b'/').count()..];
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    seen(openat2(root, rest, OpenHow::new().flags(flags).resolve(resolve))?)
}

/// Kind of an open file.
fn seen(file: OwnedFd) -> Result<Opened, Errno> {
    let stat = fstat(&file)?;
    Ok(match kind_of(&stat) {
        Kind::File => Opened::File(file, stamp(&stat)),
        Kind::Directory => Opened::Directory(file),
        Kind::Special(special) => Opened::Special(special),
    })
}

/// Opens `name` for reading. A FIFO, device or socket does not hold it up.
pub(crate) fn open_any(dir: BorrowedFd<'_>, name: &CStr, links: Links) -> Result<OpenedAny, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let refuse = if links == Links::Refuse { OFlag::O_NOFOLLOW } else { OFlag::empty() };
    match openat(dir, name, flags | refuse, Mode::empty()) {
        Ok(file) => Ok(OpenedAny::Open(file)),
        // A socket, a device without driver, or a link where none is followed.
        Err(errno @ (Errno::ENXIO | Errno::ENODEV | Errno::ELOOP)) => {
            match kind_at(dir, name, links) {
                Ok(Kind::Special(special)) => Ok(OpenedAny::Special(special)),
                _ => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    }
}

/// The kind of `name`.
pub(crate) fn kind_at(dir: BorrowedFd<'_>, name: &CStr, links: Links) -> Result<Kind, Errno> {
    let flags = match links {
        Links::Follow => AtFlags::empty(),
        Links::Refuse => AtFlags::AT_SYMLINK_NOFOLLOW,
    };
    fstatat(dir, name, flags).map(|stat| kind_of(&stat))
}

/// Stamp of the regular file `name`, if the user who runs this may surely read it: its owner may, as
/// its mode says. Anything else is `None`.
pub(crate) fn glance_at(dir: BorrowedFd<'_>, name: &CStr) -> Option<Stamp> {
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    let is_readable = stat.st_mode & libc::S_IRUSR != 0 && Uid::from_raw(stat.st_uid) == own_uid();
    (kind_of(&stat) == Kind::File && is_readable).then(|| stamp(&stat))
}

/// The user whose rights count for opening.
fn own_uid() -> Uid {
    static OWN: OnceLock<Uid> = OnceLock::new();
    *OWN.get_or_init(Uid::effective)
}

/// True for a path that no system call takes as a whole.
pub(crate) fn is_too_long(path: &[u8]) -> bool {
    path.len() >= PATH_LEN_END
}

/// Length of a path, with its zero, that is too long for a system call.
const PATH_LEN_END: usize = libc::PATH_MAX as usize;

/// Opens the directory `path`, however long that is, for nothing but to start from.
pub(crate) fn open_start(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut rest = path.to_bytes();
    let mut dir: Option<OwnedFd> = None;
    loop {
        let (part, after) = match is_too_long(rest) {
            false => (rest, &b""[..]),
            true => {
                let fits = &rest[..PATH_LEN_END - 1];
                let slash = fits.iter().rposition(|&byte| byte == b'/');
                let slash = slash.filter(|&slash| slash > 0).ok_or(Errno::ENAMETOOLONG)?;
                let after = rest[slash..].iter().position(|&byte| byte != b'/');
                (&rest[..slash], after.map_or(&b""[..], |start| &rest[slash + start..]))
            }
        };
        let from = dir.as_ref().map_or(AT_FDCWD, AsFd::as_fd);
        let opened = openat(from, part, flags, Mode::empty())?;
        if after.is_empty() {
            return Ok(opened);
        }
        (dir, rest) = (Some(opened), after);
    }
}

/// Opens the directory `path` for reading; anything else is `ENOTDIR`, and holds nothing up.
pub(crate) fn open_dir(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty())
}

/// Kind of an open file and, if it is regular, its stamp.
pub(crate) fn look(file: &impl AsFd) -> Result<(Kind, Stamp), Errno> {
    let stat = fstat(file)?;
    Ok((kind_of(&stat), stamp(&stat)))
}

/// Kind of a directory entry by its `d_type`, if the file system gives one.
pub(crate) fn kind_of_dirent(d_type: u8) -> Option<Kind> {
    Some(match d_type {
        libc::DT_REG => Kind::File,
        libc::DT_DIR => Kind::Directory,
        libc::DT_LNK => Kind::Special(Special::Symlink),
        libc::DT_FIFO => Kind::Special(Special::Fifo),
        libc::DT_SOCK => Kind::Special(Special::Socket),
        libc::DT_CHR => Kind::Special(Special::CharDevice),
        libc::DT_BLK => Kind::Special(Special::BlockDevice),
        _ => return None,
    })
}

/// The kind of what `stat` describes.
pub(crate) fn kind_of(stat: &FileStat) -> Kind {
    let special = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => return Kind::File,
        SFlag::S_IFDIR => return Kind::Directory,
        SFlag::S_IFLNK => Special::Symlink,
        SFlag::S_IFIFO => Special::Fifo,
        SFlag::S_IFSOCK => Special::Socket,
        SFlag::S_IFCHR => Special::CharDevice,
        SFlag::S_IFBLK => Special::BlockDevice,
        _ => Special::Other,
    };
    Kind::Special(special)
}

fn stamp(stat: &FileStat) -> Stamp {
    Stamp {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// Nanoseconds since 1970, modulo 2^64: only equality counts.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}
