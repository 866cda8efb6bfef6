//! A controller with workers in a directory of their own.

use client::{Address, Client};
use ipc_proto::endpoint::CLIENT_SOCKET;
use ipc_proto::message::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The longest that workers may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// The path of one of our binaries: in `$HASHCLUSTER_BIN_DIR`, else where cargo put ours.
pub fn bin(name: &str) -> PathBuf {
    let dir = env::var_os("HASHCLUSTER_BIN_DIR").map_or_else(
        || {
            let own = env::current_exe().expect("a running program has a path");
            own.ancestors()
                .find(|dir| dir.join(name).is_file())
                .unwrap_or_else(|| panic!("{name} is not built; run cargo xtask build"))
                .to_owned()
        },
        PathBuf::from,
    );
    let path = dir.join(name);
    assert!(path.is_file(), "{} is not built; run cargo xtask build", path.display());
    path
}

/// Parts and settings of a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the programs, if not that of [`bin`].
    pub bin_dir: Option<PathBuf>,
    /// Worker processes.
    pub workers: usize,
    /// Threads of each.
    pub threads: usize,
    /// Options of the shell's ulimit for the controller, such as `-n 64`.
    pub controller_ulimit: Option<&'static str>,
    /// Datasets: their names, and the directories that the workers have under them.
    pub datasets: Vec<(&'static str, PathBuf)>,
    /// More arguments of the controller.
    pub controller_args: Vec<String>,
    /// More arguments of the workers.
    pub worker_args: Vec<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bin_dir: None,
            workers: 2,
            threads: 1,
            controller_ulimit: None,
            datasets: Vec::new(),
            controller_args: Vec::new(),
            worker_args: Vec::new(),
        }
    }
}

impl Options {
    fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.as_ref().map_or_else(|| bin(name), |dir| dir.join(name))
    }
}

/// A running cluster; stopped when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    options: Options,
    /// The controller's process.
    pub controller: Child,
    /// The workers' processes, by number.
    pub workers: Vec<Child>,
}

impl Cluster {
    /// Starts everything and waits until all workers are ready.
    pub fn start(options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("hc").tempdir().expect("a temporary directory");
        let controller = start_controller(dir.path(), &options);
        let workers = options.workers;
        let mut cluster = Self { dir, options, controller, workers: Vec::new() };
        for number in 0..workers {
            let worker = cluster.spawn_worker(number);
            cluster.workers.push(worker);
        }
        cluster.wait_ready(workers);
        cluster
    }

    /// The runtime directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Shows `hashctl` the workers' datasets: the directories are the same for both.
    pub fn link_datasets(&self) {
        let links = self.dir().join("datasets");
        std::fs::create_dir(&links).expect("a new directory");
        for (name, dir) in &self.options.datasets {
            std::os::unix::fs::symlink(dir, links.join(name)).expect("a new link");
        }
    }

    /// The clients' socket.
    pub fn client_socket(&self) -> PathBuf {
        self.dir().join(CLIENT_SOCKET)
    }

    /// `hashctl`, told where the cluster is.
    pub fn hashctl(&self) -> Command {
        let mut command = Command::new(self.options.program("hashctl"));
        command.env("HASHCLUSTER_RUNTIME_DIR", self.dir()).stdin(Stdio::null());
        command
    }

    /// Starts worker `number`, which need not be ready when this returns.
    pub fn spawn_worker(&self, number: usize) -> Child {
        Command::new(self.options.program("hashcluster-worker"))
            .arg("--runtime-dir")
            .arg(self.dir())
            .args(["--name", &format!("w{number}"), "--threads", &self.options.threads.to_string()])
            .args(self.options.datasets.iter().flat_map(|(name, dir)| {
                ["--dataset".to_owned(), format!("{name}={}", dir.display())]
            }))
            .args(&self.options.worker_args)
            .stdin(Stdio::null())
            .stderr(log_file(self.dir(), &format!("w{number}.log")))
            .spawn()
            .expect("the worker starts")
    }

