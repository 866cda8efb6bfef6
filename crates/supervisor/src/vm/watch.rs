//! Asks how the VMs are, in threads beside the supervisor: the controller through the protocol,
//! and each VM that has a command of its own through SSH. Whatever is learnt wakes the supervisor.

use super::layout::{CLIENT_PORT, Layout};
use crate::deployment::{Check, Deployment, Health};
use ipc_proto::Blob;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::{
    ClientIntro, ClientReply, ClientRequest, Role, Status, WorkerHealth, WorkerStatus,
};
use ipc_socket::Connection;
use std::collections::HashMap;
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often the controller is asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// What is known of the cluster.
#[derive(Debug, Default)]
struct Seen {
    status: Option<Status>,
    /// Why there is no status.
    error: String,
    /// Results of commands, by VM.
    commands: HashMap<String, Result<(), String>>,
}

/// The supervisor's end.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    wake: PipeReader,
    waker: PipeWriter,
    /// The threads end when it is dropped.
    _ends: Vec<mpsc::Sender<()>>,
}

impl Watch {
    /// Starts the threads. Signals have to be blocked before, so that they are so in the threads.
    pub(super) fn start(layout: &Layout, deployment: &Deployment) -> io::Result<Self> {
        let (wake, waker) = io::pipe()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut ends = Vec::new();
        let controller = &deployment.vms[0].name;
        let asker = Asker {
            endpoint: Endpoint::VsockUnix {
                path: layout.of_vm(controller, "vsock"),
                port: CLIENT_PORT,
            },
            token_file: layout.token_file(),
            limit: deployment.vms[0].health.timeout,
            connection: None,
        };
        ends.push(spawn(&seen, &waker, INTERVAL, asker.into_step())?);
        for vm in &deployment.vms {
            if let Check::Command(command) = &vm.health.check {
                let step = ssh_step(layout, &vm.name, command, &vm.health);
                ends.push(spawn(&seen, &waker, vm.health.interval, step)?);
            }
        }
        Ok(Self { seen, wake, waker, _ends: ends })
    }

    /// Another end that wakes the supervisor.
    pub(super) fn waker(&self) -> io::Result<PipeWriter> {
        self.waker.try_clone()
    }

    /// Takes what woke us.
    pub(super) fn drain(&mut self) {
        // There is something, or we would not have been woken; how much does not matter.
        let _ = self.wake.read(&mut [0; 64]);
    }

    /// Whether the VM is well; `None` while nobody knows.
    pub(super) fn judge(
        &self,
        name: &str,
        is_controller: bool,
        health: &Health,
    ) -> Option<Result<(), String>> {
        let seen = self.seen.lock().expect("no holder panics");
        if let Check::Command(_) = health.check {
            return seen.commands.get(name).cloned();
        }
        match (&seen.status, is_controller) {
            (None, true) => Some(Err(seen.error.clone())),
            (None, false) => None,
            (Some(_), true) => Some(Ok(())),
            (Some(status), false) => Some(worker(status, name)),
        }
    }

    /// How long a worker has been the controller's, as far as that is known.
    pub(super) fn age(&self, name: &str) -> Option<Duration> {
        let seen = self.seen.lock().expect("no holder panics");
        let workers = &seen.status.as_ref()?.workers;
        let worker = workers.iter().find(|worker| worker.name == name)?;
        Some(Duration::from_millis(worker.uptime_ms))
    }

