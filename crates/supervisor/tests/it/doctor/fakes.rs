//! Stand-ins for a host, and for the supervisor, controller and VMs of a cluster on it.

use ipc_proto::message::{ClientReply, ClientRequest, Planes, Status, WorkerStatus};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use test_kit::{Peer, free_ports, output, program, text};

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The program under test.
pub(super) fn own() -> &'static str {
    program("hashcluster-vm")
}

/// Limit for the doctor, whatever does not answer.
const DOCTOR_LIMIT: Duration = Duration::from_secs(15);

/// Programs of the host that are only looked for.
const HOST_PROGRAMS: [&str; 12] = [
    "qemu-system-x86_64",
    "mkfs.erofs",
    "cpio",
    "lz4",
    "depmod",
    "modprobe",
    "dropbearkey",
    "ssh-keygen",
    "flock",
    "vhost-device-vsock",
    "virtiofsd",
    "mkfs.ext4",
];

/// One problem that the doctor reports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    pub(super) fault: String,
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) command: Option<String>,
}

/// A directory with everything that belongs to one host, and maybe a cluster on it.
pub(super) struct FakeHost {
    pub(super) dir: tempfile::TempDir,
    pub(super) children: Vec<Child>,
}

impl FakeHost {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("hcdoc").tempdir().unwrap();
        let host = Self { dir, children: Vec::new() };
        for name in ["bin", "cache", "run", "run/state", "run/state/ssh", "image"] {
            fs::create_dir(host.path(name)).unwrap();
            fs::set_permissions(host.path(name), Permissions::from_mode(0o700)).unwrap();
        }
        for name in HOST_PROGRAMS {
            host.program(name, &format!("echo {name} 1.0"));
        }
        let report = "[ \"$1\" != -V ] || { echo OpenSSH_9 >&2; exit; }\ncat >/dev/null\n\
                      exec cat \"$FAKE_GUESTS/$4\"";
        host.program("ssh", report);
        for name in ["true", "timeout", "sh", "cat", "kill", "rm", "chmod", "mv", "echo"] {
            let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name));
            let found = found.into_iter().find(|path| path.exists()).unwrap();
            symlink(found, host.path("bin").join(name)).unwrap();
        }
        let ports: Vec<String> = free_ports(2).chunks(2).map(|pair| pair[0].to_string()).collect();
        host.write("ports.conf", &format!("{}\n", ports.join("\n")));
        host.write("image/kernel", "k");
        host.write("image/initrd", "i");
        // Of "ki", cut as the builders do.
        let digest = "sha256:2b84b2a9020f8b086b7709581ca4586a459938f8";
        host.write("image/image.txt", &format!("kind dev\ndigest {digest}\n"));
        host
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    /// A process that ends with the test, at the latest.
    pub(super) fn child(&mut self, command: &mut Command) -> u32 {
        let child = command.spawn().unwrap();
        let pid = child.id();
        self.children.push(child);
        pid
    }

    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", self.path("bin")).env("HOME", self.dir.path());
        command.env("HASHCLUSTER_CACHE", self.path("cache"));
        command.env("FAKE_GUESTS", self.path("guests")).current_dir("/");
        command
    }

    pub(super) fn doctor(&self, args: &[&str]) -> Command {
        let mut command = self.command(own());
        // Remedies are commands of this program where there is no tree with scripts.
        command.args(["doctor", "--root", "/no/tree", "--runtime-dir"]).arg(self.path("run"));
        command.args(args);
        command
    }

    /// Faults that the doctor finds.
    #[track_caller]
    pub(super) fn problems(&self, args: &[&str]) -> BTreeSet<Problem> {
        let (ports, image) = (self.path("ports.conf"), self.path("image"));
        let mut command = self.doctor(&["--json", "--quiet"]);
        command.arg("--ports").arg(ports).arg("--image").arg(image).args(args);
        let start = Instant::now();
        let found = output(&mut command);
        assert!(start.elapsed() < DOCTOR_LIMIT, "it took {:?}", start.elapsed());
        let lines = text(&found.stdout);
        let value = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let values: Vec<Value> = lines.lines().map(value).collect();
        let failed = values.iter().any(|value| value["level"] == "fail");
        let stderr = text(&found.stderr);
        assert_eq!(found.status.code(), Some(i32::from(failed)), "{lines}{stderr}");
        let word = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
        let problem = |value: &Value| {
            let has_remedy = value["command"].is_string() || value["remedy"].is_string();
            assert!(value["version"] == 1 && has_remedy, "{value}");
            Problem {
                fault: word(value, "fault"),
                subject: word(value, "subject"),
                text: word(value, "text"),
                command: value["command"].as_str().map(str::to_owned),
            }
        };
        values.iter().map(problem).collect()
    }

    /// Problems that `healthy` does not have.
    #[track_caller]
    pub(super) fn fresh(&self, healthy: &BTreeSet<Problem>, args: &[&str]) -> Vec<Problem> {
        self.problems(args).difference(healthy).cloned().collect()
    }

    /// Runs a remedy in a shell, which has to succeed.
    #[track_caller]
    pub(super) fn run_remedy(&self, problem: &Problem) {
        let command = problem.command.as_ref().unwrap_or_else(|| panic!("{problem:?}"));
        let ran = output(self.command("/bin/sh").args(["-c", command]));
        let said = text(&ran.stdout) + &text(&ran.stderr);
        assert!(ran.status.success(), "{command}: {said}");
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A cluster of two VMs as far as the host sees it.
pub(super) struct FakeVms {
    pub(super) host: FakeHost,
    /// Answer of the supervisor.
    pub(super) report: Arc<Mutex<Value>>,
    /// Answer of the controller, if it gives one.
    pub(super) status: Arc<Mutex<Option<Status>>>,
    /// Processes of the two VMs.
    pub(super) pids: [u32; 2],
}

pub(super) const IMAGE: &str = "sha256:2b84b2a9020f8b086b7709581ca4586a459938f8";
pub(super) const VMS: [&str; 2] = ["controller", "worker1"];

impl FakeVms {
    pub(super) fn new() -> Self {
        let mut host = FakeHost::new();
        let pids = VMS.map(|_| host.child(Command::new("sleep").arg("600").stdin(Stdio::null())));
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let (head, tail) = stat.rsplit_once(") ").unwrap();
        let (pid, comm) = head.split_once(" (").unwrap();
        let start = tail.split(' ').nth(19).unwrap();
        host.write("run/supervisor.pid", &format!("{pid} {start} {comm}\n"));
        let hosts = VMS.map(|name| format!("hashcluster-{name} ssh-ed25519 k\n")).concat();
        host.write("run/known_hosts", &hosts);
        for name in ["id_ed25519", "id_ed25519.pub", "controller.host_key", "worker1.host_key"] {
            host.write(&format!("run/state/ssh/{name}"), "key");
        }
        let disk = host.path("run/state/controller.ext4");
        fs::File::create(&disk).unwrap().set_len(4 << 20).unwrap();
        let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&disk).status().unwrap();
        assert!(made.success());
        host.mode("run/state/controller.ext4", 0o600);
        let image = host.path("run/state/hashcluster-images").join(IMAGE.replace(':', "-"));
        fs::create_dir_all(image).unwrap();
        fs::create_dir(host.path("guests")).unwrap();
        for (name, pid) in VMS.into_iter().zip(pids) {
            host.write(&format!("run/{name}.pid"), &format!("{pid}\n"));
            for socket in ["qmp", "vsock"] {
                drop(UnixListener::bind(host.path(&format!("run/{name}.{socket}"))).unwrap());
            }
            fs::create_dir_all(host.path("run/settings").join(name)).unwrap();
        }
        host.write("run/client.endpoint", "unix:answer.sock\n");
        let cluster = Self {
            host,
            report: Arc::new(Mutex::new(Value::Null)),
            status: Arc::new(Mutex::new(None)),
            pids,
        };
        cluster.heal();
        cluster.serve();
        cluster
    }

    /// Answers as the supervisor and as the controller, until the test is over.
    pub(super) fn serve(&self) {
        let listener = UnixListener::bind(self.host.path("run/control.sock")).unwrap();
        let report = Arc::clone(&self.report);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                let report = report.lock().unwrap().clone();
                let _ = (&stream).write_all(format!("{report}\nok\n").as_bytes());
            }
        });
        let listener = UnixListener::bind(self.host.path("run/answer.sock")).unwrap();
        let status = Arc::clone(&self.status);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(status) = status.lock().unwrap().clone() else { continue };
                let mut peer = Peer::new(stream);
                peer.welcome("", Planes::default());
                while let Some((request, _)) = peer.next_message::<ClientRequest>() {
                    assert!(matches!(request, ClientRequest::Status), "{request:?}");
                    peer.send(&ClientReply::Status(Box::new(status.clone())), &[]);
                }
            }
        });
    }

    /// Everything is as in a healthy cluster.
    pub(super) fn heal(&self) {
        let member = |i: usize, role: &str| {
            json!({
                "name": VMS[i], "role": role, "phase": "running", "health": "healthy",
                "reason": null, "http": null, "since": 1, "restarts": { "count": 0, "last": [] },
                "ports": { "ssh": 1, "metrics": 2 }, "image": IMAGE, "memory_mib": 192,
                "resident_mib": 100, "cpus": 1, "pid": self.pids[i],
            })
        };
        *self.report.lock().unwrap() = json!({
            "version": 1, "state": "healthy", "reasons": [], "kind": "vms", "run_dir": "",
            "state_dir": "", "pid": 1, "started": 1, "accel": "tcg", "command": null, "drift": [],
            "datasets": [], "members": [member(0, "controller"), member(1, "worker")],
        });
        let worker = WorkerStatus {
            name: "worker1".into(),
            software: VERSION.into(),
            ..WorkerStatus::default()
        };
        let (software, workers) = (VERSION.to_owned(), vec![worker]);
        *self.status.lock().unwrap() = Some(Status { software, workers, ..Status::default() });
        for (name, role) in VMS.into_iter().zip(["controller", "worker"]) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let report = format!(
                "service hashcluster-{role} run 7\nclock {now}\nmemory 1000 500\n\
                 space /run 100 90\nmount /var/lib/hashcluster rw\ntrouble 0\n\
                 version hashcluster-{role} {VERSION}\nimage {IMAGE}\n"
            );
            self.host.write(&format!("guests/{name}"), &report);
        }
    }

    pub(super) fn guest(&self, name: &str, old: &str, new: &str) {
        let path = format!("guests/{name}");
        let report = fs::read_to_string(self.host.path(&path)).unwrap();
        assert!(report.contains(old), "{report}");
        self.host.write(&path, &report.replace(old, new));
    }

    pub(super) fn set(&self, pointer: &str, value: Value) {
        *self.report.lock().unwrap().pointer_mut(pointer).unwrap() = value;
    }

    pub(super) fn controller(&self, change: impl FnOnce(&mut Status)) {
        change(self.status.lock().unwrap().as_mut().unwrap());
    }

    /// The supervisor says that this member is unhealthy.
    pub(super) fn unhealthy(&self, i: usize, reason: &str) {
        self.set(&format!("/members/{i}/health"), json!("unhealthy"));
        self.set(&format!("/members/{i}/reason"), json!(reason));
    }
}
