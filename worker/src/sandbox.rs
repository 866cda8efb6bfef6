//! The sandbox of a worker: all that it keeps when it reads untrusted bytes.

use crate::log::{Event, LOG};
use engine::input::dataset::Datasets;
use libc::{
    AF_UNIX, AF_VSOCK, AT_FDCWD, CLONE_FS, CLONE_THREAD, PROT_EXEC, SIGABRT, STDERR_FILENO,
};

#[cfg(target_arch = "x86_64")]
use libc::SYS_poll;
/// Only older architectures have the older call.
#[cfg(not(target_arch = "x86_64"))]
use libc::SYS_ppoll as SYS_poll;
use nix::sched::{CloneFlags, unshare};
use sandbox::{
    Call, CapabilitySet, Condition, Enforcement, EnterError, Files, Layer, Profile, Report,
};
use std::env;
use std::io;

/// Threads that make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// All.
    All,
    /// Those that start others: all but the ones that hash, watch or write the log.
    Starters,
    /// None any more, once each has taken up its role.
    First,
    /// The link, and those that hash.
    Readers,
    /// Those of one role.
    Only(Role),
}

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
    /// It closes descriptors, and starts another one if that can take long.
    Closer,
}

/// A system call with its users and their reason.
#[derive(Debug)]
pub struct AllowedCall {
    /// Its name in Linux.
    pub name: &'static str,
    /// The call.
    pub call: Call,
    /// Its users.
    pub users: Users,
    /// Why they need it.
    pub why: &'static str,
}

/// Rows of [`CALLS`]: `USERS name number, [conditions], "why"`.
macro_rules! rows {
    ($($users:ident$(($role:path))? $name:ident $number:expr, [$($condition:expr),*], $why:literal;)*) => {
        &[$(AllowedCall {
            name: stringify!($name),
            call: Call::only($number as libc::c_long, &[$($condition),*]),
            users: Users::$users$(($role))?,
            why: $why,
        }),*]
    };
}

const fn bits(value: libc::c_int) -> u32 {
    value.cast_unsigned()
}

const NOT_CODE: Condition = Condition::Lacks(2, bits(PROT_EXEC));

/// The working directory is that of sockets. The condition costs each file 0.1 µs, so hashing threads leave
/// the directory instead.
const IN_DATASET: Condition = Condition::IsNot(0, bits(AT_FDCWD));

