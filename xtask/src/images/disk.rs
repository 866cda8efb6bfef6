//! A device's disk, tried in QEMU with UEFI firmware: it hashes, loses no acknowledged job when its power is cut, and
//! takes an update, or goes back to the version before.

use super::free_ports;
use super::machine::BootableDevice;
use crate::tools::{Failure, output, root, run, target_dir};
use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const CUTS: usize = 20;

/// Longest time between the first acknowledged job and the cut.
const CUT_MS_MAX: u64 = 3_000;

/// Files that a job hashes: this many, of this many bytes each.
const FILES: u32 = 40;
const FILE_LEN: usize = 200_000;

/// Place of the first root on the disk, as qemu/disk-image.sh partitions it.
const ROOT_A_MIB: u64 = 97;

/// Boots the disk that is made of the development image `image` and the programs in `bin_dir`.
pub(super) fn try_out(image: &Path, bin_dir: &Path) -> Result<(), Failure> {
    let dir = target_dir()?.join(format!("disk-{}", std::process::id()));
    let result = Trial::new(&dir, image, bin_dir).and_then(|trial| {
        trial.hashes()?;
        trial.survives_cuts()?;
        trial.updates()
    });
    // A trial that failed leaves its files, for whoever looks at them.
    if result.is_ok() {
        let _ = fs::remove_dir_all(&dir);
    }
    result
}

struct Trial {
    dir: PathBuf,
    machine: BootableDevice,
    /// The lines of `sha256sum`.
    want: String,
}

impl Trial {
    fn new(dir: &Path, image: &Path, bin_dir: &Path) -> Result<Self, Failure> {
        let data = dir.join("data/files");
        fs::create_dir_all(&data).map_err(wrong(&data))?;
        for i in 0..FILES {
            let path = data.join(format!("f{i:03}"));
            let bytes: Vec<u8> = (i..)
                .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
                .take(FILE_LEN)
                .collect();
            fs::write(&path, bytes).map_err(wrong(&path))?;
        }
        let oracle = "find files -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
        let want = output(Command::new("bash").args(["-c", oracle]).current_dir(dir.join("data")))?;
        for version in ["1", "2", "3"] {
            let mut build = Command::new(root().join("qemu/disk-image.sh"));
            run(build.arg(version).args([image, bin_dir]).arg(dir.join(version)))?;
        }
        let machine = BootableDevice::new(dir, &dir.join("1/disk.img"), free_ports(1)?[0])?;
        Ok(Self { dir: dir.to_owned(), machine, want })
    }

    fn hashes(&self) -> Result<(), Failure> {
        let device = self.machine.boot()?;
        let sum = device.ssh("cd /data && hashctl sum -r files")?;
        expect("hashctl sum", &sum, &self.want)?;
        let root = device.ssh(
            "awk '$2 == \"/\" { print $3, $4 }' /proc/mounts; if (: >/x) 2>/dev/null; then echo written; fi",
        )?;
        if !root.starts_with("erofs ro") || root.contains("written") {
            return Err(Failure::Wrong(format!("the root is not a read-only erofs: {root}")));
        }
        println!("booted by UEFI firmware, hashed {FILES} files");
        device.power_off()
    }

