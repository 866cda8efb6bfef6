//! Which processes a local cluster consists of, and how it gets ready: the controller first, until
//! it says that it listens, then the workers, until the controller says that they are there.

use super::error::Error;
use crate::deployment::LocalFlags;
use crate::run_dir::RunDir;
use crate::say::{indented, say};
use crate::supervise::{Console, Event, Program, ProgramId, Restart, Supervisor, describe};
use ipc_proto::Blob;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::{ClientIntro, ClientReply, ClientRequest, Role};
use ipc_socket::Connection;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long all of it may take to get ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// A program that dies so often before the cluster is ready is not tried again.
const START_DEATHS_MAX: u32 = 3;

/// How long the controller may take over a reply that has begun to arrive.
const REPLY_LIMIT: Duration = Duration::from_secs(2);

/// The processes, in order of their start.
#[derive(Debug)]
pub(super) struct Cluster {
    bin_dir: PathBuf,
    workers_len: u16,
    flags: LocalFlags,
    controller: Option<ProgramId>,
    workers: Vec<ProgramId>,
    /// Deaths before the cluster was ready.
    deaths: u32,
}

impl Cluster {
    /// A cluster of which nothing runs yet, made of the programs in `bin_dir`.
    pub(super) fn new(bin_dir: &Path, workers_len: u16, flags: LocalFlags) -> Result<Self, Error> {
        let bin_dir = std::path::absolute(bin_dir).map_err(Error::io("resolve --bin-dir"))?;
        Ok(Self { bin_dir, workers_len, flags, controller: None, workers: Vec::new(), deaths: 0 })
    }

    /// Starts every process and waits until they are ready. After an error some may run:
    /// [`Self::stop`] ends them.
    pub(super) fn start(
        &mut self,
        supervisor: &mut Supervisor,
        run_dir: &RunDir,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + READY_LIMIT;
        let controller = launch(supervisor, self.controller_program(run_dir))?;
        self.controller = Some(controller);
        self.wait(
            supervisor,
            None,
            deadline,
            |event| matches!(event, Event::Ready(id) if *id == controller),
        )?;
        for number in 1..=self.workers_len {
            self.workers.push(launch(supervisor, self.worker_program(run_dir, number))?);
        }
        self.wait_for_workers(supervisor, run_dir, deadline)
    }

    /// Stops the workers, then the controller, and says which of them had to be killed.
    pub(super) fn stop(&self, supervisor: &mut Supervisor, limit: Duration) -> Result<(), Error> {
        let controller: Vec<ProgramId> = self.controller.into_iter().collect();
        for ids in [&self.workers, &controller] {
            let killed = supervisor.stop(ids, limit).map_err(Error::io("wait for processes"))?;
            for name in killed {
                say(format_args!("the {name} did not stop when asked to, and was killed"));
            }
        }
        Ok(())
    }

    fn controller_program(&self, run_dir: &RunDir) -> Program {
        let mut args = runtime_dir_args(run_dir);
        args.extend(self.flags.controller.args().into_iter().map(OsString::from));
        Program {
            name: "controller".into(),
            path: self.bin_dir.join("hashcluster-controller"),
            args,
            env: Vec::new(),
            console: Console::Background { log: run_dir.log("controller") },
            announces_ready: true,
        }
    }

    fn worker_program(&self, run_dir: &RunDir, number: u16) -> Program {
        let name = format!("w{number}");
        let mut args = runtime_dir_args(run_dir);
        args.extend(["--name", &name, "--threads", "1"].map(OsString::from));
        args.extend(self.flags.workers.args().into_iter().map(OsString::from));
        Program {
            path: self.bin_dir.join("hashcluster-worker"),
            args,
            env: Vec::new(),
            console: Console::Background { log: run_dir.log(&name) },
            announces_ready: false,
            name: format!("worker {name}"),
        }
    }

