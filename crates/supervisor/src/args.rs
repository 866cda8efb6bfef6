//! The command line.

mod line;
mod local_line;

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most workers of a local cluster: each costs the supervisor a descriptor, and more than one a
/// core only costs memory.
pub(crate) const WORKERS_MAX: u16 = 256;

/// Starts, watches and stops the processes of a hashcluster on this host.
#[derive(Debug, Parser)]
#[command(name = "hashcluster-vm", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// A controller and workers as processes of this host, without VMs
    Local {
        #[command(subcommand)]
        command: LocalCommand,
    },
    /// Start a cluster of VMs and leave it running
    Up {
        #[command(flatten)]
        options: VmOptions,
        /// Stay in the foreground until Ctrl-C or `stop`; a service manager is told when it is ready
        #[arg(long)]
        foreground: bool,
        /// The descriptor on which the supervisor says that it is ready: we are the supervisor
        #[arg(long, value_name = "N", hide = true)]
        ready_fd: Option<u32>,
    },
    /// Run COMMAND with the cluster of VMs that runs, or with one that lives as long as it
    Run {
        #[command(flatten)]
        options: VmOptions,
        /// Run with `HASHCLUSTER_RUNTIME_DIR` set; its exit status becomes ours
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Stop the cluster, of VMs or of processes, or only the members that are named
    #[command(visible_alias = "down")]
    Stop {
        #[command(flatten)]
        asked: Names,
        /// Stop every cluster of this user on this host
        #[arg(long, conflicts_with_all = ["dir", "names"])]
        all: bool,
    },
    /// Start members of a cluster that runs
    Start(Names),
    /// Restart members of a cluster that runs
    Restart(Names),
    /// Show the members of the cluster; exit status 0: healthy, 1: degraded or starting, 3: down
    #[command(visible_alias = "status")]
    Ps {
        #[command(flatten)]
        runtime: RuntimeDir,
        /// Print one JSON object per cluster, described in docs/ps.md
        #[arg(long)]
        json: bool,
        /// Show every cluster of this user on this host
        #[arg(long, conflicts_with = "dir")]
        all: bool,
    },
    /// Change the cluster of VMs that runs into what its files, and the options of this and earlier
    /// commands, say now
    Apply {
        #[command(flatten)]
        options: VmOptions,
    },
    /// Put an image into the VMs of the running cluster, one after the other
    Deploy {
        #[command(flatten)]
        runtime: RuntimeDir,
        /// A directory with kernel, initrd and image.txt
        image: PathBuf,
    },
    /// Run a command in a VM, or a shell, over SSH
    Ssh {
        #[command(flatten)]
        runtime: RuntimeDir,
        /// The VM
        name: String,
        /// Command to run there
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Show the logs of members, or of all: lines behind their names
    Logs(LogsOptions),
    /// Run a command in a VM, its arguments as they are; its exit status becomes ours
    Exec {
        #[command(flatten)]
        runtime: RuntimeDir,
        /// Give the command a terminal
        #[arg(short, long)]
        tty: bool,
        /// The VM
        name: String,
        /// Command to run there
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "COMMAND"
        )]
        command: Vec<OsString>,
    },
    /// Copy a file or directory into a VM or out of one
    Cp {
        #[command(flatten)]
        runtime: RuntimeDir,
        /// A path, or NAME:PATH in a VM
        from: OsString,
        /// The same; exactly one of both is in a VM
        to: OsString,
    },
    /// Print the run directory that is used
    #[command(hide = true)]
    RunDir {
        #[command(flatten)]
        runtime: RuntimeDir,
    },
    /// Let systemd start the cluster, at login or, with --system, at boot
    Autostart(AutostartArgs),
    /// Show files to a program at one place, read-only, in a mount namespace of its own
    #[command(hide = true)]
    ShareView(ShareViewOptions),
    /// Print those lines of a VM's report, read from stdin, that are valid
    #[command(hide = true)]
    FilterReport,
    /// Start, stop or show Prometheus, Alertmanager and, with Docker, Grafana and Loki
    Monitoring(MonitoringArgs),
    /// Check this host, the files and the cluster, and suggest a remedy for each fault
    Doctor(crate::doctor::DoctorOptions),
    /// Read and check the description of a cluster of VMs and show it, or all that is wrong with it
    Config {
        #[command(flatten)]
        options: ConfigOptions,
    },
}

