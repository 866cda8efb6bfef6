//! A cluster of VMs that lives as long as its value: the command of `hashcluster-vm run` waits for
//! the end of its input.

use super::host::Host;
use super::kept::{Kept, Scratch};
use client::Address;
use ipc_proto::Blob;
use ipc_proto::endpoint::Endpoint;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::marker::PhantomData;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use test_kit::bin;

/// The workers' port inside the controller's VM.
const WORKER_PORT: u32 = 5000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

#[derive(Debug)]
pub(super) struct Vms<'a> {
    run_dir: PathBuf,
    /// Seconds from the start of `hashcluster-vm` to that of its command, when all are healthy.
    pub(super) ready_after: f64,
    /// Seconds from the start of each VM's QEMU to its health, by name.
    pub(super) healthy_after: BTreeMap<String, f64>,
    _kept: Kept,
    _scratch: PhantomData<&'a Scratch>,
}

impl<'a> Vms<'a> {
    /// Boots `vms` VMs, one of them the controller. The same `name` has the same keys and disk.
    pub(super) fn start(
        host: &Host,
        scratch: &'a Scratch,
        name: &str,
        vms: usize,
        options: &[&str],
    ) -> Self {
        let at = |suffix: &str| scratch.path().join(format!("{name}{suffix}"));
        fs::write(at(".ports"), ports(vms)).expect("room for a file");
        let log = File::create(at(".log")).expect("room for a file");
        let start = Instant::now();
        let kept = Kept::ready(
            Command::new(bin("hashcluster-vm"))
                .arg("run")
                .args(host.options())
                .args(options)
                .arg("--ports")
                .arg(at(".ports"))
                .arg("--runtime-dir")
                .arg(at(""))
                .args(["--", "sh", "-c", "echo ready; exec cat >/dev/null"])
                .stderr(log),
        );
        let ready_after = start.elapsed().as_secs_f64();
        let said = fs::read_to_string(at(".log")).expect("it was made");
        let kept = kept.unwrap_or_else(|| panic!("the VMs did not start:\n{said}"));
        let healthy_after: BTreeMap<_, _> = said.lines().filter_map(healthy).collect();
        assert_eq!(healthy_after.len(), vms, "a line for each VM:\n{said}");
        let run_dir = at("");
        Self { run_dir, ready_after, healthy_after, _kept: kept, _scratch: PhantomData }
    }

    pub(super) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Accelerator, from QEMU's own command line.
    pub(super) fn accel(&self) -> Accel {
        let pid = fs::read_to_string(self.run_dir.join("controller.pid")).expect("QEMU's pidfile");
        let line = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).expect("it runs");
        match line.split('\0').skip_while(|&word| word != "-accel").nth(1) {
            Some("kvm") => Accel::Kvm,
            Some("tcg") => Accel::Tcg,
            other => panic!("QEMU runs with accelerator {other:?}"),
        }
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

/// Distance of a VM's metrics port from its SSH port.
const METRICS_ABOVE: u16 = 1000;

/// Lines of a ports.conf for `vms` VMs.
fn ports(vms: usize) -> String {
    // All are held until all are known, so that none comes twice.
    let mut held: Vec<(TcpListener, TcpListener)> = Vec::new();
    while held.len() < vms {
        let ssh = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = ssh.local_addr().expect("it is bound").port();
        let metrics = port.checked_add(METRICS_ABOVE);
        if let Some(Ok(metrics)) = metrics.map(|port| TcpListener::bind(("127.0.0.1", port))) {
            held.push((ssh, metrics));
        }
    }
    let port = |(ssh, _): &(TcpListener, _)| ssh.local_addr().expect("it is bound").port();
    held.iter().map(|pair| format!("{}\n", port(pair))).collect()
}

/// The name and the seconds in `hashcluster-vm: worker1: healthy after 5.4 s`.
fn healthy(line: &str) -> Option<(String, f64)> {
    let (name, rest) = line.strip_prefix("hashcluster-vm: ")?.split_once(": healthy after ")?;
    Some((name.to_owned(), rest.strip_suffix(" s")?.parse().ok()?))
}
