//! Code that took over a worker's thread finds everything closed. Each case runs in a process of its own,
//! as nothing leaves a sandbox.

use engine::input::dataset::Datasets;
use hashcluster_worker::sandbox::{Role, Sandbox, allowed_calls};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek};
use sandbox::{Call, CapabilitySet, Enforcement, Files, Layer, Profile, Report, narrow};
use std::env;
use std::fs::{self, File};
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use test_kit::{NUMBERS, alone, call, every_other_call_is_denied};

/// The sandbox of a worker with one dataset, `data`, and a socket in `dir`.
fn enter(dir: &Path) -> (Sandbox, Datasets) {
    let (sandbox, datasets, _) = enter_with_report(dir);
    (sandbox, datasets)
}

fn enter_with_report(dir: &Path) -> (Sandbox, Datasets, Report) {
    let mount = format!("d={}", dir.join("data").display()).parse().unwrap();
    let mut datasets = Datasets::open(vec![mount]).unwrap();
    env::set_current_dir(dir).unwrap();
    let (sandbox, report) = Sandbox::enter(Enforcement::Enforce, &mut datasets, true).unwrap();
    (sandbox, datasets, report)
}

/// Denies what ordinary users cannot have on some hosts, and the thread that asks.
fn deny(denied: &[libc::c_long]) {
    let others = (0..NUMBERS).filter(|number| !denied.contains(number));
    narrow(&others.map(Call::any).collect::<Vec<_>>()).unwrap();
}

#[test]
fn every_call_that_is_not_listed_is_denied_in_each_role() {
    alone("denied::every_call_that_is_not_listed_is_denied_in_each_role", |dir| {
        let (sandbox, _datasets) = enter(&dir);
        let check = |role| {
            let own = allowed_calls().filter(|row| row.is_for(role)).map(|row| row.call.number);
            every_other_call_is_denied(&own.collect());
        };
        check(None);
        thread::scope(|scope| {
            for role in [
                Role::Link,
                Role::Hash,
                Role::Signals,
                Role::Log,
                Role::Watch,
                Role::Closer,
                Role::Pages,
            ] {
                scope.spawn(move || {
                    sandbox.narrow(role).unwrap();
                    check(Some(role));
                });
            }
        });
    });
}

#[test]
fn calls_that_are_listed_with_conditions_are_denied_without() {
    alone("denied::calls_that_are_listed_with_conditions_are_denied_without", |dir| {
        let log = File::create(dir.join("log")).unwrap();
        enter(&dir);
        let (code, none) = (libc::PROT_READ | libc::PROT_EXEC, u64::MAX);
        let [code, domain, sigkill] =
            [code, libc::AF_INET, libc::SIGKILL].map(|value| u64::try_from(value).unwrap());
        let fd = u64::try_from(log.as_raw_fd()).unwrap();
        for (what, number, args) in [
            ("memory to be run", libc::SYS_mmap, [0, 4096, code, 0x22, none, 0]),
            ("memory made to be run", libc::SYS_mprotect, [0, 4096, code, 0, 0, 0]),
            ("a process", libc::SYS_clone, [17, 0, 0, 0, 0, 0]),
            ("a socket of the network", libc::SYS_socket, [domain, 1, 0, 0, 0, 0]),
            ("writing to a file", libc::SYS_write, [fd, 0, 0, 0, 0, 0]),
            ("killing", libc::SYS_tgkill, [1, 1, sigkill, 0, 0, 0]),
            ("a flag of a file", libc::SYS_fcntl, [fd, 4, 0, 0, 0, 0]),
            ("a core dump", libc::SYS_prctl, [4, 1, 0, 0, 0, 0]),
        ] {
            assert_eq!(call(number, args), Errno::EPERM, "{what}");
        }
        assert_eq!(call(libc::SYS_clone3, [0; 6]), Errno::ENOSYS);
    });
}

