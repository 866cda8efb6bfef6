//! Tables of system calls: each with its users, the roles of threads, and their reason.

use crate::{Call, Condition};
use libc::{CLONE_FS, CLONE_THREAD, PROT_EXEC, SIGABRT, STDERR_FILENO};

#[cfg(target_arch = "x86_64")]
use libc::SYS_poll;
/// Only older architectures have the older call.
#[cfg(not(target_arch = "x86_64"))]
use libc::SYS_ppoll as SYS_poll;

/// A thread's task, of those that a program has.
pub trait ThreadRole: Copy + PartialEq + 'static {
    /// Returns true if it starts other threads.
    fn starts_threads(self) -> bool;
}

/// Threads that make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users<R: 'static> {
    /// All.
    All,
    /// Those that start others.
    Starters,
    /// None any more, once each has taken up its role.
    First,
    /// Those of some roles.
    Only(&'static [R]),
}

/// A system call with its users and their reason.
#[derive(Debug)]
pub struct AllowedCall<R: 'static> {
    /// Its name in Linux.
    pub name: &'static str,
    /// The call.
    pub call: Call,
    /// Its users.
    pub users: Users<R>,
    /// Why they need it.
    pub why: &'static str,
}

/// Rows of a table: `USERS name number, [conditions], "why"`; `USERS` is one of [`Users`], or some roles
/// in brackets.
#[macro_export]
macro_rules! allowed_calls {
    (@users $users:ident) => { $crate::Users::$users };
    (@users [$($role:expr),*]) => { $crate::Users::Only(&[$($role),*]) };
    ($($users:tt $name:ident $number:expr, [$($condition:expr),*], $why:literal;)*) => {
        &[$($crate::AllowedCall {
            name: stringify!($name),
            call: $crate::Call::only($number as libc::c_long, &[$($condition),*]),
            users: $crate::allowed_calls!(@users $users),
            why: $why,
        }),*]
    };
}

/// The bits of one of the C library's constants.
#[must_use]
pub const fn bits(value: libc::c_int) -> u32 {
    value.cast_unsigned()
}

const NOT_CODE: Condition = Condition::Lacks(2, bits(PROT_EXEC));

impl<R: ThreadRole> AllowedCall<R> {
    /// Calls of the allocator, of threads and their ends, and of the log.
    pub const RUNTIME: &'static [Self] = allowed_calls! {
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
        All tkill libc::SYS_tkill, [Condition::Is(1, bits(SIGABRT))], "abort(3), with musl";
        All exit libc::SYS_exit, [], "the end of a thread";
        All exit_group libc::SYS_exit_group, [], "the end of the process";
        All write libc::SYS_write, [Condition::Is(0, bits(STDERR_FILENO))], "the log";
        All fcntl libc::SYS_fcntl, [Condition::Is(1, bits(libc::F_GETFD))], "checks of the standard library, if it has them";
        All close libc::SYS_close, [], "sockets, and files by name";
        All close_range libc::SYS_close_range, [], "files that were passed";
        All sendmsg libc::SYS_sendmsg, [], "messages";
        All poll SYS_poll, [], "a socket that takes no more for now";
        All prctl libc::SYS_prctl, [Condition::Is(0, bits(libc::PR_SET_NAME))], "names of threads";
        Starters clone libc::SYS_clone, [Condition::Has(0, bits(CLONE_THREAD))], "threads";
        Starters clone3 libc::SYS_clone3, [], "threads; hidden, so that the C library uses clone";
        Starters set_robust_list libc::SYS_set_robust_list, [], "the C library at the start of a thread";
        Starters rseq libc::SYS_rseq, [], "the C library at the start of a thread";
        Starters sched_getaffinity libc::SYS_sched_getaffinity, [], "the C library, for a thread's stack";
        First prctl libc::SYS_prctl, [Condition::Is(0, bits(libc::PR_SET_NO_NEW_PRIVS))], "a narrower filter";
        First rt_sigaction libc::SYS_rt_sigaction, [], "the C library at the start of the first thread";
        First unshare libc::SYS_unshare, [Condition::Is(0, bits(CLONE_FS))], "a working directory of a thread's own";
        First fchdir libc::SYS_fchdir, [], "the directory of a collector's socket, in the thread that sends logs";
        First seccomp libc::SYS_seccomp, [], "a narrower filter";
    };

    /// Returns true if threads of that role make the call; those of none make all.
    #[must_use]
    pub fn is_for(&self, role: Option<R>) -> bool {
        match (self.users, role) {
            (_, None) | (Users::All, _) => true,
            (Users::Starters, Some(role)) => role.starts_threads(),
            (Users::First, Some(_)) => false,
            (Users::Only(users), Some(role)) => users.contains(&role),
        }
    }
}
