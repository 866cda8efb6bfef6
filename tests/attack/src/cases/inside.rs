//! Code that took over a thread of a worker or the controller: system calls that are made in the real process, by ptrace(2).

use crate::intruder::Intruder;
use crate::suite::{Boundary, Case, Cases};
use crate::user::{ALLOWED, HONEST, as_user};
use crate::wire::tag;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;
use test_kit::{Cluster, DEADLINE, HungFile, MessageJob, Options, Running, output, until};

pub(crate) fn cases() -> Vec<Case> {
    [denied(), signals(), hung()].into_iter().flatten().collect()
}

/// A system call with up to six numbers; where `path` is there, it is in memory, and [`AT`] its address.
struct Attempt {
    name: &'static str,
    number: libc::c_long,
    arguments: [u64; 6],
    path: &'static str,
}

/// Stands for the address of the path.
const AT: u64 = u64::MAX - 1;
/// `AT_FDCWD`, or no descriptor.
const NONE: u64 = u64::MAX - 99;

fn attempt(
    name: &'static str,
    number: libc::c_long,
    arguments: [u64; 6],
    path: &'static str,
) -> Attempt {
    Attempt { name, number, arguments, path }
}

/// Calls that nothing here needs.
fn attempts() -> Vec<Attempt> {
    vec![
        attempt("running a program", libc::SYS_execve, [AT, 0, 0, 0, 0, 0], "/bin/true"),
        attempt(
            "running a program by descriptor",
            libc::SYS_execveat,
            [NONE, AT, 0, 0, 0, 0],
            "/bin/true",
        ),
        attempt("reading /etc/passwd", libc::SYS_openat, [NONE, AT, 0, 0, 0, 0], "/etc/passwd"),
        attempt(
            "reading another process's memory",
            libc::SYS_openat,
            [NONE, AT, 0, 0, 0, 0],
            "/proc/self/mem",
        ),
        attempt(
            "making a file",
            libc::SYS_openat,
            [NONE, AT, 0o101, 0o666, 0, 0],
            "/tmp/attack-made-it",
        ),
        attempt(
            "removing a file",
            libc::SYS_unlinkat,
            [NONE, AT, 0, 0, 0, 0],
            "/tmp/attack-not-there",
        ),
        attempt(
            "renaming a file",
            libc::SYS_renameat2,
            [NONE, AT, NONE, AT, 0, 0],
            "/tmp/attack-not-there",
        ),
        attempt(
            "making a link",
            libc::SYS_symlinkat,
            [AT, NONE, AT, 0, 0, 0],
            "/tmp/attack-not-there/x",
        ),
        attempt("changing a mode", libc::SYS_fchmodat, [NONE, AT, 0o777, 0, 0, 0], "/tmp"),
        attempt("a socket of the network", libc::SYS_socket, [2, 1, 0, 0, 0, 0], ""),
        attempt("a socket of the kernel", libc::SYS_socket, [16, 3, 0, 0, 0, 0], ""),
        attempt("a raw socket", libc::SYS_socket, [17, 3, 0, 0, 0, 0], ""),
        attempt("listening", libc::SYS_listen, [0, 1, 0, 0, 0, 0], ""),
        attempt("tracing", libc::SYS_ptrace, [16, 1, 0, 0, 0, 0], ""),
        attempt("reading memory of others", libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0], ""),
        attempt("writing memory of others", libc::SYS_process_vm_writev, [1, 0, 0, 0, 0, 0], ""),
        attempt("taking descriptors of others", libc::SYS_pidfd_getfd, [0, 0, 0, 0, 0, 0], ""),
        attempt("watching others", libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0], ""),
        attempt("killing others", libc::SYS_kill, [i32::MAX as u64, 9, 0, 0, 0, 0], ""),
        attempt("memory to be run", libc::SYS_mmap, [0, 4096, 5, 0x22, u64::MAX, 0], ""),
        attempt("memory made to be run", libc::SYS_mprotect, [0, 4096, 5, 0, 0, 0], ""),
        attempt("a process", libc::SYS_clone, [17, 0, 0, 0, 0, 0], ""),
        attempt("a process of the new kind", libc::SYS_clone3, [0, 0, 0, 0, 0, 0], ""),
        attempt("an io_uring", libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0], ""),
        attempt(
            "registering with an io_uring",
            libc::SYS_io_uring_register,
            [0, 0, 0, 0, 0, 0],
            "",
        ),
        attempt("a program in the kernel", libc::SYS_bpf, [5, 0, 0, 0, 0, 0], ""),
        attempt("counters of the processor", libc::SYS_perf_event_open, [0, 0, 0, 0, 0, 0], ""),
        attempt("handling page faults", libc::SYS_userfaultfd, [0, 0, 0, 0, 0, 0], ""),
        attempt("keys of the kernel", libc::SYS_keyctl, [0, 0, 0, 0, 0, 0], ""),
        attempt("mounting", libc::SYS_mount, [AT, AT, AT, 0, 0, 0], "/tmp/attack-not-there"),
        attempt("another root", libc::SYS_chroot, [AT, 0, 0, 0, 0, 0], "/tmp"),
        attempt("a namespace of its own", libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0, 0], ""),
        attempt("the namespace of others", libc::SYS_setns, [0, 0, 0, 0, 0, 0], ""),
        attempt("more rights", libc::SYS_capset, [0, 0, 0, 0, 0, 0], ""),
        attempt("another user", libc::SYS_setresuid, [0, 0, 0, 0, 0, 0], ""),
        attempt("higher limits", libc::SYS_prlimit64, [0, 7, 0, 0, 0, 0], ""),
        attempt("being dumped", libc::SYS_prctl, [4, 1, 0, 0, 0, 0], ""),
        attempt("a module of the kernel", libc::SYS_finit_module, [0, 0, 0, 0, 0, 0], ""),
        attempt("a file in memory", libc::SYS_memfd_create, [AT, 0, 0, 0, 0, 0], "x"),
        attempt("an endless sleep in a lock of others", libc::SYS_flock, [0, 2, 0, 0, 0, 0], ""),
    ]
}

