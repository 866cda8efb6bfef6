//! The sandbox of a worker: all that it keeps when it reads untrusted bytes.

use crate::log::{Event, LOG};
use engine::input::dataset::Datasets;
use libc::{AF_UNIX, AF_VSOCK, AT_FDCWD};
use nix::sched::{CloneFlags, unshare};
use sandbox::{
    AllowedCall, Call, CapabilitySet, Condition, Enforcement, EnterError, Files, Layer, Profile,
    Report, ThreadRole, allowed_calls, bits,
};
use std::env;
use std::fs::File;
use std::io;

/// A thread's task while the worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is connected to the controller, and starts a thread for heartbeats. It hashes short batches.
    Link,
    /// It hashes.
    Hash,
    /// It waits for signals, and ends the process.
    Signals,
    /// It writes the log.
    Log,
    /// It notices threads that hang, and ends the process.
    Watch,
    /// It serves HTTP.
    Pages,
    /// It closes descriptors, and starts another one if that can take long.
    Closer,
}

/// The working directory is that of sockets. The condition costs each file 0.1 µs, so hashing threads leave
/// the directory instead.
const IN_DATASET: Condition = Condition::IsNot(0, bits(AT_FDCWD));

impl ThreadRole for Role {
    fn starts_threads(self) -> bool {
        !matches!(self, Self::Hash | Self::Log | Self::Watch | Self::Pages)
    }
}

/// Only older architectures have the older call.
#[cfg(not(target_arch = "x86_64"))]
use libc::SYS_epoll_pwait as SYS_epoll_wait;
#[cfg(target_arch = "x86_64")]
use libc::SYS_epoll_wait;

/// System calls of a worker that serves, besides those of its runtime.
const OWN: &[AllowedCall<Role>] = allowed_calls! {
    All clock_nanosleep libc::SYS_clock_nanosleep, [], "the margin before a busy file is read again, and after a signal";
    All nanosleep libc::SYS_nanosleep, [], "the same, with musl";
    First sched_setaffinity libc::SYS_sched_setaffinity, [], "cores of hashing threads";
    First chdir libc::SYS_chdir, [], "leaving the directory of sockets, in hashing threads";
    [Role::Signals] rt_sigtimedwait libc::SYS_rt_sigtimedwait, [], "waiting for a signal";
    [Role::Signals] shutdown libc::SYS_shutdown, [], "waking the link";
    [Role::Log] sendto libc::SYS_sendto, [], "lines to a syslog collector";
    [Role::Log] getsockopt libc::SYS_getsockopt, [], "that a collector refuses a line";
    [Role::Watch] shutdown libc::SYS_shutdown, [], "the end of the connection, where the process may not end soon";
    [Role::Link] socket libc::SYS_socket, [Condition::Is(0, bits(AF_UNIX))], "reconnecting";
    [Role::Link] socket libc::SYS_socket, [Condition::Is(0, bits(AF_VSOCK))], "reconnecting, in a VM";
    [Role::Link] connect libc::SYS_connect, [], "reconnecting";
    [Role::Link] getsockopt libc::SYS_getsockopt, [], "the end of connecting, over vsock";
    [Role::Link] ioctl libc::SYS_ioctl, [Condition::Is(1, 0x5421)], "FIONBIO, while connecting over vsock";
    [Role::Link] setsockopt libc::SYS_setsockopt, [], "time limits and buffers of the connection";
    [Role::Link] getcwd libc::SYS_getcwd, [], "noticing that the socket's directory was removed";
    [Role::Link] getrandom libc::SYS_getrandom, [], "pauses before reconnecting, and hash tables";
    [Role::Link] recvmsg libc::SYS_recvmsg, [], "leases, with their files";
    [Role::Link] shutdown libc::SYS_shutdown, [], "the end of a connection";
    [Role::Link] fcntl libc::SYS_fcntl, [Condition::Is(1, bits(libc::F_DUPFD_CLOEXEC))], "heartbeats";
    [Role::Link, Role::Hash] preadv2 libc::SYS_preadv2, [], "short files that are in memory";
    [Role::Link, Role::Hash] pread64 libc::SYS_pread64, [], "files";
    [Role::Link, Role::Hash] statx libc::SYS_statx, [], "the kind of a file, and if it held still; entries of a directory";
    [Role::Hash] getdents64 libc::SYS_getdents64, [], "directories of a dataset";
    [Role::Link, Role::Hash] fstat libc::SYS_fstat, [], "the same, of a local file";
    [Role::Link, Role::Hash] fstatfs libc::SYS_fstatfs, [], "the clock of a file's times";
    [Role::Link, Role::Hash] fcntl libc::SYS_fcntl, [Condition::Is(1, bits(libc::F_SETLEASE))], "a file's writers";
    [Role::Link, Role::Hash] lseek libc::SYS_lseek, [Condition::Is(2, bits(libc::SEEK_DATA))], "waiting for a write that is in progress";
    [Role::Hash] openat libc::SYS_openat, [], "files by name in a dataset";
    [Role::Hash] openat2 libc::SYS_openat2, [], "files by name in a dataset";
    [Role::Link] openat libc::SYS_openat, [IN_DATASET], "files by name in a dataset";
    [Role::Link] openat2 libc::SYS_openat2, [IN_DATASET], "files by name in a dataset";
    [Role::Link, Role::Hash] fadvise64 libc::SYS_fadvise64, [], "read-ahead, and leaving the page cache as it was";
    [Role::Link, Role::Hash] cachestat 451, [], "leaving the page cache as it was";
    [Role::Pages] epoll_wait SYS_epoll_wait, [], "waiting for requests";
    [Role::Pages] epoll_pwait libc::SYS_epoll_pwait, [], "the same, with musl";
    [Role::Pages] epoll_ctl libc::SYS_epoll_ctl, [], "connections that come and go";
    [Role::Pages] accept4 libc::SYS_accept4, [], "connections";
    [Role::Pages] write libc::SYS_write, [Condition::Is(2, 8)], "waking its event loop, by the 8 bytes that an eventfd takes";
    [Role::Pages] recvfrom libc::SYS_recvfrom, [], "requests";
    [Role::Pages] sendto libc::SYS_sendto, [], "answers";
    [Role::Pages] shutdown libc::SYS_shutdown, [], "the end of a connection";
    [Role::Pages] getrandom libc::SYS_getrandom, [], "hash tables";
    [Role::Pages] pread64 libc::SYS_pread64, [], "the state of the process and the host";
    [Role::Pages] getdents64 libc::SYS_getdents64, [], "its open files, which /metrics counts";
    [Role::Pages] lseek libc::SYS_lseek, [], "the same, from the start";
    [Role::Hash] io_uring_enter libc::SYS_io_uring_enter, [], "files that are not in memory";
};