    /// Forgets a VM that starts anew.
    pub(super) fn forget(&self, name: &str, is_controller: bool) {
        let mut seen = self.seen.lock().expect("no holder panics");
        seen.commands.remove(name);
        if is_controller {
            seen.status = None;
            seen.error = "it has not answered yet".to_owned();
        } else if let Some(status) = &mut seen.status {
            status.workers.retain(|worker| worker.name != name);
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

fn worker(status: &Status, name: &str) -> Result<(), String> {
    match status.workers.iter().find(|worker| worker.name == name) {
        None => Err("the controller does not know it".to_owned()),
        Some(worker) => match worker.health {
            WorkerHealth::Ready => Ok(()),
            // It was so before it connected: another boot would not help either.
            WorkerHealth::Quarantined if was_quarantined(status, worker) => Ok(()),
            WorkerHealth::Quarantined => Err("the controller gives it no more work".to_owned()),
        },
    }
}

/// Whether a worker in quarantine was there already when it connected.
fn was_quarantined(status: &Status, worker: &WorkerStatus) -> bool {
    let row = status.quarantined.iter().find(|row| row.worker == worker.name);
    row.is_some_and(|row| row.age_ms >= worker.uptime_ms)
}

type Step = Box<dyn FnMut(&Mutex<Seen>) + Send>;

fn spawn(
    seen: &Arc<Mutex<Seen>>,
    waker: &PipeWriter,
    interval: Duration,
    mut step: Step,
) -> io::Result<mpsc::Sender<()>> {
    let (end, ended) = mpsc::channel::<()>();
    let (seen, mut waker) = (Arc::clone(seen), waker.try_clone()?);
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            step(&seen);
            if waker.write_all(b"w").is_err() {
                return;
            }
        }
    })?;
    Ok(end)
}

/// Keeps a connection to the controller, as one that has just booted may need several.
struct Asker {
    endpoint: Endpoint,
    token_file: PathBuf,
    /// How long the controller may take to answer.
    limit: Duration,
    connection: Option<Connection>,
}

impl Asker {
    fn into_step(mut self) -> Step {
        Box::new(move |seen| {
            let asked = self.ask();
            if asked.is_err() {
                self.connection = None;
            }
            let mut seen = seen.lock().expect("no holder panics");
            match asked {
                Ok(status) => seen.status = Some(status),
                Err(error) => {
                    seen.status = None;
                    seen.error = error;
                }
            }
        })
    }

    fn ask(&mut self) -> Result<Status, String> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let connection = self.connection.insert(connection);
        let sent = connection.sender.send(&ClientRequest::Status, &[]);
        sent.map_err(|error| error.to_string())?;
        loop {
            let received = connection.receiver.receive();
            if let (ClientReply::Status(status), _) = received.map_err(|error| error.to_string())? {
                return Ok(*status);
            }
        }
    }

    fn connect(&self) -> Result<Connection, String> {
        let token = fs::read(&self.token_file).map_err(|error| error.to_string())?;
        let token = Blob::from(token.trim_ascii_end());
        let software = env!("CARGO_PKG_VERSION").to_owned();
        let role = Role::Client(ClientIntro { software, token });
        let connection = Connection::open(&self.endpoint, role).map_err(|e| e.to_string())?;
        connection.receiver.set_timeout(Some(self.limit)).map_err(|error| error.to_string())?;
        Ok(connection)
    }
}

fn ssh_step(layout: &Layout, name: &str, command: &str, health: &Health) -> Step {
    let (config, name, command) = (layout.ssh_config(), name.to_owned(), command.to_owned());
    let limit_s = format!("{}", health.timeout.as_secs_f64());
    Box::new(move |seen| {
        let result = Command::new("timeout")
            .args(["-k", "1", &limit_s, "ssh", "-F"])
            .arg(&config)
            .args([&name, &command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let result = match result {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("its check {}", crate::supervise::describe(status))),
            Err(error) => Err(error.to_string()),
        };
        seen.lock().expect("no holder panics").commands.insert(name.clone(), result);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::message::QuarantineStatus;

    #[test]
    fn a_worker_that_comes_back_into_quarantine_is_not_booted_again_for_it() {
        let judge = |health, age_ms: Option<u64>| {
            let row =
                |age_ms| QuarantineStatus { worker: "w1".into(), age_ms, ..Default::default() };
            let (name, uptime_ms) = ("w1".to_owned(), 5000);
            let status = Status {
                workers: vec![WorkerStatus { name, health, uptime_ms, ..WorkerStatus::default() }],
                quarantined: age_ms.into_iter().map(row).collect(),
                ..Status::default()
            };
            worker(&status, "w1").is_ok()
        };
        assert!(judge(WorkerHealth::Ready, None));
        assert!(!judge(WorkerHealth::Quarantined, Some(4999)), "it has just lied");
        assert!(judge(WorkerHealth::Quarantined, Some(5000)));
        assert!(judge(WorkerHealth::Quarantined, Some(60_000)));
        assert!(!judge(WorkerHealth::Quarantined, None));
        assert!(worker(&Status::default(), "w1").is_err());
    }
}
