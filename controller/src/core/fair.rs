//! Who is served next: weighted fair queueing between users, and between the jobs of a user.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996), twice:
//! every user, and every job of a user, has a virtual time that advances by the cost of what it
//! was given, divided by its weight, and the one furthest behind is next. Whoever comes new, or
//! back, starts at the present and gains nothing by having waited.
//!
//! Invariant: exactly the jobs that have work waiting are in the queue. Each call costs O(log n).

use super::JobKey;
use std::collections::{BTreeMap, BTreeSet};

/// Resolution of a division by the weight.
const SCALE: u64 = 128;

/// Idle entities that a lane remembers before it drops those that are not ahead of the present.
const IDLE_MAX: usize = 1024;

/// Entities ordered by virtual time.
#[derive(Debug)]
struct Lane<K> {
    /// Those that have work waiting.
    order: BTreeSet<(u64, K)>,
    /// Virtual times, also of those that wait for work: who leaves and comes back must not be
    /// served for nothing.
    times: BTreeMap<K, u64>,
    present: u64,
}

impl<K> Default for Lane<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), times: BTreeMap::new(), present: 0 }
    }
}

impl<K: Copy + Ord> Lane<K> {
    fn enter(&mut self, key: K) {
        let present = self.present;
        let time = self.times.entry(key).or_insert(present);
        if !self.order.contains(&(*time, key)) {
            *time = present.max(*time);
            self.order.insert((*time, key));
        }
    }

    fn leave(&mut self, key: K) {
        if let Some(&time) = self.times.get(&key) {
            self.order.remove(&(time, key));
        }
        if self.times.len() > IDLE_MAX + 2 * self.order.len() {
            let (order, present) = (&self.order, self.present);
            self.times.retain(|&key, &mut time| time > present || order.contains(&(time, key)));
        }
    }

    fn charge(&mut self, key: K, cost: u64) {
        if let Some(time) = self.times.get_mut(&key)
            && self.order.remove(&(*time, key))
        {
            self.present = self.present.max(*time);
            *time = time.saturating_add(cost);
            self.order.insert((*time, key));
        }
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = K> + '_ {
        self.order.iter().map(|&(_, key)| key)
    }
}

/// The jobs that have work waiting.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    users: Lane<u32>,
    jobs: BTreeMap<u32, Lane<JobKey>>,
}

impl FairQueue {
    /// `job` of user `uid` has work waiting.
    pub(super) fn enter(&mut self, uid: u32, job: JobKey) {
        self.users.enter(uid);
        self.jobs.entry(uid).or_default().enter(job);
    }

    /// `job` has none any more.
    pub(super) fn leave(&mut self, uid: u32, job: JobKey) {
        if let Some(jobs) = self.jobs.get_mut(&uid) {
            jobs.leave(job);
            if jobs.is_empty() {
                self.users.leave(uid);
            }
        }
    }

    /// `uid` has no jobs any more.
    pub(super) fn forget(&mut self, uid: u32) {
        self.users.leave(uid);
        self.jobs.remove(&uid);
    }

    /// `job` was given work of `cost`.
    pub(super) fn charge(&mut self, uid: u32, job: JobKey, weight: u8, cost: u64) {
        self.users.charge(uid, cost);
        if let Some(jobs) = self.jobs.get_mut(&uid) {
            jobs.charge(job, cost.saturating_mul(SCALE) / u64::from(weight.max(1)));
        }
    }

    /// All of them, the one to serve next first.
    pub(super) fn iter(&self) -> impl Iterator<Item = JobKey> + '_ {
        self.users.iter().filter_map(|uid| self.jobs.get(&uid)).flat_map(Lane::iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(queue: &mut FairQueue, rounds: usize, jobs: &[(u32, u64, u8)]) -> Vec<usize> {
        let mut served = vec![0; jobs.len()];
        for _ in 0..rounds {
            let next = queue.iter().next().expect("there is work");
            let at = jobs.iter().position(|&(_, key, _)| JobKey(key) == next).unwrap();
            served[at] += 1;
            queue.charge(jobs[at].0, next, jobs[at].2, 1000);
        }
        served
    }

    fn queue(jobs: &[(u32, u64, u8)]) -> FairQueue {
        let mut queue = FairQueue::default();
        for &(uid, key, _) in jobs {
            queue.enter(uid, JobKey(key));
        }
        queue
    }

    #[test]
    fn jobs_of_a_user_share_by_weight() {
        let jobs = [(7, 1, 1), (7, 2, 3)];
        assert_eq!(serve(&mut queue(&jobs), 400, &jobs), [100, 300]);
    }

    #[test]
    fn a_user_gains_nothing_by_opening_many_jobs() {
        let jobs = [(7, 1, 1), (8, 2, 100), (8, 3, 100), (8, 4, 100)];
        assert_eq!(serve(&mut queue(&jobs), 600, &jobs), [300, 100, 100, 100]);
    }

    #[test]
    fn who_comes_late_starts_at_the_present() {
        let jobs = [(7, 1, 1), (7, 2, 1)];
        let mut queue = queue(&jobs[..1]);
        serve(&mut queue, 1000, &jobs);
        queue.enter(7, JobKey(2));
        let served = serve(&mut queue, 100, &jobs);
        assert!(served[0].abs_diff(served[1]) <= 2, "{served:?}");
    }

    #[test]
    fn who_leaves_and_comes_back_is_not_served_for_nothing() {
        let jobs = [(7, 1, 1), (8, 2, 1)];
        let mut queue = queue(&jobs);
        let mut served = [0, 0];
        for _ in 0..1000 {
            queue.leave(7, JobKey(1));
            queue.enter(7, JobKey(1));
            let next = queue.iter().next().unwrap();
            let at = jobs.iter().position(|&(_, key, _)| JobKey(key) == next).unwrap();
            served[at] += 1;
            queue.charge(jobs[at].0, next, 1, 1000);
        }
        assert_eq!(served, [500, 500]);
    }

    #[test]
    fn a_job_without_work_is_not_served() {
        let mut queue = queue(&[(7, 1, 1), (8, 2, 1)]);
        queue.leave(7, JobKey(1));
        assert_eq!(queue.iter().collect::<Vec<_>>(), [JobKey(2)]);
        queue.leave(8, JobKey(2));
        assert_eq!(queue.iter().next(), None);
    }
}
