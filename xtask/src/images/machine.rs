//! A virtual device: QEMU with UEFI firmware, a disk that is written, and SSH.

use super::disk::wrong;
use crate::tools::{Failure, output, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_STATE: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The longest wait for a boot, three failed attempts before it included.
const BOOT_MAX: Duration = Duration::from_secs(300);
const POWER_OFF_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

/// A device that can be booted.
pub(super) struct BootableDevice {
    dir: PathBuf,
    disk: PathBuf,
    port: u16,
}

/// A device that runs; dropping it cuts the power.
pub(super) struct BootedDevice<'a> {
    machine: &'a BootableDevice,
    qemu: Child,
}

impl BootableDevice {
    /// A device with `disk`, keys for SSH, and `data/` in `dir` as its dataset.
    pub(super) fn new(dir: &Path, disk: &Path, port: u16) -> Result<Self, Failure> {
        let file = |name: &str| dir.join(name);
        let mut key = Command::new("ssh-keygen");
        run(key.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file("key")))?;
        let mut key = Command::new("dropbearkey");
        let about = output(key.args(["-t", "ed25519", "-f"]).arg(file("host_key")))?;
        let public =
            about.lines().find(|line| line.starts_with("ssh-ed25519 ")).unwrap_or_default();
        let known = format!("[127.0.0.1]:{port} {public}\n");
        fs::write(file("known_hosts"), known).map_err(wrong(&file("known_hosts")))?;
        let settings = [
            ("hostname", "device\n"),
            ("datasets", "files erofs files\n"),
            ("worker_args", "--name\nw1\n--dataset\nfiles=/data/files\n"),
        ];
        for (name, value) in settings {
            fs::write(file(name), value).map_err(wrong(&file(name)))?;
        }
        fs::copy(FIRMWARE_STATE, file("firmware")).map_err(wrong(Path::new(FIRMWARE_STATE)))?;
        let mut mkfs = Command::new("mkfs.erofs");
        run(mkfs.arg(file("files.erofs")).arg(file("data/files")).stdout(Stdio::null()))?;
        Ok(Self { dir: dir.to_owned(), disk: disk.to_owned(), port })
    }

    pub(super) fn disk(&self) -> &Path {
        &self.disk
    }

    /// Output of the console since its last boot by [`Self::boot`].
    pub(super) fn console(&self) -> Result<String, Failure> {
        let path = self.dir.join("console");
        Ok(String::from_utf8_lossy(&fs::read(&path).map_err(wrong(&path))?).into_owned())
    }

    /// Boots, and waits for a controller with a worker.
    pub(super) fn boot(&self) -> Result<BootedDevice<'_>, Failure> {
        self.wait(|device| device.ssh("hashctl status --ready 1 --timeout-s 60 >/dev/null"))
    }

    /// The same, until the file at `path` in the device has `want` in it.
    pub(super) fn boot_until(&self, path: &str, want: &str) -> Result<BootedDevice<'_>, Failure> {
        self.wait(|device| {
            device.ssh("hashctl status --ready 1 --timeout-s 60 >/dev/null")?;
            let found = device.ssh(&format!("cat {path}"))?;
            let wrong = || Failure::Wrong(format!("{path} has {found}, not {want}"));
            (found.trim() == want).then_some(found.clone()).ok_or_else(wrong)
        })
    }

    fn wait(
        &self,
        answer: impl Fn(&BootedDevice<'_>) -> Result<String, Failure>,
    ) -> Result<BootedDevice<'_>, Failure> {
        let mut device = self.start()?;
        let start = Instant::now();
        loop {
            match answer(&device) {
                Ok(_) => return Ok(device),
                Err(failure) if start.elapsed() > BOOT_MAX => {
                    let console = self.console()?;
                    let end: Vec<&str> = console.lines().rev().take(20).collect();
                    let end: Vec<&str> = end.into_iter().rev().collect();
                    return Err(Failure::Wrong(format!(
                        "the device does not come up: {failure}\n{}",
                        end.join("\n")
                    )));
                }
                Err(_) => {}
            }
            if let Ok(Some(status)) = device.qemu.try_wait() {
                return Err(Failure::Wrong(format!("QEMU ended with {status}")));
            }
            thread::sleep(POLL);
        }
    }

    fn start(&self) -> Result<BootedDevice<'_>, Failure> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "q35,i8042=off",
        ]);
        qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "256M", "-smp", "1"]);
        qemu.args(["-serial", &format!("file:{}", file("console"))]);
        qemu.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}")]);
        qemu.args(["-drive", &format!("if=pflash,format=raw,file={}", file("firmware"))]);
        qemu.args(["-drive", &format!("if=none,id=disk,format=raw,file={}", self.disk.display())]);
        qemu.args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"]);
        qemu.args([
            "-drive",
            &format!("if=none,id=files,format=raw,readonly=on,file={}", file("files.erofs")),
        ]);
        qemu.args(["-device", "virtio-blk-pci,drive=files,serial=files"]);
        let forward = format!("hostfwd=tcp:127.0.0.1:{}-10.0.2.15:22", self.port);
        qemu.args(["-netdev", &format!("user,id=net,restrict=on,{forward}")]);
        qemu.args(["-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"]);
        for (key, name) in [
            ("hostname", "hostname"),
            ("datasets", "datasets"),
            ("worker_args", "worker_args"),
            ("host_key", "host_key"),
            ("authorized_keys", "key.pub"),
        ] {
            qemu.args(["-fw_cfg", &format!("name=opt/hashcluster/{key},file={}", file(name))]);
        }
        let spawned = qemu.stdin(Stdio::null()).spawn();
        let qemu =
            spawned.map_err(|error| Failure::Wrong(format!("qemu-system-x86_64: {error}")))?;
        Ok(BootedDevice { machine: self, qemu })
    }
}