/// Where a cluster is.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct RuntimeDir {
    /// Directory of sockets, logs and pidfile, mode 0700 [default: where hashctl looks, or for `run` a
    /// fresh directory that is removed afterwards]
    #[arg(long = "runtime-dir", alias = "run-dir", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// The unit that starts a cluster.
#[derive(Debug, ClapArgs)]
pub(crate) struct AutostartArgs {
    #[arg(value_enum)]
    pub(crate) command: AutostartCommand,
    /// In the system's manager, at boot, not in that of this user
    #[arg(long)]
    pub(crate) system: bool,
    /// User of the cluster, with --system [default: root]
    #[arg(long, value_name = "NAME", requires = "system")]
    pub(crate) user: Option<String>,
    /// The run.sh to start
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub(crate) start: PathBuf,
    /// Its options; with --local first, a cluster without VMs
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION OF run.sh")]
    pub(crate) options: Vec<OsString>,
}

/// The action on that unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AutostartCommand {
    /// Write the unit, and start the cluster by it from the next boot or login on
    Enable,
    /// Remove the unit
    Disable,
    /// Print if there is such a unit, and if it is active (exit status 3 if there is none)
    Status,
    /// Print the unit that `enable` would write
    Show,
}

/// The monitoring of a cluster.
#[derive(Debug, ClapArgs)]
pub(crate) struct MonitoringArgs {
    #[arg(value_enum)]
    pub(crate) command: MonitoringCommand,
    #[command(flatten)]
    pub(crate) runtime: RuntimeDir,
    /// State directory, in which data are kept [default: as for `up`]
    #[arg(long = "state-dir", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Use Debian's programs, also where Docker runs
    #[arg(long, conflicts_with = "docker")]
    pub(crate) native: bool,
    /// Use Docker or fail
    #[arg(long)]
    pub(crate) docker: bool,
    /// Port of Prometheus, for --native, which it implies; Alertmanager's is N + 3 [default:
    /// `HASHCLUSTER_MONITORING_PORT`, or 9090]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1024..=65532))]
    pub(crate) port: Option<u16>,
    /// Stop it when the cluster stops
    #[arg(long, hide = true)]
    pub(crate) with_cluster: bool,
    /// Directory of compose.yml
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) files: PathBuf,
    /// Directory of ports.conf
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) settings: PathBuf,
}

/// The action on the monitoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MonitoringCommand {
    /// Start what does not run, and wait until it is ready
    Up,
    /// Stop it; its data stay
    Down,
    /// Show its services (exit status 0 all are ready, 1 some, 3 none was started)
    Status,
    /// Show what Prometheus is told to scrape, and what it says of that
    Targets,
}

/// Members of a cluster.
#[derive(Debug, ClapArgs)]
pub(crate) struct Names {
    #[command(flatten)]
    pub(crate) runtime: RuntimeDir,
    /// Names of VMs, such as worker2 or controller
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Logs, and which of their lines.
#[derive(Debug, ClapArgs)]
pub(crate) struct LogsOptions {
    #[command(flatten)]
    pub(crate) runtime: RuntimeDir,
    /// Names of VMs, such as worker2, or `supervisor`
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Go on with lines that are added
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Lines that are at most this old, such as 90s, 10m, 2h or 1d; of a console, those of boots since then
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) since: Option<Duration>,
    /// One life of the VMs: 0 is the present one, -1 the one before
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(..=0)
    )]
    pub(crate) boot: Option<i32>,
    /// Lines of each log [default: 200, or all with --since and --boot]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<usize>,
}

