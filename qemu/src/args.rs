//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

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
    /// Read and check the description of a cluster of VMs and show it, or all that is wrong with it
    Config {
        #[command(flatten)]
        options: ConfigOptions,
    },
}

/// Where a cluster of VMs is described.
#[derive(Debug, ClapArgs)]
pub(crate) struct DeploymentOptions {
    /// One VM a line, the controller first: its SSH port, then words such as mem=192M
    #[arg(long, value_name = "FILE", default_value = "ports.conf")]
    pub(crate) ports: PathBuf,
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
    /// Start a cluster and stay in the foreground until Ctrl-C or `local stop`
    Up {
        #[command(flatten)]
        options: StartOptions,
    },
    /// Start a cluster in a directory of its own, run COMMAND with it, stop it again
    Run {
        #[command(flatten)]
        options: StartOptions,
        /// Run with `HASHCLUSTER_RUNTIME_DIR` set; its exit status becomes ours
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Stop the cluster that `local up` started: workers, then controller
    Stop {
        /// Its run directory, as given to `local up`
        #[arg(long, value_name = "DIR")]
        run_dir: Option<PathBuf>,
    },
    /// Say whether a cluster runs (exit status 0) or not (3)
    Status {
        /// Its run directory, as given to `local up`
        #[arg(long, value_name = "DIR")]
        run_dir: Option<PathBuf>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StartOptions {
    /// How many workers, of one thread each [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKERS_MAX)))]
    pub(crate) workers: Option<u16>,
    /// Where sockets, logs and the pidfile go, mode 0700 [default: where hashctl looks, or for
    /// `run` a fresh directory that is removed afterwards]
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Where hashcluster-controller and hashcluster-worker are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// How long workers, and then the controller, may take to stop before they are killed
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5_000)]
    pub(crate) stop_limit_ms: u32,
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
        let Mode::Local { command: LocalCommand::Run { options, command } } = mode else {
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
