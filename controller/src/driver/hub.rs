//! The core with the ports that its actions go to.

use super::Settings;
use super::clock::Clock;
use super::files::{File, FileTable};
use super::log::{self, LOG};
use super::port::Port;
use crate::core::{Action, ClientId, Core, Event, Limits, Principal, Rights, WorkerId};
use ipc_proto::codec::CodecError;
use ipc_proto::limits::STATUS_ROWS_MAX;
use ipc_proto::message::{ClientReply, ReleaseOutcome, Status};
use ipc_proto::sample::Sample;
use ipc_socket::Scratch;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) core: RefCell<Core<File>>,
    clock: Clock,
    pub(super) settings: Settings,
    pub(super) scratch: RefCell<Scratch>,
    clients: RefCell<HashMap<ClientId, Rc<Port>>>,
    workers: RefCell<HashMap<WorkerId, Rc<Port>>>,
    next_id: Cell<u64>,
    /// Files that clients passed.
    pub(super) files: Rc<FileTable>,
}

impl Hub {
    pub(super) fn new(limits: Limits, clock: Clock, settings: Settings) -> Self {
        let mut core = Core::new(limits, settings.datasets.clone(), clock.epoch());
        // Workers must not know what is checked: a seed that is new with each start.
        core.cross_check(Sample::to_wire(settings.cross_check), RandomState::new().hash_one(()));
        Self {
            core: RefCell::new(core),
            clock,
            settings,
            scratch: RefCell::default(),
            clients: RefCell::default(),
            workers: RefCell::default(),
            next_id: Cell::new(0),
            files: Rc::default(),
        }
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
        let actions = self.core.borrow_mut().step(self.clock.now(), event);
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
        ipc_socket::close_all(self.files.take_unneeded());
    }

    /// Carries out one action; the port that now has something to send.
    fn carry_out(&self, action: Action<File>) -> Option<Rc<Port>> {
        match action {
            Action::ToClient(client, reply) => {
                let port = self.clients.borrow().get(&client).cloned()?;
                let sent = if let ClientReply::Status(status) = reply {
                    self.push_status(client, &port, *status)
                } else {
                    port.push(&reply, Vec::new())
                };
                sent.expect("replies fit a frame");
                Some(port)
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
            Action::Quarantined(worker, fault) => {
                LOG.log(&log::Event::Quarantined { worker: &worker, fault: &fault });
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
            Action::ReleaseAsked { worker, by, outcome } => {
                match outcome {
                    ReleaseOutcome::Released => {
                        LOG.log(&log::Event::Released { worker: &worker, by });
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
            status.software = env!("CARGO_PKG_VERSION").to_owned();
            status.image = self.settings.image.clone();
            status.pid = std::process::id();
            status.uptime_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            let reply = ClientReply::Status(Box::new(status));
            match port.push(&reply, Vec::new()) {
                Err(CodecError::Oversize) if rows_max > 0 => rows_max /= 2,
                result => return result,
            }
            status = self.core.borrow().status_for(client, now, rows_max);
        }
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
            // What was dropped between steps, such as the unsent frames of a peer that left.
            ipc_socket::close_all(self.files.take_unneeded());
        }
    }
}
