//! `cluster.toml`: settings of VMs, of the start, and datasets; what each means, with its limits,
//! is told in docs/cluster-toml.md.
//!
//! Text in, settings and faults out. Unknown keys are refused everywhere.
//!
//! Not here: whether the VMs exist and which setting wins (`merge`).

mod section;

pub(super) use section::Lined;

use super::fault::{Faults, bad_dataset_name};
use super::flags::FLAGS;
use super::kind::{CPUS, Kind, MEMORY, PORT, collector};
use super::sched::CpuSet;
use super::shown::Shown;
use super::{Check, Strategy};
use ipc_proto::limits::WORKER_THREADS_MAX;
use section::Section;
use std::path::PathBuf;
use std::time::Duration;
use telemetry::SyslogTarget;
use toml::de::DeTable;

/// A worker's threads, or those of them that read from one dataset.
pub(super) const THREADS: Kind = Kind::Number { min: 1, max: WORKER_THREADS_MAX as u64 };

/// Memory that a VM's services may lock.
const MEMLOCK: Kind = Kind::Size { units: "KMG", min_kib: 64, max_kib: 64 << 20 };

const INTERVAL_S: Kind = Kind::Number { min: 1, max: 3_600 };
const TIMEOUT_S: Kind = Kind::Number { min: 1, max: 300 };
const RETRIES: Kind = Kind::Number { min: 0, max: 100 };
const STARTUP_TIMEOUT_S: Kind = Kind::Number { min: 1, max: 3_600 };

/// Content of a file; what it does not say is none.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) defaults: Settings,
    pub(super) vms: Vec<VmSettings>,
    pub(super) start: Start,
    /// The key of `[logs]`.
    pub(super) syslog: Option<SyslogTarget>,
    pub(super) datasets: Vec<DatasetEntry>,
}

/// `[vm.NAME]`.
#[derive(Debug)]
pub(super) struct VmSettings {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) settings: Settings,
}

/// `[defaults]`, or the keys of a `[vm.NAME]`.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) memory_mib: Option<u32>,
    pub(super) cpus: Option<u16>,
    pub(super) cpuset: Option<CpuSet>,
    pub(super) memlock_kib: Option<u64>,
    /// Values of [`FLAGS`], in their order.
    pub(super) flags: [Option<Lined<String>>; FLAGS.len()],
    pub(super) health: HealthSettings,
    /// Of a `[vm.NAME]` only.
    pub(super) metrics_port: Option<Lined<u16>>,
    pub(super) datasets: Option<Lined<Vec<String>>>,
}

/// `health` of one of them.
#[derive(Debug, Default)]
pub(super) struct HealthSettings {
    pub(super) check: Option<Check>,
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: Option<u32>,
}

/// `[start]`.
#[derive(Debug, Default)]
pub(super) struct Start {
    pub(super) strategy: Option<Strategy>,
    pub(super) wait_for_healthy: Option<bool>,
    pub(super) startup_timeout: Option<Duration>,
}

/// `[datasets.NAME]`.
#[derive(Debug)]
pub(super) struct DatasetEntry {
    pub(super) line: usize,
    pub(super) name: String,
    /// As written; none if it has a fault.
    pub(super) dir: Option<PathBuf>,
    pub(super) snapshot: bool,
    /// Threads of a worker that may read from it at once; all if none.
    pub(super) io_threads: Option<u16>,
}

/// Reads a whole file. VMs may run on `host_cpus`.
pub(super) fn parse(bytes: &[u8], host_cpus: &CpuSet, faults: &mut Faults) -> Config {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            faults.at(section::line_of(bytes, error.valid_up_to()), "is not UTF-8 text");
            return Config::default();
        }
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map(|span| section::line_of(bytes, span.start));
        // One line, whatever the parser puts into it.
        faults.add(line, error.message().replace(char::is_control, " "));
    }
    if !errors.is_empty() {
        return Config::default();
    }
    let mut file = Section::new(text, table.get_ref());
    let mut config = Config::default();
    if let Some(section) = file.table("defaults") {
        config.defaults = settings(section, false, host_cpus, faults);
    }
    if let Some(section) = file.table("start") {
        config.start = start(section, faults);
    }
    if let Some(section) = file.table("logs") {
        config.syslog = logs(section, faults);
    }
    for (line, name, section) in file.tables("vm") {
        let settings = settings(section, true, host_cpus, faults);
        config.vms.push(VmSettings { line, name: name.to_owned(), settings });
    }
    for (line, name, section) in file.tables("datasets") {
        if Kind::DatasetName.text(name).is_none() {
            faults.at(line, bad_dataset_name(name.as_bytes()));
        }
        config.datasets.push(dataset(line, name, section, faults));
    }
    file.finish(faults);
    config
}

