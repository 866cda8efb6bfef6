//! The description of a cluster of VMs: read from `ports.conf`, `cluster.toml` and the command line,
//! and refused as a whole, with every error, before anything starts.
//!
//! [`Deployment::load`] reads; [`check_ports_free`] asks the host; [`config()`] shows what was read.
//! What files say is judged without I/O (`ports_conf`, `cluster_toml`, `merge`).
//!
//! Not here: anything that starts a VM.

mod cluster_toml;
mod config;
mod datasets;
mod fault;
mod flags;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod kind;
mod load;
mod merge;
mod ports_conf;
mod ports_free;
mod sched;
mod shown;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use config::config;
pub(crate) use fault::LoadErrors;
pub(crate) use load::LocalFlags;
pub(crate) use ports_free::check_ports_free;
pub(crate) use sched::CpuSet;
#[cfg(test)]
pub(crate) use tests::good;

use std::path::PathBuf;
use std::time::Duration;
use telemetry::SyslogTarget;

/// A cluster as it is to be: valid by itself, nothing of it started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deployment {
    /// The controller, then one worker or more.
    pub(crate) vms: Vec<Vm>,
    pub(crate) datasets: Vec<Dataset>,
    pub(crate) strategy: Strategy,
    pub(crate) wait_for_healthy: bool,
    pub(crate) startup_timeout: Duration,
    /// Where all logs go, too.
    pub(crate) syslog: SyslogTarget,
}

/// Order in which the workers start; the controller is always first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    Sequential,
    Parallel,
}

/// One process or VM of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) health: Health,
}

impl Dataset {
    /// Says that it is missing, if it is.
    pub(crate) fn fault(&self) -> Option<String> {
        let (name, dir) = (&self.name, self.dir.display());
        let text =
            format!("dataset {name}: {dir} is missing; workers do without it until it is there");
        self.is_missing.then_some(text)
    }
}

impl Vm {
    pub(crate) fn member(&self) -> Member {
        Member { name: self.name.clone(), role: self.role, health: self.health.clone() }
    }
}

/// One VM.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vm {
    /// A host name (RFC 1123), no other VM's.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Its line in `ports.conf`, counted from 1.
    pub(crate) line: usize,
    /// Port of 127.0.0.1 that leads to the VM's SSH.
    pub(crate) ssh_port: u16,
    /// Port of 127.0.0.1 that leads to the VM's metrics.
    pub(crate) metrics_port: u16,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u16,
    /// The host's CPUs that QEMU may use; all if none.
    pub(crate) cpuset: Option<CpuSet>,
    pub(crate) memlock_kib: Option<u64>,
    /// Flags of the program in it that its settings ask for.
    pub(crate) args: Vec<String>,
    pub(crate) health: Health,
    /// Names of the datasets that the VM mounts; none for the controller.
    pub(crate) datasets: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Controller,
    Worker,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Worker => "worker",
        }
    }
}

/// A directory of the host that workers see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dataset {
    pub(crate) name: String,
    /// Absolute; without symlinks unless it is missing.
    pub(crate) dir: PathBuf,
    /// Workers see a copy as of the start, not the directory as it changes.
    pub(crate) snapshot: bool,
    /// Threads of a worker that may read from it at once; all if none.
    pub(crate) io_threads: Option<u16>,
    /// The directory is not there; workers do without it until it is.
    pub(crate) is_missing: bool,
}

/// Health checks of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) check: Check,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Failures in a row that are forgiven.
    pub(crate) retries: u32,
}

impl Health {
    /// Health checks of a VM for which `cluster.toml` sets none.
    pub(crate) const DEFAULT: Self = Self {
        check: Check::Protocol,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        retries: 3,
    };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The controller answers, or knows the worker.
    Protocol,
    /// A command in the VM, over SSH, ends with status 0.
    Command(String),
}
