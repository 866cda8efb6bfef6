//! Order of service: fair queueing between principals, and between the jobs of each.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996), twice:
//! every principal, and every job of one, has a virtual time that advances by the cost of what it
//! was given, and the one furthest behind is next. Whoever comes new, or
//! back, starts at the present and gains nothing by having waited.
//!
//! There is one order for each plane, all by the same times: work on a plane whose workers are busy,
//! or not there, is in nobody's way. It falls behind meanwhile, and catches up by [`LAG_MAX`] at most.
//!
//! Invariant: exactly the jobs that have work waiting on a plane are in its queue. Each call costs
//! O(log n) for each plane.

use super::plane::Plane;
use super::{JobId, Principal};
use std::collections::{BTreeMap, BTreeSet};

/// Entities that a lane remembers before it drops the idle ones that are not ahead of the present.
const REMEMBERED_MIN: usize = 1024;

/// Cost by which the past of who could not be served counts, at most.
const LAG_MAX: u64 = 8 << 30;

/// Entities ordered by virtual time.
#[derive(Debug)]
struct Lane<K> {
    /// Those that have work waiting, on each plane.
    orders: BTreeMap<Plane, BTreeSet<(u64, K)>>,
    /// Virtual times, also of those that wait for work: who leaves and comes back must not be
    /// served for nothing.
    times: BTreeMap<K, u64>,
    /// Number of times from which on those that are not needed are dropped: twice as many as were needed
    /// before, so that looking for them costs little per entity.
    sweep_len: usize,
    present: u64,
}

impl<K> Default for Lane<K> {
    fn default() -> Self {
        let (orders, times) = (BTreeMap::new(), BTreeMap::new());
        Self { orders, times, sweep_len: REMEMBERED_MIN, present: 0 }
    }
}

impl<K: Copy + Ord> Lane<K> {
    fn enter(&mut self, plane: Plane, key: K) {
        let present = self.present;
        let time = *self.times.entry(key).or_insert(present);
        let is_waiting = self.orders.values().any(|order| order.contains(&(time, key)));
        let time = if is_waiting { time } else { present.max(time) };
        self.times.insert(key, time);
        self.orders.entry(plane).or_default().insert((time, key));
    }

    fn leave(&mut self, plane: Plane, key: K) {
        if let Some(&time) = self.times.get(&key)
            && let Some(order) = self.orders.get_mut(&plane)
        {
            order.remove(&(time, key));
            if order.is_empty() {
                self.orders.remove(&plane);
            }
        }
        if self.times.len() > self.sweep_len {
            let (orders, present) = (&self.orders, self.present);
            self.times.retain(|&key, &mut time| {
                time > present || orders.values().any(|order| order.contains(&(time, key)))
            });
            self.sweep_len = REMEMBERED_MIN.max(2 * self.times.len());
        }
    }

    /// Takes back a charge for what was not done.
    fn refund(&mut self, key: K, cost: u64) {
        let Some(time) = self.times.get_mut(&key) else { return };
        let before = *time;
        *time = before.saturating_sub(cost);
        for order in self.orders.values_mut() {
            if order.remove(&(before, key)) {
                order.insert((*time, key));
            }
        }
    }

    /// Forgets an entity that has left every order and does not come back.
    fn forget(&mut self, key: K) {
        self.times.remove(&key);
    }

    fn charge(&mut self, key: K, cost: u64) {
        let Some(time) = self.times.get_mut(&key) else { return };
        let before = *time;
        let start = before.max(self.present.saturating_sub(LAG_MAX));
        *time = start.saturating_add(cost);
        self.present = self.present.max(start);
        for order in self.orders.values_mut() {
            if order.remove(&(before, key)) {
                order.insert((*time, key));
            }
        }
    }

    fn has(&self, plane: Plane) -> bool {
        self.orders.contains_key(&plane)
    }

    fn iter(&self, plane: Plane) -> impl Iterator<Item = (u64, K)> + '_ {
        self.orders.get(&plane).into_iter().flatten().copied()
    }
}

