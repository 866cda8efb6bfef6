//! The core with the ports that its actions go to.

use super::Settings;
use super::account::Accounts;
use super::admission::Side;
use super::api_tokens::ApiTokens;
use super::backup::BackupPort;
use super::book::BookPort;
use super::budget::Budget;
use super::clock::Clock;
use super::files::{File, FileTable};
use super::journal::JournalPort;
use super::live::Live;
use super::log::{self, LOG};
use super::metrics::Instruments;
use super::notices::NoticePort;
use super::planner::PlannerPort;
use super::port::Port;
use super::rate::Rates;
use super::roster::RosterPort;
use super::token::WorkerTokens;
use super::trail::TrailPort;
use crate::core::{Action, ClientId, Core, Event, Principal, Rights, WorkerId};
use crate::events::TrailKind;
use crate::jobs::{BookEvent, Caller};
use crate::notices::NoticeEvent;
use crate::schedules::PlannerEvent;
use ipc_proto::codec::CodecError;
use ipc_proto::limits::STATUS_ROWS_MAX;
use ipc_proto::message::{ClientReply, DrainOutcome, ReleaseOutcome, SandboxLayers, Status};
use ipc_proto::sample::Sample;
use ipc_socket::Scratch;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) core: RefCell<Core<File>>,
    clock: Clock,
    pub(super) settings: Settings,
    pub(super) live: RefCell<Live>,
    sandbox: SandboxLayers,
    pub(super) scratch: RefCell<Scratch>,
    clients: RefCell<HashMap<ClientId, Rc<Port>>>,
    workers: RefCell<HashMap<WorkerId, Rc<Port>>>,
    next_id: Cell<u64>,
    /// Files that clients passed.
    pub(super) files: Rc<FileTable>,
    client_accounts: Rc<Accounts>,
    worker_accounts: Rc<Accounts>,
    rates: RefCell<Rates>,
    /// Of a controller with a state directory.
    pub(super) journal: JournalPort,
    pub(super) book: BookPort,
    pub(super) planner: PlannerPort,
    pub(super) trail: TrailPort,
    pub(super) roster: RosterPort,
    pub(super) backup: BackupPort,
    pub(super) notices: NoticePort,
    /// Of a controller that shows itself.
    pub(super) instruments: Option<Instruments>,
}

impl Hub {
    pub(super) fn new(
        budget: &Budget,
        clock: Clock,
        settings: Settings,
        sandbox: SandboxLayers,
    ) -> Self {
        let Budget { limits, in_transit_max, frames_len_max } = *budget;
        // Nobody else may be a worker, so that one principal may have all of the connections.
        let workers_max = u64::from(limits.workers_max) * 2;
        let accounts = |connections_max: u64, first_owner| {
            Rc::new(Accounts::new(connections_max, frames_len_max, in_transit_max, first_owner))
        };
        let mut core = Core::new(limits, settings.live.datasets.clone(), clock.epoch());
        // Workers must not know what is checked: a seed that is new with each start.
        core.cross_check(Sample::to_wire(settings.cross_check), RandomState::new().hash_one(()));
        Self {
            core: RefCell::new(core),
            clock,
            live: RefCell::new(settings.live.clone()),
            settings,
            sandbox,
            scratch: RefCell::default(),
            clients: RefCell::default(),
            workers: RefCell::default(),
            next_id: Cell::new(0),
            files: Rc::default(),
            client_accounts: accounts(limits.clients_max.into(), 1),
            worker_accounts: accounts(workers_max, 2),
            rates: RefCell::default(),
            journal: JournalPort::default(),
            book: BookPort::default(),
            planner: PlannerPort::default(),
            trail: TrailPort::default(),
            roster: RosterPort::default(),
            backup: BackupPort::default(),
            notices: NoticePort::default(),
            instruments: None,
        }
    }

    pub(super) fn accounts(&self, side: Side) -> &Rc<Accounts> {
        match side {
            Side::Client => &self.client_accounts,
            Side::Worker => &self.worker_accounts,
        }
    }

    /// Time that a peer which just connected has to wait; `None` if it is not to be served.
    pub(super) fn wait_of(&self, principal: Principal, pid: Option<u32>) -> Option<Duration> {
        self.rates.borrow_mut().connect(self.clock.now(), principal, pid)
    }

    fn new_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    pub(super) fn add_client(
        &self,
        port: &Rc<Port>,
        (principal, pid): (Principal, u32),
        rights: Rc<Rights>,
    ) -> ClientId {
        let client = ClientId(self.new_id());
        self.clients.borrow_mut().insert(client, Rc::clone(port));
        self.step(Event::ClientJoined { client, principal, pid, rights });
        client
    }

