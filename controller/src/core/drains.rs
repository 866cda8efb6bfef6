//! Draining: workers that get no more work and finish what they have, before somebody stops them.
//!
//! An operator drains a name, which stays drained, whoever connects under it, until it is undrained; if it lasts,
//! also when the controller restarts. A worker
//! that shuts down drains itself for as long as it is connected. Either way the leases that no thread has begun
//! go to others at once, and the rest at the deadline; neither counts as lost.
//!
//! Invariant: a worker whose name is drained gets no lease.

use super::limits::DRAINED_MAX;
use super::standing::LastingDrain;
use super::{Action, ClientId, Core, Principal, WorkerId};
use ipc_proto::message::{ClientReply, DrainOutcome, DrainStatus, WorkerHealth, WorkerRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// A name that is drained.
#[derive(Debug)]
struct Drain {
    /// From then on its leases go to others.
    deadline: Duration,
    /// An operator drained it.
    asked: Option<AskedDrain>,
    /// The worker shuts down, and was not told yet that it may.
    is_leaving: bool,
    passed_on: u32,
    /// Clients that wait for its end.
    waiting: BTreeSet<ClientId>,
}

/// An operator's part of a drain.
#[derive(Clone, Copy, Debug)]
struct AskedDrain {
    by: Principal,
    since: Duration,
    /// Its age then: it was taken over from the controller before this one.
    before: Duration,
    /// It outlives the controller.
    lasts: bool,
}

impl AskedDrain {
    fn age(&self, now: Duration) -> Duration {
        self.before.saturating_add(now.saturating_sub(self.since))
    }
}

impl Drain {
    fn new(deadline: Duration) -> Self {
        let waiting = BTreeSet::new();
        Self { deadline, asked: None, is_leaving: false, passed_on: 0, waiting }
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

    /// Names that an operator drained.
    pub(super) fn asked_len(&self) -> usize {
        self.0.values().filter(|drain| drain.asked.is_some()).count()
    }

    /// One row for each of those, by name.
    pub(super) fn status(
        &self,
        now: Duration,
        rows_max: usize,
        is_connected: impl Fn(&str) -> bool,
    ) -> Vec<DrainStatus> {
        let row = |(name, drain): (&Rc<str>, &Drain)| {
            let asked = drain.asked?;
            Some(DrainStatus {
                worker: name.to_string(),
                by: asked.by.to_string(),
                age_ms: super::millis(asked.age(now)),
                left_ms: super::millis(drain.deadline.saturating_sub(now)),
                connected: is_connected(name),
            })
        };
        self.0.iter().filter_map(row).take(rows_max).collect()
    }

    /// The drain of this name, if it outlives the controller.
    pub(super) fn lasting(&self, now: Duration, name: &str) -> Option<LastingDrain> {
        let drain = self.0.get(name)?;
        let asked = drain.asked.filter(|asked| asked.lasts)?;
        let left = drain.deadline.saturating_sub(now);
        Some(LastingDrain { by: asked.by, age: asked.age(now), left })
    }

    /// Takes over a drain.
    pub(super) fn restore(&mut self, name: Rc<str>, drain: LastingDrain) {
        if self.0.len() >= DRAINED_MAX {
            return;
        }
        let LastingDrain { by, age, left } = drain;
        let asked = AskedDrain { by, since: Duration::ZERO, before: age, lasts: true };
        self.0.insert(name, Drain { asked: Some(asked), ..Drain::new(left) });
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
    pub(super) fn drain(&mut self, client: ClientId, name: &str, time: Duration, lasts: bool) {
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
        drain.deadline = deadline;
        // Who asks for less than another has asked for takes nothing away.
        let lasts = lasts || drain.asked.is_some_and(|asked| asked.lasts);
        drain.asked = Some(AskedDrain { by, since: self.now, before: Duration::ZERO, lasts });
        drain.waiting.insert(client);
        if lasts {
            self.keep(name);
        }
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
        let is_asked = |drain: &Drain| drain.asked.is_some() && is_permitted;
        let drain = self.drains.0.get_mut(name).filter(|drain| is_asked(drain));
        let outcome = match (&drain, is_permitted) {
            (_, false) => DrainOutcome::Forbidden,
            (None, true) => DrainOutcome::NotDraining,
            (Some(_), true) => DrainOutcome::Undrained,
        };
        if let Some(drain) = drain {
            drain.asked = None;
            let waiting = std::mem::take(&mut drain.waiting);
            if !drain.is_leaving {
                self.drains.0.remove(name);
            }
            self.keep(name);
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
        if drain.asked.is_none() {
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
