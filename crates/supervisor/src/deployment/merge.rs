//! One deployment out of what each file says. The most specific wins: `[vm.NAME]` of `cluster.toml`,
//! then its `[defaults]`, then what is written here.

use super::cluster_toml::{HealthSettings, Lined, Settings, Start, VmSettings};
use super::datasets::{Offer, Origin};
use super::fault::{Faults, PortUse, Reason};
use super::flags::{FLAGS, Flag};
use super::ports_conf::VmLine;
use super::shown::Shown;
use super::{Check, Health, Role, Strategy, Vm};
use std::collections::HashMap;
use std::time::Duration;

/// What is added to the SSH port where no `metrics_port` is given.
pub(super) const METRICS_OFFSET: u16 = 1_000;

const MEMORY_MIB: u32 = 192;
const CPUS: u16 = 1;
const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const RETRIES: u32 = 3;
const STARTUP_TIMEOUT: Duration = Duration::from_secs(120);

/// How the cluster starts.
pub(super) struct StartPlan {
    pub(super) strategy: Strategy,
    pub(super) wait_for_healthy: bool,
    pub(super) startup_timeout: Duration,
}

impl From<Start> for StartPlan {
    fn from(start: Start) -> Self {
        Self {
            strategy: start.strategy.unwrap_or(Strategy::Parallel),
            wait_for_healthy: start.wait_for_healthy.unwrap_or(true),
            startup_timeout: start.startup_timeout.unwrap_or(STARTUP_TIMEOUT),
        }
    }
}

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
    let rows = FLAGS.iter().zip(values).filter(|(flag, _)| flag.role == role && are_wanted(flag));
    rows.flat_map(|(flag, value)| value.map_or_else(Vec::new, |value| flag.args(&value.value)))
        .collect()
}

fn health(own: &HealthSettings, defaults: &HealthSettings) -> Health {
    Health {
        check: own.check.as_ref().or(defaults.check.as_ref()).cloned().unwrap_or(Check::Protocol),
        interval: own.interval.or(defaults.interval).unwrap_or(INTERVAL),
        timeout: own.timeout.or(defaults.timeout).unwrap_or(TIMEOUT),
        retries: own.retries.or(defaults.retries).unwrap_or(RETRIES),
    }
}

/// Refuses what `cluster.toml` says of VMs that are not there, or of the wrong role.
pub(super) fn check_vms(lines: &[VmLine], of_vms: &[VmSettings], faults: &mut Faults) {
    for VmSettings { line, name, settings } in of_vms {
        let Some(vm) = lines.iter().find(|vm| vm.name == *name) else {
            let known = lines.iter().map(|vm| vm.name.clone()).collect();
            let name = Shown::quoted(name.as_bytes());
            faults.at(*line, Reason::UnknownVm { name, known });
            continue;
        };
        for (flag, value) in FLAGS.iter().zip(&settings.flags) {
            if let Some(Lined { line, .. }) = value.as_ref().filter(|_| flag.role != vm.role) {
                let reason = match vm.role {
                    Role::Controller => Reason::OnlyForWorkers(flag.key),
                    Role::Worker => Reason::OnlyForController(flag.key),
                };
                faults.at(*line, reason);
            }
        }
        if let Some(Lined { line, .. }) = &settings.datasets
            && vm.role == Role::Controller
        {
            faults.at(*line, Reason::OnlyForWorkers("datasets"));
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
        let reason = match taken.get(&port) {
            _ if port == 0 => Reason::NoMetricsPort { name: vm.name.clone() },
            None => {
                taken.insert(port, (of, &vm.name));
                continue;
            }
            Some(&(by, by_name)) => {
                let (name, by_name) = (vm.name.clone(), by_name.to_owned());
                Reason::PortTaken { port, of, name, by, by_name }
            }
        };
        match of {
            PortUse::Metrics(line) => config.at(line, reason),
            PortUse::Ssh | PortUse::MetricsByDefault => ports.at(vm.line, reason),
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
                    let (name, known) = (name.clone(), all.clone());
                    config.at(*line, Reason::UnknownDataset { name, known });
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
        let reason = Reason::DatasetOfNobody(name.clone());
        match *origin {
            Origin::Config(line) => config.at(line, reason),
            Origin::CommandLine => args.whole(reason),
        }
    }
}
