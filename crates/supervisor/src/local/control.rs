//! `local stop` and `local status`: a look at the supervisor from another process.

use super::cluster::connect;
use super::error::Error;
use crate::pidfile::{self, Supervisor};
use crate::say::{indented, say};
use crate::supervise::{sys, tail};
use crate::{exit, run_dir};
use ipc_proto::endpoint::CLIENT_SOCKET;
use ipc_proto::message::{ClientReply, ClientRequest, Status};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a stop is waited for: more than the default limits of its steps add up to.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Asks the supervisor, of processes or of VMs, to stop everything and waits until it has.
pub(crate) fn stop(asked: Option<&Path>) -> Result<ExitCode, Error> {
    let path = run_dir::or_default(asked);
    let Some(supervisor) = find(&path)? else {
        say(format_args!("nothing runs in {}", path.display()));
        return Ok(ExitCode::SUCCESS);
    };
    match sys::pidfd_signal(supervisor.pidfd.as_fd(), Signal::SIGTERM) {
        Ok(()) => {}
        // It ended since we looked.
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {}
        Err(error) => return Err(Error::Io { what: "signal the supervisor", error }),
    }
    let pid = supervisor.pid;
    let log = path.join("log").join("supervisor.log");
    let log_start = fs::metadata(&log).map_or(0, |metadata| metadata.len());
    if !has_ended_by(&supervisor, Instant::now() + STOP_LIMIT)? {
        return Err(Error::NotStopped { pid, limit: STOP_LIMIT });
    }
    // What had to be killed, for example, if it is not said elsewhere.
    let said = tail(&log, log_start);
    if !said.is_empty() {
        indented(said);
    }
    say(format_args!("stopped workers and controller in {} (pid {pid})", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// Says whether a supervisor runs, and what its controller says of itself.
pub(crate) fn status(asked: Option<&Path>) -> Result<ExitCode, Error> {
    let path = run_dir::or_default(asked);
    let Some(supervisor) = find(&path)? else {
        print(&format!("not running in {}\n", path.display()))?;
        return Ok(ExitCode::from(exit::NOT_RUNNING));
    };
    let controller = match ask_status(&path.join(CLIENT_SOCKET)) {
        Ok(status) => describe(&status),
        Err(error) => format!("controller: {error}\n"),
    };
    print(&format!("running in {} (pid {})\n{controller}", path.display(), supervisor.pid))?;
    Ok(ExitCode::SUCCESS)
}

fn find(run_dir: &Path) -> Result<Option<Supervisor>, Error> {
    pidfile::find(&run_dir::pidfile_of(run_dir)).map_err(Error::io("look for the supervisor"))
}

fn has_ended_by(supervisor: &Supervisor, deadline: Instant) -> Result<bool, Error> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(supervisor.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(ended) => return Ok(ended > 0),
            Err(Errno::EINTR) => {}
            Err(error) => {
                return Err(Error::Io { what: "wait for the supervisor", error: error.into() });
            }
        }
    }
}

fn ask_status(socket: &Path) -> Result<Status, Error> {
    let mut connection = connect(socket)?;
    let sent = connection.sender.send(&ClientRequest::Status, &[]);
    sent.map_err(Error::io("ask the controller"))?;
    loop {
        let (reply, _) = connection.receiver.receive().map_err(Error::Answer)?;
        if let ClientReply::Status(status) = reply {
            return Ok(*status);
        }
    }
}

fn describe(status: &Status) -> String {
    let names: Vec<&str> = status.workers.iter().map(|worker| worker.name.as_str()).collect();
    let (pid, software, up_s) = (status.pid, &status.software, status.uptime_ms / 1000);
    let count = names.len();
    let names = names.join(" ");
    format!("controller: pid {pid}, version {software}, up {up_s} s\nworkers: {count} {names}\n")
}

fn print(text: &str) -> Result<(), Error> {
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(Error::io("write to stdout"))
}
