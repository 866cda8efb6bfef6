//! What is wrong with a deployment: every fault has its file, its line if it has one, its reason.

use super::kind::{Kind, PORT};
use super::merge::METRICS_OFFSET;
use super::port_holder::Holder;
use super::ports_conf::LINES_MAX;
use super::sched::CpuSet;
use super::shown::{Shown, shown_path};
use std::fmt;
use std::io;
use std::path::Path;

/// Longest file that is read, in bytes.
pub(super) const FILE_LEN_MAX: u64 = 64 << 10;

/// Faults that are told at most: who has more has another kind of file.
const TOLD_MAX: usize = 100;

/// Names that are listed at most.
const LISTED_MAX: usize = 16;

/// Why a deployment is refused: every fault, in the order of the files and their lines.
#[derive(Debug)]
pub(crate) struct LoadErrors(Vec<Fault>);

/// One fault.
#[derive(Debug)]
pub(super) struct Fault {
    source: String,
    line: Option<usize>,
    reason: Reason,
}

/// The faults of one file, or of the command line.
#[derive(Debug)]
pub(super) struct Faults {
    source: String,
    list: Vec<Fault>,
}

/// What a port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortUse {
    Ssh,
    /// Metrics, by a line of `cluster.toml`.
    Metrics(usize),
    /// Metrics, at a number that follows from the SSH port.
    MetricsByDefault,
}

#[derive(Debug)]
pub(super) enum Reason {
    Unreadable(io::Error),
    TooLarge,
    NotUtf8,
    /// What the TOML parser says.
    Syntax(String),
    NoVm,
    NoWorker,
    TooManyVms,
    NotAPort(Shown),
    Privileged(u64),
    OutOfRange(Shown),
    /// The SSH port leaves no number for the metrics port.
    NoMetricsPort {
        name: String,
    },
    PortTaken {
        port: u16,
        of: PortUse,
        name: String,
        by: PortUse,
        by_name: String,
    },
    PortInUse {
        port: u16,
        holder: Option<Holder>,
    },
    NotBound {
        port: u16,
        error: io::Error,
    },
    /// A word of `ports.conf` that is not `host=NAME`.
    NotAWord(Shown),
    /// A word that `ports.conf` took once.
    Moved {
        word: Shown,
        name: String,
        instead: String,
    },
    UnknownKey {
        key: Shown,
        known: Vec<&'static str>,
    },
    Repeated(Shown),
    BadValue {
        key: String,
        value: Shown,
        kind: Kind,
        /// The file wants quotes around a text.
        is_quoted: bool,
    },
    NameTaken {
        name: String,
        by_line: usize,
    },
    OnlyForWorkers(&'static str),
    OnlyForController(&'static str),
    UnknownVm {
        name: Shown,
        known: Vec<String>,
    },
    CheckAndCommand,
    CpusMissing {
        missing: CpuSet,
        host: CpuSet,
    },
    NotADatasetArg(Shown),
    BadDatasetName(Shown),
    DatasetWithoutDir(Shown),
    UnknownDataset {
        name: String,
        known: Vec<String>,
    },
    DatasetOfNobody(String),
    TooManyDatasets {
        max: usize,
    },
    Dir {
        dir: String,
        error: io::Error,
    },
}

impl Faults {
    pub(super) fn of_file(path: &Path) -> Self {
        Self::of(shown_path(path))
    }

    pub(super) fn of(source: impl Into<String>) -> Self {
        Self { source: source.into(), list: Vec::new() }
    }

    /// A fault in a line, counted from 1.
    pub(super) fn at(&mut self, line: usize, reason: Reason) {
        self.add(Some(line), reason);
    }

    /// A fault of the whole.
    pub(super) fn whole(&mut self, reason: Reason) {
        self.add(None, reason);
    }

    pub(super) fn add(&mut self, line: Option<usize>, reason: Reason) {
        self.list.push(Fault { source: self.source.clone(), line, reason });
    }
}

impl LoadErrors {
    /// `value`, unless there are faults.
    pub(super) fn unless<T, const N: usize>(value: T, faults: [Faults; N]) -> Result<T, Self> {
        let mut all = Vec::new();
        for mut faults in faults {
            faults.list.sort_by_key(|fault| fault.line);
            all.append(&mut faults.list);
        }
        if all.is_empty() { Ok(value) } else { Err(Self(all)) }
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().take(TOLD_MAX).enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{fault}")?;
        }
        match self.0.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for LoadErrors {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.source, self.reason),
            None => write!(f, "{}: {}", self.source, self.reason),
        }
    }
}

