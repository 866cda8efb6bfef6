//! One deployment out of what each file says. The most specific wins: `[vm.NAME]` of `cluster.toml`,
//! then its `[defaults]`, then what is written here.

use super::cluster_toml::{HealthSettings, Lined, Settings, VmSettings};
use super::datasets::{Offer, Origin};
use super::fault::{Faults, listed};
use super::flags::{FLAGS, Flag};
use super::ports_conf::VmLine;
use super::shown::Shown;
use super::{Health, Role, Vm};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Distance from the SSH port to the metrics port where no `metrics_port` is given.
pub(super) const METRICS_OFFSET: u16 = 1_000;

const MEMORY_MIB: u32 = 192;
const CPUS: u16 = 1;
pub(super) const STARTUP_TIMEOUT: Duration = Duration::from_secs(120);

/// Each VM as it is to be. Those whose lines have faults are left out.
pub(super) fn vms(lines: &[VmLine], defaults: &Settings, of_vms: &[VmSettings]) -> Vec<Vm> {
    let none = Settings::default();
    let vm = |line: &VmLine| vm(line, of(of_vms, &line.name).unwrap_or(&none), defaults);
    lines.iter().filter_map(vm).collect()
}

/// The `[vm.NAME]` of a VM.
fn of<'a>(of_vms: &'a [VmSettings], name: &str) -> Option<&'a Settings> {
    of_vms.iter().find(|vm| vm.name == name).map(|found| &found.settings)
}

fn vm(line: &VmLine, own: &Settings, defaults: &Settings) -> Option<Vm> {
    let ssh_port = line.ssh_port?;
    let metrics_port = match &own.metrics_port {
        Some(port) => port.value,
        None => ssh_port.checked_add(METRICS_OFFSET)?,
    };
    Some(Vm {
        name: line.name.clone(),
        role: line.role,
        line: line.line,
        ssh_port,
        metrics_port,
        memory_mib: own.memory_mib.or(defaults.memory_mib).unwrap_or(MEMORY_MIB),
        cpus: own.cpus.or(defaults.cpus).unwrap_or(CPUS),
        cpuset: own.cpuset.as_ref().or(defaults.cpuset.as_ref()).cloned(),
        memlock_kib: own.memlock_kib.or(defaults.memlock_kib),
        args: args(line.role, own, defaults, |_| true),
        health: health(&own.health, &defaults.health),
        datasets: line.datasets.clone(),
    })
}

/// Flags of a program, of those that `are_wanted`.
pub(super) fn args(
    role: Role,
    own: &Settings,
    defaults: &Settings,
    are_wanted: impl Fn(&Flag) -> bool,
) -> Vec<String> {
    let values = own
        .flags
        .iter()
        .zip(&defaults.flags)
        .map(|(own, default)| own.as_ref().or(default.as_ref()));
    let rows = FLAGS.iter().zip(values).filter(|(flag, _)| flag.is_of(role) && are_wanted(flag));
    rows.flat_map(|(flag, value)| value.map_or_else(Vec::new, |value| flag.args(&value.value)))
        .collect()
}

fn health(own: &HealthSettings, defaults: &HealthSettings) -> Health {
    let Health { check, interval, timeout, retries } = Health::DEFAULT;
    Health {
        check: own.check.as_ref().or(defaults.check.as_ref()).cloned().unwrap_or(check),
        interval: own.interval.or(defaults.interval).unwrap_or(interval),
        timeout: own.timeout.or(defaults.timeout).unwrap_or(timeout),
        retries: own.retries.or(defaults.retries).unwrap_or(retries),
    }
}

/// Refuses what `cluster.toml` says of VMs that are not there, or of the wrong role.
pub(super) fn check_vms(lines: &[VmLine], of_vms: &[VmSettings], faults: &mut Faults) {
    for VmSettings { line, name, settings } in of_vms {
        let Some(vm) = lines.iter().find(|vm| vm.name == *name) else {
            let known: Vec<&str> = lines.iter().map(|vm| &*vm.name).collect();
            let name = Shown::quoted(name.as_bytes());
            faults.at(*line, format!("no VM is called {name}; there are {}", listed(&known)));
            continue;
        };
        for (flag, value) in FLAGS.iter().zip(&settings.flags) {
            if let Some(Lined { line, .. }) = value.as_ref().filter(|_| !flag.is_of(vm.role)) {
                let text = match vm.role {
                    Role::Controller => only_for_workers(flag.key),
                    Role::Worker => {
                        let key = flag.key;
                        format!("{key} is for the controller; write it there, or in [defaults]")
                    }
                };
                faults.at(*line, text);
            }
        }
        if let Some(Lined { line, .. }) = &settings.datasets
            && vm.role == Role::Controller
        {
            faults.at(*line, only_for_workers("datasets"));
        }
    }
}

