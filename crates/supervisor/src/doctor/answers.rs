//! Questions to a cluster that runs: to its supervisor, its controller and its VMs, each with a time
//! limit.

use super::guest::{self, GuestReport};
use super::started::StartedCluster;
use crate::cluster::{ClusterReport, MemberPhase};
use crate::vm::{CONTROL_SOCKET, Layout};
use client::{Address, AddressError, Client};
use ipc_proto::message::{RefuseReason, Status};
use ipc_socket::ConnectError;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Time limit for the supervisor, which answers at once.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(3);

/// Time limit for the controller.
const CONTROLLER_LIMIT: Duration = Duration::from_secs(8);

/// Bytes that are read of the supervisor's answer.
const REPORT_LEN_MAX: u64 = 4 << 20;

/// Everything that was asked of a cluster.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) report: Result<ClusterReport, NoReport>,
    pub(super) controller: Result<Status, NoStatus>,
    pub(super) guests: BTreeMap<String, GuestReport>,
}

/// Why the supervisor says nothing.
#[derive(Debug)]
pub(super) enum NoReport {
    /// Its socket is not there.
    NoSocket(io::Error),
    /// It is stopped by a signal.
    Suspended,
    /// It does not answer in time, or not as we understand.
    Mute(String),
}

/// Why the controller says nothing.
#[derive(Debug)]
pub(super) enum NoStatus {
    /// No common version of the protocol.
    Version(String),
    /// Its token may be known to others: `place` says so.
    Exposed,
    /// It refuses us, or the files that lead to it are wrong.
    Denied(String),
    Mute(String),
}

impl Answers {
    /// Asks supervisor, controller and VMs, at once as far as possible.
    pub(super) fn ask(started: &StartedCluster, layout: &Layout) -> Self {
        let report = ask_supervisor(started.pid, layout);
        let vms: Vec<&str> = match &report {
            Ok(report) if !started.is_local => running(report),
            _ => Vec::new(),
        };
        let (controller, guests) = thread::scope(|scope| {
            let controller = scope.spawn(|| ask_controller(layout));
            let guests = guest::ask_all(layout, &vms);
            (controller.join().unwrap_or_else(|_| Err(NoStatus::Mute("failed".into()))), guests)
        });
        Self { report, controller, guests }
    }
}

fn running(report: &ClusterReport) -> Vec<&str> {
    let running = report.members.iter().filter(|member| member.phase == MemberPhase::Running);
    running.map(|member| member.name.as_str()).collect()
}

fn ask_supervisor(pid: u32, layout: &Layout) -> Result<ClusterReport, NoReport> {
    let stream = UnixStream::connect(layout.file(CONTROL_SOCKET)).map_err(NoReport::NoSocket)?;
    let mute = |error: io::Error| match is_suspended(pid) {
        true => NoReport::Suspended,
        false => NoReport::Mute(error.to_string()),
    };
    let line = exchange(stream).map_err(mute)?;
    serde_json::from_str(&line).map_err(|error| NoReport::Mute(format!("another version: {error}")))
}

fn exchange(mut stream: UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(SUPERVISOR_LIMIT))?;
    stream.set_write_timeout(Some(SUPERVISOR_LIMIT))?;
    stream.write_all(b"ps\n")?;
    let mut line = String::new();
    BufReader::new(stream.take(REPORT_LEN_MAX)).read_line(&mut line)?;
    Ok(line)
}

/// True if a signal has stopped the process: proc_pid_stat(5).
pub(super) fn is_suspended(pid: u32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// The controller may let us wait in any call: a thread does, and is left behind.
fn ask_controller(layout: &Layout) -> Result<Status, NoStatus> {
    let (sender, receiver) = mpsc::channel();
    let dir = layout.run().to_owned();
    thread::spawn(move || {
        // Nobody waits any more if it took too long.
        let _ = sender.send(status(&dir));
    });
    let late = format!("no answer within {} s", CONTROLLER_LIMIT.as_secs());
    receiver.recv_timeout(CONTROLLER_LIMIT).unwrap_or(Err(NoStatus::Mute(late)))
}

fn status(dir: &Path) -> Result<Status, NoStatus> {
    let address = Address::in_dir(dir).map_err(|error| match &error {
        AddressError::Io(_, cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            NoStatus::Exposed
        }
        AddressError::Io(..)
        | AddressError::Socket(_)
        | AddressError::NotOneLine(_)
        | AddressError::Endpoint(..) => NoStatus::Denied(error.to_string()),
    })?;
    let mut client = Client::connect(&address).map_err(|error| match &error {
        ConnectError::Refused { reason: RefuseReason::Version, text } => {
            NoStatus::Version(text.clone())
        }
        ConnectError::Refused { reason: RefuseReason::Forbidden, text } => {
            NoStatus::Denied(text.clone())
        }
        ConnectError::Refused { .. }
        | ConnectError::Io(_)
        | ConnectError::Wire(_)
        | ConnectError::Protocol(_) => NoStatus::Mute(error.to_string()),
    })?;
    let asked = client.set_timeout(Some(CONTROLLER_LIMIT)).and_then(|()| client.status());
    asked.map_err(|error| NoStatus::Mute(error.to_string()))
}