    /// Jobs are submitted one after the other until the power is cut; each that was acknowledged is there, and has
    /// the right digests.
    fn survives_cuts(&self) -> Result<(), Failure> {
        let mut acknowledged = BTreeSet::new();
        for cut in 1..=CUTS {
            let device = self.machine.boot()?;
            let jobs: BTreeSet<String> = ids(&device.ssh("hashctl jobs --json")?);
            if let Some(lost) = acknowledged.iter().find(|id| !jobs.contains(*id)) {
                return Err(Failure::Wrong(format!(
                    "cut {cut}: the acknowledged job {lost} is gone"
                )));
            }
            let submit = format!(
                "cd /data; i=0; while :; do i=$((i+1)); \
                 hashctl submit --id cut{cut}-$i files >/dev/null && echo cut{cut}-$i; done"
            );
            let mut ssh = device.ssh_command(&submit);
            let spawned = ssh.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
            let mut ssh = spawned.map_err(|e| Failure::Wrong(format!("ssh: {e}")))?;
            let mut lines = BufReader::new(ssh.stdout.take().expect("it is piped")).lines();
            let first = lines.next().and_then(Result::ok);
            let first =
                first.ok_or_else(|| Failure::Wrong(format!("cut {cut}: no job was taken")))?;
            let reader = thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
            let after_ms = RandomState::new().build_hasher().finish() % CUT_MS_MAX;
            thread::sleep(Duration::from_millis(after_ms));
            device.cut_power()?;
            // Without the device ssh waits for its own time-out.
            let _ = ssh.kill();
            let _ = ssh.wait();
            let more = reader.join().expect("a reader of lines does not panic");
            let count = more.len() + 1;
            acknowledged.extend([first].into_iter().chain(more));
            println!("cut {cut}: after {after_ms} ms, {count} jobs acknowledged");
        }
        let device = self.machine.boot()?;
        for id in &acknowledged {
            device.ssh(&format!("hashctl wait {id} >/dev/null"))?;
            expect(id, &device.ssh(&format!("hashctl result {id}"))?, &self.want)?;
        }
        println!(
            "{} acknowledged jobs in {CUTS} cuts, all with the right digests",
            acknowledged.len()
        );
        device.power_off()
    }

    fn updates(&self) -> Result<(), Failure> {
        let device = self.machine.boot()?;
        let jobs = ids(&device.ssh("hashctl jobs --json")?);
        self.install(&device, "2")?;
        device.power_off()?;
        let device = self.machine.boot_until("/etc/hashcluster/version", "2")?;
        if ids(&device.ssh("hashctl jobs --json")?) != jobs {
            return Err(Failure::Wrong("version 2 does not have the jobs of version 1".into()));
        }
        // What the service does when the controller has a worker; here it must not be later than the next step.
        device.ssh("/usr/lib/hashcluster/update confirm")?;
        println!("updated to version 2, with all jobs");
        self.install(&device, "3")?;
        device.power_off()?;
        // Version 3 took the place of version 1. Its root is damaged.
        let damage = fs::OpenOptions::new().write(true).open(self.machine.disk());
        let damage = damage.and_then(|disk| {
            use std::os::unix::fs::FileExt;
            disk.write_all_at(&[0x5a; 4_096], (ROOT_A_MIB << 20) + (1 << 20))
        });
        damage.map_err(wrong(self.machine.disk()))?;
        let device = self.machine.boot_until("/etc/hashcluster/version", "2")?;
        expect("hashctl sum", &device.ssh("cd /data && hashctl sum -r files")?, &self.want)?;
        let tries = self.machine.console()?.matches("no partition has the root").count();
        println!("version 3, damaged, was tried {tries} times; then version 2 booted again");
        if tries != 3 {
            return Err(Failure::Wrong(format!("version 3 was tried {tries} times, not 3")));
        }
        device.power_off()
    }

    fn install(
        &self,
        device: &super::machine::BootedDevice<'_>,
        version: &str,
    ) -> Result<(), Failure> {
        for (what, file) in [("root", "root.erofs"), ("boot", "boot.efi")] {
            let path = self.dir.join(version).join(file);
            let content = fs::File::open(&path).map_err(wrong(&path))?;
            let mut ssh = device.ssh_command(&format!("/usr/lib/hashcluster/update {what}"));
            run(ssh.stdin(content))?;
        }
        Ok(())
    }
}

/// The keys of jobs, in lines of JSON.
fn ids(json: &str) -> BTreeSet<String> {
    let key = |rest: &str| rest.split('"').next().unwrap_or_default().to_owned();
    let text = json.replace(": ", ":");
    text.split("\"key\":\"").skip(1).map(key).collect()
}

fn expect(what: &str, found: &str, want: &str) -> Result<(), Failure> {
    if found == want {
        return Ok(());
    }
    Err(Failure::Wrong(format!("{what}: not what sha256sum prints:\n{found}")))
}

pub(super) fn wrong(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path = PathBuf::from(path);
    move |error| Failure::Wrong(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_jobs_are_found_in_json() {
        let json = "{\"job\":\"1-2\",\"key\":\"cut1-1\",\"state\":\"done\"}\n{\"job\":\"1-3\",\"key\": \"cut1-2\"}\n";
        assert_eq!(ids(json), BTreeSet::from(["cut1-1".to_owned(), "cut1-2".to_owned()]));
        assert!(ids("").is_empty());
    }
}
