//! Reads the files of a deployment and looks at the directories of its datasets.

use super::cluster_toml::{self, Config};
use super::datasets::{self, Offer, Origin};
use super::fault::{FILE_LEN_MAX, Faults, LoadErrors};
use super::merge::{self, STARTUP_TIMEOUT};
use super::ports_conf;
use super::sched::CpuSet;
use super::shown::shown_path;
use super::{Dataset, Deployment, Role, Strategy};
use crate::args::DeploymentOptions;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use telemetry::SyslogTarget;

/// Looked for beside `ports.conf` where no file is named.
const CONFIG_NAME: &str = "cluster.toml";

impl Deployment {
    /// Reads and checks everything; nothing is started, and no port is tried. VMs may be bound to
    /// `host_cpus`.
    ///
    /// # Errors
    /// All that is wrong in the files, on the command line and with the datasets' directories.
    pub(crate) fn load(
        options: &DeploymentOptions,
        host_cpus: &CpuSet,
    ) -> Result<Self, LoadErrors> {
        let mut ports = Faults::of_file(options.ports());
        let mut lines = match read(options.ports()) {
            Ok(bytes) => ports_conf::parse(&bytes, &mut ports),
            Err(error) => {
                ports.whole(unread(&error));
                Vec::new()
            }
        };
        let config_file = config_file(options);
        let mut config = Faults::of_file(&config_file);
        let Config { defaults, vms: of_vms, start, syslog, datasets: entries } =
            read_config(&config_file, options, host_cpus, &mut config);
        // Without its lines, nothing can be said of the VMs.
        if !lines.is_empty() {
            merge::check_vms(&lines, &of_vms, &mut config);
            merge::check_ports(&lines, &of_vms, [&mut ports, &mut config]);
        }
        let mut args = Faults::of("--dataset");
        let base = config_file.parent().unwrap_or(Path::new(""));
        let offers =
            datasets::gather(entries, base, &options.datasets, options.snapshot, &mut args);
        merge::share(&offers, &mut lines, &of_vms, [&mut config, &mut args]);
        let datasets = offers.into_iter().filter_map(|offer| {
            let faults = [&mut config, &mut args];
            open(offer, options.may_be_missing, faults)
        });
        let datasets = datasets.collect();
        let deployment = Self {
            vms: merge::vms(&lines, &defaults, &of_vms),
            datasets,
            strategy: start.strategy.unwrap_or(Strategy::Parallel),
            wait_for_healthy: start.wait_for_healthy.unwrap_or(true),
            startup_timeout: start.startup_timeout.unwrap_or(STARTUP_TIMEOUT),
            syslog: syslog.unwrap_or(SyslogTarget::Off),
        };
        LoadErrors::unless(deployment, [ports, config, args])
    }
}

/// Settings of a cluster without VMs: flags of its programs, its datasets, and its logs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LocalFlags {
    pub(crate) controller: Vec<String>,
    pub(crate) workers: Vec<String>,
    /// Where all logs go, too.
    pub(crate) syslog: Option<SyslogTarget>,
    pub(crate) datasets: Vec<Dataset>,
}

impl LocalFlags {
    /// Reads and checks the whole of a `cluster.toml`, if there is one. Its `[defaults]` are for all programs; what
    /// it says of VMs has nothing to be said of. Each of `datasets` is a `NAME=DIR` of a command line.
    ///
    /// # Errors
    /// All that is wrong in the file and with the datasets, and whether this host's CPUs cannot be read.
    pub(crate) fn load(
        path: Option<&Path>,
        datasets: &[OsString],
        may_be_missing: bool,
    ) -> Result<Self, LoadErrors> {
        let mut faults = Faults::of_file(path.unwrap_or(Path::new(CONFIG_NAME)));
        let mut args = Faults::of("--dataset");
        let content = path.map_or(Ok(Vec::new()), read);
        let config = match content.and_then(|bytes| Ok((bytes, CpuSet::of_this_process()?))) {
            Ok((bytes, cpus)) => cluster_toml::parse(&bytes, &cpus, &mut faults),
            Err(error) => {
                faults.whole(unread(&error));
                Config::default()
            }
        };
        let Config { defaults, syslog, datasets: entries, .. } = config;
        let base = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let offers = datasets::gather(entries, base, datasets, false, &mut args);
        let datasets = offers.into_iter().filter_map(|offer| {
            let faults = [&mut faults, &mut args];
            open(offer, may_be_missing, faults)
        });
        let datasets = datasets.collect();
        let flags = |role| merge::args(role, &defaults, &defaults, |flag| flag.is_local);
        let (controller, workers) = (flags(Role::Controller), flags(Role::Worker));
        LoadErrors::unless(Self { controller, workers, syslog, datasets }, [faults, args])
    }
}

fn config_file(options: &DeploymentOptions) -> PathBuf {
    let beside = || options.ports().with_file_name(CONFIG_NAME);
    options.config.clone().unwrap_or_else(beside)
}

fn read_config(
    path: &Path,
    options: &DeploymentOptions,
    host_cpus: &CpuSet,
    faults: &mut Faults,
) -> Config {
    match read(path) {
        Ok(bytes) => cluster_toml::parse(&bytes, host_cpus, faults),
        Err(error) if error.kind() == ErrorKind::NotFound && options.config.is_none() => {
            Config::default()
        }
        Err(error) => {
            faults.whole(unread(&error));
            Config::default()
        }
    }
}

/// A whole file, if it is not too long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let len = File::open(path)?.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if len as u64 > FILE_LEN_MAX { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// The fault of a file that is not read.
fn unread(error: &io::Error) -> String {
    if error.kind() == ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else if error.kind() == ErrorKind::FileTooLarge {
        format!("is longer than {} KiB", FILE_LEN_MAX >> 10)
    } else {
        format!("cannot be read: {error}")
    }
}

/// The dataset with the directory that is there now. One of a file may be missing, as disks come and go;
/// what is typed is more likely mistyped, unless it was used before.
fn open(offer: Offer, may_be_missing: bool, [config, args]: [&mut Faults; 2]) -> Option<Dataset> {
    let Offer { name, dir, snapshot, io_threads, origin } = offer;
    let dir = dir?;
    let found = fs::canonicalize(&dir).and_then(|path| {
        // Whether it can be listed, too.
        fs::read_dir(&path)?;
        Ok(path)
    });
    match found {
        Ok(dir) => Some(Dataset { name, dir, snapshot, io_threads, is_missing: false }),
        Err(error)
            if error.kind() == ErrorKind::NotFound
                && (may_be_missing || origin != Origin::CommandLine) =>
        {
            let dir = std::path::absolute(&dir).unwrap_or(dir);
            Some(Dataset { name, dir, snapshot, io_threads, is_missing: true })
        }
        Err(error) => {
            let text = format!("cannot use {} as a dataset: {error}", shown_path(&dir));
            match origin {
                Origin::Config(line) => config.at(line, text),
                Origin::CommandLine => args.whole(text),
            }
            None
        }
    }
}
