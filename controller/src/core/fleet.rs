//! The workers: what they can do, what they are ready for, how fast they are and how well.
//!
//! A worker is *ready* when it has credit, is not quarantined, and a thread of it would soon have
//! nothing to do. Ready workers are kept in order of load, for each plane and set of algorithms, so
//! that the least loaded one is found in O(log n). A worker whose threads all hash long files that
//! can be interleaved is not ready, but has room for more of those: it is in an order of its own. One whose
//! threads all have long leases has a spare thread for one short lease. Losses are counted by name: a worker that comes back after a crash is the same worker.

mod alone;
mod invariants;
mod meter;
mod room;

use super::batch::Batch;
use super::limits::{NAMES_MAX, OVERDUE_MAX, SPEED_GUESS};
use super::plane::Plane;
use super::tally::{BackendIndexes, NO_BACKENDS, backend_index};
use super::{LeaseId, WorkerId};
use alone::Alone;
use ipc_proto::limits::{CREDIT_MAX, HEARTBEAT_TIMEOUT};
use ipc_proto::message::{WorkerHealth, WorkerIntro, WorkerStatus};
use ipc_proto::{Algorithm, Algorithms, Family};
use meter::{Throughput, Turns};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// A set of algorithms, one bit each.
pub(super) type Skills = u16;

/// Every algorithm.
pub(super) const ALL_SKILLS: Skills = (1 << Algorithm::ALL.len()) - 1;

/// Where a ready worker stands: leases a thread (scaled), last assignment, id.
type LoadKey = (u32, u64, WorkerId);

const LOAD_SCALE: u32 = 64;

/// Share of a new measurement in the estimate of a worker's speed: one in so many.
const SPEED_SMOOTHING: u64 = 4;

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: Rc<str>,
    intro: WorkerIntro,
    skills: Skills,
    backends: BackendIndexes,
    planes: Vec<Plane>,
    credits: u32,
    /// Most leases that it could hold so far.
    granted: u64,
    /// In order of assignment: the first ones are being worked on.
    leases: BTreeMap<LeaseId, u64>,
    /// Leases of files that others of the same family can be interleaved with.
    interleaved: [(Family, BTreeSet<LeaseId>); Family::ALL.len()],
    outstanding_cost: u64,
    /// Cost that one thread does in a second.
    speed: u64,
    greeted: bool,
    health: WorkerHealth,
    overdue: u32,
    turns: Turns,
    joined: Duration,
    last_seen: Duration,
    last_assigned: u64,
    ready: Option<LoadKey>,
    interleave_room: Option<(Family, LoadKey)>,
    /// Leases that are long.
    long: BTreeSet<LeaseId>,
    /// It takes a short lease besides those that its threads have.
    is_spare: bool,
    alone: Alone,
    meter: Throughput,
}

#[derive(Debug, Default)]
pub(super) struct Fleet {
    workers: BTreeMap<WorkerId, Worker>,
    names: BTreeMap<Rc<str>, WorkerId>,
    lost_by_name: BTreeMap<Rc<str>, u64>,
    ready: BTreeMap<(Plane, Skills), BTreeSet<LoadKey>>,
    /// Workers that are not ready, but take a file to interleave.
    interleave_room: BTreeMap<(Plane, Family), BTreeSet<LoadKey>>,
    /// Workers that are not ready, but have a spare thread for a short lease.
    spare: BTreeSet<WorkerId>,
    able: BTreeMap<(Plane, Skills), Able>,
    /// Workers that gave credit and are given work.
    ready_len: usize,
    assigned: u64,
    /// The worker that is reserved.
    reserved: Option<WorkerId>,
}

/// Workers that are given work, ready or not.
#[derive(Debug, Default)]
struct Able {
    workers: u32,
    threads: u64,
}

pub(super) fn skills<'a>(algorithms: impl IntoIterator<Item = &'a Algorithm>) -> Skills {
    algorithms.into_iter().fold(0, |skills, algorithm| skills | 1 << *algorithm as u16)
}