    pub(super) fn remove_client(&self, client: ClientId) {
        self.clients.borrow_mut().remove(&client);
        self.step(Event::ClientLeft(client));
        self.book.forget(client.0);
        self.end_backup_of(Caller(client.0));
        self.tell_book(BookEvent::Left(Caller(client.0)));
    }

    pub(super) fn add_worker(
        &self,
        port: &Rc<Port>,
        intro: ipc_proto::message::WorkerIntro,
    ) -> WorkerId {
        let worker = WorkerId(self.new_id());
        self.workers.borrow_mut().insert(worker, Rc::clone(port));
        self.step(Event::WorkerJoined(worker, intro));
        worker
    }

    pub(super) fn remove_worker(&self, worker: WorkerId) {
        self.workers.borrow_mut().remove(&worker);
        self.step(Event::WorkerLeft(worker));
    }

    /// Hands one event to the core and carries out what follows from it.
    pub(super) fn step(&self, event: Event<File>) {
        let mut core = self.core.borrow_mut();
        let actions = core.step(self.clock.now(), event);
        self.instruments.iter().for_each(|instruments| instruments.record(core.timings()));
        drop(core);
        let mut touched: Vec<Rc<Port>> = Vec::new();
        for action in actions {
            if let Some(port) = self.carry_out(action)
                && !touched.iter().any(|other| Rc::ptr_eq(other, &port))
            {
                touched.push(port);
            }
        }
        for port in touched {
            port.flush_or_wake();
        }
        self.files.close_unneeded();
        self.run_book();
    }

    /// Carries out one action; the port that now has something to send.
    fn carry_out(&self, action: Action<File>) -> Option<Rc<Port>> {
        match action {
            Action::ToClient(client, reply) => {
                let reply = self.hold(client, reply)?;
                let port = self.clients.borrow().get(&client).cloned()?;
                let sent = if let ClientReply::Status(status) = reply {
                    self.push_status(client, &port, *status)
                } else {
                    port.push(&reply, Vec::new())
                };
                sent.expect("replies fit a frame");
                Some(port)
            }
            Action::ToBook(reply) => {
                self.book.push(BookEvent::Core(reply));
                None
            }
            Action::ToWorker(worker, request, files) => {
                let port = self.workers.borrow().get(&worker).cloned()?;
                port.push(&request, files).expect("batches fit a frame");
                Some(port)
            }
            Action::CloseClient(client, fault) => {
                LOG.log(&log::Event::Closed { peer: "client", cause: &fault });
                let port = self.clients.borrow_mut().remove(&client)?;
                port.close();
                None
            }
            Action::CloseWorker(worker, fault) => {
                LOG.log(&log::Event::Closed { peer: "worker", cause: &fault });
                let port = self.workers.borrow_mut().remove(&worker)?;
                port.close();
                None
            }
            Action::Listed(tag, outcome) => {
                self.book.push(BookEvent::Listed(tag, outcome));
                None
            }
            Action::Quarantined(worker, fault) => {
                LOG.log(&log::Event::Quarantined { worker: &worker, fault: &fault });
                self.note(TrailKind::WorkerQuarantined, &worker, None, fault);
                None
            }
            Action::Doubted(worker) => {
                LOG.log(&log::Event::Doubted { worker: &worker });
                None
            }
            Action::BackInQuarantine { worker, fault, age } => {
                let (worker, fault, age_s) = (&worker, &fault, age.as_secs());
                LOG.log(&log::Event::BackInQuarantine { worker, age_s, fault });
                None
            }
            Action::Keep(worker, standing) => {
                self.keep(&worker, &standing);
                None
            }
            Action::DrainAsked { worker, by, refused } => {
                match refused {
                    None => {
                        LOG.log(&log::Event::Draining { worker: &worker, by });
                        self.note(TrailKind::WorkerDraining, &worker, Some(by), "");
                    }
                    Some(DrainOutcome::Forbidden) => {
                        LOG.log(&log::Event::DrainForbidden { worker: &worker, by });
                    }
                    Some(_) => {}
                }
                None
            }
            Action::Drained(worker) => {
                LOG.log(&log::Event::Drained { worker: &worker });
                self.note(TrailKind::WorkerDrained, &worker, None, "");
                None
            }
            Action::UndrainAsked { worker, by, outcome } => {
                match outcome {
                    DrainOutcome::Undrained => {
                        LOG.log(&log::Event::Undrained { worker: &worker, by });
                        self.note(TrailKind::WorkerUndrained, &worker, Some(by), "");
                    }
                    DrainOutcome::Forbidden => {
                        LOG.log(&log::Event::DrainForbidden { worker: &worker, by });
                    }
                    DrainOutcome::Drained { .. }
                    | DrainOutcome::NotDraining
                    | DrainOutcome::Unknown
                    | DrainOutcome::TooMany => {}
                }
                None
            }
            Action::ReleaseAsked { worker, by, outcome } => {
                match outcome {
                    ReleaseOutcome::Released => {
                        LOG.log(&log::Event::Released { worker: &worker, by });
                        self.note(TrailKind::WorkerReleased, &worker, Some(by), "");
                    }
                    ReleaseOutcome::Forbidden => {
                        LOG.log(&log::Event::ReleaseForbidden { worker: &worker, by });
                    }
                    ReleaseOutcome::NotQuarantined => {}
                }
                None
            }
        }
    }