/// A duration as a number with a unit.
fn age(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let parsed = units.into_iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds).map(Duration::from_secs)
    });
    parsed.ok_or_else(|| "write a number with s, m, h or d, such as 10m".to_owned())
}

/// Options of a start of VMs, and of changes while they run.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct VmOptions {
    #[command(flatten)]
    pub(crate) deployment: DeploymentOptions,
    #[command(flatten)]
    pub(crate) runtime: RuntimeDir,
    /// Where keys and the controller's disk stay [default: in the run directory if it is named or
    /// as short-lived as the command of `run`, else /var/lib/hashcluster for root and
    /// ~/.local/state/hashcluster for others]
    #[arg(long = "state-dir", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Image that the VMs boot: a directory with kernel, initrd and image.txt
    #[arg(long, value_name = "DIR")]
    pub(crate) image: Option<PathBuf>,
    /// The image where no command has named one
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) default_image: Option<PathBuf>,
    /// Accelerator for the guests; auto boots a guest to find out [default: auto]
    #[arg(long, value_enum)]
    pub(crate) accel: Option<AccelChoice>,
    /// QEMU [default: qemu-system-x86_64]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) qemu: Option<PathBuf>,
    /// The vsock device [default: vhost-device-vsock]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) vsock: Option<PathBuf>,
    /// The virtio-fs server [default: /usr/lib/qemu/virtiofsd]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) virtiofsd: Option<PathBuf>,
    /// Dialect of its options [default: c]
    #[arg(long, value_enum)]
    pub(crate) virtiofsd_kind: Option<crate::vm::VirtiofsdKind>,
    /// Serve the supervisor's metrics at this port of 127.0.0.1, not at a socket in the run directory
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) metrics_port: Option<u16>,
    /// Print the command lines, or what would change in the cluster that runs; do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Forget the options of earlier commands: only the files and this command line count
    #[arg(long)]
    pub(crate) forget: bool,
}

impl VmOptions {
    /// Where state goes, if not in the run directory.
    pub(crate) fn state_dir(&self) -> Option<PathBuf> {
        state_dir(self.state.as_deref(), self.runtime.dir.as_deref())
    }
}