impl Fleet {
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Threads of all workers that are given work on `plane`.
    pub(super) fn threads(&self, plane: Plane) -> u64 {
        self.able.iter().filter(|((p, _), _)| *p == plane).map(|(_, able)| able.threads).sum()
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// Workers that said hello, gave credit and are not quarantined.
    pub(super) fn ready_len(&self) -> usize {
        self.ready_len
    }

    /// True if a worker that gets work has `skills` for `plane`; otherwise such work fails. A dataset is
    /// waited for as long as some worker has the skills.
    pub(super) fn is_possible(&self, plane: Plane, skills: Skills) -> bool {
        let fits = |of: Plane, has: Skills| {
            (of == plane || matches!(plane, Plane::Dataset(_))) && has & skills == skills
        };
        // One that is drained comes back.
        let drained = |worker: &Worker| {
            worker.health == WorkerHealth::Draining
                && worker.planes.iter().any(|&of| fits(of, worker.skills))
        };
        self.able.keys().any(|&(of, has)| fits(of, has)) || self.workers.values().any(drained)
    }

    /// True if no worker gets work.
    pub(super) fn is_idle(&self) -> bool {
        self.able.is_empty()
    }

    /// The planes on which a worker is ready.
    pub(super) fn ready_planes(&self) -> impl Iterator<Item = Plane> + '_ {
        let mut last = None;
        self.ready
            .keys()
            .filter_map(move |&(plane, _)| (last.replace(plane) != Some(plane)).then_some(plane))
    }

    /// Adds a worker, which has `planes`; to be given work if its `health` allows it.
    pub(super) fn join(
        &mut self,
        now: Duration,
        id: WorkerId,
        intro: WorkerIntro,
        planes: Vec<Plane>,
        health: WorkerHealth,
    ) {
        let name: Rc<str> = Rc::from(intro.name.as_str());
        let skills = skills(intro.backends.iter().map(|backend| &backend.algorithm));
        self.names.insert(Rc::clone(&name), id);
        if health == WorkerHealth::Ready {
            self.enlist(skills, &planes, intro.threads);
        }
        let meter = Throughput::new(now);
        let mut backends = NO_BACKENDS;
        for backend in &intro.backends {
            backends[backend.algorithm as usize] = backend_index(&backend.backend);
        }
        let worker = Worker {
            name,
            intro,
            skills,
            backends,
            planes,
            credits: 0,
            granted: 0,
            leases: BTreeMap::new(),
            interleaved: Family::ALL.map(|family| (family, BTreeSet::new())),
            outstanding_cost: 0,
            speed: SPEED_GUESS,
            greeted: false,
            health,
            overdue: 0,
            turns: Turns::new(now),
            joined: now,
            last_seen: now,
            last_assigned: 0,
            ready: None,
            interleave_room: None,
            long: BTreeSet::new(),
            is_spare: false,
            alone: Alone::No,
            meter,
        };
        self.workers.insert(id, worker);
    }

    /// Removes a worker; its leases in order of assignment, and how many of them it was busy with.
    pub(super) fn leave(&mut self, id: WorkerId) -> Option<(Rc<str>, Vec<LeaseId>, usize)> {
        self.unready(id);
        let worker = self.workers.remove(&id)?;
        self.reserved.take_if(|reserved| *reserved == id);
        self.ready_len -= usize::from(worker.counts());
        if worker.is_served() {
            self.retire(worker.skills, &worker.planes, worker.intro.threads);
        }
        self.names.remove(&worker.name);
        let threads = usize::from(worker.intro.threads);
        // What is interleaved is not waiting.
        let has_more = worker.only_interleaved().is_some() || worker.long.len() >= threads;
        let lanes = if has_more { worker.leases.len() } else { threads };
        let busy_len = lanes.min(worker.leases.len());
        Some((worker.name, worker.leases.into_keys().collect(), busy_len))
    }