fn settings(
    mut section: Section<'_>,
    is_of_vm: bool,
    host_cpus: &CpuSet,
    faults: &mut Faults,
) -> Settings {
    let memory = section.text("memory", MEMORY, |text| MEMORY.size_kib(text));
    let cpus = section.number("cpus", CPUS);
    let cpuset = section.text("cpuset", Kind::CpuSet, CpuSet::parse);
    let memlock = section.text("memlock", MEMLOCK, |text| MEMLOCK.size_kib(text));
    if let Some(Lined { line, value }) = &cpuset
        && let Some(missing) = value.missing_in(host_cpus)
    {
        let (missing, host) = (missing.as_arg(), host_cpus.as_arg());
        faults.at(*line, format!("cpuset: no CPU {missing} to run on; this host gives {host}"));
    }
    let flags = FLAGS.map(|flag| section.flag(flag.key, flag.kind));
    let (mut metrics_port, mut datasets) = (None, None);
    if is_of_vm {
        metrics_port = section.number("metrics_port", PORT);
        datasets = section.names("datasets");
    }
    let health = section.table("health").map(|section| health(section, faults));
    section.finish(faults);
    Settings {
        memory_mib: memory.and_then(|kib| u32::try_from(kib.value >> 10).ok()),
        cpus: cpus.map(|cpus| cpus.value),
        cpuset: cpuset.map(|cpuset| cpuset.value),
        memlock_kib: memlock.map(|kib| kib.value),
        flags,
        health: health.unwrap_or_default(),
        metrics_port,
        datasets,
    }
}

fn health(mut section: Section<'_>, faults: &mut Faults) -> HealthSettings {
    let protocol = Kind::OneOf(&["protocol"]);
    let check = section.text("check", protocol, |text| protocol.text(text).map(|_| ()));
    let command =
        section.text("command", Kind::Command, |text| Kind::Command.text(text).map(str::to_owned));
    if let (Some(check), Some(command)) = (&check, &command) {
        faults.at(check.line.max(command.line), "health has check or command, not both");
    }
    let seconds = |seconds: Lined<u64>| Duration::from_secs(seconds.value);
    let settings = HealthSettings {
        check: command
            .map(|command| Check::Command(command.value))
            .or(check.map(|_| Check::Protocol)),
        interval: section.number("interval_s", INTERVAL_S).map(seconds),
        timeout: section.number("timeout_s", TIMEOUT_S).map(seconds),
        retries: section.number("retries", RETRIES).map(|retries| retries.value),
    };
    section.finish(faults);
    settings
}

fn start(mut section: Section<'_>, faults: &mut Faults) -> Start {
    let strategies = Kind::OneOf(&["sequential", "parallel"]);
    let strategy = section.text("strategy", strategies, |text| match text {
        "sequential" => Some(Strategy::Sequential),
        "parallel" => Some(Strategy::Parallel),
        _ => None,
    });
    let timeout = section.number("startup_timeout_s", STARTUP_TIMEOUT_S);
    let start = Start {
        strategy: strategy.map(|strategy| strategy.value),
        wait_for_healthy: section.bool("wait_for_healthy").map(|wait| wait.value),
        startup_timeout: timeout.map(|seconds| Duration::from_secs(seconds.value)),
    };
    section.finish(faults);
    start
}

fn logs(mut section: Section<'_>, faults: &mut Faults) -> Option<SyslogTarget> {
    let target = section.text("syslog", Kind::Collector, collector);
    section.finish(faults);
    target.map(|target| target.value)
}

fn dataset(line: usize, name: &str, mut section: Section<'_>, faults: &mut Faults) -> DatasetEntry {
    if !section.has("dir") {
        faults.at(line, format!("dataset {} has no dir", Shown::quoted(name.as_bytes())));
    }
    let dir = section.text("dir", Kind::Dir, |text| Kind::Dir.text(text).map(PathBuf::from));
    let snapshot = section.bool("snapshot").is_some_and(|snapshot| snapshot.value);
    let io_threads = section.number("io_threads", THREADS).map(|threads| threads.value);
    section.finish(faults);
    let dir = dir.map(|dir| dir.value);
    DatasetEntry { line, name: name.to_owned(), dir, snapshot, io_threads }
}
