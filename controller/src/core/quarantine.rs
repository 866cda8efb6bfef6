//! Quarantine: workers that get no more work, since when, and why.
//!
//! Kept by name. A worker that gave a wrong answer stays, however often it reconnects, until an
//! operator releases it. One that was only late is suspended until its connection ends, because the
//! cause may end with it.
//!
//! Invariants:
//! - at most [`QUARANTINED_MAX`] names stay, and none is dropped to make room for another;
//! - if one more would have to stay, nobody who connects from then on is given work: it could be that
//!   one. Only a new start of the controller ends this, as nobody knows then whom to release.

use super::drains::Drains;
use super::fault::Fault;
use super::fleet::Fleet;
use super::limits::QUARANTINED_MAX;
use super::{Action, Core, WorkerId};
use ipc_proto::message::{ClientReply, QuarantineStatus, ReleaseOutcome, WorkerHealth};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Why somebody is in quarantine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) fault: Fault,
    pub(super) since: Duration,
    /// Its age then: it was taken over from the controller before this one.
    before: Duration,
}

impl Case {
    /// True if it outlives the connection.
    const fn stays(&self) -> bool {
        self.fault.is_wrong_answer()
    }

    fn age(&self, now: Duration) -> Duration {
        self.before.saturating_add(now.saturating_sub(self.since))
    }

    const fn health(&self) -> WorkerHealth {
        if matches!(self.fault, Fault::Overdue) {
            WorkerHealth::Suspended
        } else {
            WorkerHealth::Quarantined
        }
    }
}

/// Effect of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing.
    None,
    /// Why it is in quarantine.
    Case,
    /// That it is.
    Quarantined,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    cases: BTreeMap<Rc<str>, Case>,
    /// True if a worker could not be remembered for lack of room.
    is_overrun: bool,
}

impl Quarantine {
    /// Health of the worker of this name, if it is in quarantine.
    pub(super) fn health(&self, name: &str) -> Option<WorkerHealth> {
        self.cases.get(name).map(Case::health)
    }

    pub(super) fn len(&self) -> usize {
        self.cases.len()
    }

    fn put(&mut self, now: Duration, name: &Rc<str>, fault: Fault, is_connected: bool) -> Change {
        let known = self.cases.get(name).copied();
        let since = known.map_or(now, |known| known.since);
        let mut case = Case { fault, since, before: Duration::ZERO };
        if known.is_some_and(|known| known.stays() || !case.stays()) {
            return Change::None;
        }
        if case.stays()
            && self.cases.values().filter(|case| case.stays()).count() >= QUARANTINED_MAX
        {
            self.is_overrun = true;
            case.fault = Fault::Unnamed;
        }
        if is_connected || case.stays() {
            self.cases.insert(Rc::clone(name), case);
        }
        if known.is_some() { Change::Case } else { Change::Quarantined }
    }

    /// The entry against a worker that connects.
    fn meet(&mut self, now: Duration, name: &str) -> Option<Case> {
        if self.is_overrun && !self.cases.contains_key(name) {
            let case = Case { fault: Fault::Unnamed, since: now, before: Duration::ZERO };
            self.cases.insert(Rc::from(name), case);
        }
        self.cases.get(name).copied()
    }

    /// A worker's connection ended.
    pub(super) fn leave(&mut self, name: &str) {
        if self.cases.get(name).is_some_and(|case| !case.stays()) {
            self.cases.remove(name);
        }
    }

    /// The fault of this name and the time since then, if that outlives the controller.
    pub(super) fn lasting(&self, now: Duration, name: &str) -> Option<(Fault, Duration)> {
        let case = self.cases.get(name).filter(|case| case.stays())?;
        Some((case.fault, case.age(now)))
    }

    /// Takes over a case of this age.
    pub(super) fn restore(&mut self, name: &Rc<str>, fault: Fault, age: Duration) {
        let case = Case { fault, since: Duration::ZERO, before: age };
        if !case.stays() {
            return;
        }
        if self.cases.len() >= QUARANTINED_MAX {
            self.is_overrun = true;
            return;
        }
        self.cases.insert(Rc::clone(name), case);
    }