#[test]
fn only_files_of_datasets_can_be_opened() {
    alone("denied::only_files_of_datasets_can_be_opened", |dir| {
        let root = only_the_dataset_is_open(&dir, libc::ENOENT, libc::EROFS);
        let open = |path: &str| openat(&root, path, OFlag::O_RDONLY, Mode::empty());
        assert_eq!(read(&File::from(open("/0/file").unwrap())), b"data", "all that there is");
        assert_eq!(open("/cwd/shown").unwrap_err(), Errno::ENOENT, "beside the sockets");
    });
}

#[test]
fn only_files_of_datasets_can_be_opened_where_landlock_alone_denies_them() {
    alone("denied::only_files_of_datasets_can_be_opened_where_landlock_alone_denies_them", |dir| {
        deny(&[libc::SYS_unshare]);
        only_the_dataset_is_open(&dir, libc::EACCES, libc::EACCES);
    });
}

/// Enters the sandbox, where files outside of the dataset give one error, and those that would be written
/// to another one. Returns the dataset's directory.
fn only_the_dataset_is_open(dir: &Path, outside: i32, written: i32) -> OwnedFd {
    let shown = File::open(dir.join("shown")).unwrap();
    let (sandbox, mut datasets) = enter(dir);
    assert_eq!(read(&shown), b"shown", "what was passed stays readable");
    let root = datasets.roots_mut().next().unwrap().try_clone().unwrap();
    let open = |path: &Path, flags| openat(&root, path, flags, Mode::empty());
    let file = open(Path::new("file"), OFlag::O_RDONLY).unwrap();
    assert_eq!(read(&File::from(file)), b"data");
    let of_the_host =
        ["../shown", "/etc/passwd", "/proc/self/mem", "/proc", "/dev", "/etc", "/usr"];
    for path in of_the_host.map(PathBuf::from).into_iter().chain([dir.join("shown")]) {
        let error = open(&path, OFlag::O_RDONLY).unwrap_err();
        assert_eq!(error as i32, outside, "{}", path.display());
    }
    for (path, flags) in [("new", OFlag::O_CREAT), ("file", OFlag::empty())] {
        let error = open(Path::new(path), OFlag::O_WRONLY | flags).unwrap_err();
        assert_eq!(error as i32, written, "{path}");
    }
    let near_sockets = |role, denied| {
        sandbox.narrow(role).unwrap();
        let error = File::open("shown").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(denied), "{role:?}");
    };
    thread::scope(|scope| {
        scope.spawn(|| near_sockets(Role::Hash, outside));
        scope.spawn(|| near_sockets(Role::Link, libc::EPERM));
    });
    root
}

#[test]
fn a_worker_without_datasets_opens_no_file_at_all() {
    alone("denied::a_worker_without_datasets_opens_no_file_at_all", |dir| {
        let passed = File::open(&dir).unwrap();
        Sandbox::enter(Enforcement::Enforce, &mut Datasets::default(), false).unwrap();
        let opened = openat(&passed, "shown", OFlag::O_RDONLY, Mode::empty());
        assert_eq!(opened.unwrap_err(), Errno::EPERM, "relative to a directory that was passed");
    });
}

#[test]
fn the_sockets_of_the_working_directory_stay_reachable_and_its_removal_visible() {
    alone(
        "denied::the_sockets_of_the_working_directory_stay_reachable_and_its_removal_visible",
        |dir| {
            let run = dir.join("run");
            fs::create_dir(&run).unwrap();
            let _listener = UnixListener::bind(run.join("worker.sock")).unwrap();
            env::set_current_dir(&run).unwrap();
            let (removed, is_removed) = std::sync::mpsc::channel::<()>();
            let (go, is_entered) = std::sync::mpsc::channel::<()>();
            // A thread outside of the sandbox, with the host's directories.
            let outside = thread::spawn(move || {
                is_entered.recv().unwrap();
                fs::remove_dir_all(&run).unwrap();
                removed.send(()).unwrap();
            });
            // A namespace is a thread's, once it does not share its directories with others.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            Sandbox::enter(Enforcement::Enforce, &mut Datasets::default(), true).unwrap();
            UnixStream::connect("./worker.sock").unwrap();
            let name = env::current_dir().unwrap();
            assert_eq!(name, Path::new("/cwd"));
            go.send(()).unwrap();
            is_removed.recv().unwrap();
            env::current_dir().unwrap_err();
            outside.join().unwrap();
        },
    );
}

