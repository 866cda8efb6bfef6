//! A walk over the whole core that asserts the invariants written in its modules.
//!
//! [`Core::check_invariants`] is for tests and the fuzz target, which call it after each event. It
//! costs time in proportion to everything that is held, so the controller does not call it. Each
//! module asserts what only it can see (`Job`, `Queue`, `FairQueue`, `Ledger`, `Fleet`,
//! `Quarantine`); this one asserts that they agree.

use super::Core;
use super::owner::{Owner, Principal};
use std::collections::BTreeMap;

impl<F: Clone> Core<F> {
    /// Asserts every invariant that holds between two events.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check_invariants(&self) {
        assert!(self.actions.is_empty(), "every action was returned");
        self.check_clients();
        self.check_leases();
        self.check_jobs();
        self.check_order_of_service();
        self.fleet.check_invariants(self.leases.iter().map(|(&id, lease)| (id, lease.worker)));
        self.quarantine.check_invariants(&self.fleet);
    }

    fn check_clients(&self) {
        let mut jobs_of_principals: BTreeMap<Principal, u32> = BTreeMap::new();
        for (id, job) in &self.jobs {
            let order = &job.order;
            assert_eq!(order.id, *id, "a job is kept by its id");
            assert!(id.epoch == self.epoch && id.number < self.next_job, "{id} was given out");
            let Owner::Attached(client) = order.owner;
            let client = self.clients.get(&client);
            let client = client.unwrap_or_else(|| panic!("the client of job {id} left"));
            assert!(client.jobs.contains(id), "the client of job {id} does not know it");
            assert_eq!(order.principal, client.principal, "job {id} is charged as its client");
            *jobs_of_principals.entry(order.principal).or_default() += 1;
        }
        let known: usize = self.clients.values().map(|client| client.jobs.len()).sum();
        assert_eq!(known, self.jobs.len(), "clients know open jobs only");
        assert_eq!(self.jobs_of_principals, jobs_of_principals);
        for waiter in self.waiters.keys() {
            assert!(self.clients.contains_key(waiter), "{waiter:?} waits but left");
        }
    }

    fn check_leases(&self) {
        for (id, lease) in &self.leases {
            assert!(id.epoch == self.epoch && id.number < self.next_lease, "{id} was given out");
            let job = self.jobs.get(&lease.job);
            let job = job.unwrap_or_else(|| panic!("job {} of lease {id} is closed", lease.job));
            assert!(job.leases.contains(id), "job {} does not know lease {id}", lease.job);
            assert!(lease.batch.history.leased > 0, "lease {id} counts as an attempt");
        }
        let known: usize = self.jobs.values().map(|job| job.leases.len()).sum();
        assert_eq!(known, self.leases.len(), "jobs know held leases only");
    }

    fn check_jobs(&self) {
        let (mut unresolved, mut inline_bytes) = (0, 0);
        for (id, job) in &self.jobs {
            let leased = job.leases.iter().filter_map(|lease| self.leases.get(lease));
            job.check_invariants(
                leased.inspect(|lease| assert_eq!(lease.job, *id)).map(|l| &l.batch),
            );
            unresolved += job.unresolved();
            inline_bytes += job.inline_bytes;
        }
        assert_eq!(self.unresolved, unresolved, "unresolved items of all jobs");
        assert_eq!(self.inline_bytes, inline_bytes, "inline bytes of all jobs");
        assert!(unresolved <= self.limits.items_max && inline_bytes <= self.limits.bytes_max);
        self.ledger.check_invariants(
            self.jobs.iter().map(|(&id, job)| (id, job.order.principal, job.window)),
        );
    }

    fn check_order_of_service(&self) {
        let mut waiting: Vec<_> = self
            .jobs
            .iter()
            .flat_map(|(&id, job)| {
                let planes = job.planes().filter(|&plane| job.has_work(plane));
                planes.map(move |plane| (plane, job.order.principal, id))
            })
            .collect();
        waiting.sort_unstable();
        let mut queued: Vec<_> = self
            .fair
            .planes()
            .flat_map(|plane| {
                let places = self.fair.iter(plane);
                places.map(move |((_, principal), (_, job))| (plane, principal, job))
            })
            .collect();
        queued.sort_unstable();
        assert_eq!(queued, waiting, "exactly the jobs with work on a plane are in its queue");
        self.fair.check_invariants(|principal| self.jobs_of_principals.contains_key(&principal));
    }
}
