//! Draining: workers that get no more work and finish what they have, before somebody stops them.
//!
//! An operator drains a name, which stays drained, whoever connects under it, until it is undrained. A worker
//! that shuts down drains itself for as long as it is connected. Either way the leases that no thread has begun
//! go to others at once, and the rest at the deadline; neither counts as lost.
//!
//! Invariant: a worker whose name is drained gets no lease.

use super::limits::DRAINED_MAX;
use super::{Action, ClientId, Core, WorkerId};
use ipc_proto::message::{ClientReply, DrainOutcome, WorkerHealth, WorkerRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// A name that is drained.
#[derive(Debug)]
struct Drain {
    /// From then on its leases go to others.
    deadline: Duration,
    /// An operator drained it.
    is_asked: bool,
    /// The worker shuts down, and was not told yet that it may.
    is_leaving: bool,
    passed_on: u32,
    /// Clients that wait for its end.
    waiting: BTreeSet<ClientId>,
}

impl Drain {
    fn new(deadline: Duration) -> Self {
        let waiting = BTreeSet::new();
        Self { deadline, is_asked: false, is_leaving: false, passed_on: 0, waiting }
    }

    /// True if somebody waits for its end.
    fn is_awaited(&self) -> bool {
        self.is_leaving || !self.waiting.is_empty()
    }
}

/// All names that are drained.
#[derive(Debug, Default)]
pub(super) struct Drains(BTreeMap<Rc<str>, Drain>);

impl Drains {
    /// True if the worker of this name gets no work.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A client waits for nothing any more.
    pub(super) fn forget_client(&mut self, client: ClientId) {
        self.0.values_mut().for_each(|drain| _ = drain.waiting.remove(&client));
    }
}

impl<F: Clone> Core<F> {
    /// Health of the worker of this name.
    pub(super) fn named_health(&self, name: &str) -> WorkerHealth {
        match self.quarantine.health(name) {
            Some(health) => health,
            None if self.drains.has(name) => WorkerHealth::Draining,
            None => WorkerHealth::Ready,
        }
    }

    fn update_health(&mut self, name: &str) {
        if let Some(worker) = self.fleet.id_of(name) {
            self.fleet.set_health(worker, self.named_health(name));
        }
    }

    /// A client wants a worker to be given no more work.
    pub(super) fn drain(&mut self, client: ClientId, name: &str, time: Duration) {
        let Some(asker) = self.clients.get(&client) else { return };
        let (by, is_permitted) = (asker.principal, asker.rights.drain);
        let worker = self.fleet.id_of(name);
        let refused = if !is_permitted {
            Some(DrainOutcome::Forbidden)
        } else if worker.is_none() && !self.drains.has(name) {
            Some(DrainOutcome::Unknown)
        } else if self.drains.0.len() >= DRAINED_MAX && !self.drains.has(name) {
            Some(DrainOutcome::TooMany)
        } else {
            None
        };
        self.actions.push(Action::DrainAsked { worker: name.to_owned(), by, refused });
        if let Some(outcome) = refused {
            return self.answer_drain(client, name, outcome);
        }
        let deadline = self.now.saturating_add(time);
        let drain = self.drains.0.entry(Rc::from(name)).or_insert_with(|| Drain::new(deadline));
        (drain.deadline, drain.is_asked) = (deadline, true);
        drain.waiting.insert(client);
        self.start_drain(name, worker);
    }

    /// The worker shuts down, and gives its leases this time.
    pub(super) fn leaving(&mut self, worker: WorkerId, time: Duration) {
        let Some(name) = self.fleet.get(worker).map(|worker| Rc::clone(&worker.name)) else {
            return;
        };
        let deadline = self.now.saturating_add(time);
        let drain = self.drains.0.entry(Rc::clone(&name)).or_insert_with(|| Drain::new(deadline));
        (drain.deadline, drain.is_leaving) = (drain.deadline.min(deadline), true);
        self.start_drain(&name, Some(worker));
    }

    fn start_drain(&mut self, name: &str, worker: Option<WorkerId>) {
        self.update_health(name);
        if let Some(worker) = worker {
            self.pass_on(worker, self.fleet.queued(worker));
        }
    }

    /// A client wants a worker to be given work again.
    pub(super) fn undrain(&mut self, client: ClientId, name: &str) {
        let Some(asker) = self.clients.get(&client) else { return };
        let (by, is_permitted) = (asker.principal, asker.rights.drain);
        let drain = self.drains.0.get_mut(name).filter(|drain| drain.is_asked && is_permitted);
        let outcome = match (&drain, is_permitted) {
            (_, false) => DrainOutcome::Forbidden,
            (None, true) => DrainOutcome::NotDraining,
            (Some(_), true) => DrainOutcome::Undrained,
        };
        if let Some(drain) = drain {
            drain.is_asked = false;
            let waiting = std::mem::take(&mut drain.waiting);
            if !drain.is_leaving {
                self.drains.0.remove(name);
            }
            waiting.into_iter().for_each(|client| self.answer_drain(client, name, outcome));
            self.update_health(name);
        }
        self.actions.push(Action::UndrainAsked { worker: name.to_owned(), by, outcome });
        self.answer_drain(client, name, outcome);
    }

    /// A worker of this name has left: what it drained itself is over.
    pub(super) fn drained_worker_left(&mut self, name: &str) {
        let Some(drain) = self.drains.0.get_mut(name) else { return };
        drain.is_leaving = false;
        if !drain.is_asked {
            self.drains.0.remove(name);
        }
    }

    /// Gives leases to others whose time is over.
    pub(super) fn expire_drains(&mut self) {
        let is_over = |drain: &Drain| drain.deadline <= self.now;
        let over = self.drains.0.iter().filter(|(_, drain)| is_over(drain));
        let workers: Vec<_> =
            over.filter_map(|(name, _)| Some((Rc::clone(name), self.fleet.id_of(name)?))).collect();
        for (name, worker) in workers {
            let leases = self.fleet.leases_of(worker);
            let leases_len = u32::try_from(leases.len()).unwrap_or(u32::MAX);
            self.pass_on(worker, leases);
            if let Some(drain) = self.drains.0.get_mut(&name) {
                drain.passed_on = drain.passed_on.saturating_add(leases_len);
            }
        }
    }

    /// Tells those who wait for the end of a drain that it is there.
    pub(super) fn answer_drains(&mut self) {
        let mut ended = Vec::new();
        for (name, drain) in &mut self.drains.0 {
            let worker = self.fleet.id_of(name);
            let is_idle = worker.is_none_or(|worker| self.fleet.leases_of(worker).is_empty());
            if !drain.is_awaited() || !is_idle {
                continue;
            }
            let outcome = DrainOutcome::Drained { passed_on: drain.passed_on };
            let waiting = std::mem::take(&mut drain.waiting).into_iter();
            ended.extend(waiting.map(|client| (client, Rc::clone(name), outcome)));
            if let Some(worker) = worker.filter(|_| std::mem::take(&mut drain.is_leaving)) {
                self.actions.push(Action::ToWorker(worker, WorkerRequest::Leave, Vec::new()));
            }
        }
        for (client, name, outcome) in ended {
            self.actions.push(Action::Drained(name.to_string()));
            self.answer_drain(client, &name, outcome);
        }
    }

    fn answer_drain(&mut self, client: ClientId, name: &str, outcome: DrainOutcome) {
        let worker = name.to_owned();
        self.actions.push(Action::ToClient(client, ClientReply::Drained { worker, outcome }));
    }
}
