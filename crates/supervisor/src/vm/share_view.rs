#![expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper")]
//! Shows a file server what it is to serve, read-only, in a mount namespace of its own.
//!
//! Nothing of it is mounted on the host: the namespace ends with the process. A user who is not
//! root becomes root of a user namespace first, in which every file keeps its own permissions.
//! There groups cannot be changed; a file server that insists on giving up its own is told that it
//! has, as no file is served by what they allow: it has one user's eyes either way.

use super::plan::VIEW;
use crate::args::ShareViewOptions;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{getegid, geteuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Replaces this process by the file server; comes back only with an error.
pub(crate) fn run(options: &ShareViewOptions) -> io::Error {
    match prepare(options) {
        Ok(()) => {
            let (program, args) = options.command.split_first().expect("clap asks for a command");
            Command::new(program).args(args).exec()
        }
        Err(error) => error,
    }
}

fn prepare(options: &ShareViewOptions) -> io::Result<()> {
    // A file server keeps a file open for each that its guest knows, and shells allow few.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    std::env::set_current_dir(&options.chdir).map_err(at("enter", &options.chdir))?;
    let is_root = geteuid().is_root();
    enter_namespaces(is_root).map_err(|error| failed("make a mount namespace", &error))?;
    // Opened before anything is mounted over them, and in our namespace: only its mounts bind.
    let sources: Vec<(Source<'_>, Option<String>)> = match &options.directory {
        Some(directory) => vec![(Source::open(directory)?, None)],
        None => (0..)
            .zip(&options.members)
            .map(|(number, path)| Ok((Source::open(path)?, Some(number.to_string()))))
            .collect::<io::Result<_>>()?,
    };
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    if options.directory.is_none() {
        mount(Some("view"), VIEW, Some("tmpfs"), MsFlags::empty(), Some("mode=0755,size=1m"))
            .map_err(|error| failed("mount a place to show files", &error.into()))?;
    }
    for (source, name) in &sources {
        let target = match name {
            None => Path::new(VIEW).to_owned(),
            Some(name) => Path::new(VIEW).join(name),
        };
        if name.is_some() {
            match source.is_dir {
                true => fs::create_dir(&target).map_err(at("make", &target))?,
                false => drop(File::create(&target).map_err(at("make", &target))?),
            }
        }
        source.bind(&target)?;
    }
    make_read_only(Path::new(VIEW)).map_err(|error| failed("make files read-only", &error))?;
    // For the file server's own lock file, which only root could make in the host's, and which has
    // the same name in every cluster.
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755,size=1m"))?;
    if !is_root {
        excuse_setgroups().map_err(|error| failed("install a filter", &error))?;
    }
    Ok(())
}

fn enter_namespaces(is_root: bool) -> io::Result<()> {
    if is_root {
        return Ok(unshare(CloneFlags::CLONE_NEWNS)?);
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Lets setgroups(2) do nothing successfully, in this process and what it becomes.
fn excuse_setgroups() -> io::Result<()> {
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_setgroups, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(0),
        ARCH.try_into().map_err(io::Error::other)?,
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
    apply_filter(&program).map_err(io::Error::other)
}

/// A file or directory that stays reachable whatever is mounted where.
struct Source<'a> {
    path: &'a Path,
    file: File,
    is_dir: bool,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
        let file = file.map_err(at("show", path))?;
        let is_dir = file.metadata().map_err(at("show", path))?.is_dir();
        Ok(Self { path, file, is_dir })
    }

    fn bind(&self, target: &Path) -> io::Result<()> {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        mount(Some(own.as_str()), target, None::<&str>, flags, None::<&str>)
            .map_err(|error| at("show", self.path)(error.into()))
    }
}

fn at(what: &str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| failed(&format!("{what} {}", path.display()), &error)
}

fn failed(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
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
