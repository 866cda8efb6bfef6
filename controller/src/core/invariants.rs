//! A walk over the whole core that asserts the invariants written in its modules.
//!
//! [`Core::check_invariants`] is for tests and the fuzz target, which call it after each event. It
//! costs time in proportion to everything that is held, so the controller does not call it. Each
//! module asserts what only it can see (`Job`, `Queue`, `FairQueue`, `Ledger`, `Fleet`,
//! `Quarantine`); this one asserts that they agree.

use super::owner::Owner;
use super::{Core, Job};

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
        self.quarantine.check_invariants(&self.fleet, &self.drains);
    }

    fn check_clients(&self) {
        for (id, job) in &self.jobs {
            let order = &job.order;
            assert_eq!(order.id, *id, "a job is kept by its id");
            assert!(id.epoch == self.epoch && id.number < self.next_job, "{id} was given out");
            let client = match order.owner {
                Owner::Attached(client) => client,
                Owner::Durable => continue,
                Owner::List(tag) => {
                    assert_eq!(self.lists.get(&tag), Some(id), "a page is kept by its tag");
                    continue;
                }
            };
            let client = self.clients.get(&client);
            let client = client.unwrap_or_else(|| panic!("the client of job {id} left"));
            assert!(client.jobs.contains(id), "the client of job {id} does not know it");
            assert_eq!(order.principal, client.principal, "job {id} is charged as its client");
        }
        let known: usize = self.clients.values().map(|client| client.jobs.len()).sum();
        let is_attached = |job: &&Job<F>| matches!(job.order.owner, Owner::Attached(_));
        let attached = self.jobs.values().filter(is_attached);
        assert_eq!(known, attached.count(), "clients know open jobs only");
        let pages = self.jobs.values().filter_map(Job::list_tag);
        assert_eq!(pages.count(), self.lists.len(), "a page that is wanted is a job");
        self.job_shares.check_invariants(self.charged_jobs().map(|job| (job.order.principal, 1)));
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
            if job.list_tag().is_none() {
                unresolved += job.unresolved();
                inline_bytes += job.inline_bytes;
            }
        }
        assert_eq!(self.unresolved, unresolved, "unresolved items of all jobs");
        assert_eq!(self.inline_bytes, inline_bytes, "inline bytes of all jobs");
        assert!(unresolved <= self.limits.items_max && inline_bytes <= self.limits.bytes_max);
        let windows =
            self.charged_jobs().map(|job| (job.order.id, job.order.principal, job.window));
        self.ledger.check_invariants(&windows.collect::<Vec<_>>());
    }

    fn check_order_of_service(&self) {
        let mut waiting: Vec<_> = self
            .jobs
            .iter()
            .filter(|(id, _)| !self.held.contains(id))
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
        self.check_suspects();
        assert_eq!(queued, waiting, "exactly the jobs with work on a plane are in its queue");
        let is_limited = |key| self.jobs.get(key).is_some_and(|job| job.order.rate > 0);
        assert!(self.held.iter().all(is_limited), "only open jobs with a rate are held back");
        self.fair.check_invariants(|principal, job| {
            self.jobs.get(&job).is_some_and(|job| job.order.principal == principal)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::plane::Plane;
    use super::super::{
        Action, ClientId, Event, Fault, Job, Limits, Principal, Rights, Waiter, WorkerId,
    };
    use super::*;
    use ipc_proto::message::{
        Backend, ClientRequest, FileItem, FileSource, Items, JobId, Planes, SandboxLayers, Window,
        WorkerIntro, WorkerReply,
    };
    use ipc_proto::{Algorithm, Blob};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::time::Duration;

    const JOB: JobId = JobId { epoch: 1, number: 0 };
    const CLIENT: ClientId = ClientId(1);
    const WORKER: WorkerId = WorkerId(2);

    /// A core with a job of which one item is leased and others wait.
    fn core() -> Core<()> {
        let mut core = Core::new(Limits::default(), Vec::new(), JOB.epoch);
        let (client, principal, algorithm) = (CLIENT, Principal::Uid(1), Algorithm::Sha256);
        let backend = Backend { algorithm, backend: "model".to_owned(), interleave_max: 1 };
        let intro = WorkerIntro {
            name: "w1".to_owned(),
            software: String::new(),
            image: String::new(),
            pid: 1,
            threads: 1,
            memory_bytes: 1,
            backends: vec![backend],
            planes: Planes { descriptors: true, ..Planes::default() },
            reading: String::new(),
            sandbox: SandboxLayers::default(),
            token: Blob::default(),
            host: String::new(),
            cpu: String::new(),
        };
        let (source, files) = (FileSource::Descriptors, vec![FileItem::default()]);
        let items = |first| {
            let items = Items::Files { source: source.clone(), files: files.clone() };
            Event::ClientSaid(CLIENT, ClientRequest::Items { job: JOB, first, items }, vec![()])
        };
        let (algorithms, cross_check, strict_reads) = (algorithm.into(), 0, false);
        let open = ClientRequest::Open { tag: 0, algorithms, cross_check, strict_reads };
        for event in [
            Event::ClientJoined { client, principal, pid: 1, rights: Rc::new(Rights::ALL) },
            Event::WorkerJoined(WORKER, intro),
            Event::WorkerSaid(WORKER, WorkerReply::Credit { batches: 1 }),
            Event::ClientSaid(CLIENT, open, Vec::new()),
            items(0),
            items(1),
        ] {
            core.step(Duration::ZERO, event);
        }
        assert_eq!((core.leases.len(), core.unresolved), (1, 2));
        core
    }

    fn job(core: &mut Core<()>) -> &mut Job<()> {
        core.jobs.get_mut(&JOB).expect("it is open")
    }

    #[test]
    fn the_walk_finds_every_broken_state() {
        type Case = (&'static str, fn(&mut Core<()>));
        core().check_invariants();
        let broken: [Case; 17] = [
            ("an action that was not returned", |core| {
                core.actions.push(Action::CloseClient(CLIENT, Fault::Silent));
            }),
            ("a job without its client", |core| core.clients.clear()),
            ("a client that does not know its job", |core| {
                core.clients.values_mut().for_each(|client| client.jobs.clear());
            }),
            ("a job charged to another principal", |core| {
                job(core).order.principal = Principal::Uid(2);
            }),
            ("a principal with too few jobs", |core| {
                core.job_shares.give_back(Principal::Uid(1), 1);
            }),
            ("a waiter that left", |core| {
                let waiter = Waiter { workers: 1, deadline: Duration::ZERO };
                core.waiters.insert(ClientId(9), waiter);
            }),
            ("a lease that its job does not know", |core| job(core).leases.clear()),
            ("a lease that only its job and worker know", |core| core.leases.clear()),
            ("a lease that its worker does not know", |core| {
                let id = *core.leases.keys().next().expect("there is one");
                core.fleet.release(WORKER, id);
            }),
            ("a lease number from the future", |core| core.next_lease = 0),
            ("a lease of a closed job", |core| {
                core.leases.values_mut().for_each(|lease| lease.job.number = 7);
            }),
            ("an item resolved and leased", |core| job(core).resolved += 1),
            ("an item in two places", |core| {
                let batch = core.leases.values().next().expect("there is one").batch.clone();
                job(core).push_retry(batch);
            }),
            ("items that are not added up", |core| core.unresolved += 1),
            ("bytes that are not added up", |core| core.inline_bytes += 1),
            ("a window that was not promised", |core| {
                job(core).window = Window { items: 7, ..job(core).window };
            }),
            ("a job with work that is in no queue", |core| {
                core.fair.leave(Plane::Descriptors, Principal::Uid(1), JOB);
            }),
        ];
        for (what, break_it) in broken {
            let mut core = core();
            break_it(&mut core);
            let found = catch_unwind(AssertUnwindSafe(|| core.check_invariants()));
            assert!(found.is_err(), "{what} is not found");
        }
    }
}
