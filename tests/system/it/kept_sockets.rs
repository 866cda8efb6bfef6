//! Sockets that a service manager keeps while a controller is restarted, or makes before it starts.

use ipc_proto::endpoint::{CLIENT_SOCKET, WORKER_SOCKET};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use test_kit::{bin, output, until};

const DEADLINE: Duration = Duration::from_secs(20);

/// Becomes the program with the sockets that are its input and output, as systemd starts one.
const START: &str = "exec 3<&0 4>&1 </dev/null >&2; exec env LISTEN_PID=$$ LISTEN_FDS=2 \"$@\"";

/// Stands in for the manager: where it is told things, what it keeps, and its service.
struct Keeper {
    dir: TempDir,
    reports: UnixDatagram,
    kept: Vec<(String, OwnedFd)>,
    /// Names of those that it was told to close.
    removed: Vec<String>,
    controller: Option<Child>,
}

impl Keeper {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let reports = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        reports.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { dir, reports, kept: Vec::new(), removed: Vec::new(), controller: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the controller with the sockets that are kept, and waits until it is ready; names of those that it
    /// wants kept.
    fn start(&mut self) -> Vec<String> {
        let names: Vec<&str> = self.kept.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new("sh");
        command.args(["-c", START, "sh"]).arg(format!("LISTEN_FDNAMES={}", names.join(":")));
        if names.is_empty() {
            command = Command::new("env");
        }
        command.arg(bin("hashcluster-controller")).arg("--runtime-dir").arg(self.dir.path());
        command.env("NOTIFY_SOCKET", self.path("notify"));
        if let [first, second] = &self.kept[..] {
            command.stdin(first.1.try_clone().unwrap()).stdout(second.1.try_clone().unwrap());
        }
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        self.controller = Some(command.stderr(log).spawn().unwrap());
        let mut stored = Vec::new();
        loop {
            let (mut bytes, mut sockets) = ([0; 4096], Vec::new());
            let received = ipc_socket::recv(self.reports.as_fd(), &mut bytes, &mut sockets);
            let len = received.unwrap_or_else(|e| panic!("{e}: {}", self.log())).bytes_len;
            let report = String::from_utf8_lossy(&bytes[..len]).into_owned();
            if report == "READY=1" {
                return stored;
            }
            if let Some(name) = report.strip_prefix("FDSTORE=1\nFDNAME=") {
                stored.push(name.to_owned());
                self.kept.push((name.to_owned(), sockets.remove(0)));
            }
            if let Some(name) = report.strip_prefix("FDSTOREREMOVE=1\nFDNAME=") {
                self.removed.push(name.to_owned());
                self.kept.retain(|(kept, _)| kept != name);
            }
        }
    }

    fn end(&mut self, signal: Signal) {
        let mut controller = self.controller.take().unwrap();
        kill(Pid::from_raw(controller.id().cast_signed()), signal).unwrap();
        controller.wait().unwrap();
        // What it said at its end.
        self.reports.set_nonblocking(true).unwrap();
        while self.reports.recv(&mut [0; 4096]).is_ok() {}
        self.reports.set_nonblocking(false).unwrap();
    }

    fn status(&self) -> Command {
        let mut hashctl = Command::new(bin("hashctl"));
        hashctl.arg("status").env("HASHCLUSTER_RUNTIME_DIR", self.dir.path());
        hashctl.stdin(Stdio::null());
        hashctl
    }

    #[track_caller]
    fn answers(&self) {
        let output = output(&mut self.status());
        assert!(output.status.success(), "{output:?}\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(controller) = &mut self.controller {
            let _ = controller.kill();
            let _ = controller.wait();
        }
    }
}

fn is_of(socket: &OwnedFd, name: &str) -> bool {
    let address = UnixListener::from(socket.try_clone().unwrap()).local_addr().unwrap();
    address.as_pathname().is_some_and(|path| path.ends_with(name))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn whoever_connects_while_a_controller_is_restarted_waits_and_is_served() {
    let mut keeper = Keeper::new();
    assert_eq!(keeper.start().len(), 2, "client and worker socket");
    keeper.answers();
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        keeper.end(signal);
        let waiting =
            keeper.status().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that the controller accepted, and did not answer any more, comes again.
        let (_, socket) = keeper.kept.iter().find(|(_, kept)| is_of(kept, CLIENT_SOCKET)).unwrap();
        let listener = UnixListener::from(socket.try_clone().unwrap());
        listener.set_nonblocking(false).unwrap();
        drop(listener.accept().unwrap());
        assert!(keeper.start().is_empty(), "they are kept already");
        let output = waiting.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}\n{}", keeper.log());
        assert_eq!(mode(&keeper.path(CLIENT_SOCKET)), 0o600);
    }
    assert!(keeper.removed.is_empty(), "{:?}", keeper.removed);
}

#[test]
fn a_kept_socket_that_nobody_reaches_any_more_is_replaced() {
    let mut keeper = Keeper::new();
    let before = keeper.start();
    keeper.end(Signal::SIGTERM);
    // Another controller had the directory meanwhile.
    for name in [CLIENT_SOCKET, WORKER_SOCKET] {
        fs::rename(keeper.path(name), keeper.path("old")).unwrap();
        drop(UnixListener::bind(keeper.path(name)).unwrap());
    }
    let after = keeper.start();
    assert_eq!((after.len(), keeper.removed.len()), (2, 2), "{}", keeper.log());
    assert!(before.iter().all(|name| keeper.removed.contains(name) && !after.contains(name)));
    keeper.answers();
}

#[test]
fn a_socket_that_the_manager_made_is_listened_on_with_the_mode_that_it_has() {
    let mut keeper = Keeper::new();
    let path = keeper.path(CLIENT_SOCKET);
    let made = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    let other = UnixListener::bind(keeper.path("other")).unwrap();
    keeper.kept = vec![("a.socket".to_owned(), made.into()), ("b.socket".to_owned(), other.into())];
    assert_eq!(keeper.start().len(), 1, "the worker socket is new");
    keeper.answers();
    assert_eq!(mode(&path), 0o660);
    let line =
        "the service manager's socket b.socket is at no path that this controller listens at";
    until("it is told what it made for nothing", || keeper.log().contains(line).then_some(()));
    // The path is the manager's: it stays.
    keeper.end(Signal::SIGTERM);
    assert!(path.exists());
}
