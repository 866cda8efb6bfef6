//! A controller behind a vsock device, and one that listens on vsock. VMs have tests of their own.

use ipc_proto::endpoint::WORKER_SOCKET;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use test_kit::{Cluster, Device, Options, bin, output, text, until, write_file};

const WORKER_PORT: u32 = 5000;
const CLIENT_PORT: u32 = 5001;

/// A cluster whose only worker came by a device.
fn start() -> (Cluster, Device) {
    let mut cluster = Cluster::start(Options { workers: 0, ..Options::default() });
    let ports =
        [(WORKER_PORT, cluster.dir().join(WORKER_SOCKET)), (CLIENT_PORT, cluster.client_socket())];
    let device = Device::start(cluster.dir().join("controller.vsock"), &ports);
    let worker = Command::new(bin("hashcluster-worker"))
        .args(["--name", "far", "--connect", &device.endpoint(WORKER_PORT)])
        .env("HASHCLUSTER_IMAGE", "sha256:00ff")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cluster.workers.push(worker);
    cluster.wait_ready(1);
    (cluster, device)
}

/// A runtime directory as that of a cluster of VMs on its host.
fn host_dir(device: &Device) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(device.path(), dir.path().join("controller.vsock")).unwrap();
    let endpoint = format!("vsock-unix:controller.vsock:{CLIENT_PORT}\n");
    fs::write(dir.path().join("client.endpoint"), endpoint).unwrap();
    fs::write(dir.path().join("client.token"), "not looked at on a unix socket\n").unwrap();
    dir
}

fn hashctl(host: &Path) -> Command {
    let mut command = Command::new(bin("hashctl"));
    command.env("HASHCLUSTER_RUNTIME_DIR", host).stdin(Stdio::null());
    command
}

#[test]
fn clients_and_workers_behind_a_device_hash_as_sha256sum_does() {
    let (_cluster, device) = start();
    let host = host_dir(&device);
    let dir = tempfile::tempdir().unwrap();
    let lens = [0, 1, 4095, 70_000, 3 << 20, 20 << 20];
    for (seed, len) in (1..).zip(lens) {
        write_file(&dir.path().join(format!("f{len}")), len, seed);
    }
    let names = lens.map(|len| format!("f{len}"));
    for (ours, theirs) in [(&["sum"][..], "sha256sum"), (&["sum", "-a", "sha512"], "sha512sum")] {
        let got = output(hashctl(host.path()).args(ours).args(&names).current_dir(&dir));
        let want = output(Command::new(theirs).args(&names).current_dir(&dir));
        assert_eq!((text(&got.stdout), text(&got.stderr)), (text(&want.stdout), String::new()));
    }
}

#[test]
fn a_worker_whose_vm_was_cut_off_dials_again_and_clients_are_told() {
    let (cluster, device) = start();
    let host = host_dir(&device);
    // One connection that asks again and again: those of others may be counted for a moment more.
    let mut watcher = cluster.client();
    let mut clients = || watcher.status().unwrap().limits.clients;
    until("nobody else", || (clients() == 1).then_some(()));
    let mut waiting = hashctl(host.path())
        .args(["status", "--ready", "2"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that is cut off in the middle of its handshake tries once more.
    until("the client's end", || {
        if clients() == 2 {
            device.cut();
        }
        waiting.try_wait().unwrap()
    });
    let lost = waiting.wait_with_output().unwrap();
    assert_eq!(lost.status.code(), Some(3), "{}", text(&lost.stderr));
    assert!(text(&lost.stderr).contains("lost the controller at vsock-unix:"));
    cluster.wait_ready(1);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    let sum = output(hashctl(host.path()).args(["sum", "a"]).current_dir(&dir));
    let want = output(Command::new("sha256sum").arg("a").current_dir(&dir));
    assert_eq!(text(&sum.stdout), text(&want.stdout));
}

fn controller(dir: &Path, ports: [u32; 2], token_file: &Path) -> Command {
    let mut command = Command::new(bin("hashcluster-controller"));
    command.args(["--client-socket", &format!("vsock:any:{}", ports[0])]);
    command.args(["--worker-socket", &format!("vsock:any:{}", ports[1])]);
    command.arg("--client-token-file").arg(token_file).args(["--ready-fd", "1"]);
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the kernel has no vsock, that is what has to be said.
#[test]
fn a_controller_listens_on_vsock_or_says_that_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "secret\n").unwrap();
    let first = 0x10_0000 + 2 * std::process::id();
    let ports = [first, first + 1];
    let mut running = Killed(controller(dir.path(), ports, &token).spawn().unwrap());
    let mut ready = String::new();
    let mut stdout = running.0.stdout.take().unwrap().take(6);
    stdout.read_to_string(&mut ready).unwrap();
    if ready.is_empty() {
        let mut said = String::new();
        running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(running.0.wait().unwrap().code(), Some(1));
        assert!(said.contains(&format!("vsock:any:{first}: Address family not supp")), "{said}");
        return;
    }
    assert_eq!(ready, "ready\n");
    let second = output(&mut controller(dir.path(), ports, &token));
    assert_eq!(second.status.code(), Some(1));
    let want = format!("vsock:any:{first}: another controller listens here; stop it first");
    assert!(text(&second.stderr).contains(&want), "{}", text(&second.stderr));
    let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["token"], "neither sockets nor locks");
}

#[test]
fn a_controller_does_not_start_with_a_token_or_an_endpoint_that_makes_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    for (content, want) in [
        (None, "No such file or directory"),
        (Some(String::new()), "no token in it"),
        (Some("\n".to_owned()), "no token in it"),
        (Some("x".repeat(65)), "a token has at most 64 bytes"),
    ] {
        if let Some(content) = &content {
            fs::write(&token, content).unwrap();
        }
        let ours = output(&mut controller(dir.path(), [5001, 5000], &token));
        let said = text(&ours.stderr);
        assert_eq!((ours.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(&format!("{}: {want}", token.display())), "{said}");
    }
    let listen = ["--client-socket", "vsock-unix:/x:5001"];
    let ours = output(Command::new(bin("hashcluster-controller")).args(listen));
    assert_eq!(ours.status.code(), Some(2));
    assert!(text(&ours.stderr).contains("vsock-unix is only for connecting"));
    let ours = output(
        Command::new(bin("hashcluster-controller"))
            .arg("--runtime-dir")
            .arg(dir.path())
            .env("HASHCLUSTER_IMAGE", "x".repeat(65)),
    );
    assert_eq!(ours.status.code(), Some(1));
    assert!(text(&ours.stderr).contains("HASHCLUSTER_IMAGE is longer than 64 bytes"));
}