/// Where state goes, if not in the run directory, which may be named as well.
pub(crate) fn state_dir(state: Option<&Path>, run_dir: Option<&Path>) -> Option<PathBuf> {
    if state.is_some() || run_dir.is_some() {
        return state.map(Path::to_owned);
    }
    if variable(crate::run_dir::RUNTIME_DIR_VARIABLE).is_some() {
        return None;
    }
    if nix::unistd::geteuid().is_root() {
        return Some("/var/lib/hashcluster".into());
    }
    let state = variable("XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(variable("HOME")?).join(".local/state"));
    Some(state.or_else(home)?.join("hashcluster"))
}

/// Where things are kept that can be made again.
pub(crate) fn cache_dir() -> PathBuf {
    if let Some(dir) = variable("HASHCLUSTER_CACHE") {
        return dir.into();
    }
    let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache");
    variable("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("hashcluster")
}

/// An environment variable that is not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The accelerator, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AccelChoice {
    Auto,
    Kvm,
    Tcg,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ShareViewOptions {
    /// Working directory of the program
    #[arg(long, value_name = "DIR")]
    pub(crate) chdir: PathBuf,
    /// The directory to show
    #[arg(long, value_name = "DIR", conflicts_with = "members")]
    pub(crate) directory: Option<PathBuf>,
    /// A file or directory to show under its number; may be given more than once
    #[arg(long = "member", value_name = "PATH")]
    pub(crate) members: Vec<PathBuf>,
    /// Command to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Where a cluster of VMs is described.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct DeploymentOptions {
    /// One VM per line, the controller first: its SSH port, and perhaps host=NAME [default:
    /// ports.conf]
    #[arg(long, value_name = "FILE")]
    pub(crate) ports: Option<PathBuf>,
    /// The file where no command has named one
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) default_ports: Option<PathBuf>,
    /// More settings, see docs/cluster-toml.md [default: cluster.toml beside the ports file, when
    /// there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A directory that the workers see, read-only; may be given more than once
    #[arg(long = "dataset", value_name = "NAME=DIR")]
    pub(crate) datasets: Vec<OsString>,
    /// Of those directories, workers see copies as of the start
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// Datasets that are not there are left out, whoever named them.
    #[arg(skip)]
    pub(crate) may_be_missing: bool,
}

impl DeploymentOptions {
    pub(crate) fn ports(&self) -> &Path {
        let ports = self.ports.as_deref().or(self.default_ports.as_deref());
        ports.unwrap_or(Path::new("ports.conf"))
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigOptions {
    #[command(flatten)]
    pub(crate) deployment: DeploymentOptions,
    /// Refuse ports that are in use, too: those of a running cluster are
    #[arg(long)]
    pub(crate) check_ports: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LocalCommand {
    /// Start a cluster and stay in the foreground until Ctrl-C or `stop`; or change the one that runs
    Up {
        #[command(flatten)]
        options: LocalOptions,
    },
    /// Start a cluster in a directory of its own, run COMMAND with it, stop it again
    Run {
        #[command(flatten)]
        options: StartOptions,
        /// Start COMMAND as soon as the controller answers, while workers still start
        #[arg(long)]
        early: bool,
        /// Run with `HASHCLUSTER_RUNTIME_DIR` set; its exit status becomes ours
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
}

/// Options of a start of processes that stay, and of changes while they run.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct LocalOptions {
    #[command(flatten)]
    pub(crate) start: StartOptions,
    /// Print the command lines, or what would change in the cluster that runs; do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Forget the options of earlier commands: only the file and this command line count
    #[arg(long)]
    pub(crate) forget: bool,
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct StartOptions {
    /// Number of workers, of one thread each [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKERS_MAX)))]
    pub(crate) workers: Option<u16>,
    #[command(flatten)]
    pub(crate) runtime: RuntimeDir,
    /// Settings of the programs: `[defaults]` in this file, see docs/cluster-toml.md
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The file where no command has named one, if it is there
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) default_config: Option<PathBuf>,
    /// Let clients and durable jobs name files in directory DIR, as dataset NAME; may be repeated, and replaces
    /// one of that name in the file
    #[arg(long = "dataset", value_name = "NAME=DIR")]
    pub(crate) datasets: Vec<OsString>,
    /// Datasets that are not there are left out, whoever named them.
    #[arg(skip)]
    pub(crate) may_be_missing: bool,
    /// Where hashcluster-controller and hashcluster-worker are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Serve metrics at ports of 127.0.0.1 from this one on (supervisor, controller, workers), not at
    /// sockets in the run directory
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=i64::from(u16::MAX - WORKERS_MAX - 1)))]
    pub(crate) metrics_port: Option<u16>,
    /// Time that workers, and then the controller, have to stop before they are killed [default: 5000]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) stop_limit_ms: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_belongs_to_the_command() {
        let line =
            ["hashcluster-vm", "local", "run", "--workers", "3", "--", "hashctl", "--run-dir"];
        let mode = Args::try_parse_from(line).unwrap().mode;
        let Mode::Local { command: LocalCommand::Run { options, command, .. } } = mode else {
            panic!("not run")
        };
        assert_eq!(options.workers, Some(3));
        assert_eq!(command, ["hashctl", "--run-dir"]);
    }

    #[test]
    fn no_worker_and_too_many_are_usage_errors() {
        for workers in ["0", "257", "-1", "many"] {
            let line = ["hashcluster-vm", "local", "up", "--workers", workers];
            assert_eq!(Args::try_parse_from(line).unwrap_err().exit_code(), 2, "{workers}");
        }
    }
}
