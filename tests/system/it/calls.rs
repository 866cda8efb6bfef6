//! The lists of system calls that worker and controller may make have nothing that they never make.
//!
//! Both run under strace(1) through all kinds of work; each row of the lists is then a call that was
//! made, or one of [`UNSEEN`].

use hashcluster_controller::driver::sandbox as controller;
use hashcluster_worker::sandbox as worker;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::{AllowedCall, Condition, ThreadRole};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use test_kit::{Cluster, Options, bin, free_ports, output, until};

/// Rows by their reason, and why no run of this test can be relied on to make the call.
const UNSEEN: &[(&str, &str)] = &[
    ("clocks, where the kernel maps no function for them", "depends on the clock of the host"),
    ("channels, before they sleep", "depends on who is faster"),
    ("the allocator", "brk and mremap depend on the allocator"),
    ("the allocator, and stacks of threads", "madvise depends on when threads end"),
    ("the kernel, after a process was stopped", "made by the kernel, not by the program"),
    ("the C library, before it aborts", "an error path"),
    (
        "the C library at the start of a thread, and before it aborts",
        "glibc 2.36 has no need at a start",
    ),
    ("abort(3)", "an error path"),
    ("abort(3), with musl", "an error path"),
    ("checks of the standard library, if it has them", "made by builds for debugging only"),
    ("a socket that takes no more for now", "needs a peer that reads slowly at the right moment"),
    ("the C library, for a thread's stack", "not made by musl"),
    ("the same, with musl", "made by musl, where others use clock_nanosleep"),
    (
        "the margin before a busy file is read again, and after a signal",
        "depends on the clock of the file system",
    ),
    ("reconnecting, in a VM", "needs vsock"),
    ("the end of connecting, over vsock", "needs vsock"),
    ("FIONBIO, while connecting over vsock", "needs vsock"),
    ("waiting for a write that is in progress", "needs a writer at the right moment"),
    ("the end of the connection, where the process may not end soon", "an error path"),
];

/// Calls of one program once it was in its sandbox: their names, and the lower halves of their arguments.
struct Trace(Vec<(String, Vec<u32>)>);

impl Trace {
    /// Reads what strace wrote about all processes of `name`.
    fn read(dir: &Path, name: &str) -> Self {
        let mut calls = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_stem().is_some_and(|stem| stem == name) {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                let inside = text.lines().skip_while(|line| !line.contains(" seccomp("));
                calls.extend(inside.filter(|line| !line.contains(" EPERM ")).filter_map(parse));
            }
        }
        assert!(calls.len() > 100, "{name}: only {} calls", calls.len());
        Self(calls)
    }

    fn has<R: ThreadRole>(&self, row: &AllowedCall<R>) -> bool {
        self.0.iter().any(|(name, arguments)| {
            let argument = |index: u8| arguments.get(usize::from(index)).copied();
            let holds = |condition: &Condition| match *condition {
                Condition::Is(index, value) => argument(index) == Some(value),
                Condition::IsNot(index, value) => argument(index) != Some(value),
                Condition::Lacks(index, bits) => argument(index).is_some_and(|a| a & bits == 0),
                Condition::Has(index, bits) => argument(index).is_some_and(|a| a & bits == bits),
            };
            // As strace calls what is newer than it.
            let number = format!("syscall_{:#x}", row.call.number);
            (name == row.name || *name == number) && row.call.conditions.iter().all(holds)
        })
    }
}

/// A line such as `17 write(0x2, 0x7f00, 0x1f) = 0x1f`; a call that is interrupted is begun once.
fn parse(line: &str) -> Option<(String, Vec<u32>)> {
    let (_pid, call) = line.split_once(' ')?;
    let (name, rest) = call.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let arguments = rest.split([')', '<']).next()?.split(", ");
    let number = |text: &str| {
        let digits = text.trim().trim_start_matches("0x");
        let value = u64::from_str_radix(digits, 16).ok()?;
        u32::try_from(value & u64::from(u32::MAX)).ok()
    };
    is_name.then(|| (name.to_owned(), arguments.map_while(number).collect()))
}

