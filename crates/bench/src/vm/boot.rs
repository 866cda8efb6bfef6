//! From the command to a cluster that is healthy.

use super::host::Host;
use super::vms::Vms;
use crate::contest::{Run, interleave, median, median_ratio};
use crate::report::Report;
use std::path::Path;

const ROUNDS: usize = 5;

/// VMs of the clusters that are booted in turns.
const FEW: usize = 2;
const MANY: usize = 4;

/// Seconds to the command, and to the health of the controller and of the slowest worker.
type Boot = [f64; 3];

pub(super) fn measure(report: &mut Report, host: &Host, scratch: &Path) {
    // The first round makes the keys and the controller's disk.
    let mut runs = [FEW, MANY].map(|vms| -> Run<'_, Boot> {
        Box::new(move || boot(&Vms::start(host, scratch, &format!("boot{vms}"), vms, &[])))
    });
    let boots = interleave(ROUNDS, &mut runs);
    let of =
        |boots: &[Boot], what: usize| -> Vec<f64> { boots.iter().map(|boot| boot[what]).collect() };
    for (boots, vms) in boots.iter().zip([FEW, MANY]) {
        let [ready, controller, worker] = [0, 1, 2].map(|what| median(of(boots, what)));
        report.note(&format!("cluster of {vms} VMs, ready after {ready:.1} s"));
        report.note(&format!(
            "  from QEMU's start to health: controller {controller:.1} s, then {} worker(s) at once \
             {worker:.1} s",
            vms - 1,
        ));
    }
    let ratio = median_ratio(&of(&boots[1], 0), &of(&boots[0], 0));
    report.note(&format!("ready after, {MANY} VMs over {FEW}: {ratio:.2}x"));
}

fn boot(cluster: &Vms) -> Boot {
    let workers = cluster.healthy_after.iter().filter(|(name, _)| *name != "controller");
    let slowest = workers.map(|(_, &seconds)| seconds).fold(0.0, f64::max);
    [cluster.ready_after, cluster.healthy_after["controller"], slowest]
}
