//! A cluster of VMs that lives as long as its value: the command of `hashcluster-vm run` waits for
//! the end of its input.

use super::host::Host;
use client::Address;
use ipc_proto::Blob;
use ipc_proto::endpoint::Endpoint;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use test_kit::{bin, free_ports};

/// The workers' port inside the controller's VM.
const WORKER_PORT: u32 = 5000;

/// The command in place of a client: it ends with its input, and so with the bench however that ends.
const READY: &str = "echo ready; exec cat >/dev/null";

#[derive(Debug)]
pub(super) struct Vms {
    run_dir: PathBuf,
    /// Seconds from the start of `hashcluster-vm` to that of its command, when all are healthy.
    pub(super) ready_after: f64,
    /// Seconds from the start of each VM's QEMU to its health, by name.
    pub(super) healthy_after: BTreeMap<String, f64>,
    vm: Child,
}

impl Vms {
    /// Boots `vms` VMs, one of them the controller. The same `name` has the same keys and disk.
    pub(super) fn start(
        host: &Host,
        scratch: &Path,
        name: &str,
        vms: usize,
        options: &[&str],
    ) -> Self {
        let at = |suffix: &str| scratch.join(format!("{name}{suffix}"));
        let ports: String =
            free_ports(vms).chunks(2).map(|ports| format!("{}\n", ports[0])).collect();
        fs::write(at(".ports"), ports).expect("room for a file");
        let log = File::create(at(".log")).expect("room for a file");
        let mut command = Command::new(&host.program);
        command.arg("run").args(host.options()).args(options).arg("--ports").arg(at(".ports"));
        command.arg("--runtime-dir").arg(at("")).args(["--", "sh", "-c", READY]).stderr(log);
        let start = Instant::now();
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut vm = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = vm.stdout.take().expect("it was just made");
        let is_ready = matches!(BufReader::new(stdout).read_line(&mut String::new()), Ok(1..));
        let ready_after = start.elapsed().as_secs_f64();
        let said = fs::read_to_string(at(".log")).expect("it was made");
        assert!(is_ready, "the VMs did not start:\n{said}");
        let healthy_after: BTreeMap<_, _> = said.lines().filter_map(healthy).collect();
        assert_eq!(healthy_after.len(), vms, "a line for each VM:\n{said}");
        let run_dir = at("");
        Self { run_dir, ready_after, healthy_after, vm }
    }

    pub(super) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Accelerator, from QEMU's own command line.
    pub(super) fn accel(&self) -> String {
        let pid = fs::read_to_string(self.run_dir.join("controller.pid")).expect("QEMU's pidfile");
        let line = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).expect("it runs");
        let accel = line.split('\0').skip_while(|&word| word != "-accel").nth(1);
        let accel = accel.expect("each VM has an accelerator");
        accel.split(',').next().unwrap_or_default().to_owned()
    }

    /// Output of a command in a VM.
    pub(super) fn ssh(&self, name: &str, command: &[&str]) -> String {
        self.vm("ssh", &[&[name], command].concat())
    }

    /// Powers one VM off.
    pub(super) fn stop(&self, name: &str) {
        self.vm("stop", &[name]);
    }

    fn vm(&self, word: &str, args: &[&str]) -> String {
        let mut command = Command::new(bin("hashcluster-vm"));
        command.args([word, "--runtime-dir"]).arg(&self.run_dir).args(args);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.expect("it was started before");
        assert!(output.status.success(), "hashcluster-vm {word}: {}", output.status);
        String::from_utf8(output.stdout).expect("it writes text")
    }

    pub(super) fn worker_endpoint(&self) -> Endpoint {
        Endpoint::VsockUnix { path: self.run_dir.join("controller.vsock"), port: WORKER_PORT }
    }

    /// The token of the worker called `name`.
    pub(super) fn worker_token(&self, name: &str) -> Blob {
        let tokens =
            fs::read_to_string(self.run_dir.join("worker.tokens")).expect("one per worker");
        let mut pairs = tokens.lines().filter_map(|line| line.split_once(' '));
        let (_, token) =
            pairs.find(|(worker, _)| *worker == name).expect("a worker of the cluster");
        Blob::from(token.as_bytes())
    }

    /// The clients' address, with the cluster's token.
    pub(super) fn clients(&self) -> Address {
        Address::in_dir(&self.run_dir).expect("the run directory of a cluster")
    }
}

impl Drop for Vms {
    fn drop(&mut self) {
        drop(self.vm.stdin.take());
        // It is gone in either case.
        let _ = self.vm.wait();
    }
}

/// The name and the seconds in `hashcluster-vm: worker1: healthy after 5.4 s`.
fn healthy(line: &str) -> Option<(String, f64)> {
    let (name, rest) = line.strip_prefix("hashcluster-vm: ")?.split_once(": healthy after ")?;
    Some((name.to_owned(), rest.strip_suffix(" s")?.parse().ok()?))
}