/// The jobs that have work waiting.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    principals: Lane<Principal>,
    jobs: BTreeMap<Principal, Lane<JobId>>,
}

/// Where a job stands; less is sooner. Comparable between planes.
pub(super) type Place = ((u64, Principal), (u64, JobId));

impl FairQueue {
    /// `job` of `principal` has work waiting on `plane`.
    pub(super) fn enter(&mut self, plane: Plane, principal: Principal, job: JobId) {
        self.principals.enter(plane, principal);
        self.jobs.entry(principal).or_default().enter(plane, job);
    }

    /// `job` has none there any more.
    pub(super) fn leave(&mut self, plane: Plane, principal: Principal, job: JobId) {
        if let Some(jobs) = self.jobs.get_mut(&principal) {
            jobs.leave(plane, job);
            if !jobs.has(plane) {
                self.principals.leave(plane, principal);
            }
        }
    }

    /// `job`, which has left every plane, is closed.
    pub(super) fn close(&mut self, principal: Principal, job: JobId) {
        if let Some(jobs) = self.jobs.get_mut(&principal) {
            jobs.forget(job);
            // No job of it waits, or was given anything that counts.
            if jobs.times.is_empty() {
                self.jobs.remove(&principal);
            }
        }
    }

    /// `job` was given work of `cost`.
    pub(super) fn charge(&mut self, principal: Principal, job: JobId, cost: u64) {
        self.principals.charge(principal, cost);
        if let Some(jobs) = self.jobs.get_mut(&principal) {
            jobs.charge(job, cost);
        }
    }

    /// `job` gave back work of `cost` that was not done.
    pub(super) fn refund(&mut self, principal: Principal, job: JobId, cost: u64) {
        self.principals.refund(principal, cost);
        if let Some(jobs) = self.jobs.get_mut(&principal) {
            jobs.refund(job, cost);
        }
    }

    /// True if another principal waits on `plane` that would go before `principal`, if that gave back work of
    /// `cost`.
    pub(super) fn would_yield(&self, plane: Plane, principal: Principal, cost: u64) -> bool {
        let Some(&time) = self.principals.times.get(&principal) else { return false };
        let mut others = self.principals.iter(plane).filter(|(_, of)| *of != principal);
        others.next().is_some_and(|(other, _)| other < time.saturating_sub(cost))
    }

    /// The planes on which work is waiting.
    pub(super) fn planes(&self) -> impl Iterator<Item = Plane> + '_ {
        self.principals.orders.keys().copied()
    }

    /// All jobs with work on `plane`, the one to serve next first.
    pub(super) fn iter(&self, plane: Plane) -> impl Iterator<Item = Place> + '_ {
        self.principals.iter(plane).flat_map(move |principal| {
            let jobs = self.jobs.get(&principal.1).into_iter();
            jobs.flat_map(move |jobs| jobs.iter(plane)).map(move |job| (principal, job))
        })
    }
}

impl FairQueue {
    /// Asserts that both levels agree, and that open jobs are kept only, for which `is_open`.
    pub(super) fn check_invariants(&self, is_open: impl Fn(Principal, JobId) -> bool) {
        self.principals.check_invariants();
        for (&principal, jobs) in &self.jobs {
            assert!(
                jobs.times.keys().all(|&job| is_open(principal, job)),
                "a job was not forgotten"
            );
            jobs.check_invariants();
        }
        for (&plane, principals) in &self.principals.orders {
            let has_work = |principal: Principal| {
                self.jobs.get(&principal).is_some_and(|jobs| jobs.has(plane))
            };
            assert!(
                principals.iter().all(|&(_, principal)| has_work(principal)),
                "principals with work on {plane:?}"
            );
        }
        for (principal, jobs) in &self.jobs {
            for plane in jobs.orders.keys() {
                let places = self.principals.iter(*plane).filter(|(_, of)| of == principal).count();
                assert_eq!(places, 1, "{principal} is in the queue of {plane:?} once");
            }
        }
    }
}

