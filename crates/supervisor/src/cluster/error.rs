//! Why a command did not do what was asked.

use crate::deployment::LoadErrors;
use crate::exit;
use crate::run_dir::RunDirError;
use crate::vm::ImageError;
use nix::sys::signal::Signal;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The description of the cluster is wrong, or its ports are taken.
    #[error("{0}")]
    Deployment(#[from] LoadErrors),
    /// The run directory cannot be used.
    #[error("{0}")]
    RunDir(#[from] RunDirError),
    /// There is nothing to boot from.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// A step of the preparation failed.
    #[error("cannot {what}: {error}")]
    Step {
        what: String,
        #[source]
        error: io::Error,
    },
    /// A program that prepares something failed.
    #[error("cannot {what}: {how}{}", Tail(output))]
    Tool { what: String, how: String, output: String },
    /// The host has less memory than the VMs may take.
    #[error(
        "the VMs may take {wanted_mib} MiB of memory, and {available_mib} MiB are available; give \
         them less (memory in cluster.toml), or start fewer"
    )]
    Memory { wanted_mib: u64, available_mib: u64 },
    /// A process ended again and again before the cluster was ready.
    #[error("{name} {how}{}", Tail(tail))]
    Died { name: String, how: String, tail: String },
    /// A member was not healthy in time.
    #[error("{name} was not healthy within {} s: {why}{}", limit.as_secs(), Tail(tail))]
    Late { name: String, limit: Duration, why: String, tail: String },
    /// A signal came before the cluster was ready.
    #[error("interrupted by {0} before the cluster was ready")]
    Interrupted(Signal),
    /// No supervisor is there, or it does not answer.
    #[error("no cluster runs in {}; ./run.sh starts one", run_dir.display())]
    NotRunning { run_dir: PathBuf },
    /// No member has this name.
    #[error("no VM is called {name}; there are {names}")]
    NoSuchMember { name: String, names: String },
    /// The cluster consists of processes.
    #[error("the cluster in {} has no VMs", run_dir.display())]
    NoVms { run_dir: PathBuf },
    /// The VM does not run.
    #[error("{name} is {state}; ./run.sh logs {name} shows why, ./run.sh start {name} starts it")]
    NotUp { name: String, state: &'static str },
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// COMMAND cannot be started.
    #[error("cannot run {command}: {error}")]
    Command {
        command: String,
        #[source]
        error: io::Error,
    },
    /// The supervisor is still at it.
    #[error(
        "pid {pid} is still stopping after {} s; `kill -9 {pid}` ends it and its processes",
        limit.as_secs()
    )]
    NotStopped { pid: u32, limit: Duration },
    /// The supervisor says why.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Deployment(_) | Self::NoSuchMember { .. } | Self::Usage(_) => exit::USAGE,
            Self::RunDir(_)
            | Self::Image(_)
            | Self::Tool { .. }
            | Self::Memory { .. }
            | Self::Died { .. }
            | Self::Late { .. }
            | Self::NoVms { .. }
            | Self::NotUp { .. }
            | Self::NotRunning { .. } => exit::NOT_RUNNING,
            Self::Interrupted(_) => exit::INTERRUPTED,
            Self::Command { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                exit::NOT_FOUND
            }
            Self::Command { .. } => exit::NOT_EXECUTABLE,
            Self::NotStopped { .. } | Self::Step { .. } | Self::Refused(_) => exit::FAILED,
        })
    }

    /// For `map_err`: `what` failed.
    pub(crate) fn step(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Step { what, error }
    }

    /// For `map_err`: writing `path` failed.
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::step(format!("write {}", path.display()))
    }
}

/// Output of a program, below the line that speaks of it.
struct Tail<'a>(&'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str("; it wrote:")?;
        self.0.lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_found_gives_the_status_that_shells_give() {
        let status = |kind: io::ErrorKind| {
            let command = Error::Command { command: "x".into(), error: kind.into() };
            format!("{:?}", command.exit_code())
        };
        assert_eq!(status(io::ErrorKind::NotFound), format!("{:?}", ExitCode::from(127)));
        assert_eq!(status(io::ErrorKind::PermissionDenied), format!("{:?}", ExitCode::from(126)));
    }
}