    pub(super) fn seen(&mut self, now: Duration, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.last_seen = now;
        }
    }

    /// Workers that have been silent for too long.
    pub(super) fn silent(&self, now: Duration) -> Vec<WorkerId> {
        let is_silent = |worker: &Worker| now.saturating_sub(worker.last_seen) >= HEARTBEAT_TIMEOUT;
        self.workers.iter().filter(|(_, worker)| is_silent(worker)).map(|(&id, _)| id).collect()
    }

    /// Adds credit; `false` if the worker could hold more leases with it than one may hold.
    pub(super) fn credit(&mut self, id: WorkerId, batches: u16) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return true };
        worker.credits += u32::from(batches);
        let counted = worker.counts();
        worker.greeted = true;
        self.ready_len += usize::from(worker.counts() && !counted);
        worker.granted = worker.granted.max(worker.leases_max());
        let within = worker.leases_max() <= u64::from(CREDIT_MAX);
        self.update(id);
        within
    }

    /// The least loaded ready worker on `plane` that can do `algorithms`. If it is for a batch that
    /// was given to workers before: one that the batch does not avoid, if such a one is ready; and for
    /// a check, if such a one is ready or busy.
    pub(super) fn pick<F: Clone>(
        &self,
        plane: Plane,
        algorithms: Algorithms,
        again: Option<&Batch<F>>,
    ) -> Option<WorkerId> {
        let needed = skills(&*algorithms);
        let least = |is_good: &dyn Fn(&Rc<str>) -> bool| {
            let of_plane = self.ready.range((plane, Skills::MIN)..=(plane, Skills::MAX));
            let sets = of_plane.filter(|((_, has), _)| has & needed == needed);
            let is_good =
                |key: &&LoadKey| self.workers.get(&key.2).is_some_and(|w| is_good(&w.name));
            sets.filter_map(|(_, set)| set.iter().find(is_good)).min().map(|key| key.2)
        };
        let any = || least(&|_| true);
        let Some(batch) = again else { return any() };
        if let Some(other) = least(&|name| !batch.avoids(name)) {
            return Some(other);
        }
        let Some((last, before)) = batch.votes.split_last() else { return any() };
        if let Some(other) = least(&|name| !batch.has_vote_of(name)) {
            return Some(other);
        }
        let can = |worker: &Worker| worker.can(plane, needed);
        // It has work, and so will be ready again or lost.
        let is_busy = |worker: &Worker| !worker.leases.is_empty();
        let is_awaited = |worker: &Worker| !batch.has_vote_of(&worker.name) && is_busy(worker);
        if self.workers.values().any(|worker| can(worker) && is_awaited(worker)) {
            return None;
        }
        let is_able =
            |name| self.names.get(name).and_then(|id| self.workers.get(id)).is_some_and(can);
        // Two authors are there and nobody else: the one who checked has no third backend.
        if before.iter().any(|o| o.worker != last.worker && is_able(&o.worker)) {
            return least(&|name| *name != last.worker);
        }
        any()
    }

    /// The backends of a worker.
    pub(super) fn backends_of(&self, id: WorkerId) -> BackendIndexes {
        self.workers.get(&id).map_or(NO_BACKENDS, |worker| worker.backends)
    }

    /// Leases that no thread of a worker has begun, as it seems.
    pub(super) fn queued(&self, id: WorkerId) -> Vec<LeaseId> {
        self.workers.get(&id).map(Worker::queued).unwrap_or_default()
    }

    /// The leases that a worker holds.
    pub(super) fn leases_of(&self, id: WorkerId) -> Vec<LeaseId> {
        self.workers
            .get(&id)
            .map(|worker| worker.leases.keys().copied().collect())
            .unwrap_or_default()
    }

    /// The planes of a worker.
    pub(super) fn planes_of(&self, id: WorkerId) -> &[Plane] {
        self.workers.get(&id).map_or(&[], |worker| &worker.planes)
    }

    /// The worker of this name, if it is connected.
    pub(super) fn id_of(&self, name: &str) -> Option<WorkerId> {
        self.names.get(name).copied()
    }

    /// The least loaded worker that takes a file to interleave with those that its threads have.
    pub(super) fn pick_to_interleave(
        &self,
        place: (Plane, Family),
        algorithms: Algorithms,
    ) -> Option<WorkerId> {
        let needed = skills(&*algorithms);
        let can = |key: &&LoadKey| {
            self.workers.get(&key.2).is_some_and(|worker| worker.skills & needed == needed)
        };
        self.interleave_room.get(&place)?.iter().find(can).map(|key| key.2)
    }

    /// Reports whether any worker takes a file to interleave.
    pub(super) fn has_interleave_room(&self) -> bool {
        !self.interleave_room.is_empty()
    }

    /// True if any worker is ready.
    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A worker holds a lease from now on, which `interleaves` with others of a family.
    pub(super) fn assign(
        &mut self,
        id: WorkerId,
        lease: LeaseId,
        cost: u64,
        interleaves: Option<Family>,
        is_long: bool,
    ) {
        self.assigned += 1;
        if let Some(worker) = self.workers.get_mut(&id) {
            debug_assert!(worker.credits > 0 && worker.is_served(), "work is pulled by credit");
            worker.credits = worker.credits.saturating_sub(1);
            let before = worker.leases.insert(lease, cost);
            debug_assert!(before.is_none(), "lease {lease} is assigned once");
            for (family, leases) in &mut worker.interleaved {
                leases.extend((interleaves == Some(*family)).then_some(lease));
            }
            worker.long.extend(is_long.then_some(lease));
            worker.outstanding_cost += cost;
            worker.last_assigned = self.assigned;
            self.update(id);
        }
    }

    /// Takes a lease from a worker, whatever became of it.
    pub(super) fn release(&mut self, id: WorkerId, lease: LeaseId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && let Some(cost) = worker.leases.remove(&lease)
        {
            worker.outstanding_cost -= cost;
            worker.turns.answered();
            worker.interleaved.iter_mut().for_each(|(_, leases)| _ = leases.remove(&lease));
            worker.long.remove(&lease);
            if worker.alone == Alone::With(lease) {
                worker.alone = Alone::No;
            }
            self.update(id);
        }
    }

    /// A lease of `cost` was answered after `busy_us` of one thread's time.
    pub(super) fn measure(
        &mut self,
        id: WorkerId,
        (cost, items, bytes): (u64, u64, u64),
        algorithms: &[Algorithm],
        busy_us: u64,
    ) {
        if let Some(worker) = self.workers.get_mut(&id) {
            if let [algorithm] = algorithms {
                worker.meter.hashed(*algorithm, bytes, busy_us);
            }
            let speed = u128::from(cost) * 1_000_000 / u128::from(busy_us.max(1));
            // A claim beyond all hardware must not make one batch swallow the queue.
            let speed = u64::try_from(speed).unwrap_or(u64::MAX).clamp(1 << 20, 1 << 36);
            worker.speed = worker.speed - worker.speed / SPEED_SMOOTHING + speed / SPEED_SMOOTHING;
            worker.overdue = 0;
            worker.meter.items += items;
            worker.meter.bytes = worker.meter.bytes.saturating_add(bytes);
        }
    }

    /// A lease was answered whose cost says nothing of the worker's speed.
    pub(super) fn answered(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.overdue = 0;
        }
    }

    /// A lease that goes on came forward by so many bytes.
    pub(super) fn advanced(&mut self, id: WorkerId, bytes: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.overdue = 0;
            worker.turns.answered();
            worker.meter.bytes = worker.meter.bytes.saturating_add(bytes);
            self.update(id);
        }
    }

    /// A lease was lost by the worker of this name.
    pub(super) fn count_lost(&mut self, name: &Rc<str>) {
        if self.lost_by_name.len() < NAMES_MAX || self.lost_by_name.contains_key(name) {
            *self.lost_by_name.entry(Rc::clone(name)).or_default() += 1;
        }
    }

    /// A lease passed its deadline; whether the worker has to be quarantined for it.
    pub(super) fn overdue(&mut self, id: WorkerId) -> bool {
        self.workers.get_mut(&id).is_some_and(|worker| {
            worker.overdue += 1;
            worker.overdue >= OVERDUE_MAX
        })
    }

    /// Starts or stops giving work to a worker.
    pub(super) fn set_health(&mut self, id: WorkerId, health: WorkerHealth) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let was_served = worker.is_served();
        worker.health = health;
        if was_served == worker.is_served() {
            return;
        }
        worker.overdue = 0;
        if worker.greeted {
            self.ready_len = if was_served { self.ready_len - 1 } else { self.ready_len + 1 };
        }
        let (skills, threads) = (worker.skills, worker.intro.threads);
        let planes = worker.planes.clone();
        if was_served {
            self.retire(skills, &planes, threads);
        } else {
            self.enlist(skills, &planes, threads);
        }
        self.update(id);
    }

    /// The leases that queue at workers that have just stalled.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<(WorkerId, Vec<LeaseId>)> {
        let mut stalled = Vec::new();
        for (&id, worker) in &mut self.workers {
            if worker.tick(now) {
                stalled.push((id, worker.queued()));
            }
        }
        stalled.iter().for_each(|&(id, _)| self.update(id));
        stalled
    }

    /// One row for each worker, by name.
    pub(super) fn status(&self, now: Duration, rows_max: usize) -> Vec<WorkerStatus> {
        let rows = self.names.values().filter_map(|id| self.workers.get(id));
        let lost = |worker: &Worker| self.lost_by_name.get(&worker.name).copied().unwrap_or(0);
        rows.take(rows_max).map(|worker| worker.row(now, lost(worker))).collect()
    }

    /// Name, health and number of leases of each worker.
    pub(super) fn healths(&self) -> impl Iterator<Item = (&Rc<str>, WorkerHealth, usize)> {
        self.workers.values().map(|worker| (&worker.name, worker.health, worker.leases.len()))
    }

    fn enlist(&mut self, skills: Skills, planes: &[Plane], threads: u16) {
        for &plane in planes {
            let able = self.able.entry((plane, skills)).or_default();
            able.workers += 1;
            able.threads += u64::from(threads);
        }
    }

    fn retire(&mut self, skills: Skills, planes: &[Plane], threads: u16) {
        for &plane in planes {
            if let Some(able) = self.able.get_mut(&(plane, skills)) {
                able.workers -= 1;
                able.threads -= u64::from(threads);
                if able.workers == 0 {
                    self.able.remove(&(plane, skills));
                }
            }
        }
    }

    fn unready(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some((family, key)) = worker.interleave_room.take() {
            remove(&mut self.interleave_room, &worker.planes, family, &key);
        }
        if std::mem::take(&mut worker.is_spare) {
            self.spare.remove(&id);
        }
        if let Some(key) = worker.ready.take() {
            remove(&mut self.ready, &worker.planes, worker.skills, &key);
        }
    }

    fn update(&mut self, id: WorkerId) {
        self.unready(id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let key = (worker.load(), worker.last_assigned, id);
        worker.is_spare = !worker.is_ready() && worker.has_spare_thread();
        if worker.is_spare {
            self.spare.insert(id);
        }
        if worker.is_ready() {
            worker.ready = Some(key);
            for &plane in &worker.planes {
                self.ready.entry((plane, worker.skills)).or_default().insert(key);
            }
        } else if let Some(family) = worker.interleave_room_for() {
            worker.interleave_room = Some((family, key));
            for &plane in &worker.planes {
                self.interleave_room.entry((plane, family)).or_default().insert(key);
            }
        }
    }
}

