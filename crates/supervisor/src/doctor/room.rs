//! Checks that there is memory, disk space and ports for the cluster.

use super::diagnosis::{CheckResult, Diagnosis};
use super::remedy::Remedy;
use crate::deployment::{Deployment, check_ports_free};
use crate::quote;
use crate::vm::{OVERHEAD_MIB, available_mib};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use std::path::{Path, PathBuf};

/// Available memory below which the host is short of it, in MiB.
const MEMORY_LOW_MIB: u64 = 256;

/// Free space below which a directory is of no use, in MiB.
const SPACE_SHORT_MIB: u64 = 64;

/// Free inodes below which a directory is of no use.
const INODES_SHORT: u64 = 64;

/// Every port of VMs that do not run yet can be bound.
pub(super) fn ports(file: &Path, deployment: &Deployment) -> Vec<CheckResult> {
    let Err(errors) = check_ports_free(file, &deployment.vms, &[]) else {
        let list: Vec<String> = deployment.vms.iter().map(|vm| vm.ssh_port.to_string()).collect();
        return vec![CheckResult::ok("ports", format!("{} are free", list.join(", ")))];
    };
    let fault = |line: &str| {
        let (text, how) = line.split_once("; ").unwrap_or((line, "use another port"));
        let remedy = match holder_of(text) {
            Some(pid) => {
                Remedy::run(format!("kill {pid}")).note("ends its holder; or use another port")
            }
            None => Remedy::say(how),
        };
        Diagnosis::PortTaken.of("ports", text, remedy)
    };
    errors.to_string().lines().map(fault).collect()
}

/// The process in a text that ends with `(pid N)`.
fn holder_of(text: &str) -> Option<u32> {
    text.rsplit_once("(pid ")?.1.strip_suffix(')')?.parse().ok()
}

/// Memory, for VMs that do not run yet if `deployment` is given.
pub(super) fn memory(deployment: Option<&Deployment>) -> CheckResult {
    let Some(available) = available_mib() else {
        return CheckResult::ok("memory", "/proc/meminfo does not say how much is available");
    };
    judge_memory(available, deployment)
}

fn judge_memory(available: u64, deployment: Option<&Deployment>) -> CheckResult {
    let vms = deployment.map_or(&[][..], |deployment| &deployment.vms);
    let needed: u64 = vms.iter().map(|vm| u64::from(vm.memory_mib) + OVERHEAD_MIB).sum();
    if available < needed {
        let each = (available / vms.len() as u64).saturating_sub(OVERHEAD_MIB);
        let text = format!("the VMs may take {needed} MiB, and {available} MiB are available");
        let remedy = match each {
            0..96 => "fewer lines in ports.conf, or end other programs".to_owned(),
            _ => format!(
                "memory = \"{each}M\" below [defaults] in cluster.toml, or fewer lines in ports.conf"
            ),
        };
        return Diagnosis::MemoryShort.of("memory", text, Remedy::say(remedy));
    }
    if available < MEMORY_LOW_MIB {
        let remedy = Remedy::say("end other programs, or stop some of the workers");
        return Diagnosis::MemoryLow.of("memory", format!("{available} MiB available"), remedy);
    }
    let rest = if needed > 0 { format!(", the VMs may take {needed} MiB") } else { String::new() };
    CheckResult::ok("memory", format!("{available} MiB available{rest}"))
}

/// A directory of the cluster, or that in which it will be made, is ours to write, with `wanted_mib`
/// of free space.
pub(super) fn space(subject: &str, dir: &Path, wanted_mib: u64) -> CheckResult {
    let existing = existing(dir);
    let shown = existing.display();
    if access(&existing, AccessFlags::W_OK).is_err() {
        let user = super::host::user_name();
        let command = format!(
            "sudo install -d -o {} -m 700 {}",
            quote::shell(user.as_ref()),
            quote::path(dir)
        );
        let text = format!("{shown} cannot be written by {user}");
        let remedy = Remedy::run(command).note("or name another directory; see ./run.sh --help");
        return Diagnosis::NotWritable.of(subject, text, remedy);
    }
    let Ok(found) = statvfs(&existing) else {
        return CheckResult::ok(subject, format!("{shown}, free space unknown"));
    };
    let free_mib = found.blocks_available().saturating_mul(found.fragment_size()) >> 20;
    // File systems without a table of inodes say 0 of 0.
    let inodes = (found.files() > 0).then(|| found.files_available());
    let remedy = |command: &str| {
        let command = format!("{command} {} | sort -n | tail", quote::path(&existing));
        Remedy::run(command).note(format!("says what is there; make room for {wanted_mib} MiB"))
    };
    if let Some(inodes) = inodes.filter(|&inodes| inodes < INODES_SHORT) {
        let text = format!("{inodes} free inodes for {}", dir.display());
        return Diagnosis::SpaceShort.of(subject, text, remedy("du -x --inodes"));
    }
    let text = format!("{free_mib} MiB free for {}", dir.display());
    match free_mib {
        free if free < SPACE_SHORT_MIB => Diagnosis::SpaceShort.of(subject, text, remedy("du -xm")),
        free if free < wanted_mib => Diagnosis::SpaceLow.of(subject, text, remedy("du -xm")),
        _ => CheckResult::ok(subject, text),
    }
}

/// The directory, or the nearest above it that is there.
fn existing(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::good;

    #[test]
    fn memory_that_does_not_suffice_is_told_with_what_would() {
        let deployment = good("2220\n2221\n2222\n", "");
        let judged = |available, deployment| {
            let result = judge_memory(available, deployment);
            (result.diagnosis, result.remedy.map(|remedy| remedy.text).unwrap_or_default())
        };
        let (fault, how) = judged(100, Some(&deployment));
        assert_eq!(fault, Some(Diagnosis::MemoryShort));
        assert!(how.starts_with("fewer lines"), "{how}");
        let needed: u64 =
            deployment.vms.iter().map(|vm| u64::from(vm.memory_mib) + OVERHEAD_MIB).sum();
        let (fault, how) = judged(needed - 1, Some(&deployment));
        assert_eq!(fault, Some(Diagnosis::MemoryShort));
        assert!(how.contains("memory = \""), "{how}");
        assert_eq!(judged(needed, Some(&deployment)).0, None);
        assert_eq!(judged(255, None).0, Some(Diagnosis::MemoryLow));
        assert_eq!(judged(256, None).0, None);
    }

    #[test]
    fn the_holder_of_a_port_is_found_in_the_text() {
        assert_eq!(holder_of("p:1: port 9 is in use by python3 (pid 77)"), Some(77));
        assert_eq!(holder_of("p:1: port 9 is in use"), None);
    }

    #[test]
    fn a_directory_that_is_still_to_be_made_is_judged_by_the_one_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        assert_eq!(existing(&deep), dir.path());
        assert_eq!(space("cache", &deep, 1).diagnosis, None);
        assert_eq!(space("cache", &deep, u64::MAX).diagnosis, Some(Diagnosis::SpaceLow));
    }
}
