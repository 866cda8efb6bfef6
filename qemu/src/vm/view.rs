#![expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper")]
//! Shows a file server what it is to serve, read-only, in a mount namespace of its own.
//!
//! Nothing of it is mounted on the host: the namespace ends with the process. A user who is not
//! root becomes root of a user namespace first, in which every file keeps its own permissions.

use super::plan::VIEW;
use crate::args::ViewOptions;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Replaces this process by the file server; comes back only with an error.
pub(crate) fn run(options: &ViewOptions) -> io::Error {
    match prepare(options) {
        Ok(()) => {
            let (program, args) = options.command.split_first().expect("clap asks for a command");
            Command::new(program).args(args).exec()
        }
        Err(error) => error,
    }
}

fn prepare(options: &ViewOptions) -> io::Result<()> {
    std::env::set_current_dir(&options.chdir)?;
    let (uid, gid) = (geteuid(), getegid());
    let namespaces = match uid.is_root() {
        true => CloneFlags::CLONE_NEWNS,
        false => CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER,
    };
    unshare(namespaces)?;
    if !uid.is_root() {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    if let Some(directory) = &options.directory {
        bind(directory, Path::new(VIEW))?;
    } else {
        mount(Some("view"), VIEW, Some("tmpfs"), MsFlags::empty(), Some("mode=0755,size=1m"))?;
        for (number, member) in options.members.iter().enumerate() {
            let target = Path::new(VIEW).join(number.to_string());
            match fs::metadata(member)?.is_dir() {
                true => fs::create_dir(&target)?,
                false => drop(File::create(&target)?),
            }
            bind(member, &target)?;
        }
    }
    make_read_only(Path::new(VIEW))?;
    if !uid.is_root() {
        // For the file server's own lock file, which only root could make in the host's.
        mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755,size=1m"))?;
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .map_err(|error| io::Error::other(format!("show {}: {error}", source.display())))
}

/// Whatever is mounted at `path` or below.
fn make_read_only(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path ends with a zero, and the structure has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(Errno::last().into()) }
}
