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

#[derive(Debug)]
pub(crate) enum Error {
    /// The description of the cluster is wrong, or its ports are taken.
    Deployment(LoadErrors),
    /// The run directory cannot be used.
    RunDir(RunDirError),
    /// There is nothing to boot from.
    Image(ImageError),
    /// A step of the preparation failed.
    Step { what: String, error: io::Error },
    /// A program that prepares something failed.
    Tool { what: String, how: String, output: String },
    /// The host has less memory than the VMs may take.
    Memory { wanted_mib: u64, available_mib: u64 },
    /// A process ended again and again before the cluster was ready.
    Died { name: String, how: String, tail: String },
    /// A member was not healthy in time.
    Late { name: String, limit: Duration, why: String, tail: String },
    /// A signal came before the cluster was ready.
    Interrupted(Signal),
    /// No supervisor is there, or it does not answer.
    NotRunning { run_dir: PathBuf },
    /// No member has this name.
    NoSuchMember { name: String, names: String },
    /// COMMAND cannot be started.
    Command { command: String, error: io::Error },
    /// The supervisor is still at it.
    NotStopped { pid: u32, limit: Duration },
    /// The supervisor says why.
    Refused(String),
}

impl Error {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Deployment(_) | Self::NoSuchMember { .. } => exit::USAGE,
            Self::RunDir(_)
            | Self::Image(_)
            | Self::Tool { .. }
            | Self::Memory { .. }
            | Self::Died { .. }
            | Self::Late { .. }
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

impl From<RunDirError> for Error {
    fn from(error: RunDirError) -> Self {
        Self::RunDir(error)
    }
}

impl From<LoadErrors> for Error {
    fn from(error: LoadErrors) -> Self {
        Self::Deployment(error)
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Step { error, .. } | Self::Command { error, .. } = self {
            return Some(error);
        }
        if let Self::Deployment(errors) = self { Some(errors) } else { None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployment(errors) => errors.fmt(f),
            Self::RunDir(error) => error.fmt(f),
            Self::Image(error) => error.fmt(f),
            Self::Step { what, error } => write!(f, "cannot {what}: {error}"),
            Self::Tool { what, how, output } => write!(f, "cannot {what}: {how}{}", Tail(output)),
            Self::Memory { wanted_mib, available_mib } => {
                write!(f, "the VMs may take {wanted_mib} MiB of memory, and {available_mib} MiB ")?;
                f.write_str(
                    "are available; give them less (memory in cluster.toml), or start fewer",
                )
            }
            Self::Died { name, how, tail } => write!(f, "{name} {how}{}", Tail(tail)),
            Self::Late { name, limit, why, tail } => {
                let limit = limit.as_secs();
                write!(f, "{name} was not healthy within {limit} s: {why}{}", Tail(tail))
            }
            Self::Interrupted(signal) => {
                write!(f, "interrupted by {signal} before the cluster was ready")
            }
            Self::NotRunning { run_dir } => {
                write!(f, "no cluster runs in {}; ./run.sh starts one", run_dir.display())
            }
            Self::NoSuchMember { name, names } => {
                write!(f, "no VM is called {name}; there are {names}")
            }
            Self::Command { command, error } => write!(f, "cannot run {command}: {error}"),
            Self::NotStopped { pid, limit } => {
                let limit = limit.as_secs();
                write!(f, "pid {pid} is still stopping after {limit} s; ")?;
                write!(f, "`kill -9 {pid}` ends it and its processes")
            }
            Self::Refused(text) => f.write_str(text),
        }
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
