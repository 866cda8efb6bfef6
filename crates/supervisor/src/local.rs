//! Clusters without VMs: the controller and each worker is a plain process of this host.

use crate::args::{StartOptions, WORKERS_MAX};
use crate::cluster::{Error, Unit};
use crate::deployment::{Dataset, Health, LocalFlags, Member, Role};
use crate::supervise::{Console, Program, is_executable};
use crate::vm::{self, HTTP_SOCKET, Layout, Share};
use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use telemetry::SyslogTarget;
use telemetry::http::HttpAddress;

/// Time that members have to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Context shared by all processes of a local cluster.
#[derive(Clone, Debug)]
pub(crate) struct LocalContext {
    bin_dir: PathBuf,
    flags: LocalFlags,
    /// The datasets, in the order of their names.
    shares: Vec<Share>,
    pub(crate) workers_len: u16,
    pub(crate) stop_limit: Duration,
    /// Where the controller keeps durable jobs, in a cluster that stays.
    pub(crate) state: Option<PathBuf>,
    /// The supervisor's port for metrics; the members have those after it.
    pub(crate) metrics_port: Option<u16>,
}

impl LocalContext {
    /// Limit for the whole start.
    pub(crate) const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

    /// The context that `options` ask for, after a look at the files that they name.
    ///
    /// # Errors
    /// [`Error::Deployment`] for `cluster.toml`, [`Error::Tool`] for a program that is missing.
    pub(crate) fn new(options: &StartOptions) -> Result<Self, Error> {
        let bin_dir = match &options.bin_dir {
            Some(dir) => std::path::absolute(dir),
            None => std::env::current_exe().map(|mut program| {
                program.pop();
                program
            }),
        };
        let bin_dir = bin_dir.map_err(Error::step("find the programs"))?;
        for name in ["hashcluster-controller", "hashcluster-worker"] {
            let path = bin_dir.join(name);
            if !is_executable(&path) {
                return Err(Error::Tool {
                    what: format!("find {}", path.display()),
                    how: "build it with `cargo xtask build`, or name its place with --bin-dir"
                        .into(),
                    output: String::new(),
                });
            }
        }
        let default = options.default_config.as_deref().filter(|path| path.exists());
        let config = options.config.as_deref().or(default);
        let flags = LocalFlags::load(config, &options.datasets, options.may_be_missing)?;
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        let cores = || u16::try_from(cores()).unwrap_or(u16::MAX).min(WORKERS_MAX);
        Ok(Self {
            bin_dir,
            shares: vm::shares_of(&flags.datasets),
            flags,
            workers_len: options.workers.unwrap_or_else(cores),
            stop_limit: options
                .stop_limit_ms
                .map_or(STOP_LIMIT, |ms| Duration::from_millis(ms.into())),
            state: None,
            metrics_port: options.metrics_port,
        })
    }

    /// The same in the place of a cluster that runs, which keeps its state and its ports.
    pub(crate) fn in_place_of(&self, running: &Self) -> Self {
        let (state, metrics_port) = (running.state.clone(), running.metrics_port);
        Self { state, metrics_port, ..self.clone() }
    }

    /// Refuses datasets that would show workers what the cluster keeps to itself.
    ///
    /// # Errors
    /// [`Error::Refused`] for a dataset that contains what the cluster keeps to itself.
    pub(crate) fn check_datasets(&self, layout: &Layout) -> Result<(), Error> {
        vm::check_shares(&self.shares, layout)
    }

    /// Tells hashctl of the datasets.
    ///
    /// # Errors
    /// A file of the run directory cannot be written.
    pub(crate) fn tell_datasets(&self, layout: &Layout) -> Result<(), Error> {
        vm::tell_datasets(layout, &self.shares.iter().collect::<Vec<_>>(), &[])
    }