    /// Kills worker `number` with `SIGKILL` and starts it again.
    pub fn replace_worker(&mut self, number: usize) {
        let fresh = self.spawn_worker(number);
        let mut old = std::mem::replace(&mut self.workers[number], fresh);
        old.kill().expect("our own child");
        old.wait().expect("our own child");
    }

    /// Waits until this many workers are ready.
    pub fn wait_ready(&self, workers: usize) {
        // By hashctl, which speaks the protocol of a cluster of another version.
        let (workers, timeout) = (workers.to_string(), READY_TIMEOUT.as_secs().to_string());
        let mut ready = self.hashctl();
        let ready = ready.args(["status", "--ready", &workers, "--timeout-s", &timeout]).output();
        let ready = ready.expect("hashctl is built");
        let said = String::from_utf8_lossy(&ready.stderr);
        assert!(ready.status.success(), "workers are not ready: {said}\n{}", self.logs());
    }

    /// The controller's status.
    pub fn status(&self) -> Status {
        self.client().status().expect("the controller answers")
    }

    /// A connection as a client.
    pub fn client(&self) -> Client {
        Client::connect(&self.address()).expect("the controller is there")
    }

    /// The clients' address.
    pub fn address(&self) -> Address {
        Address::unix(self.client_socket()).expect("a short path")
    }

    /// Everything the processes wrote.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in self.dir().read_dir().into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read(entry.path()).unwrap_or_default();
                text.push_str(&String::from_utf8_lossy(&log));
            }
        }
        text
    }

    /// The process ids of the controller and the workers.
    pub fn pids(&self) -> Vec<u32> {
        std::iter::once(&self.controller).chain(&self.workers).map(Child::id).collect()
    }

    /// Stops the controller in order and says whether it ended well.
    pub fn terminate_controller(&mut self) -> bool {
        signal(&self.controller, Signal::SIGTERM);
        self.controller.wait().expect("our own child").success()
    }

    /// Starts another controller in the place of one that ended.
    pub fn restart_controller(&mut self) {
        self.controller = start_controller(self.dir(), &self.options);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln_logs(&self.logs());
        }
        for child in self.workers.iter_mut().chain([&mut self.controller]) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[expect(clippy::print_stderr, reason = "the processes' own words belong to a failed test")]
fn eprintln_logs(logs: &str) {
    eprintln!("--- logs of the cluster\n{logs}---");
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(pid), signal).expect("our own child");
}

fn start_controller(dir: &Path, options: &Options) -> Child {
    let (mut ready, ready_writer) = std::io::pipe().expect("a pipe");
    let binary = options.program("hashcluster-controller");
    // The shell hands its own standard output on as descriptor 3 and sets the limit.
    let limit =
        options.controller_ulimit.map_or(String::new(), |limits| format!("ulimit {limits} && "));
    let script = format!("{limit}exec \"$0\" --ready-fd 3 --runtime-dir \"$@\" 3>&1 >/dev/null");
    let mut child = Command::new("/bin/bash")
        .args(["-c", &script])
        .arg(binary)
        .arg(dir)
        .args(options.datasets.iter().flat_map(|(name, _)| ["--dataset", name]))
        .args(&options.controller_args)
        .stdin(Stdio::null())
        .stdout(ready_writer)
        .stderr(log_file(dir, "controller.log"))
        .spawn()
        .expect("the controller starts");
    let mut line = [0; 6];
    if ready.read_exact(&mut line).is_err() {
        let status = child.wait();
        let log = std::fs::read_to_string(dir.join("controller.log")).unwrap_or_default();
        panic!("the controller ended: {status:?}\n{log}");
    }
    child
}

fn log_file(dir: &Path, name: &str) -> Stdio {
    let file = File::options().create(true).append(true).open(dir.join(name)).expect("a log file");
    file.into()
}
