//! Why a command of local mode did not do what was asked.

use crate::deployment::LoadErrors;
use crate::exit;
use crate::run_dir::RunDirError;
use ipc_socket::{ConnectError, ReceiveError};
use nix::sys::signal::Signal;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug)]
pub(crate) enum Error {
    /// The run directory cannot be used.
    RunDir(RunDirError),
    /// A cluster is in the directory that a command was to have for itself.
    Occupied { run_dir: PathBuf, pid: Option<u32> },
    /// `cluster.toml` is refused.
    Config(LoadErrors),
    /// A program is not there, or is none.
    Program { path: PathBuf, error: io::Error },
    /// A process ended before the cluster was ready.
    Died { name: String, how: String, tail: String },
    /// The cluster was not ready in time.
    Late { waiting_for: String, limit: Duration, tail: String },
    /// The controller says that it is ready, and takes no connection from us.
    Unreachable(ConnectError),
    /// The controller broke off.
    Answer(ReceiveError),
    /// A signal came before the cluster was ready.
    Interrupted(Signal),
    /// COMMAND cannot be started.
    Command { command: String, error: io::Error },
    /// The supervisor is still at it.
    NotStopped { pid: u32, limit: Duration },
    /// A system call that should not fail.
    Io { what: &'static str, error: io::Error },
}

impl Error {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::RunDir(_)
            | Self::Program { .. }
            | Self::Died { .. }
            | Self::Late { .. }
            | Self::Unreachable(_)
            | Self::Answer(_) => exit::NOT_RUNNING,
            Self::Config(_) => exit::USAGE,
            Self::Interrupted(_) => exit::INTERRUPTED,
            Self::Command { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                exit::NOT_FOUND
            }
            Self::Command { .. } => exit::NOT_EXECUTABLE,
            Self::Occupied { .. } | Self::NotStopped { .. } | Self::Io { .. } => exit::FAILED,
        })
    }

    /// For `map_err`: `what` failed.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { what, error }
    }
}

impl From<RunDirError> for Error {
    fn from(error: RunDirError) -> Self {
        Self::RunDir(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RunDir(error) => error.fmt(f),
            Self::Config(errors) => errors.fmt(f),
            Self::Occupied { run_dir, pid } => {
                let run_dir = run_dir.display();
                write!(f, "a cluster already runs in {run_dir}{}; ", of_pid(*pid))?;
                write!(f, "use it with hashctl --runtime-dir {run_dir}, or leave out --run-dir")
            }
            Self::Program { path, error } => {
                write!(f, "cannot start {}: {error}; ", path.display())?;
                f.write_str("build it with `cargo xtask build`, or name its place with --bin-dir")
            }
            Self::Died { name, how, tail } => {
                write!(f, "the {name} {how} before the cluster was ready{}", Tail(tail))
            }
            Self::Late { waiting_for, limit, tail } => {
                let limit = limit.as_secs();
                write!(f, "{waiting_for} not ready within {limit} s{}", Tail(tail))
            }
            Self::Unreachable(error) => write!(f, "cannot connect to the controller: {error}"),
            Self::Answer(error) => write!(f, "no answer from the controller: {error}"),
            Self::Interrupted(signal) => {
                write!(f, "interrupted by {signal} before the cluster was ready")
            }
            Self::Command { command, error } => write!(f, "cannot run {command}: {error}"),
            Self::NotStopped { pid, limit } => {
                let limit = limit.as_secs();
                write!(
                    f,
                    "pid {pid} is still stopping after {limit} s; `kill -9 {pid}` ends it, "
                )?;
                f.write_str("controller and workers with it")
            }
            Self::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

pub(super) fn of_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// The end of a log, below the line that speaks of it.
struct Tail<'a>(&'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(" and wrote nothing");
        }
        f.write_str("; it wrote:")?;
        self.0.lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_shows_what_the_process_wrote() {
        let died = |tail: &str| Error::Died {
            name: "controller".into(),
            how: "exited with status 1".into(),
            tail: tail.into(),
        };
        assert_eq!(
            died("no such user\ngiving up").to_string(),
            "the controller exited with status 1 before the cluster was ready; it wrote:\
             \n    no such user\n    giving up"
        );
        assert!(died("").to_string().ends_with("ready and wrote nothing"));
    }

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