    /// Differences between what is asked for and what processes without VMs do, each for a person.
    pub(crate) fn notices(&self) -> impl Iterator<Item = String> {
        let missing = self.flags.datasets.iter().filter(|dataset| dataset.is_missing).map(|dataset| {
            let (name, dir) = (&dataset.name, dataset.dir.display());
            format!("dataset {name}: {dir} is missing; the workers have it once it is there and they start anew")
        });
        let snapshots = self.flags.datasets.iter().filter(|dataset| dataset.snapshot);
        missing.chain(snapshots.map(|dataset| {
            format!(
                "dataset {}: workers without VMs see the directory itself, not a snapshot",
                dataset.name
            )
        }))
    }

    /// Where the logs of all go, too.
    pub(crate) fn syslog(&self) -> SyslogTarget {
        self.flags.syslog.clone().unwrap_or(SyslogTarget::Off)
    }

    /// The cluster: a controller, then workers `w1`, `w2`, …
    pub(crate) fn members(&self) -> Vec<Member> {
        let member = |name: String, role| Member { name, role, health: Health::DEFAULT };
        let workers = (1..=self.workers_len).map(|n| member(format!("w{n}"), Role::Worker));
        [member("controller".into(), Role::Controller)].into_iter().chain(workers).collect()
    }

    /// Where `member` serves its pages.
    pub(crate) fn http(&self, member: &Member, layout: &Layout) -> HttpAddress {
        // Workers are `w1`, `w2`, …
        let number = member.name.strip_prefix('w').and_then(|number| number.parse().ok());
        let after = |port: u16| port + 1 + number.unwrap_or(0);
        match self.metrics_port {
            Some(port) => HttpAddress::Tcp((Ipv4Addr::LOCALHOST, after(port)).into()),
            None => HttpAddress::Unix(layout.of_vm(&member.name, HTTP_SOCKET)),
        }
    }

    /// The process of `member`.
    pub(crate) fn unit(&self, member: &Member, layout: &Layout) -> Unit {
        let mut args: Vec<OsString> = vec!["--runtime-dir".into(), layout.run().into()];
        let (name, flags) = match member.role {
            Role::Controller => ("hashcluster-controller", &self.flags.controller),
            Role::Worker => {
                args.extend(["--name", &member.name, "--threads", "1"].map(OsString::from));
                ("hashcluster-worker", &self.flags.workers)
            }
        };
        args.extend(["--http".into(), self.http(member, layout).to_string().into()]);
        for dataset in &self.flags.datasets {
            args.extend(dataset_args(dataset, member.role));
        }
        if let Some(state) = self.state.as_ref().filter(|_| member.role == Role::Controller) {
            args.extend(["--state-dir".into(), state.into()]);
        }
        args.extend(flags.iter().map(OsString::from));
        if self.syslog() != SyslogTarget::Off {
            // The supervisor sends what they write.
            args.extend(["--syslog", "off"].map(OsString::from));
        }
        let main = Program {
            name: "its process".into(),
            path: self.bin_dir.join(name),
            args,
            env: Vec::new(),
            console: Console::Background { log: layout.log(&member.name) },
            announces_ready: member.role == Role::Controller,
        };
        Unit { daemons: Vec::new(), main }
    }

    /// A program beside those of the cluster.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

/// Arguments of a program about a dataset.
fn dataset_args(
    Dataset { name, dir, io_threads, is_missing, .. }: &Dataset,
    role: Role,
) -> Vec<OsString> {
    match role {
        Role::Controller => ["--dataset", name].map(OsString::from).into(),
        Role::Worker if *is_missing => Vec::new(),
        Role::Worker => {
            let mount = [OsStr::new(name), OsStr::new("="), dir.as_os_str()];
            let mut args = vec!["--dataset".into(), mount.into_iter().collect()];
            if let Some(threads) = io_threads {
                args.extend(["--io-threads".into(), format!("{name}={threads}").into()]);
            }
            args
        }
    }
}

/// Prints the command line of every process.
///
/// # Errors
/// Standard output does not take it.
pub(crate) fn dry_run(context: &LocalContext, layout: &Layout) -> Result<ExitCode, Error> {
    let of = |member: Member| (member.name.clone(), vec![context.unit(&member, layout).main]);
    vm::print_command_lines(context.members().into_iter().map(of))
}