/// All system calls of a worker that serves.
pub const CALLS: &[AllowedCall] = rows! {
    All mmap libc::SYS_mmap, [NOT_CODE], "the allocator, and stacks of threads";
    All mprotect libc::SYS_mprotect, [NOT_CODE], "the allocator, and guard pages of stacks";
    All munmap libc::SYS_munmap, [], "the allocator, and stacks of threads";
    All mremap libc::SYS_mremap, [], "the allocator";
    All madvise libc::SYS_madvise, [], "the allocator, and stacks of threads";
    All brk libc::SYS_brk, [], "the allocator";
    All futex libc::SYS_futex, [], "locks, channels, and the end of a thread";
    All sched_yield libc::SYS_sched_yield, [], "channels, before they sleep";
    All rt_sigprocmask libc::SYS_rt_sigprocmask, [], "starts and ends of threads";
    All sigaltstack libc::SYS_sigaltstack, [], "the stack for reporting that another one overflowed";
    All rt_sigreturn libc::SYS_rt_sigreturn, [], "the end of a handler";
    All restart_syscall libc::SYS_restart_syscall, [], "the kernel, after a process was stopped";
    All clock_gettime libc::SYS_clock_gettime, [], "clocks, where the kernel maps no function for them";
    All gettid libc::SYS_gettid, [], "the C library at the start of a thread, and before it aborts";
    All getpid libc::SYS_getpid, [], "the C library, before it aborts";
    All tgkill libc::SYS_tgkill, [Condition::Is(2, bits(SIGABRT))], "abort(3)";
    All clock_nanosleep libc::SYS_clock_nanosleep, [], "the margin before a busy file is read again, and after a signal";
    All nanosleep libc::SYS_nanosleep, [], "the same, with musl";
    All fcntl libc::SYS_fcntl, [Condition::Is(1, bits(libc::F_GETFD))], "checks of the standard library, if it has them";
    All exit libc::SYS_exit, [], "the end of a thread";
    All exit_group libc::SYS_exit_group, [], "the end of the process";
    All write libc::SYS_write, [Condition::Is(0, bits(STDERR_FILENO))], "the log";
    All close libc::SYS_close, [], "sockets, and files by name";
    All close_range libc::SYS_close_range, [], "files of a batch";
    All sendmsg libc::SYS_sendmsg, [], "answers and heartbeats";
    All poll SYS_poll, [], "a socket that takes no more for now";
    All prctl libc::SYS_prctl, [Condition::Is(0, bits(libc::PR_SET_NAME))], "names of threads";
    Starters clone libc::SYS_clone, [Condition::Has(0, bits(CLONE_THREAD))], "threads";
    Starters clone3 libc::SYS_clone3, [], "threads; hidden, so that the C library uses clone";
    Starters set_robust_list libc::SYS_set_robust_list, [], "the C library at the start of a thread";
    Starters rseq libc::SYS_rseq, [], "the C library at the start of a thread";
    Starters sched_getaffinity libc::SYS_sched_getaffinity, [], "the C library, for a thread's stack";
    First sched_setaffinity libc::SYS_sched_setaffinity, [], "cores of hashing threads";
    First prctl libc::SYS_prctl, [Condition::Is(0, bits(libc::PR_SET_NO_NEW_PRIVS))], "a narrower filter";
    First rt_sigaction libc::SYS_rt_sigaction, [], "the C library at the start of the first thread";
    First seccomp libc::SYS_seccomp, [], "a narrower filter";
    First unshare libc::SYS_unshare, [Condition::Is(0, bits(CLONE_FS))], "a working directory of a hashing thread's own";
    First chdir libc::SYS_chdir, [], "leaving the directory of sockets, in hashing threads";
    Only(Role::Signals) rt_sigtimedwait libc::SYS_rt_sigtimedwait, [], "waiting for a signal";
    Only(Role::Signals) shutdown libc::SYS_shutdown, [], "waking the link";
    Only(Role::Watch) shutdown libc::SYS_shutdown, [], "the end of the connection, where the process may not end soon";
    Only(Role::Link) socket libc::SYS_socket, [Condition::Is(0, bits(AF_UNIX))], "reconnecting";
    Only(Role::Link) socket libc::SYS_socket, [Condition::Is(0, bits(AF_VSOCK))], "reconnecting, in a VM";
    Only(Role::Link) connect libc::SYS_connect, [], "reconnecting";
    Only(Role::Link) getsockopt libc::SYS_getsockopt, [], "the end of connecting, over vsock";
    Only(Role::Link) ioctl libc::SYS_ioctl, [Condition::Is(1, 0x5421)], "FIONBIO, while connecting over vsock";
    Only(Role::Link) setsockopt libc::SYS_setsockopt, [], "time limits and buffers of the connection";
    Only(Role::Link) getcwd libc::SYS_getcwd, [], "noticing that the socket's directory was removed";
    Only(Role::Link) getrandom libc::SYS_getrandom, [], "pauses before reconnecting, and hash tables";
    Only(Role::Link) recvmsg libc::SYS_recvmsg, [], "leases, with their files";
    Only(Role::Link) shutdown libc::SYS_shutdown, [], "the end of a connection";
    Only(Role::Link) fcntl libc::SYS_fcntl, [Condition::Is(1, bits(libc::F_DUPFD_CLOEXEC))], "heartbeats";
    Readers preadv2 libc::SYS_preadv2, [], "short files that are in memory";
    Readers pread64 libc::SYS_pread64, [], "files";
    Readers statx libc::SYS_statx, [], "the kind of a file, and if it held still";
    Readers fstatfs libc::SYS_fstatfs, [], "the clock of a file's times";
    Readers fcntl libc::SYS_fcntl, [Condition::Is(1, bits(libc::F_SETLEASE))], "a file's writers";
    Readers lseek libc::SYS_lseek, [Condition::Is(2, bits(libc::SEEK_DATA))], "waiting for a write that is in progress";
    Only(Role::Hash) openat libc::SYS_openat, [], "files by name in a dataset";
    Only(Role::Hash) openat2 libc::SYS_openat2, [], "files by name in a dataset";
    Only(Role::Link) openat libc::SYS_openat, [IN_DATASET], "files by name in a dataset";
    Only(Role::Link) openat2 libc::SYS_openat2, [IN_DATASET], "files by name in a dataset";
    Readers fadvise64 libc::SYS_fadvise64, [], "read-ahead, and leaving the page cache as it was";
    Readers cachestat 451, [], "leaving the page cache as it was";
    Only(Role::Hash) io_uring_enter libc::SYS_io_uring_enter, [], "files that are not in memory";
};

impl AllowedCall {
    /// Returns true if threads of that role make the call; those of none make all.
    #[must_use]
    pub fn is_for(&self, role: Option<Role>) -> bool {
        match (self.users, role) {
            (_, None) | (Users::All, _) => true,
            (Users::Starters, Some(role)) => !matches!(role, Role::Hash | Role::Log | Role::Watch),
            (Users::Readers, Some(role)) => matches!(role, Role::Link | Role::Hash),
            (Users::First, Some(_)) => false,
            (Users::Only(user), Some(role)) => user == role,
        }
    }
}

fn calls(role: Option<Role>, opens_files: bool) -> Vec<Call> {
    let opens =
        |row: &&AllowedCall| matches!(row.call.number, libc::SYS_openat | libc::SYS_openat2);
    let rows = CALLS.iter().filter(|row| row.is_for(role) && (opens_files || !opens(row)));
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
    /// Gives up everything but [`CALLS`] and the files of `datasets`, which are then read-only and those that
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
        let report = sandbox::enter(&mut Profile { files, capabilities, calls: &calls }, mode)?;
        LOG.log(&Event::Sandbox { layers: &report });
        let filters = report.has(Layer::Seccomp);
        let leaves_sockets = keeps_cwd && report.has(Layer::Namespaces);
        Ok((Self { filters, opens_files, leaves_sockets }, report))
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