impl fmt::Display for PortUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh => f.write_str("SSH port"),
            Self::Metrics(_) => f.write_str("metrics port"),
            Self::MetricsByDefault => {
                write!(f, "metrics port (its SSH port + {METRICS_OFFSET})")
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("there is no such file")
            }
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::TooLarge => write!(f, "is longer than {} KiB", FILE_LEN_MAX >> 10),
            Self::NotUtf8 => f.write_str("is not UTF-8 text"),
            Self::Syntax(message) => f.write_str(message),
            Self::NoVm => {
                f.write_str("names no VM; write one SSH port per line, the controller's first")
            }
            Self::NoWorker => {
                f.write_str("needs a controller and at least one worker; add a line with a port")
            }
            Self::TooManyVms => write!(f, "more than {LINES_MAX} VMs"),
            Self::NotAPort(word) => {
                write!(f, "{word} is no port; begin the line with one, {}", PORT)
            }
            Self::Privileged(port) => write!(f, "port {port} is privileged; use {}", PORT),
            Self::OutOfRange(port) => write!(f, "port {port} is out of range; use {}", PORT),
            Self::NoMetricsPort { name } => {
                write!(
                    f,
                    "no port for metrics, as SSH port + {METRICS_OFFSET} is too large; write in "
                )?;
                write!(f, "cluster.toml: [vm.{name}] metrics_port = PORT")
            }
            Self::PortTaken { port, of, name, by, by_name } => {
                write!(f, "port {port}, the {of} of {name}, is already the {by} of {by_name}; ")?;
                f.write_str(match (of, by) {
                    (PortUse::Ssh | PortUse::Metrics(_), PortUse::Ssh | PortUse::Metrics(_)) => {
                        "use another"
                    }
                    (PortUse::MetricsByDefault, _) | (_, PortUse::MetricsByDefault) => {
                        "use another, or set metrics_port in cluster.toml"
                    }
                })
            }
            Self::PortInUse { port, holder: Some(holder) } => {
                write!(f, "port {port} is in use by {holder}; stop it, or use another port")
            }
            Self::PortInUse { port, holder: None } => {
                write!(f, "port {port} is in use; `ss -ltnp sport = {port}` as root says by what")
            }
            Self::NotBound { port, error } => write!(f, "port {port} cannot be used: {error}"),
            Self::NotAWord(word) => {
                write!(f, "unknown word {word}; after the port may stand host=NAME")
            }
            Self::Moved { word, name, instead } => {
                write!(f, "{word} belongs in cluster.toml: [vm.{name}] {instead}")
            }
            Self::UnknownKey { key, known } => {
                write!(f, "unknown key {key}; keys are {}", listed(known))
            }
            Self::Repeated(what) => write!(f, "{what} is given twice"),
            Self::BadValue { key, value, kind, is_quoted } => {
                let quotes = if *is_quoted { " in quotes" } else { "" };
                write!(f, "{key}: bad value {value}; write{quotes} {kind}")
            }
            Self::NameTaken { name, by_line } => {
                write!(f, "{name} is already the name of line {by_line}; choose with host=NAME")
            }
            Self::OnlyForWorkers(key) => {
                write!(f, "{key} is for workers; the controller hashes nothing")
            }
            Self::OnlyForController(key) => {
                write!(f, "{key} is for the controller; write it there, or in [defaults]")
            }
            Self::UnknownVm { name, known } => {
                write!(f, "no VM is called {name}; there are {}", listed(known))
            }
            Self::CheckAndCommand => f.write_str("health has check or command, not both"),
            Self::CpusMissing { missing, host } => {
                let (missing, host) = (missing.as_arg(), host.as_arg());
                write!(f, "cpuset: no CPU {missing} to run on; this host gives {host}")
            }
            Self::NotADatasetArg(arg) => write!(f, "{arg} is no NAME=DIR"),
            Self::BadDatasetName(name) => {
                write!(f, "{name} is no name of a dataset; use {}", Kind::DatasetName)
            }
            Self::DatasetWithoutDir(name) => write!(f, "dataset {name} has no dir"),
            Self::UnknownDataset { name, known } if known.is_empty() => {
                write!(f, "there is no dataset {name}; ")?;
                f.write_str("give one in cluster.toml or with --dataset NAME=DIR")
            }
            Self::UnknownDataset { name, known } => {
                write!(f, "there is no dataset {name}; there are {}", listed(known))
            }
            Self::DatasetOfNobody(name) => {
                write!(f, "no worker has dataset {name}; add it to the datasets of a [vm.NAME]")
            }
            Self::TooManyDatasets { max } => write!(f, "more than {max} datasets"),
            Self::Dir { dir, error } => write!(f, "cannot use {dir} as a dataset: {error}"),
        }
    }
}

fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let mut list: Vec<&str> = names.iter().take(LISTED_MAX).map(AsRef::as_ref).collect();
    if names.len() > LISTED_MAX {
        list.push("…");
    }
    list.join(", ")
}