/// A directory of programs in which worker and controller run under strace.
fn traced(dir: &Path) {
    for name in ["hashcluster-controller", "hashcluster-worker"] {
        let script = format!(
            "#!/bin/sh\nexec strace -D -f -q -e raw=all -e signal=none -o {}/{name}.$$ -- {} \"$@\"\n",
            dir.display(),
            bin(name).display()
        );
        fs::write(dir.join(name), script).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink(bin("hashctl"), dir.join("hashctl")).unwrap();
}

/// Takes a file out of the page cache.
fn evict(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .unwrap();
}

#[track_caller]
fn sum(cluster: &Cluster, args: &[&str]) {
    let output = output(cluster.hashctl().arg("sum").args(args));
    assert!(output.status.success(), "{args:?}: {output:?}\n{}", cluster.logs());
}

/// Reads the metrics.
fn ask(mut stream: impl Read + Write) {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[track_caller]
fn end(child: &mut std::process::Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

#[test]
fn every_system_call_that_is_allowed_is_made() {
    // Not where files are always in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (programs, data) = (dir.path().join("bin"), dir.path().join("data"));
    fs::create_dir(&programs).unwrap();
    fs::create_dir(&data).unwrap();
    traced(&programs);
    let settings = dir.path().join("datasets.toml");
    fs::write(&settings, "").unwrap();
    let http = dir.path().join("http.sock");
    // Collectors of either kind.
    let syslog = dir.path().join("syslog.sock");
    let _of_controller = UnixDatagram::bind(&syslog).unwrap();
    let of_workers = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("--syslog=udp:{}", of_workers.local_addr().unwrap());
    // One of the workers has it.
    let worker_http = format!("127.0.0.1:{}", free_ports(1)[0]);
    let worker_page = format!("--http={worker_http}");
    let mut cluster = Cluster::start(Options {
        bin_dir: Some(programs.clone()),
        threads: 2,
        datasets: vec![("d", data.clone())],
        controller_args: vec![
            "--allow-uid=60123".to_owned(),
            format!("--datasets-file={}", settings.display()),
            format!("--http=unix:{}", http.display()),
            format!("--state-dir={}", dir.path().join("state").display()),
            format!("--syslog={}", syslog.display()),
        ],
        worker_args: vec!["--drop-behind", address.leak(), worker_page.leak()],
        ..Options::default()
    });
    cluster.link_datasets();
    let path = |name: &str| data.join(name).to_str().unwrap().to_owned();
    for number in 0..200 {
        fs::write(data.join(format!("small{number}")), number.to_string().repeat(1000)).unwrap();
    }
    fs::create_dir(data.join("sub")).unwrap();
    fs::write(data.join("sub/file"), "in a directory below").unwrap();
    let mut large = File::create(data.join("large")).unwrap();
    large.write_all(&vec![7; 40 << 20]).unwrap();
    let tree = data.to_str().unwrap();
    for plane in ["descriptors", "dataset", "inline"] {
        for algorithm in ["sha256", "blake3"] {
            for entry in fs::read_dir(&data).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    evict(&path);
                }
            }
            sum(&cluster, &["--plane", plane, "-a", algorithm, "-r", tree]);
        }
        fs::write(data.join("young"), plane).unwrap();
        sum(&cluster, &["--plane", plane, &path("young")]);
    }
    sum(&cluster, &["/proc/version"]);
    // Another user's descriptors are looked at.
    fs::set_permissions(cluster.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if nix::unistd::geteuid().is_root() {
        let mut command = cluster.hashctl();
        command.args(["sum", "/etc/passwd"]).uid(60123).gid(60123);
        let output = output(&mut command);
        assert!(output.status.success(), "{output:?}");
    }
    ask(UnixStream::connect(&http).unwrap());
    ask(TcpStream::connect(&worker_http).unwrap());
    kill(Pid::from_raw(cluster.controller.id().cast_signed()), Signal::SIGHUP).unwrap();
    until("the files are read again", || cluster.logs().contains("datasets").then_some(()));
    assert!(cluster.terminate_controller());
    until("a worker looks for the controller", || {
        cluster.logs().contains("trying until there is one").then_some(())
    });
    cluster.restart_controller();
    cluster.wait_ready(2);
    sum(&cluster, &[&path("small1")]);
    cluster.workers.iter_mut().for_each(end);
    end(&mut cluster.controller);
    until("strace wrote everything", || {
        let traces = fs::read_dir(&programs).unwrap().map(|entry| entry.unwrap().path());
        let traces = traces.filter(|path| path.extension().is_some());
        let mut texts = traces.map(|path| fs::read(path).unwrap());
        texts.all(|text| String::from_utf8_lossy(&text).contains(" +++ exited with ")).then_some(())
    });
    let (of_controller, of_worker) = (
        Trace::read(&programs, "hashcluster-controller"),
        Trace::read(&programs, "hashcluster-worker"),
    );
    let mut unused = Vec::new();
    let runtime = AllowedCall::<worker::Role>::RUNTIME;
    for row in runtime {
        let is_made = of_controller.has(row) || of_worker.has(row);
        unused.extend((!is_made).then_some(("both", row.name, row.why)));
    }
    for row in controller::allowed_calls().skip(runtime.len()) {
        unused.extend((!of_controller.has(row)).then_some(("controller", row.name, row.why)));
    }
    for row in worker::allowed_calls().skip(runtime.len()) {
        unused.extend((!of_worker.has(row)).then_some(("worker", row.name, row.why)));
    }
    unused.retain(|(_, _, why)| !UNSEEN.iter().any(|(unseen, _)| unseen == why));
    assert_eq!(unused, [], "allowed, but never made");
    let rows = runtime.iter().map(|row| row.why);
    let rows = rows.chain(controller::allowed_calls().map(|row| row.why));
    let all: Vec<&str> = rows.chain(worker::allowed_calls().map(|row| row.why)).collect();
    for (why, _) in UNSEEN {
        assert!(all.contains(why), "{why}: no row has this reason any more");
    }
}

/// A thread that may not wake the event loop would lose a signal that the kernel gives to it, as it does while the main
/// thread is stopped by a debugger.
#[test]
fn signals_go_to_the_thread_that_acts_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let state = format!("--state-dir={}", dir.path().join("state").display());
    let cluster = Cluster::start(Options { controller_args: vec![state], ..Options::default() });
    let pid = cluster.controller.id();
    let handled = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let handled = handled.into_iter().fold(0_u64, |set, signal| set | 1 << (signal as i32 - 1));
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let blocked = u64::from_str_radix(line("SigBlk:").trim(), 16).unwrap();
        let is_main = line("Pid:").trim() == pid.to_string();
        assert_eq!(blocked & handled, if is_main { 0 } else { handled }, "{status}");
        threads += 1;
    }
    assert!(threads > 3, "{threads} threads");
}
