//! `local up` and `local run`: a cluster from its start to its end, in the foreground.

use super::cluster::{Cluster, report};
use super::error::{Error, of_pid};
use crate::args::StartOptions;
use crate::deployment::LocalFlags;
use crate::run_dir::{self, RUNTIME_DIR_VARIABLE, RunDir, RunDirError};
use crate::say::{indented, say};
use crate::supervise::{Caught, Console, Event, Program, ProgramId, Restart, Signals, Supervisor};
use crate::{exit, pidfile};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// How long COMMAND may go on after a signal that asks it to end, other than SIGINT, which it may
/// take as it likes.
const COMMAND_STOP_LIMIT: Duration = Duration::from_secs(10);

/// A supervisor, its directory, and the cluster that it runs there.
struct Session {
    supervisor: Supervisor,
    run_dir: RunDir,
    cluster: Cluster,
    stop_limit: Duration,
}

/// Starts a cluster and stays until a signal.
pub(crate) fn up(options: &StartOptions) -> Result<ExitCode, Error> {
    let signals = Signals::block().map_err(Error::io("block signals"))?;
    let cluster = Cluster::new(&bin_dir(options)?, workers_len(options), flags(options)?)?;
    let path = run_dir::or_default(options.run_dir.as_deref());
    let run_dir = match RunDir::claim(&path) {
        Ok(run_dir) => run_dir,
        Err(RunDirError::Busy) => {
            let (path, pid) = (path.display(), of_pid(holder(&path)));
            say(format_args!("already runs in {path}{pid}; scripts/stop.sh stops it"));
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let mut session = Session::new(signals, run_dir, cluster, options);
    let lived = session.cluster.start(&mut session.supervisor, &session.run_dir).and_then(|()| {
        session.explain(options);
        session.stay()
    });
    session.end(lived.map(|()| ExitCode::SUCCESS))
}

/// Starts a cluster, runs `command` with it, and stops it.
pub(crate) fn run(options: &StartOptions, command: &[OsString]) -> Result<ExitCode, Error> {
    let signals = Signals::block().map_err(Error::io("block signals"))?;
    let cluster = Cluster::new(&bin_dir(options)?, workers_len(options), flags(options)?)?;
    let run_dir = match &options.run_dir {
        None => RunDir::private(),
        Some(path) => match RunDir::claim(path) {
            Err(RunDirError::Busy) => {
                return Err(Error::Occupied { run_dir: path.clone(), pid: holder(path) });
            }
            claimed => claimed,
        },
    }?;
    let mut session = Session::new(signals, run_dir, cluster, options);
    let ran = session
        .cluster
        .start(&mut session.supervisor, &session.run_dir)
        .and_then(|()| session.run_command(command));
    session.end(ran.map(|status| ExitCode::from(shell_status(status))))
}

impl Session {
    fn new(signals: Signals, run_dir: RunDir, cluster: Cluster, options: &StartOptions) -> Self {
        let stop_limit = Duration::from_millis(options.stop_limit_ms.into());
        Self { supervisor: Supervisor::new(signals), run_dir, cluster, stop_limit }
    }

    /// Keeps the cluster alive until a signal.
    fn stay(&mut self) -> Result<(), Error> {
        loop {
            let event = self.supervisor.next(None, None).map_err(Error::io("wait"))?;
            if let Event::Signal(caught) = event {
                say(format_args!("{}: stopping workers, then the controller", caught.signal));
                return Ok(());
            }
            report(&self.supervisor, &event);
        }
    }

    /// Keeps the cluster alive until `command` has ended.
    fn run_command(&mut self, command: &[OsString]) -> Result<ExitStatus, Error> {
        let (path, args) = command.split_first().expect("clap asks for a COMMAND");
        let name = path.to_string_lossy().into_owned();
        let program = Program {
            name: name.clone(),
            path: path.into(),
            args: args.to_vec(),
            env: vec![(RUNTIME_DIR_VARIABLE, self.run_dir.path().into())],
            console: Console::Foreground,
            announces_ready: false,
        };
        let started = self.supervisor.start(program, Restart::Never);
        let id = started.map_err(|error| Error::Command { command: name, error })?;
        let mut deadline = None;
        loop {
            let event = self.supervisor.next(None, deadline).map_err(Error::io("wait"))?;
            match event {
                Event::Exited { id: ended, status, .. } if ended == id => return Ok(status),
                Event::Signal(caught) => {
                    self.pass_on(id, caught);
                    if caught.signal != Signal::SIGINT {
                        deadline.get_or_insert(Instant::now() + COMMAND_STOP_LIMIT);
                    }
                }
                Event::Deadline => {
                    self.supervisor.signal(id, Signal::SIGKILL);
                    deadline = None;
                }
                Event::Exited { .. }
                | Event::NotStarted { .. }
                | Event::Ready(_)
                | Event::Readable => report(&self.supervisor, &event),
            }
        }
    }

    /// A terminal has sent it to COMMAND already, which is in our process group.
    fn pass_on(&self, command: ProgramId, caught: Caught) {
        if !caught.from_terminal {
            self.supervisor.signal(command, caught.signal);
        }
    }

    /// Stops everything, whatever came before; the first error is the one that counts.
    fn end(mut self, result: Result<ExitCode, Error>) -> Result<ExitCode, Error> {
        let stopped = self.cluster.stop(&mut self.supervisor, self.stop_limit);
        let released = self.run_dir.release().map_err(Error::from);
        let code = result?;
        stopped.and(released)?;
        Ok(code)
    }

    fn explain(&self, options: &StartOptions) {
        let run_dir = self.run_dir.path();
        let (shown, pid) = (run_dir.display(), std::process::id());
        let workers = match workers_len(options) {
            1 => "1 worker".to_owned(),
            n => format!("{n} workers"),
        };
        say(format_args!("controller and {workers} are ready in {shown} (pid {pid})"));
        if run_dir::found_by_clients() != run_dir {
            indented(format_args!("first  export {RUNTIME_DIR_VARIABLE}={}", quoted(run_dir)));
        }
        if let Ok(bin_dir) = bin_dir(options) {
            indented(format_args!("hash   {} sum PATH…", quoted(&bin_dir.join("hashctl"))));
        }
        let asked = match run_dir::or_default(None) == run_dir {
            true => String::new(),
            false => format!(" --run-dir {}", quoted(run_dir)),
        };
        indented(format_args!("stop   Ctrl-C here, or scripts/stop.sh{asked}"));
    }
}

fn holder(run_dir: &Path) -> Option<u32> {
    let found = pidfile::find(&run_dir::pidfile_of(run_dir));
    found.ok().flatten().map(|supervisor| supervisor.pid)
}

fn workers_len(options: &StartOptions) -> u16 {
    let cores = || {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        u16::try_from(cores).unwrap_or(u16::MAX).min(crate::args::WORKERS_MAX)
    };
    options.workers.unwrap_or_else(cores)
}

fn flags(options: &StartOptions) -> Result<LocalFlags, Error> {
    let config = options.config.as_deref();
    config.map_or_else(
        || Ok(LocalFlags::default()),
        |path| LocalFlags::load(path).map_err(Error::Config),
    )
}

fn bin_dir(options: &StartOptions) -> Result<PathBuf, Error> {
    if let Some(dir) = &options.bin_dir {
        return Ok(dir.clone());
    }
    let program = std::env::current_exe().map_err(Error::io("find this program"))?;
    Ok(program.parent().expect("a program is in a directory").to_owned())
}

/// What a shell gives as the status of a command that ended with `status`.
fn shell_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| exit::KILLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_end_becomes_the_status_that_a_shell_would_give() {
        for (raw, want) in [(0, 0), (1 << 8, 1), (4 << 8, 4), (255 << 8, 255), (2, 130), (15, 143)]
        {
            assert_eq!(shell_status(ExitStatus::from_raw(raw)), want, "wait status {raw}");
        }
    }

    #[test]
    fn a_path_with_odd_characters_survives_copy_and_paste() {
        assert_eq!(quoted(Path::new("/run/user/7/hashcluster")), "/run/user/7/hashcluster");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