/// A call that a controller makes when it ends.
const OF_CONTROLLER: libc::c_long = libc::SYS_flock;

fn denied() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Sandbox);
    for attempt in attempts() {
        cases.add(attempt.name, "denied in every thread, and the worker works on", move |site| {
            is_denied(site.cluster().pids()[1], &attempt);
        });
    }
    for attempt in attempts().into_iter().filter(|attempt| attempt.number != OF_CONTROLLER) {
        let name = format!("{}, by the controller", attempt.name);
        cases.add(name, "denied in every thread, and the controller goes on", move |site| {
            is_denied(site.cluster().pids()[0], &attempt);
        });
    }
    cases.done()
}

/// Makes the attempt in every thread of a process.
fn is_denied(pid: u32, attempt: &Attempt) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tasks = tasks.map(|task| task.unwrap().file_name().into_string().unwrap().parse());
    for task in tasks.map(Result::unwrap) {
        let errno = inside(Pid::from_raw(task), attempt);
        // Where a path leads nowhere, the process sees no file at all.
        let is_denied = matches!(
            errno,
            Some(Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::ENOENT | GONE)
        );
        assert!(is_denied, "thread {task}: {errno:?}");
    }
}

/// The thread has ended meanwhile; no call that is tried fails so.
const GONE: Errno = Errno::ECHILD;

/// `syscall`, backwards.
const SYSCALL: i64 = 0x050f;

/// Has a thread that waits in a system call make another one; its error, if it fails.
fn inside(thread: Pid, attempt: &Attempt) -> Option<Errno> {
    let stopped = || {
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        ptrace::getregs(thread).unwrap()
    };
    let before = until("a thread that waits in a system call", || {
        match ptrace::attach(thread) {
            Err(Errno::ESRCH) => return Some(None),
            attached => attached.unwrap(),
        }
        let registers = stopped();
        let at = registers.rip - 2;
        if ptrace::read(thread, at as ptrace::AddressType).unwrap() & 0xffff == SYSCALL {
            return Some(Some(registers));
        }
        ptrace::detach(thread, None).unwrap();
        None
    });
    let Some(before) = before else { return Some(GONE) };
    // Below what the thread's function uses.
    let memory = (before.rsp - 4096) & !7;
    let path = [attempt.path.as_bytes(), &[0; 8]].concat();
    for (i, word) in path.chunks_exact(8).enumerate() {
        let at = (memory + 8 * i as u64) as ptrace::AddressType;
        ptrace::write(thread, at, i64::from_le_bytes(word.try_into().unwrap())).unwrap();
    }
    let value = |argument| if argument == AT { memory } else { argument };
    let [rdi, rsi, rdx, r10, r8, r9] = attempt.arguments.map(value);
    let mut registers = before;
    (registers.rdi, registers.rsi, registers.rdx) = (rdi, rsi, rdx);
    (registers.r10, registers.r8, registers.r9) = (r10, r8, r9);
    registers.rax = attempt.number.cast_unsigned();
    registers.orig_rax = u64::MAX;
    registers.rip -= 2;
    ptrace::setregs(thread, registers).unwrap();
    ptrace::step(thread, None).unwrap();
    let result = stopped().rax.cast_signed();
    ptrace::setregs(thread, before).unwrap();
    ptrace::detach(thread, None).unwrap();
    i32::try_from(-result).ok().filter(|errno| (1..4096).contains(errno)).map(Errno::from_raw)
}