    /// Adds what the core cannot know, and leaves out as many rows as it takes to fit a frame.
    fn push_status(
        &self,
        client: ClientId,
        port: &Port,
        mut status: Status,
    ) -> Result<(), CodecError> {
        let now = self.clock.now();
        let mut rows_max = STATUS_ROWS_MAX;
        loop {
            self.complete(&mut status, now);
            let reply = ClientReply::Status(Box::new(status));
            match port.push(&reply, Vec::new()) {
                Err(CodecError::Oversize) if rows_max > 0 => rows_max /= 2,
                result => return result,
            }
            status = self.core.borrow().status_for(client, now, rows_max);
        }
    }

    /// Reads the live settings again; where that fails, those of before stay.
    pub(super) fn reload(&self) {
        let live = self.live.borrow();
        if !live.has_files() {
            return LOG.log(&log::Event::NothingToReload {});
        }
        let fresh = live.read_again();
        drop(live);
        match fresh {
            Ok(fresh) => {
                LOG.log(&log::Event::Reloaded {
                    workers: fresh.worker_tokens.as_ref().map_or(0, WorkerTokens::workers_len),
                    datasets: &fresh.datasets.join(", "),
                    api_tokens: fresh.api_tokens.as_ref().map_or(0, ApiTokens::tokens_len),
                });
                let datasets = fresh.datasets.clone();
                self.note(TrailKind::SettingsReloaded, "", None, "");
                *self.live.borrow_mut() = fresh;
                self.tell_book(BookEvent::Datasets(datasets.clone()));
                self.tell_planner(PlannerEvent::Datasets(datasets.clone()));
                self.step(Event::Datasets(datasets));
            }
            Err(error) => LOG.log(&log::Event::NotReloaded { error: &error }),
        }
    }

    /// Time since some fixed moment.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Seconds since 1970 by the wall clock.
    pub(super) fn wall_s(&self) -> u64 {
        self.clock.wall_s()
    }

    pub(super) fn port_of(&self, client: ClientId) -> Option<Rc<Port>> {
        self.clients.borrow().get(&client).cloned()
    }

    /// The start of this controller, in seconds since 1970.
    pub(super) fn epoch(&self) -> u32 {
        self.clock.epoch()
    }

    /// Adds what the core cannot know.
    fn complete(&self, status: &mut Status, now: Duration) {
        env!("CARGO_PKG_VERSION").clone_into(&mut status.software);
        status.image.clone_from(&self.settings.image);
        status.pid = std::process::id();
        status.sandbox = self.sandbox;
        status.uptime_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        (status.journal, status.journal_reason) = self.journal_state();
    }

    /// A picture of everything, and the number of workers that are given work.
    pub(super) fn picture(&self) -> (Status, usize) {
        let (core, now) = (self.core.borrow(), self.clock.now());
        let mut status = core.status(now, STATUS_ROWS_MAX);
        self.complete(&mut status, now);
        (status, core.ready_workers())
    }

    /// Tells the core that time passes, for as long as anything depends on it.
    pub(super) async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(Core::<File>::TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if self.core.borrow().needs_ticks() {
                self.step(Event::Tick);
            }
            if self.book.needs_ticks() {
                self.tell_book(BookEvent::Tick);
            }
            if self.planner.needs_ticks() {
                self.tell_planner(PlannerEvent::Tick);
            }
            self.end_idle_backup();
            self.tick_roster();
            if self.notices.needs_ticks() {
                self.tell_notices(NoticeEvent::Tick);
            }
            // What was dropped between steps, such as the unsent frames of a peer that left.
            self.instruments.iter().for_each(Instruments::fold);
            self.files.close_unneeded();
            self.client_accounts.refresh();
            self.worker_accounts.refresh();
        }
    }
}