/// All system calls of a worker that serves.
pub fn allowed_calls() -> impl Iterator<Item = &'static AllowedCall<Role>> {
    AllowedCall::RUNTIME.iter().chain(OWN)
}

fn calls(role: Option<Role>, opens_files: bool) -> Vec<Call> {
    // The pages' thread reads a directory that it opened before.
    let is_for_datasets = |row: &&AllowedCall<Role>| match row.call.number {
        libc::SYS_openat | libc::SYS_openat2 => true,
        libc::SYS_getdents64 => row.is_for(Some(Role::Hash)),
        _ => false,
    };
    let rows =
        allowed_calls().filter(|row| row.is_for(role) && (opens_files || !is_for_datasets(row)));
    rows.map(|row| row.call).collect()
}

/// The sandbox that this process is in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sandbox {
    filters: bool,
    opens_files: bool,
    /// Files near the sockets are denied to hashing threads by their being elsewhere.
    leaves_sockets: bool,
}

impl Sandbox {
    /// Gives up everything but [`allowed_calls()`] and the files of `datasets`, which are then read-only and those that
    /// were mounted before. There is a single thread.
    ///
    /// # Errors
    /// [`EnterError`] if the host does not have a layer, and `mode` insists.
    pub fn enter(
        mode: Enforcement,
        datasets: &mut Datasets,
        keeps_cwd: bool,
    ) -> Result<(Self, Report), EnterError> {
        let mut directories: Vec<_> = datasets.roots_mut().collect();
        let opens_files = !directories.is_empty();
        // To ask if a file has writers, and to open files of datasets as before.
        let mut capabilities = CapabilitySet::LEASE;
        if opens_files {
            capabilities |= CapabilitySet::DAC_READ_SEARCH;
        }
        let files = Files::Below { directories: &mut directories, keeps_cwd };
        let calls = calls(None, opens_files);
        let mut profile = Profile { files, keeps_memlock: false, capabilities, calls: &calls };
        let report = sandbox::enter(&mut profile, mode)?;
        LOG.log(&Event::Sandbox { layers: &report });
        let filters = report.has(Layer::Seccomp);
        let leaves_sockets = keeps_cwd && report.has(Layer::Namespaces);
        Ok((Self { filters, opens_files, leaves_sockets }, report))
    }

    /// Leaves to this thread what writing the log needs, for which `dir` becomes its working directory.
    ///
    /// # Errors
    /// As [`Self::narrow`], or `dir` cannot be entered.
    pub fn narrow_log(self, dir: Option<File>) -> io::Result<()> {
        dir.map_or(Ok(()), |dir| sandbox::work_in(&dir))?;
        self.narrow(Role::Log)
    }

    /// Leaves to this thread, and to those that it starts, the calls of one role.
    ///
    /// # Errors
    /// The kernel does not take the filter.
    pub fn narrow(self, role: Role) -> io::Result<()> {
        if !self.filters {
            return Ok(());
        }
        if role == Role::Hash && self.leaves_sockets {
            unshare(CloneFlags::CLONE_FS)?;
            env::set_current_dir("/")?;
        }
        sandbox::narrow(&calls(Some(role), self.opens_files)).map_err(io::Error::other)
    }
}