    fn wait_for_workers(
        &mut self,
        supervisor: &mut Supervisor,
        run_dir: &RunDir,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut connection = connect(&run_dir.client_socket())?;
        let left = deadline.saturating_duration_since(Instant::now());
        let request = ClientRequest::WaitReady {
            workers: self.workers_len.into(),
            timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        };
        connection.sender.send(&request, &[]).map_err(Error::io("ask the controller"))?;
        // The controller answers at the deadline how many there are.
        let deadline = deadline + REPLY_LIMIT;
        loop {
            let socket = Some(connection.receiver.as_fd());
            self.wait(supervisor, socket, deadline, |event| matches!(event, Event::Readable))?;
            let (reply, _) = connection.receiver.receive().map_err(Error::Answer)?;
            match reply {
                ClientReply::Ready { enough: true, .. } => return Ok(()),
                ClientReply::Ready { enough: false, workers } => {
                    return Err(self.late(supervisor, workers));
                }
                // Nothing else was asked for, and nothing else changes what we wait for.
                ClientReply::Opened { .. }
                | ClientReply::Window { .. }
                | ClientReply::Results { .. }
                | ClientReply::Finished { .. }
                | ClientReply::Cancelled { .. }
                | ClientReply::Status(_)
                | ClientReply::Rejected { .. }
                | ClientReply::Suspect { .. }
                | ClientReply::Released { .. } => {}
            }
        }
    }

    /// Waits for an event that is `wanted`, and deals with deaths meanwhile.
    fn wait(
        &mut self,
        supervisor: &mut Supervisor,
        also: Option<BorrowedFd<'_>>,
        deadline: Instant,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<(), Error> {
        loop {
            let event = supervisor.next(also, Some(deadline)).map_err(Error::io("wait"))?;
            if wanted(&event) {
                return Ok(());
            }
            match &event {
                Event::Signal(caught) => return Err(Error::Interrupted(caught.signal)),
                Event::Deadline => return Err(self.late(supervisor, 0)),
                Event::Exited { id, status, .. } => {
                    self.deaths += 1;
                    if Some(*id) == self.controller || self.deaths >= START_DEATHS_MAX {
                        let (name, tail) = (supervisor.name(*id).to_owned(), supervisor.tail(*id));
                        return Err(Error::Died { name, how: describe(*status), tail });
                    }
                }
                Event::NotStarted { .. } | Event::Ready(_) | Event::Readable => {}
            }
            report(supervisor, &event);
        }
    }

    fn late(&self, supervisor: &Supervisor, workers_ready: u32) -> Error {
        let (waiting_for, suspect) = match (self.workers.last(), self.controller) {
            (Some(&worker), _) => {
                let asked = self.workers_len;
                (format!("{workers_ready} of {asked} workers are there, the rest"), Some(worker))
            }
            (None, controller) => ("the controller is".into(), controller),
        };
        let tail = suspect.map(|id| supervisor.tail(id)).unwrap_or_default();
        Error::Late { waiting_for, limit: READY_LIMIT, tail }
    }
}

/// Connects to the controller at `socket` as a client.
pub(super) fn connect(socket: &Path) -> Result<Connection, Error> {
    let software = env!("CARGO_PKG_VERSION").to_owned();
    let role = Role::Client(ClientIntro { software, token: Blob::default() });
    let endpoint = Endpoint::Unix(socket.to_owned());
    let connection = Connection::open(&endpoint, role).map_err(Error::Unreachable)?;
    connection.receiver.set_timeout(Some(REPLY_LIMIT)).map_err(Error::io("set a time limit"))?;
    Ok(connection)
}

/// Says what a person should know of `event`.
pub(super) fn report(supervisor: &Supervisor, event: &Event) {
    match event {
        Event::Exited { id, pid, status, pause: Some(pause) } => {
            let (name, how, ms) = (supervisor.name(*id), describe(*status), pause.as_millis());
            say(format_args!("the {name} (pid {pid}) {how}; starting it again in {ms} ms"));
            indented(supervisor.tail(*id));
        }
        Event::NotStarted { id, error, pause } => {
            let (name, ms) = (supervisor.name(*id), pause.as_millis());
            say(format_args!("cannot start the {name}: {error}; trying again in {ms} ms"));
        }
        Event::Exited { pause: None, .. }
        | Event::Signal(_)
        | Event::Ready(_)
        | Event::Readable
        | Event::Deadline => {}
    }
}

fn launch(supervisor: &mut Supervisor, program: Program) -> Result<ProgramId, Error> {
    let path = program.path.clone();
    let started = supervisor.start(program, Restart::Always);
    started.map_err(|error: io::Error| Error::Program { path, error })
}

fn runtime_dir_args(run_dir: &RunDir) -> Vec<OsString> {
    vec!["--runtime-dir".into(), run_dir.path().into()]
}
