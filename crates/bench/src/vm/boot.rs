//! From the command to a cluster that is healthy.

use super::host::Host;
use super::kept::Scratch;
use super::vms::Vms;
use crate::contest::median_ratio;
use crate::report::{Report, median};

const ROUNDS: usize = 5;

/// VMs of the clusters that are booted in turns.
const FEW: usize = 2;
const MANY: usize = 4;

#[derive(Default)]
struct Boots {
    ready: Vec<f64>,
    controller: Vec<f64>,
    /// Of each round the slowest.
    worker: Vec<f64>,
}

pub(super) fn measure(report: &mut Report, host: &Host, scratch: &Scratch) {
    let (mut few, mut many) = (Boots::default(), Boots::default());
    for round in 0..=ROUNDS {
        for (boots, vms) in [(&mut few, FEW), (&mut many, MANY)] {
            // The first round makes the keys and the controller's disk.
            let cluster = Vms::start(host, scratch, &format!("boot{vms}"), vms, &[]);
            if round > 0 {
                boots.add(&cluster);
            }
        }
    }
    for (boots, vms) in [(&few, FEW), (&many, MANY)] {
        report.note(&format!(
            "cluster of {vms} VMs, ready after {:.1} s",
            median(boots.ready.clone())
        ));
        report.note(&format!(
            "  from QEMU's start to health: controller {:.1} s, then {} worker(s) at once {:.1} s",
            median(boots.controller.clone()),
            vms - 1,
            median(boots.worker.clone()),
        ));
    }
    let ratio = median_ratio(&many.ready, &few.ready);
    report.note(&format!("ready after, {MANY} VMs over {FEW}: {ratio:.2}x"));
}

impl Boots {
    fn add(&mut self, cluster: &Vms<'_>) {
        self.ready.push(cluster.ready_after);
        self.controller.push(cluster.healthy_after["controller"]);
        let workers = cluster.healthy_after.iter().filter(|(name, _)| *name != "controller");
        self.worker.push(workers.map(|(_, &seconds)| seconds).fold(0.0, f64::max));
    }
}
