//! Everything that the core may not do: sockets, descriptors, credentials, timers and signals.
//!
//! One thread. Every connection is a task that reads, hands each message to the core, and carries
//! out the actions at once, mostly by a direct send on another connection's socket: a message
//! wakes one process, not one task after another. No borrow of the shared state is held across an
//! `await`.

mod account;
mod admission;
mod api;
pub mod api_tokens;
mod backup;
mod book;
mod budget;
mod clock;
mod connection;
mod files;
mod hub;
mod journal;
mod listen;
pub mod live;
pub mod log;
mod metrics;
mod notices;
mod outbox;
mod pages;
mod planner;
pub mod policy;
mod port;
mod rate;
mod roster;
pub mod sandbox;
mod status_page;
pub mod token;
mod trail;

pub use listen::{BindError, KeptSockets};

use crate::core::Standing;
use crate::journal::{DiskStorage, StateDir, StateDirError, Storage, StorageError};
use ::sandbox::{Enforcement, EnterError};
use admission::Side;
use budget::Budget;
use clock::Clock;
use hub::Hub;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::sample::Sample;
use listen::{HttpPlace, Listener};
use live::Live;
use log::{Event, LOG};
use metrics::Instruments;
use policy::AccessPolicy;
use sandbox::{ControllerSandbox, Role};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use telemetry::http::{self, HttpAddress};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// Options of a controller.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect.
    pub client_socket: Endpoint,
    /// Where workers connect.
    pub worker_socket: Endpoint,
    /// The rules of who may connect, and what each may do.
    pub policy: AccessPolicy,
    /// Digest of the image that the controller runs from, empty outside an image.
    pub image: String,
    /// Tokens of workers and datasets, which can change.
    pub live: Live,
    /// Sample of items of every job that are cross-checked.
    pub cross_check: Option<Sample>,
    /// Where metrics and health are shown over HTTP, if anywhere.
    pub http: Option<HttpAddress>,
    /// A page for browsers is among the pages.
    pub has_status_page: bool,
    /// Where durable jobs are stored; there are none without it.
    pub state_dir: Option<PathBuf>,
    /// Bytes of rows that the journal is bounded to.
    pub journal_max: Option<u64>,
    /// Permissions of the process that delivers notices of runs.
    pub notify: notifier::Permissions,
    /// Behaviour where a layer of the sandbox is missing.
    pub sandbox: Enforcement,
}

impl Settings {
    /// True if descriptors can be passed from a client through the controller to a worker.
    fn offers_descriptors(&self) -> bool {
        self.client_socket.carries_descriptors() && self.worker_socket.carries_descriptors()
    }
}

/// Why a controller could not run.
#[derive(Debug)]
pub enum RunError {
    /// A socket cannot be had.
    Bind(BindError),
    /// The limits of this process cannot be read, or leave too little room.
    Budget(io::Error),
    /// The event loop cannot be set up.
    Runtime(io::Error),
    /// The host lacks a part of the sandbox.
    Sandbox(EnterError),
    /// The process that delivers notifications cannot be started.
    Notifier(io::Error),
    /// The state directory cannot be used.
    StateDir(StateDirError),
    /// Standings of workers that were kept cannot be read.
    Workers(StorageError),
    /// A thread that closes descriptors or writes the log cannot be started.
    Thread(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Budget(error) => write!(f, "limit of open files: {error}"),
            Self::Runtime(error) => write!(f, "event loop: {error}"),
            Self::Sandbox(error) => error.fmt(f),
            Self::Notifier(error) => write!(f, "start of the process for notifications: {error}"),
            Self::StateDir(error) => error.fmt(f),
            Self::Workers(error) => {
                write!(
                    f,
                    "{error}; restore a backup by --restore-from, or start with another --state-dir"
                )
            }
            Self::Thread(error) => write!(f, "start of a thread: {error}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(error) => Some(error),
            Self::Sandbox(error) => Some(error),
            Self::StateDir(error) => Some(error),
            Self::Workers(error) => Some(error),
            Self::Budget(error)
            | Self::Notifier(error)
            | Self::Runtime(error)
            | Self::Thread(error) => Some(error),
        }
    }
}

/// Listens for HTTP. Work is done without it, too.
fn bind_http(address: &HttpAddress, kept: &mut KeptSockets) -> Option<HttpPlace> {
    match HttpPlace::bind(address, kept) {
        Ok(place) => {
            LOG.log(&Event::Shows { address });
            Some(place)
        }
        Err(error) => {
            LOG.log(&Event::NoHttp { address, error: &error });
            None
        }
    }
}

/// Standings of workers that the controller before this one kept.
fn kept_workers(storage: &DiskStorage, clock: &Clock) -> Result<Vec<(String, Standing)>, RunError> {
    let contents = storage.snapshot().map_err(RunError::Workers)?;
    crate::roster::load(&*contents, clock.wall_s()).map_err(RunError::Workers)
}