fn only_for_workers(key: &str) -> String {
    format!("{key} is for workers; the controller hashes nothing")
}

/// Use of a port.
#[derive(Clone, Copy)]
enum PortUse {
    Ssh,
    /// Metrics, by a line of `cluster.toml`.
    Metrics(usize),
    /// Metrics, at a number that follows from the SSH port.
    MetricsByDefault,
}

impl fmt::Display for PortUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh => f.write_str("SSH port"),
            Self::Metrics(_) => f.write_str("metrics port"),
            Self::MetricsByDefault => write!(f, "metrics port (its SSH port + {METRICS_OFFSET})"),
        }
    }
}

/// No two ports of the cluster are equal, and every VM has one for its metrics.
pub(super) fn check_ports(
    lines: &[VmLine],
    of_vms: &[VmSettings],
    [ports, config]: [&mut Faults; 2],
) {
    let mut taken: HashMap<u16, (PortUse, &str)> = HashMap::new();
    let ssh = lines.iter().filter_map(|vm| Some((vm, vm.ssh_port?, PortUse::Ssh)));
    let metrics = lines.iter().filter_map(|vm| {
        let own = of(of_vms, &vm.name).and_then(|settings| settings.metrics_port.as_ref());
        match (own, vm.ssh_port) {
            (Some(port), _) => Some((vm, port.value, PortUse::Metrics(port.line))),
            (None, ssh_port) => Some((
                vm,
                ssh_port?.checked_add(METRICS_OFFSET).unwrap_or(0),
                PortUse::MetricsByDefault,
            )),
        }
    });
    for (vm, port, of) in ssh.chain(metrics) {
        let name = &vm.name;
        let text = match taken.get(&port) {
            _ if port == 0 => format!(
                "no port for metrics, as SSH port + {METRICS_OFFSET} is too large; write in \
                 cluster.toml: [vm.{name}] metrics_port = PORT"
            ),
            None => {
                taken.insert(port, (of, name));
                continue;
            }
            Some((by, by_name)) => {
                let is_by_default = |of: &PortUse| matches!(of, PortUse::MetricsByDefault);
                let how = match is_by_default(&of) || is_by_default(by) {
                    true => "use another, or set metrics_port in cluster.toml",
                    false => "use another",
                };
                format!("port {port}, the {of} of {name}, is already the {by} of {by_name}; {how}")
            }
        };
        match of {
            PortUse::Metrics(line) => config.at(line, text),
            PortUse::Ssh | PortUse::MetricsByDefault => ports.at(vm.line, text),
        }
    }
}

/// Workers that name no dataset have all; afterwards each dataset has a worker, and each that is
/// named is there.
pub(super) fn share(
    offers: &[Offer],
    lines: &mut [VmLine],
    of_vms: &[VmSettings],
    [config, args]: [&mut Faults; 2],
) {
    let all: Vec<String> = offers.iter().map(|offer| offer.name.clone()).collect();
    for vm in lines.iter_mut().filter(|vm| vm.role == Role::Worker) {
        vm.datasets = match of(of_vms, &vm.name).and_then(|settings| settings.datasets.as_ref()) {
            None => all.clone(),
            Some(Lined { line, value }) => {
                for name in value.iter().filter(|&name| !all.contains(name)) {
                    let known = match all.is_empty() {
                        true => "give one in cluster.toml or with --dataset NAME=DIR".to_owned(),
                        false => format!("there are {}", listed(&all)),
                    };
                    config.at(*line, format!("there is no dataset {name}; {known}"));
                }
                value.clone()
            }
        };
    }
    let has_workers = lines.iter().any(|vm| vm.role == Role::Worker);
    for Offer { name, origin, .. } in offers.iter().filter(|_| has_workers) {
        if lines.iter().any(|vm| vm.datasets.contains(name)) {
            continue;
        }
        let text = format!("no worker has dataset {name}; add it to the datasets of a [vm.NAME]");
        match *origin {
            Origin::Config(line) => config.at(line, text),
            Origin::CommandLine => args.whole(text),
        }
    }
}