#[test]
fn a_write_in_progress_can_be_waited_for() {
    alone("denied::a_write_in_progress_can_be_waited_for", |dir| {
        let file = File::open(dir.join("shown")).unwrap();
        let (sandbox, _datasets) = enter(&dir);
        thread::scope(|scope| {
            scope.spawn(|| {
                sandbox.narrow(Role::Hash).unwrap();
                let result = lseek(&file, i64::MAX, Whence::SeekData);
                assert_eq!(result, Err(Errno::ENXIO), "no data there, and not denied");
                let result = lseek(&file, 0, Whence::SeekSet);
                assert_eq!(result, Err(Errno::EPERM), "nothing else needs it");
            });
        });
    });
}

fn read(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    let len = std::os::unix::fs::FileExt::read_at(file, &mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn no_other_peer_can_be_reached() {
    alone("denied::no_other_peer_can_be_reached", |dir| {
        let name = format!("hashcluster-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        UnixStream::connect_addr(&address).expect("before");
        enter(&dir);
        UnixStream::connect_addr(&address).expect_err("an abstract socket");
        let denied = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        denied(TcpStream::connect("127.0.0.1:1").unwrap_err());
        denied(UdpSocket::bind("127.0.0.1:0").unwrap_err());
    });
}

#[test]
fn no_program_is_started() {
    alone("denied::no_program_is_started", |dir| {
        enter(&dir);
        let error = Command::new("/bin/true").status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    });
}

#[test]
fn a_host_without_a_layer_is_refused_or_reported() {
    alone("denied::a_host_without_a_layer_is_refused_or_reported", |_| {
        deny(&[libc::SYS_landlock_create_ruleset]);
        let profile = &mut Profile {
            keeps_memlock: false,
            files: Files::Below { directories: &mut [], keeps_cwd: false },
            capabilities: CapabilitySet::empty(),
            calls: &(0..NUMBERS).map(Call::any).collect::<Vec<_>>(),
        };
        let error = sandbox::enter(profile, Enforcement::Enforce).unwrap_err().to_string();
        assert!(error.contains("no Landlock") && error.contains("best-effort"), "{error}");
        let report = sandbox::enter(profile, Enforcement::BestEffort).unwrap();
        assert!(!report.has(Layer::Landlock) && report.has(Layer::Seccomp), "{report}");
        assert!(report.to_string().contains("; without Landlock ("), "{report}");
        let report = sandbox::enter(profile, Enforcement::Off).unwrap();
        assert_eq!(report.to_string(), "off");
    });
}

#[test]
fn nothing_is_left_to_gain_or_to_leak() {
    alone("denied::nothing_is_left_to_gain_or_to_leak", |dir| {
        let status = File::open("/proc/thread-self/status").unwrap();
        let net = || fs::read_link("/proc/self/ns/net");
        net().unwrap();
        enter(&dir);
        net().unwrap_err();
        let mut text = vec![0; 8192];
        let len = std::os::unix::fs::FileExt::read_at(&status, &mut text, 0).unwrap();
        let text = String::from_utf8_lossy(&text[..len]).into_owned();
        let row = |key: &str| {
            let row = text.lines().find_map(|line| line.strip_prefix(key));
            row.unwrap_or_else(|| panic!("{key} in {text}")).trim().to_owned()
        };
        assert_eq!(row("NoNewPrivs:"), "1");
        assert_eq!(row("Seccomp:"), "2");
        let bits = |key| u64::from_str_radix(&row(key), 16).unwrap();
        // CAP_DAC_READ_SEARCH and CAP_LEASE.
        let kept = 1 << 2 | 1 << 28;
        for key in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(bits(key) & !kept, 0, "{key}");
        }
    });
}
