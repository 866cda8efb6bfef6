//! Cost of VMs: their boot, their image, their memory, the wire into them, and hashing in
//! them, against the same programs outside.
//!
//! Without KVM a VM's instructions are translated (TCG), which says nothing about VMs. So what
//! runs in one is then also held against the same static binary outside under `qemu-x86_64`, which
//! translates as the VM does, with the same processor model.

mod boot;
mod host;
mod image;
mod kept;
mod outside;
mod rate;
mod vms;
mod wire;

use crate::report::Report;
use host::Host;
use kept::Scratch;
use rate::Data;
use vms::Vms;

pub(crate) fn run(report: &mut Report) {
    let host = Host::from_environment();
    let scratch = Scratch::new();
    image::measure(report, &host);
    let data = Data::write(scratch.path());
    let vms = Vms::start(&host, &scratch, "measured", 2, &["--config", &data.config]);
    conditions(report, &host, &vms);
    memory(report, &vms);
    rate::measure(report, &scratch, &vms, &data);
    // From here on the only worker is one made by hand.
    vms.stop(wire::WORKER);
    wire::measure(report, &scratch, &vms);
    drop(vms);
    boot::measure(report, &host, &scratch);
}

fn conditions(report: &mut Report, host: &Host, vms: &Vms<'_>) {
    report.note(&format!(
        "VMs of 192 MiB and 1 CPU on {}, accelerator {}, guest Linux {}, {} image",
        host::qemu_version(),
        vms.accel().name(),
        host.image_value("kernel"),
        host.image_value("kind")
    ));
}

fn memory(report: &mut Report, vms: &Vms<'_>) {
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
