//! A directory for one test, the supervisor started in it, and what its children tell.

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;
use test_kit::{Ended, Running};

/// Time limit for everything.
const DEADLINE: Duration = Duration::from_secs(20);

/// Directories of one test, removed at its end.
pub(crate) struct Bench {
    dir: PathBuf,
    /// Lines that fakes tell, in order; and, in no order with them, `NAME gone PID` when a fake's
    /// process is no more.
    events: Receiver<String>,
    seen: Vec<String>,
    told: String,
}

impl Bench {
    /// `told` is what the fakes are told.
    pub(crate) fn new(test: &str, told: &str) -> Self {
        let fake =
            Path::new(test_kit::program("hashcluster-vm")).with_file_name("examples").join("fake");
        assert!(
            fake.exists(),
            "no {}: `cargo test -p hashcluster-vm` builds it, --test it does not",
            fake.display()
        );
        let dir = PathBuf::from(format!("/tmp/hcvm-{}-{test}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let bin_dir = dir.join("bin");
        fs::create_dir(&bin_dir).unwrap();
        for name in ["hashcluster-controller", "hashcluster-worker", "command"] {
            symlink(&fake, bin_dir.join(name)).unwrap();
        }
        let told_socket = UnixDatagram::bind(dir.join("events")).unwrap();
        let lives = UnixListener::bind(dir.join("life")).unwrap();
        let (sender, events) = channel();
        let ends = sender.clone();
        thread::spawn(move || relay(&told_socket, &sender));
        thread::spawn(move || {
            for life in lives.incoming() {
                let ends = ends.clone();
                thread::spawn(move || outlive(life.unwrap(), &ends));
            }
        });
        Self { dir, events, seen: Vec::new(), told: told.into() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// `hashcluster-vm ARGS…`, or `local` before `up` and `run`, in a process group of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(test_kit::program("hashcluster-vm"));
        command.args(["up", "run"].contains(&args[0]).then_some("local"));
        command.args(args);
        self.arranged(command)
    }

    fn arranged(&self, mut command: Command) -> Command {
        command.process_group(0);
        command.env_remove("HASHCLUSTER_RUNTIME_DIR");
        command.env("FAKE_TEST", &self.dir).env("FAKE", &self.told);
        command.env("XDG_RUNTIME_DIR", &self.dir).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args), DEADLINE)
    }

    /// The metrics of the supervisor.
    pub(crate) fn supervisor_page(&self) -> String {
        let mut stream = UnixStream::connect(self.run_dir().join("supervisor.http")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// Starts and waits for the end.
    pub(crate) fn finish(&self, args: &[&str]) -> Ended {
        self.start(args).end()
    }

    /// The same of `hashcluster-vm ARGS…` for VMs.
    pub(crate) fn finish_vms(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(test_kit::program("hashcluster-vm"));
        command.args(args);
        Running::start(&mut self.arranged(command), DEADLINE).end()
    }

    /// `local up` with `workers` and `more` options, until it says that all are ready.
    pub(crate) fn up(&self, workers: &str, more: &[&str]) -> Running {
        let mut args = vec!["up", "--runtime-dir", "run", "--bin-dir", "bin", "--workers", workers];
        args.extend(more);
        let mut started = self.start(&args);
        started.wait_for("are ready in");
        started.wait_for("stop  ");
        started
    }

    /// The next event that starts with `start`; those before it stay to be waited for.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, start: &str) -> String {
        if let Some(i) = self.seen.iter().position(|line| line.starts_with(start)) {
            return self.seen.remove(i);
        }
        loop {
            let line = self.next_event(start);
            if line.starts_with(start) {
                return line;
            }
            self.seen.push(line);
        }
    }

    #[track_caller]
    fn next_event(&self, wanted: &str) -> String {
        let event = self.events.recv_timeout(DEADLINE);
        event.unwrap_or_else(|_| panic!("no event {wanted:?} after {:#?}", self.seen))
    }

    /// The pid in the next `NAME start PID` of a fake.
    #[track_caller]
    pub(crate) fn pid_of(&mut self, name: &str) -> u32 {
        let line = self.wait_for(&format!("{name} start "));
        line.split(' ').nth(2).unwrap().parse().unwrap()
    }

    /// Events up to and including the next line that starts with `start`, in order. Ends of processes
    /// come by ways of their own, in any order: the others of them stay to be waited for.
    pub(crate) fn events_until(&mut self, start: &str) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.seen);
        while !lines.iter().any(|line| line.starts_with(start)) {
            lines.push(self.next_event(start));
        }
        let (mut gone, lines): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.contains(" gone "));
        gone.retain(|line| !line.starts_with(start));
        self.seen = gone;
        lines
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Sends `signal` to a process of this test, which is not waited for before it.
pub(crate) fn kill(signal: Signal, pid: u32) {
    signal::kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// Passes on what fakes tell, until the test is over.
fn relay(told: &UnixDatagram, sender: &Sender<String>) {
    let mut line = [0; 1024];
    while let Ok(len) = told.recv(&mut line) {
        if sender.send(String::from_utf8_lossy(&line[..len]).into_owned()).is_err() {
            return;
        }
    }
}

/// Passes on the one line of a fake's connection when the connection has ended.
fn outlive(mut life: impl Read, sender: &Sender<String>) {
    let mut text = String::new();
    life.read_to_string(&mut text).unwrap();
    let _ = sender.send(text.trim_end().to_owned());
}
