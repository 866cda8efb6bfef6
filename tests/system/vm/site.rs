//! A cluster's directories and ports, commands about it, and what it leaves.

use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_kit::{Ended, Running, bin, free_ports, repository, until_within};

/// The longest wait for an event. A cluster under TCG on busy cores takes a quarter of it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// VMs take all cores: one test has them at a time.
static VMS: Mutex<()> = Mutex::new(());

/// Place of one cluster; what still runs of it ends with it.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    /// For each VM its SSH port and that of its metrics.
    pub(crate) ports: Vec<u16>,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// A ports file of `vms` lines, and nothing that runs.
    pub(crate) fn new(vms: usize) -> Self {
        let turn = VMS.lock().unwrap_or_else(PoisonError::into_inner);
        set_up();
        let dir = tempfile::Builder::new().prefix("hcvm").tempdir().unwrap();
        let ports = free_ports(vms);
        let text: String = ports.chunks(2).map(|pair| format!("{}\n", pair[0])).collect();
        fs::write(dir.path().join("ports.conf"), text).unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        Self { dir, ports, _turn: turn }
    }

    /// A cluster that runs.
    pub(crate) fn up(vms: usize) -> Self {
        let site = Self::new(vms);
        site.succeed(site.run_sh(&[]));
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn run(&self, name: &str) -> PathBuf {
        self.path("run").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A program of the repository, told where this cluster is.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("HASHCLUSTER_RUNTIME_DIR", self.path("run"));
        // What has no directory of its own gets one in here, too.
        command.env("TMPDIR", self.path("tmp")).env("XDG_RUNTIME_DIR", self.path("tmp"));
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// `./run.sh` with this cluster's ports, and then `args`.
    pub(crate) fn run_sh(&self, args: &[&str]) -> Command {
        let mut command = self.command(&repository("run.sh"));
        command.args(["--ports", "ports.conf", "--runtime-dir", "run"]).args(args);
        command
    }

    /// `./run.sh` that has no run directory, and so makes one for its command.
    pub(crate) fn run_sh_once(&self, args: &[&str]) -> Command {
        let mut command = self.command(Path::new("sh"));
        // With the soft limit of open files that a shell usually has.
        command.args(["-c", "ulimit -Sn 1024; exec \"$0\" \"$@\""]).arg(repository("run.sh"));
        command.env_remove("HASHCLUSTER_RUNTIME_DIR");
        command.args(["--ports", "ports.conf", "--state-dir", "state"]).args(args);
        command
    }

    pub(crate) fn script(&self, name: &str, args: &[&str]) -> Command {
        let mut command = self.command(&repository("scripts").join(name));
        command.args(args);
        command
    }

    /// `hashcluster-vm SUBCOMMAND` with what this host has for VMs, and then `args`.
    pub(crate) fn vm(&self, subcommand: &str, args: &[&str]) -> Command {
        let mut command = self.command(&bin("hashcluster-vm"));
        command.arg(subcommand).args(["--ports", "ports.conf", "--runtime-dir", "run"]);
        command.args(set_up()).args(args);
        command
    }

    pub(crate) fn hashctl(&self, args: &[&str]) -> Command {
        let mut command = self.command(&bin("hashctl"));
        command.args(args);
        command
    }

    /// Output of a command over SSH, which has to succeed.
    #[track_caller]
    pub(crate) fn ssh(&self, name: &str, line: &str) -> String {
        self.succeed(self.script("ssh.sh", &[name, line])).stdout
    }

    /// Starts a command, in a process group of its own.
    #[track_caller]
    pub(crate) fn start(&self, mut command: Command) -> Running {
        Running::start(&mut command, DEADLINE)
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn finish(&self, command: Command) -> Ended {
        self.start(command).end()
    }

    /// Runs a command, which has to succeed.
    #[track_caller]
    pub(crate) fn succeed(&self, command: Command) -> Ended {
        let shown = format!("{command:?}");
        let ended = self.finish(command);
        assert!(ended.status.success(), "{shown}: {}{}", ended.stdout, ended.stderr);
        ended
    }

    /// A client that hashes the tree `dir` until there is a file `end`. It fails once a digest is missing or
    /// wrong, and prints how often it hashed.
    pub(crate) fn hash_again_and_again(&self, dir: &str, end: &str) -> Command {
        let line = "want=$(find \"$1\" -type f -exec sha256sum {} + | sort -k 2); n=0; while [ ! -e \"$2\" ]; do n=$((n + 1)); \
                    got=$(\"$0\" sum -r \"$1\" | sort -k 2) || exit 1; [ \"$got\" = \"$want\" ] || exit 2; \
                    done; echo $n";
        let mut client = self.command(Path::new("bash"));
        client.args(["-c", line]).arg(bin("hashctl")).args([dir, end]);
        client
    }

    /// The value of a metric of VM number `i`, if its page answers: that of a controller without the begin of
    /// its name.
    pub(crate) fn metric(&self, i: usize, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[2 * i + 1])).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        let name = format!("hashcluster_controller_{name} ");
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }

    /// Waits for one worker that is ready.
    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        self.succeed(self.hashctl(&["status", "--ready", "1", "--timeout-s", "150"]));
    }

    /// `hashctl status --json`, once the controller answers.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        until("an answer of the controller", || {
            let output: Output = self.hashctl(&["status", "--json"]).output().unwrap();
            serde_json::from_slice(&output.stdout).ok()
        })
    }

    /// One number of a worker's status.
    #[track_caller]
    pub(crate) fn worker(&self, name: &str, key: &str) -> Option<u64> {
        let status = self.status();
        let workers = status["workers"].as_array().unwrap();
        workers.iter().find(|worker| worker["name"] == name)?[key].as_u64()
    }

    /// The process of a VM.
    pub(crate) fn qemu_pid(&self, name: &str) -> Option<i32> {
        let text = fs::read_to_string(self.run(&format!("{name}.pid"))).ok()?;
        text.trim().parse().ok()
    }

    /// Processes of this cluster, known by their environment, whose command line has `word`.
    pub(crate) fn processes(&self, word: &str) -> Vec<(i32, String)> {
        let place = self.dir.path().to_str().unwrap();
        let is_ours = |pid: i32, line: &str| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            line.contains(place) || String::from_utf8_lossy(&environment).contains(place)
        };
        let found = processes().into_iter().filter(|(_, line)| line.contains(word));
        found.filter(|(pid, line)| is_ours(*pid, line)).collect()
    }

    /// Asserts that nothing is left of a cluster but its state and logs.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        // Killed processes, and a check of health that is under way, may take a moment to end.
        let is_taken = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_err();
        let is_over = || self.processes("").is_empty() && !self.ports.iter().any(is_taken);
        let start = Instant::now();
        while !is_over() && start.elapsed() < Duration::from_secs(3) {
            thread::sleep(Duration::from_millis(20));
        }
        let processes = self.processes("");
        assert!(processes.is_empty(), "left: {processes:#?}");
        let kept = ["run/lock", "run/log", "run/state"].map(|name| self.path(name));
        for state in ["run/state", "state"] {
            assert!(!self.path(state).join("hashcluster-images").exists(), "{state}");
        }
        let mut left = files_below(&self.path("run"));
        left.retain(|path| !kept.iter().any(|kept| path.starts_with(kept)));
        assert!(left.is_empty(), "left: {left:#?}");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let place = self.dir.path().to_str().unwrap();
        assert!(!mounts.contains(place), "{mounts}");
        for port in &self.ports {
            assert!(!is_taken(port), "somebody has port {port}");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.run("supervisor.pid").exists() {
            let _ = self.script("stop.sh", &[]).output();
        }
        if thread::panicking() {
            show_logs(&self.path("run/log"));
        }
        for (pid, _) in self.processes("") {
            kill(pid, "KILL");
        }
    }
}

