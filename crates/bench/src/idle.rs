//! The idle controller: its size, its memory, its CPU time.

use crate::report::{Report, Target};
use std::time::Duration;
use test_kit::{Cluster, Options, bin, cpu_time};

const PERIOD: Duration = Duration::from_secs(10);
const MIB: f64 = (1 << 20) as f64;

pub(crate) fn run(report: &mut Report) {
    let binary = bin("hashcluster-controller");
    let size = binary.metadata().expect("it was found").len() as f64 / MIB;
    report.check("controller, static and stripped", size, " MiB", Target::AtMost(4.0));
    let cluster = Cluster::start(Options::default());
    let pid = cluster.controller.id();
    let before = cpu_time(pid);
    std::thread::sleep(PERIOD);
    let share = (cpu_time(pid) - before).as_secs_f64() / PERIOD.as_secs_f64() * 100.0;
    report.check("controller idle, CPU with 2 workers", share, " %", Target::AtMost(0.1));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let rss_kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("the kernel says");
    report.check("controller idle, resident memory", rss_kib / 1024.0, " MiB", Target::AtMost(8.0));
}