/// Removes `key` from the order of each of `planes`, and orders that are empty then.
fn remove<K: Copy + Ord>(
    orders: &mut BTreeMap<(Plane, K), BTreeSet<LoadKey>>,
    planes: &[Plane],
    by: K,
    key: &LoadKey,
) {
    for &plane in planes {
        if let Some(order) = orders.get_mut(&(plane, by)) {
            order.remove(key);
            if order.is_empty() {
                orders.remove(&(plane, by));
            }
        }
    }
}

impl Worker {
    /// Returns true if it has just stalled.
    fn tick(&mut self, now: Duration) -> bool {
        self.meter.tick(now);
        self.turns.tick(now, self.leases.is_empty(), self.working_threads() == 0)
    }

    /// Leases that no thread of it has begun, as it seems.
    fn queued(&self) -> Vec<LeaseId> {
        let interleaves = |id: &LeaseId| self.interleaved.iter().any(|(_, ids)| ids.contains(id));
        let begun_len = usize::from(self.intro.threads);
        self.leases.keys().skip(begun_len).filter(|id| !interleaves(id)).copied().collect()
    }

    /// Cost that one thread of it does in `time`.
    pub(super) fn cost_in(&self, time: Duration) -> u64 {
        u64::try_from(u128::from(self.speed) * time.as_micros() / 1_000_000).unwrap_or(u64::MAX)
    }

    /// True if it gave credit and gets work.
    fn counts(&self) -> bool {
        self.greeted && self.is_served()
    }

    /// True if it gets work.
    fn is_served(&self) -> bool {
        self.health == WorkerHealth::Ready
    }

    /// True if it gets work that needs these skills on `plane`.
    fn can(&self, plane: Plane, needed: Skills) -> bool {
        self.skills & needed == needed && self.planes.contains(&plane) && self.is_served()
    }
}
