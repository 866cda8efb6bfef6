//! One deployment out of what each file says. The most specific wins: `[vm.NAME]` of
//! `cluster.toml`, then the words of the VM's line in `ports.conf`, then `[defaults]` of
//! `cluster.toml`, then what is written here.

use super::cluster_toml::{HealthSettings, Lined, Settings, Start, VmSettings};
use super::datasets::{Offer, Origin};
use super::fault::{Faults, Reason};
use super::ports_conf::VmLine;
use super::shown::Shown;
use super::{Check, Flags, Health, Role, Strategy, Vm};
use std::time::Duration;

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
    let settings = |name: &str| {
        of_vms.iter().find(|vm| vm.name == name).map_or(&none, |found| &found.settings)
    };
    lines.iter().filter_map(|line| vm(line, settings(&line.name), defaults)).collect()
}

fn vm(line: &VmLine, own: &Settings, defaults: &Settings) -> Option<Vm> {
    let is_worker = line.role == Role::Worker;
    let threads = own.threads.as_ref().or(defaults.threads.as_ref()).filter(|_| is_worker);
    let sched = own.sched.as_ref().or(defaults.sched.as_ref()).filter(|_| is_worker);
    Some(Vm {
        name: line.name.clone(),
        role: line.role,
        ssh_port: line.ssh_port?,
        metrics_port: line.metrics_port?,
        memory_mib: own
            .memory_mib
            .or(line.memory_mib)
            .or(defaults.memory_mib)
            .unwrap_or(MEMORY_MIB),
        cpus: own.cpus.or(line.cpus).or(defaults.cpus).unwrap_or(CPUS),
        cpuset: own.cpuset.as_ref().or(defaults.cpuset.as_ref()).cloned(),
        threads: threads.map(|threads| threads.value),
        sched: sched.map(|sched| sched.value),
        memlock_kib: own.memlock_kib.or(defaults.memlock_kib),
        flags: match line.role {
            Role::Controller => Flags::Controller(own.flags.of_controller(&defaults.flags)),
            Role::Worker => Flags::Worker(own.flags.of_worker(&defaults.flags)),
        },
        health: health(&own.health, &defaults.health),
        datasets: line.datasets.clone(),
    })
}

fn health(own: &HealthSettings, defaults: &HealthSettings) -> Health {
    Health {
        check: own.check.as_ref().or(defaults.check.as_ref()).cloned().unwrap_or(Check::Protocol),
        interval: own.interval.or(defaults.interval).unwrap_or(INTERVAL),
        timeout: own.timeout.or(defaults.timeout).unwrap_or(TIMEOUT),
        retries: own.retries.or(defaults.retries).unwrap_or(RETRIES),
    }
}

/// What `cluster.toml` says of VMs is said of VMs that there are, and that it concerns.
pub(super) fn check_vms(lines: &[VmLine], of_vms: &[VmSettings], faults: &mut Faults) {
    for VmSettings { line, name, settings } in of_vms {
        match lines.iter().find(|vm| vm.name == *name) {
            None => {
                let known = lines.iter().map(|vm| vm.name.clone()).collect();
                let name = Shown::quoted(name.as_bytes());
                faults.at(*line, Reason::UnknownVm { name, known });
            }
            Some(vm) if vm.role == Role::Controller => {
                if let Some(Lined { line, .. }) = settings.threads {
                    faults.at(line, Reason::OnlyForWorkers("threads"));
                }
                if let Some(Lined { line, .. }) = settings.sched {
                    faults.at(line, Reason::OnlyForWorkers("sched"));
                }
                settings.flags.refuse_workers(faults);
            }
            Some(_) => settings.flags.refuse_controllers(faults),
        }
    }
}

/// Workers whose lines name no dataset have all; afterwards each dataset has a worker, and each
/// that is named is there.
pub(super) fn share(
    offers: &[Offer],
    lines: &mut [VmLine],
    [ports, config, args]: [&mut Faults; 3],
) {
    let all: Vec<String> = offers.iter().map(|offer| offer.name.clone()).collect();
    for vm in lines.iter_mut().filter(|vm| vm.role == Role::Worker) {
        for name in vm.datasets.iter().filter(|&name| !all.contains(name)) {
            let (name, known) = (name.clone(), all.clone());
            ports.at(vm.line, Reason::UnknownDataset { name, known });
        }
        if vm.datasets.is_empty() {
            vm.datasets.clone_from(&all);
        }
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
