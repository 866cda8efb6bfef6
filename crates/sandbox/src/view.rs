#![expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper")]
//! A root directory that has nothing but some directories of the host's, read-only.
//!
//! It is made in a mount namespace of the process's own. Nothing that the host mounts later appears in it.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use rustix::fs::CWD;
use rustix::io::{DupFlags, dup3};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsmount, fsopen, mount_change, move_mount,
    open_tree, unmount,
};
use std::error::Error;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Name of the working directory in the view, below which nothing is to be found.
const WORKING_DIRECTORY: &str = "cwd";

/// Directories to be shown.
pub(crate) struct View<'a, 'fd> {
    directories: &'a mut [&'fd mut OwnedFd],
    /// Their paths on the host.
    paths: Vec<OsString>,
}

impl<'a, 'fd> View<'a, 'fd> {
    /// Finds the paths of `directories`. Call it in the namespace in which they were opened.
    pub(crate) fn find(directories: &'a mut [&'fd mut OwnedFd]) -> nix::Result<Self> {
        let path = |fd: &&mut OwnedFd| readlink(&*format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let paths = directories.iter().map(path).collect::<nix::Result<_>>()?;
        Ok(Self { directories, paths })
    }

    /// Makes them all that can be found from the root directory of this process, and has their descriptors
    /// refer to them there. A working directory that is kept has no path.
    pub(crate) fn become_root(self, keeps_cwd: bool) -> Result<(), Box<dyn Error + Send + Sync>> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let root = empty()?;
        // Over the host's root, where this process stays until it leaves it.
        attach(&root, CWD, "/")?;
        let mut trees = Vec::new();
        for (i, (old, path)) in self.directories.iter().zip(&self.paths).enumerate() {
            let dir = open(path.as_os_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let id = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
            if id(dir.as_fd())? != id(old.as_fd())? {
                return Err(format!("{} was replaced", path.display()).into());
            }
            trees.push(show(dir.as_fd(), "", &root, &i.to_string())?);
        }
        let cwd = if keeps_cwd { Some(show(CWD, ".", &root, WORKING_DIRECTORY)?) } else { None };
        let hidden = cwd.as_ref().map(|_| empty()).transpose()?;
        make_read_only(root.as_fd())?;
        fchdir(&root)?;
        match pivot_root(".", ".") {
            Ok(()) => unmount(".", UnmountFlags::DETACH)?,
            // The files that the kernel unpacked at its start cannot be put elsewhere, but are covered.
            Err(Errno::EINVAL) => chroot(".")?,
            Err(errno) => return Err(errno.into()),
        }
        match cwd.zip(hidden) {
            Some((cwd, hidden)) => {
                fchdir(&cwd)?;
                attach(&hidden, root.as_fd(), WORKING_DIRECTORY)?;
            }
            None => chdir("/")?,
        }
        for (old, tree) in self.directories.iter_mut().zip(&trees) {
            dup3(tree, old, DupFlags::CLOEXEC)?;
        }
        Ok(())
    }
}

/// An empty file system that is not attached yet.
fn empty() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Attaches a copy of what is mounted at `path`, and below, as directory `name` of `root`.
fn show(
    dir: BorrowedFd<'_>,
    path: &str,
    root: &OwnedFd,
    name: &str,
) -> Result<OwnedFd, Box<dyn Error + Send + Sync>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let whole = OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(dir, path, flags | whole)?;
    mkdirat(root, name, Mode::from_bits_truncate(0o755))?;
    attach(&tree, root.as_fd(), name)?;
    Ok(tree)
}

fn attach(tree: &OwnedFd, dir: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    move_mount(tree, "", dir, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Makes all that is mounted at `root` and below read-only, without devices and programs.
///
/// # Errors
/// It is not in a mount namespace over which the process has power, or Linux is older than 5.12.
pub fn make_read_only(root: BorrowedFd<'_>) -> nix::Result<()> {
    let denied = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    let attributes =
        libc::mount_attr { attr_set: denied, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path ends with a zero, and the structure has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            root.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_RECURSIVE | libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    Errno::result(result).map(drop)
}
