//! A deployment as a table for a person.

use super::kind::size;
use super::shown::shown_path;
use super::{Check, Deployment, Health, Strategy, Vm};
use crate::columns;
use std::fmt;
use telemetry::SyslogTarget;

const HEAD: [&str; 10] =
    ["NAME", "ROLE", "SSH", "METRICS", "MEMORY", "CPUS", "CPUSET", "MEMLOCK", "DATASETS", "HEALTH"];

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 10]> =
            [HEAD.map(str::to_owned)].into_iter().chain(self.vms.iter().map(row)).collect();
        f.write_str(&columns::aligned(&rows))?;
        for vm in &self.vms {
            if !vm.args.is_empty() {
                writeln!(f, "flags of {}: {}", vm.name, vm.args.join(" "))?;
            }
        }
        for dataset in &self.datasets {
            let kind = if dataset.snapshot { "snapshot of" } else { "live" };
            write!(f, "dataset {}: {kind} {}", dataset.name, shown_path(&dataset.dir))?;
            if let Some(threads) = dataset.io_threads {
                write!(f, ", read by {threads} at once")?;
            }
            writeln!(f, "{}", if dataset.is_missing { ", missing" } else { "" })?;
        }
        let how = match self.strategy {
            Strategy::Sequential => "one after the other",
            Strategy::Parallel => "in parallel",
        };
        let until = if self.wait_for_healthy { "healthy" } else { "started, healthy or not," };
        if self.syslog != SyslogTarget::Off {
            writeln!(f, "logs: to {}, too", self.syslog)?;
        }
        let limit = self.startup_timeout.as_secs();
        writeln!(f, "start: the controller, then workers {how}; {until} within {limit} s")
    }
}

fn row(vm: &Vm) -> [String; 10] {
    [
        vm.name.clone(),
        vm.role.name().to_owned(),
        vm.ssh_port.to_string(),
        vm.metrics_port.to_string(),
        size(u64::from(vm.memory_mib) << 10),
        vm.cpus.to_string(),
        or_dash(vm.cpuset.as_ref().map(super::CpuSet::as_arg)),
        or_dash(vm.memlock_kib.map(size)),
        or_dash(Some(vm.datasets.join(",")).filter(|names| !names.is_empty())),
        health(&vm.health),
    ]
}

fn health(health: &Health) -> String {
    let Health { check, interval, timeout, retries } = health;
    let (interval, timeout) = (interval.as_secs(), timeout.as_secs());
    let check = match check {
        Check::Protocol => "protocol".to_owned(),
        Check::Command(command) => format!("`{command}`"),
    };
    format!("{check} every {interval} s, limit {timeout} s, {retries} retries")
}

fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
}