/// Runs a controller until `SIGTERM` or `SIGINT`; `SIGHUP` reads its live settings again. Calls
/// `ready` once both sockets listen, with those that a service manager should keep.
pub fn run(
    settings: &Settings,
    mut sockets: KeptSockets,
    ready: impl FnOnce(KeptSockets),
) -> Result<(), RunError> {
    let http_files = settings.http.as_ref().map_or(0, |_| http::CONNECTIONS_MAX + 1);
    let state_files = settings.state_dir.as_ref().map_or(0, |_| journal::FILES + notices::FILES);
    let budget = Budget::of_process(http_files + state_files).map_err(RunError::Budget)?;
    ipc_socket::reserve_descriptor_table().map_err(RunError::Budget)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    LocalSet::new().block_on(&runtime, async {
        let policy = &settings.policy;
        let mut bind = |endpoint, is_private| {
            Listener::bind(endpoint, is_private, &mut sockets).map_err(RunError::Bind)
        };
        let clients = bind(&settings.client_socket, policy.is_private_for_clients())?;
        let workers = bind(&settings.worker_socket, policy.is_private_for_workers())?;
        let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Runtime)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(RunError::Runtime)?;
        if !settings.client_socket.carries_descriptors() && !policy.has_tokens() {
            LOG.log(&Event::AnyClientVm {});
        }
        if !settings.worker_socket.carries_descriptors() && settings.live.worker_tokens.is_none() {
            LOG.log(&Event::AnyWorkerVm {});
        }
        let http = settings.http.as_ref().and_then(|address| bind_http(address, &mut sockets));
        let instruments = http.as_ref().map(|_| Instruments::new(&settings.image));
        let state = settings.state_dir.as_deref().map(StateDir::open).transpose();
        let state = state.map_err(RunError::StateDir)?;
        let storage = state.as_ref().map(StateDir::journal).transpose();
        let storage = storage.map_err(RunError::StateDir)?;
        let clock = Clock::start();
        let kept = storage.as_ref().map(|storage| kept_workers(storage, &clock)).transpose()?;
        let notifier = state.as_ref().map(|_| notices::start(&settings.notify)).transpose();
        let notifier = notifier.map_err(RunError::Notifier)?;
        LOG.log(&Event::Listening { clients: clients.endpoint(), workers: workers.endpoint() });
        let sandbox =
            ControllerSandbox::enter(settings.sandbox, settings).map_err(RunError::Sandbox)?;
        LOG.write_in_background(move |dir| sandbox.narrow_log(dir)).map_err(RunError::Thread)?;
        // Nobody waits for them: whoever passed too many is not read from until they are closed.
        ipc_socket::start_closers(usize::MAX, move || sandbox.narrow(Role::Closer))
            .map_err(RunError::Thread)?;
        let started = storage.map(|storage| journal::start(storage, sandbox)).transpose();
        let started = started.map_err(RunError::Thread)?;
        sandbox.narrow(Role::EventLoop).map_err(RunError::Thread)?;
        let mut hub = Hub::new(&budget, clock, settings.clone(), sandbox.layers());
        hub.instruments = instruments;
        hub.restore_workers(&kept.unwrap_or_default());
        let answers = started.map(|(journal, answers)| {
            hub.journal.set(journal);
            answers
        });
        let hub = Rc::new(hub);
        if let Some(link) = notifier {
            tokio::task::spawn_local(notices::follow(Rc::clone(&hub), link));
        }
        if let Some(answers) = answers {
            hub.open_book();
            hub.open_planner();
            hub.open_trail();
            tokio::task::spawn_local(journal::follow(Rc::clone(&hub), answers));
        }
        tokio::task::spawn_local(Rc::clone(&hub).tick());
        let reloading = Rc::clone(&hub);
        tokio::task::spawn_local(async move {
            while hangup.recv().await.is_some() {
                reloading.reload();
            }
        });
        if let Some(http) = http {
            let pages = pages::pages(Rc::clone(&hub), settings.has_status_page);
            tokio::task::spawn_local(http.serve(pages, api::api(Rc::clone(&hub))));
        }
        let (clients_max, workers_max) = (budget.limits.clients_max, budget.limits.workers_max);
        let serve_clients = clients.serve(Rc::clone(&hub), Side::Client, clients_max);
        let serve_workers = workers.serve(Rc::clone(&hub), Side::Worker, workers_max);
        ready(sockets);
        tokio::select! {
            () = serve_clients => {}
            () = serve_workers => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        LOG.log(&Event::Stopping {});
        hub.journal.close();
        drop(state);
        Ok(())
    })
}