impl BootedDevice<'_> {
    /// Runs a command line, and returns its output.
    pub(super) fn ssh(&self, line: &str) -> Result<String, Failure> {
        let unread = |error| Failure::Wrong(format!("ssh: {error}"));
        let ended = self.ssh_command(line).output().map_err(unread)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ended.status.success() {
            return Ok(text(&ended.stdout));
        }
        let said = text(&ended.stderr);
        Err(Failure::Wrong(format!("`{line}` in the device: {}: {}", ended.status, said.trim())))
    }

    pub(super) fn ssh_command(&self, line: &str) -> Command {
        let machine = self.machine;
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]);
        ssh.args(["-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR"]);
        ssh.arg("-o")
            .arg(format!("UserKnownHostsFile={}", machine.dir.join("known_hosts").display()));
        ssh.arg("-i").arg(machine.dir.join("key")).args(["-p", &machine.port.to_string()]);
        ssh.args(["root@127.0.0.1", line]);
        ssh.stdin(Stdio::null());
        ssh
    }

    /// Ends QEMU without any word to the device.
    pub(super) fn cut_power(mut self) -> Result<(), Failure> {
        let ended = self.qemu.kill().and_then(|()| self.qemu.wait());
        ended.map(drop).map_err(|error| Failure::Wrong(format!("QEMU: {error}")))
    }

    /// Asks the device to power off, and waits until it has.
    pub(super) fn power_off(mut self) -> Result<(), Failure> {
        // The connection ends with the device.
        let _ = self.ssh("poweroff");
        let start = Instant::now();
        loop {
            match self.qemu.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if start.elapsed() < POWER_OFF_MAX => thread::sleep(POLL),
                Ok(None) => return Err(Failure::Wrong("the device does not power off".into())),
                Err(error) => return Err(Failure::Wrong(format!("QEMU: {error}"))),
            }
        }
    }
}

impl Drop for BootedDevice<'_> {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