impl<K: Copy + Ord> Lane<K> {
    /// Asserts that each entity waits once on a plane, at its own virtual time.
    fn check_invariants(&self) {
        for order in self.orders.values() {
            assert!(!order.is_empty(), "planes without work are dropped");
            let is_timely = |(time, key): &(u64, K)| self.times.get(key) == Some(time);
            assert!(order.iter().all(is_timely), "an entity waits at its virtual time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Principal::Uid;

    const P: Plane = Plane::Inline;

    fn id(number: u64) -> JobId {
        JobId { epoch: 1, number }
    }

    fn next(queue: &FairQueue) -> Option<JobId> {
        queue.iter(P).next().map(|(_, (_, key))| key)
    }

    fn serve(queue: &mut FairQueue, rounds: usize, jobs: &[(u32, u64)]) -> Vec<usize> {
        let mut served = vec![0; jobs.len()];
        for _ in 0..rounds {
            let first = next(queue).expect("there is work");
            let at = jobs.iter().position(|&(_, key)| id(key) == first).unwrap();
            served[at] += 1;
            queue.charge(Uid(jobs[at].0), first, 1000);
        }
        served
    }

    fn queue(jobs: &[(u32, u64)]) -> FairQueue {
        let mut queue = FairQueue::default();
        for &(uid, key) in jobs {
            queue.enter(P, Uid(uid), id(key));
        }
        queue
    }

    #[test]
    fn jobs_of_a_principal_share_alike() {
        let jobs = [(7, 1), (7, 2)];
        assert_eq!(serve(&mut queue(&jobs), 400, &jobs), [200, 200]);
    }

    #[test]
    fn a_principal_gains_nothing_by_opening_many_jobs() {
        let jobs = [(7, 1), (8, 2), (8, 3), (8, 4)];
        assert_eq!(serve(&mut queue(&jobs), 600, &jobs), [300, 100, 100, 100]);
    }

    #[test]
    fn who_comes_late_starts_at_the_present() {
        let jobs = [(7, 1), (7, 2)];
        let mut queue = queue(&jobs[..1]);
        serve(&mut queue, 1000, &jobs);
        queue.enter(P, Uid(7), id(2));
        let served = serve(&mut queue, 100, &jobs);
        assert!(served[0].abs_diff(served[1]) <= 2, "{served:?}");
    }

    #[test]
    fn who_leaves_and_comes_back_is_not_served_for_nothing() {
        let jobs = [(7, 1), (8, 2)];
        let mut queue = queue(&jobs);
        let mut served = [0, 0];
        for _ in 0..1000 {
            queue.leave(P, Uid(7), id(1));
            queue.enter(P, Uid(7), id(1));
            let first = next(&queue).unwrap();
            let at = jobs.iter().position(|&(_, key)| id(key) == first).unwrap();
            served[at] += 1;
            queue.charge(Uid(jobs[at].0), first, 1000);
        }
        assert_eq!(served, [500, 500]);
    }

    #[test]
    fn a_job_without_work_is_not_served() {
        let mut queue = queue(&[(7, 1), (8, 2)]);
        queue.leave(P, Uid(7), id(1));
        assert_eq!((next(&queue), queue.iter(P).count()), (Some(id(2)), 1));
        queue.leave(P, Uid(8), id(2));
        assert_eq!(next(&queue), None);
    }

    #[test]
    fn who_waits_for_a_plane_is_in_nobodys_way_and_its_past_counts_a_little_only() {
        let jobs = [(7, 1), (8, 2)];
        let mut queue = queue(&jobs[1..]);
        queue.enter(Plane::Descriptors, Uid(7), id(1));
        let cost = LAG_MAX / 100;
        for _ in 0..1000 {
            let first = next(&queue).unwrap();
            assert_eq!(first, id(2));
            queue.charge(Uid(8), first, cost);
        }
        queue.enter(P, Uid(7), id(1));
        let mut ahead = 0;
        while next(&queue) == Some(id(1)) {
            queue.charge(Uid(7), id(1), cost);
            ahead += 1;
        }
        assert!((1..=102).contains(&ahead), "{ahead}");
    }
}