fn signals() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Signals);
    cases.add("signals from another user", "the kernel permits none", |site| {
        let pids = site.cluster().pids();
        as_user(ALLOWED, || {
            for pid in pids {
                for signal in [Signal::SIGTERM, Signal::SIGSTOP, Signal::SIGKILL] {
                    let sent = kill(Pid::from_raw(pid.cast_signed()), signal);
                    assert_eq!(sent, Err(Errno::EPERM), "{signal} to {pid}");
                }
            }
        });
    });
    cases.add("thousands of signals that mean nothing", "nothing", |site| {
        for pid in site.cluster().pids() {
            for signal in [
                Signal::SIGCHLD,
                Signal::SIGURG,
                Signal::SIGWINCH,
                Signal::SIGCONT,
                Signal::SIGPIPE,
            ] {
                // The standard library ignores SIGPIPE, and who does not would end.
                for _ in 0..300 {
                    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
                }
            }
        }
    });
    cases.add("programs that stop and go on", "nothing", |site| {
        for pid in site.cluster().pids() {
            for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
                kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
            }
        }
    });
    cases.add_slow(
        "a worker that stands still for seven seconds",
        "closed as silent, its work goes on; it comes back",
        |_| {
            let cluster = Cluster::start(Options::default());
            let signal = |signal| {
                kill(Pid::from_raw(cluster.workers[0].id().cast_signed()), signal).unwrap();
            };
            signal(Signal::SIGSTOP);
            until("one worker less", || (cluster.status().workers.len() == 1).then_some(()));
            MessageJob::on(&cluster).round_trip();
            signal(Signal::SIGCONT);
            cluster.wait_ready(2);
        },
    );
    for (signal, code) in
        [(Signal::SIGINT, Some(4)), (Signal::SIGTERM, Some(4)), (Signal::SIGKILL, None)]
    {
        cases.add(
            format!("{signal} to hashctl in the middle"),
            "it ends, and its job with it",
            move |site| {
                let mut endless = site.hashctl();
                let file = test_kit::sparse_file(1 << 42);
                let path = format!(
                    "/proc/{}/fd/{}",
                    std::process::id(),
                    std::os::fd::AsRawFd::as_raw_fd(&file)
                );
                let mut sum = Running::start(endless.arg("sum").arg(path), DEADLINE);
                until("its job", || {
                    let is_there = site
                        .cluster()
                        .status()
                        .jobs
                        .iter()
                        .any(|job| job.uid != HONEST && job.items > 0);
                    is_there.then_some(())
                });
                sum.signal(signal);
                assert!(sum.is_running() || code.is_some() || signal == Signal::SIGKILL);
                assert_eq!(sum.end().status.code(), code);
                until("the end of its job", || {
                    site.cluster().status().jobs.iter().all(|job| job.uid == HONEST).then_some(())
                });
            },
        );
    }
    cases.done()
}

fn hung() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Descriptors);
    cases.add_slow(
        "a file on a dead FUSE server",
        "costs one worker's thread; others are done at once",
        |_| {
            let hung = HungFile::new();
            let cluster = Cluster::start(Options { workers: 2, threads: 2, ..Options::default() });
            let mut stuck = Running::start(cluster.hashctl().arg("sum").arg(hung.path()), DEADLINE);
            hung.wait_for_read();
            let sum = Running::start(
                cluster.hashctl().args(["sum", "/etc/passwd"]),
                Duration::from_secs(5),
            );
            assert!(sum.end().status.success());
            assert!(stuck.is_running());
            stuck.signal(Signal::SIGKILL);
            stuck.end();
            (0..20).for_each(|_| {
                let sum = output(cluster.hashctl().args(["sum", "/etc/passwd"]));
                assert!(sum.status.success(), "{sum:?}");
            });
            assert!(cluster.status().workers.len() == 2, "each worker has a thread left");
            drop(hung);
        },
    );
    cases.add_slow(
        "a file on a dead FUSE server, closed by who passed it",
        "nobody waits for its close",
        |_| {
            let hung = HungFile::new();
            let cluster = Cluster::start(Options::default());
            let file = fs::File::open(hung.path()).unwrap();
            let mut peer = Intruder::client(&cluster.client_socket());
            peer.send_with(&tag(5).frame(), &[&file]);
            drop(file);
            peer.closed::<ipc_proto::message::ClientReply>();
            MessageJob::on(&cluster).round_trip();
        },
    );
    cases.done()
}