    /// One row for each, by name.
    pub(super) fn status(
        &self,
        now: Duration,
        rows_max: usize,
        is_connected: impl Fn(&str) -> bool,
    ) -> Vec<QuarantineStatus> {
        let row = |(name, case): (&Rc<str>, &Case)| QuarantineStatus {
            worker: name.to_string(),
            reason: case.fault.to_string(),
            age_ms: super::millis(case.age(now)),
            connected: is_connected(name),
        };
        self.cases.iter().take(rows_max).map(row).collect()
    }
}

impl Quarantine {
    /// Asserts that exactly the workers with a case are given no work, and hold none; that names stay
    /// for a wrong answer only, and within the limit.
    pub(super) fn check_invariants(&self, fleet: &Fleet, drains: &Drains) {
        for (name, health, leases_len) in fleet.healths() {
            let is_served = health == WorkerHealth::Ready;
            let is_drained = health == WorkerHealth::Draining;
            let has_case = self.cases.contains_key(name);
            let want = !has_case && !drains.has(name);
            assert_eq!(is_served, want, "worker {name} is {health:?}");
            assert_eq!(is_drained, !has_case && drains.has(name), "worker {name}");
            assert!(
                is_served || is_drained || leases_len == 0,
                "worker {name} is {health:?} and holds leases"
            );
        }
        for (name, case) in &self.cases {
            assert!(case.stays() || fleet.is_named(name), "{name} left, and so did its case");
        }
        assert!(self.cases.values().filter(|case| case.stays()).count() <= QUARANTINED_MAX);
    }
}

impl<F: Clone> Core<F> {
    /// The health of a worker of this name that connects; it is reported if it is given no work.
    pub(super) fn health_of(&mut self, name: &str) -> WorkerHealth {
        let case = self.quarantine.meet(self.now, name);
        let Some(case) = case else { return self.named_health(name) };
        let (fault, age) = (case.fault, case.age(self.now));
        self.actions.push(Action::BackInQuarantine { worker: name.to_owned(), fault, age });
        WorkerHealth::Quarantined
    }

    /// Gives `worker` no more work, and what it holds to others.
    pub(super) fn quarantine(&mut self, worker: WorkerId, fault: Fault) {
        if let Some(name) = self.fleet.get(worker).map(|worker| Rc::clone(&worker.name)) {
            self.quarantine_name(&name, fault);
        }
    }

    /// Gives the worker called `name`, which may have left, no more work, and what it holds to others.
    pub(super) fn quarantine_name(&mut self, name: &Rc<str>, fault: Fault) {
        let worker = self.fleet.id_of(name);
        let change = self.quarantine.put(self.now, name, fault, worker.is_some());
        if change == Change::None {
            return;
        }
        self.actions.push(Action::Quarantined(name.to_string(), fault));
        if fault.is_wrong_answer() {
            self.keep(name);
        }
        if let (Some(worker), Some(case)) = (worker, self.quarantine.cases.get(name)) {
            self.fleet.set_health(worker, case.health());
        }
        if change == Change::Quarantined {
            self.counters.workers_quarantined += 1;
            if let Some(worker) = worker {
                self.take_back(worker);
            }
            self.distrust(name);
        }
    }

    /// An operator, or somebody who is none, wants the worker called `name` to be given work again.
    pub(super) fn release(&mut self, client: super::ClientId, name: &str) {
        let Some(asker) = self.clients.get(&client) else { return };
        let outcome = if !asker.rights.release {
            ReleaseOutcome::Forbidden
        } else if self.quarantine.cases.remove(name).is_some() {
            ReleaseOutcome::Released
        } else {
            ReleaseOutcome::NotQuarantined
        };
        if outcome == ReleaseOutcome::Released
            && let Some(worker) = self.fleet.id_of(name)
        {
            self.fleet.set_health(worker, self.named_health(name));
        }
        let (worker, by) = (name.to_owned(), asker.principal);
        if outcome == ReleaseOutcome::Released {
            self.keep(name);
        }
        self.actions.push(Action::ReleaseAsked { worker: worker.clone(), by, outcome });
        self.actions.push(Action::ToClient(client, ClientReply::Released { worker, outcome }));
    }
}
