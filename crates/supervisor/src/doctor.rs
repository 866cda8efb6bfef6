//! `doctor`: checks this host, the files that describe a cluster, and the cluster that runs, and
//! suggests a remedy for each fault.
//!
//! A check is a function that returns [`CheckResult`]s; [`host`], [`room`], [`files`], [`place`],
//! [`disk`], [`members`], [`registry`], [`guest`] and [`watching`] hold those of one subject each. [`answers`] asks
//! a cluster, [`ask`] a program. Faults come from one table ([`Diagnosis`]), which docs/doctor.md repeats.
//!
//! Invariants:
//! - a check changes nothing, and ends within its time limit;
//! - text of a guest, a log or a peer is data: nothing evaluates it, and no control character of it
//!   reaches the terminal;
//! - a fault is reported once, at its cause: what follows from it is not.

mod answers;
mod ask;
mod diagnosis;
mod disk;
mod files;
mod guest;
mod host;
mod members;
mod place;
mod registry;
mod remedy;
mod report;
mod room;
mod started;
mod watching;

use crate::args::{DeploymentOptions, RuntimeDir, cache_dir, state_dir};
use crate::cluster::Error;
use crate::deployment::{CpuSet, Deployment, LoadErrors};
use crate::run_dir::{self, RUNTIME_DIR_VARIABLE};
use crate::vm::{Image, Layout};
use crate::{exit, quote};
use answers::Answers;
use diagnosis::CheckResult;
use members::RunningCluster;
use remedy::Commands;
use report::DoctorReport;
use started::StartedCluster;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::{self, ScopedJoinHandle};

/// Command line of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorOptions {
    #[command(flatten)]
    runtime: RuntimeDir,
    /// State directory of a cluster to be started [default: as for `up`]
    #[arg(long = "state-dir", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The VMs, one per line [default: those of the running cluster, else ports.conf]
    #[arg(long, value_name = "FILE")]
    ports: Option<PathBuf>,
    /// More settings, see docs/cluster-toml.md [default: cluster.toml beside the ports file]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A directory that the workers see; may be given more than once
    #[arg(long = "dataset", value_name = "NAME=DIR")]
    datasets: Vec<OsString>,
    /// Image that the VMs boot, as for ./run.sh
    #[arg(long, value_name = "dev|yocto|DIR")]
    image: Option<OsString>,
    /// Print one JSON object per line, see docs/doctor.md
    #[arg(long)]
    json: bool,
    /// Print warnings and failures only
    #[arg(short, long)]
    quiet: bool,
    /// Directory with run.sh and scripts/, for the commands in remedies
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
    /// Directory of ports.conf and cluster.toml [default: the same]
    #[arg(long, value_name = "DIR", hide = true)]
    settings: Option<PathBuf>,
}

/// Space that a cluster takes in memory for sockets and logs, in MiB.
const RUN_SPACE_MIB: u64 = 128;
/// Space for the controller's disk and the image that VMs boot, in MiB.
const STATE_SPACE_MIB: u64 = 1100;
/// Space for daemons and an image, in MiB.
const CACHE_SPACE_MIB: u64 = 512;

/// Examines everything and prints what it finds.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn doctor(options: &DoctorOptions) -> Result<ExitCode, Error> {
    let mut report = DoctorReport::new(options.json, options.quiet);
    let run_dir = run_dir::or_default(options.runtime.dir.as_deref());
    let run_dir = std::path::absolute(&run_dir).unwrap_or(run_dir);
    Examination::new(options, &run_dir).run(&mut report);
    let is_well = report.end().map_err(Error::step("write to stdout"))?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// Host, files and cluster under examination.
struct Examination<'a> {
    options: &'a DoctorOptions,
    commands: Commands,
    /// Directory of our programs.
    bin_dir: PathBuf,
    cache: PathBuf,
    layout: Layout,
    /// The cluster that runs or starts in the run directory.
    cluster: Option<StartedCluster>,
}

impl<'a> Examination<'a> {
    fn new(options: &'a DoctorOptions, run_dir: &Path) -> Self {
        let cluster = StartedCluster::find(run_dir);
        let words = cluster.as_ref().map_or_else(|| options.words(), |it| it.words.clone());
        let own = env::current_exe().unwrap_or_default();
        let state = match &cluster {
            Some(started) => started.state.clone(),
            None => state_dir(options.state.as_deref(), options.runtime.dir.as_deref()),
        };
        Self {
            options,
            commands: Commands::new(options.root.as_deref(), options.named_run_dir(), words),
            bin_dir: own.parent().unwrap_or(Path::new("")).to_owned(),
            cache: cache_dir(),
            layout: Layout::new(run_dir, state.as_deref()),
            cluster,
        }
    }

    fn run(&self, report: &mut DoctorReport) {
        let asked = self.deployment_options();
        let loaded = load(&asked);
        // What may wait for answers does so while the host is examined.
        thread::scope(|scope| {
            let cluster = self.cluster.as_ref();
            let answers = cluster.map(|it| scope.spawn(|| Answers::ask(it, &self.layout)));
            let image = self.host(report, loaded.as_ref().ok());
            if !self.is_local() {
                report.add(files::deployment(asked.ports(), &loaded));
            }
            self.places(report);
            match (cluster, answers.map(ScopedJoinHandle::join)) {
                (Some(started), Some(Ok(answers))) => {
                    report.add([room::memory(None)]);
                    report.add(self.context(&answers, started, image).check());
                }
                _ => self.start(report, asked.ports(), loaded.as_ref().ok()),
            }
            report.add(watching::monitoring(self.layout.run(), &self.commands));
        });
    }

