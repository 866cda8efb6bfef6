//! Cost of VMs: their boot, their memory, the wire into them, and hashing in them, against the same
//! programs outside.
//!
//! Without KVM a VM's instructions are translated (TCG), which says nothing about VMs. So what
//! runs in one is then also held against the same static binary outside under `qemu-x86_64`, which
//! translates as the VM does, with the same processor model.

mod boot;
mod host;
mod rate;
mod two_builds;
mod vms;
mod wire;

use crate::report::Report;
use host::Host;
use rate::Data;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use test_kit::{Cluster, Options, bin};
use vms::Vms;

const PROGRAMS: [&str; 3] = ["hashcluster-controller", "hashcluster-worker", "hashctl"];

pub(crate) fn run(report: &mut Report) {
    let host = Host::from_environment();
    let scratch = tempfile::Builder::new().prefix("hc").tempdir().expect("a temporary directory");
    if let Some(other_dir) = crate::sides::other_dir() {
        return two_builds::measure(report, scratch.path(), &other_dir);
    }
    let data = Data::write(scratch.path());
    let vms = Vms::start(&host, scratch.path(), "measured", 2, &["--config", &data.config]);
    conditions(report, &host, &vms);
    memory(report, &vms);
    rate::measure(report, scratch.path(), &vms, &data);
    // From here on the only worker is one made by hand.
    vms.stop(wire::WORKER);
    wire::measure(report, scratch.path(), &vms);
    drop(vms);
    boot::measure(report, &host, scratch.path());
}

fn conditions(report: &mut Report, host: &Host, vms: &Vms) {
    report.note(&format!(
        "VMs of 192 MiB and 1 CPU on {}, accelerator {}, guest Linux {}, {} image",
        host::qemu_version(),
        vms.accel(),
        host.image_value("kernel"),
        host.image_value("kind")
    ));
}

fn memory(report: &mut Report, vms: &Vms) {
    for name in ["controller", "worker1"] {
        let text = vms.ssh(name, &["cat", "/proc/meminfo"]);
        let mib = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib.expect("the kernel says") / 1024.0
        };
        report.note(&format!(
            "{name} after boot: {:.0} MiB available of {:.0} MiB that Linux has",
            mib("MemAvailable"),
            mib("MemTotal")
        ));
    }
}

/// Clusters outside with `workers` workers: native, and where VMs are translated also one whose
/// `program` is translated by QEMU's user mode with the processor model of the VMs.
fn outside(dir: &Path, vms: &Vms, workers: usize, program: &str) -> Vec<(&'static str, Cluster)> {
    let options = Options { workers, ..Options::default() };
    let mut clusters = vec![("native", Cluster::start(options.clone()))];
    if vms.accel() == "tcg" {
        let bin_dir = dir.join(format!("translated-{program}"));
        fs::create_dir(&bin_dir).expect("a new directory");
        for name in PROGRAMS {
            if name != program {
                symlink(bin(name), bin_dir.join(name)).expect("a new name");
            }
        }
        let (wrapper, binary) = (bin_dir.join(program), bin(program));
        let text = format!("#!/bin/sh\nexec qemu-x86_64 -cpu max {} \"$@\"\n", binary.display());
        fs::write(&wrapper, text).expect("room for a file");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&wrapper, mode).expect("our own file");
        let bin_dir = Some(bin_dir);
        clusters.push(("translated", Cluster::start(Options { bin_dir, ..options })));
    }
    clusters
}