/// Options for `hashcluster-vm` that name the image and the programs, which are made if missing.
pub(crate) fn set_up() -> &'static [String] {
    static OPTIONS: OnceLock<Vec<String>> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let bin_dir = bin("hashcluster-vm").parent().unwrap().to_owned();
        let mut command = Command::new(repository("qemu/setup.sh"));
        let output = command.arg(bin_dir).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let options = String::from_utf8(output.stdout).unwrap();
        let options: Vec<String> = options.lines().map(str::to_owned).collect();
        say_image(&options);
        options
    })
}

/// Says which image is tested, whether tests pass or fail: not by a macro, whose output is kept.
fn say_image(options: &[String]) {
    let dir = options.iter().find_map(|line| line.strip_prefix("--image=")).unwrap();
    let text = fs::read_to_string(Path::new(dir).join("image.txt")).unwrap();
    let text = text.lines().collect::<Vec<_>>().join(", ");
    let _ = writeln!(std::io::stderr(), "\nVMs boot {dir}: {text}");
}

/// The value of an option of [`set_up`].
pub(crate) fn set_up_value(option: &str) -> PathBuf {
    let value = set_up().iter().find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
    PathBuf::from(value.unwrap())
}

/// Copies files of the VM image into the new directory `dir`; `initrd` is one for all, or one for
/// each role. With `image.txt` it is the whole image, else one without an unpacked kernel.
pub(crate) fn copy_image(dir: &Path, files: &[&str]) {
    fs::create_dir(dir).unwrap();
    let image = set_up_value("--image");
    let by_role = ["initrd.controller", "initrd.worker"];
    for &file in files {
        let names = match file {
            "initrd" if image.join(by_role[0]).exists() => &by_role[..],
            "kernel" if files.contains(&"image.txt") && image.join("vmlinux").exists() => {
                &["kernel", "vmlinux"]
            }
            _ => &[file],
        };
        for name in names {
            fs::copy(image.join(name), dir.join(name)).unwrap();
        }
    }
}

/// Writes the image.txt of an image whose files a test has changed; its digest.
pub(crate) fn seal_image(dir: &Path) -> String {
    let mut command = Command::new("bash");
    let line =
        "cat kernel $(ls initrd* vmlinux 2>/dev/null | LC_ALL=C sort) | sha256sum | cut -c 1-40";
    let output = command.args(["-c", line]).current_dir(dir).output().unwrap();
    let digest = format!("sha256:{}", String::from_utf8(output.stdout).unwrap().trim());
    fs::write(dir.join("image.txt"), format!("digest {digest}\nkind dev\n")).unwrap();
    digest
}

/// Which of a copied image's files workers boot.
pub(crate) fn worker_initrd(dir: &Path) -> PathBuf {
    let own = dir.join("initrd.worker");
    if own.exists() { own } else { dir.join("initrd") }
}

/// Asks until there is an answer, which under TCG takes longer than elsewhere.
#[track_caller]
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, ask)
}

/// Sends a signal to a process that the test or its cluster started.
pub(crate) fn kill(pid: i32, signal: &str) {
    let signal: nix::sys::signal::Signal = format!("SIG{signal}").parse().unwrap();
    // One that has ended meanwhile is as good as killed.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

pub(crate) fn exists(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Every process with its command line; zombies have none.
fn processes() -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(pid) = pid.filter(|_| !line.is_empty()) {
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// Everything below `dir` that is no directory.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Logs that explain a failed test.
fn show_logs(dir: &Path) {
    for path in files_below(dir) {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(30)..];
        eprintln!("--- {}\n{}", path.display(), tail.join("\n"));
    }
}