    /// Checks the host; the digest of the image that a start would boot. A cluster of processes needs
    /// nothing of what VMs need.
    fn host(&self, report: &mut DoctorReport, deployment: Option<&Deployment>) -> Option<String> {
        let Self { commands, bin_dir, cache, .. } = self;
        report.add(host::own_programs(bin_dir, commands));
        report.add([host::clock()]);
        if self.is_local() {
            return None;
        }
        report.add([host::user()]);
        report.add(host::programs());
        let (setup, faults) = host::setup(self.options.image.as_deref(), bin_dir, commands);
        if faults.is_empty() {
            report.add(host::daemons(&setup, cache, commands));
            report.add(setup.image.iter().map(|dir| files::image(dir, bin_dir, commands)));
        }
        report.add(faults);
        let is_live = |it: &Deployment| it.datasets.iter().any(|dataset| !dataset.snapshot);
        report.add([host::kvm(cache), host::namespaces(deployment.is_some_and(is_live))]);
        report.add([host::open_files()]);
        Image::open(&setup.image?).ok().map(|image| image.digest)
    }

    /// Checks the directories of the cluster.
    fn places(&self, report: &mut DoctorReport) {
        let Self { commands, layout, .. } = self;
        report.add([place::run_dir(layout.run())]);
        report.add(place::secrets(layout));
        report.add([room::space("run directory", layout.run(), RUN_SPACE_MIB)]);
        if !self.is_local() {
            let disk = layout.state_disk("controller");
            let stop = commands.script("stop", &[]);
            report.add(disk::check(&disk, self.cluster.is_some(), &stop));
            report.add([room::space("state directory", layout.state(), STATE_SPACE_MIB)]);
            report.add([room::space("cache", &self.cache, CACHE_SPACE_MIB)]);
        }
    }

    /// Checks that a cluster could start, where none runs.
    fn start(&self, report: &mut DoctorReport, ports: &Path, deployment: Option<&Deployment>) {
        let Self { commands, layout, .. } = self;
        let lock = place::state_lock(layout);
        // The ports and memory of a cluster without run directory are in use, by it.
        if lock.is_none() {
            report.add([room::memory(deployment)]);
            report.add(deployment.into_iter().flat_map(|it| room::ports(ports, it)));
        }
        let left = place::leftovers(layout.run(), commands);
        if left.is_none() && lock.is_none() {
            let text = format!("none runs in {}", layout.run().display());
            report.add([CheckResult::ok("cluster", text)]);
        }
        report.add(left.into_iter().chain(lock));
    }

    fn context<'c>(
        &'c self,
        answers: &'c Answers,
        started: &'c StartedCluster,
        built_image: Option<String>,
    ) -> RunningCluster<'c> {
        let Self { commands, bin_dir, layout, .. } = self;
        RunningCluster { answers, started, layout, commands, bin_dir, built_image }
    }

    fn is_local(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.is_local)
    }

    /// Files that describe the cluster: those of the command line, else those of its start, else
    /// the files of the tree.
    fn deployment_options(&self) -> DeploymentOptions {
        let options = self.options;
        let started = self.cluster.as_ref().and_then(|cluster| cluster.deployment.as_ref());
        if let (Some(started), None) = (started, &options.ports) {
            return started.clone();
        }
        let settings = options.settings.as_deref().or(self.commands.root.as_deref());
        let settings = settings.unwrap_or(Path::new(""));
        DeploymentOptions {
            ports: Some(options.ports.clone().unwrap_or_else(|| settings.join("ports.conf"))),
            config: options.config.clone(),
            datasets: match started {
                Some(started) if options.datasets.is_empty() => started.datasets.clone(),
                _ => options.datasets.clone(),
            },
            ..DeploymentOptions::default()
        }
    }
}

impl DoctorOptions {
    /// The run directory, if it is not the one that is used without being named.
    fn named_run_dir(&self) -> Option<PathBuf> {
        let variable = || env::var_os(RUNTIME_DIR_VARIABLE).filter(|dir| !dir.is_empty());
        self.runtime.dir.clone().or_else(|| variable().map(PathBuf::from))
    }

    /// The options of a start that this command line has, too.
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |option: &str, value: &OsStr| {
            words.extend([option.to_owned(), quote::shell(value)]);
        };
        let paths =
            [("--state-dir", &self.state), ("--ports", &self.ports), ("--config", &self.config)];
        for (option, value) in paths {
            value.iter().for_each(|value| add(option, value.as_os_str()));
        }
        self.datasets.iter().for_each(|value| add("--dataset", value));
        self.image.iter().for_each(|value| add("--image", value));
        words
    }
}

fn load(options: &DeploymentOptions) -> Result<Deployment, LoadErrors> {
    // Without the host's CPUs no VM can be bound to one, which the start says.
    let cpus = CpuSet::of_this_process().or_else(|_| CpuSet::parse("0").ok_or(()));
    Deployment::load(options, &cpus.expect("0 is a CPU"))
}
