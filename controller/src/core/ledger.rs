//! Windows: how much each job may have unresolved, so that the sum never passes the limits.
//!
//! A job starts with the smallest window and keeps it while it is idle. One that fills half of its window
//! gets a larger one: up to a quarter of what its principal could still have, so that something is left
//! for the principal's next job. Principals have [`Shares`]; a job for which its principal has no room
//! waits behind the others of that principal, and only behind those.
//!
//! Invariants: windows add up to at most the limits, and never shrink.

use super::limits::{
    IDLE_JOBS_MAX, JOB_BYTES_MAX, JOB_BYTES_MIN, JOB_ITEMS_MAX, JOB_ITEMS_MIN_MAX, Limits, Quota,
};
use super::share::Shares;
use super::{JobId, Principal};
use ipc_proto::message::Window;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Ledger {
    items: Shares,
    bytes: Shares,
    /// Window of an idle job.
    smallest: Window,
    /// Jobs without a window, with the quota of their principal.
    waiting: BTreeMap<Principal, (Quota, BTreeSet<JobId>)>,
}

impl Ledger {
    pub(super) fn new(limits: &Limits) -> Self {
        let items = (limits.items_max / IDLE_JOBS_MAX).clamp(1, JOB_ITEMS_MIN_MAX.into());
        Self {
            items: Shares::new(limits.items_max),
            bytes: Shares::new(limits.bytes_max),
            smallest: Window {
                items: u32::try_from(items).unwrap_or(JOB_ITEMS_MIN_MAX),
                bytes: JOB_BYTES_MIN,
            },
            waiting: BTreeMap::new(),
        }
    }

    /// The window of a new job; without items if it has to wait.
    pub(super) fn open(&mut self, job: JobId, principal: Principal, quota: Quota) -> Window {
        // Who came first is served first.
        if !self.waiting.contains_key(&principal) && self.has_room(principal, quota) {
            return self.take(principal, self.smallest);
        }
        let (of, jobs) = self.waiting.entry(principal).or_default();
        *of = quota;
        jobs.insert(job);
        Window::default()
    }

    /// The larger window of a job that uses its present one, if there is room for one of use.
    pub(super) fn grow(
        &mut self,
        principal: Principal,
        quota: Quota,
        window: Window,
    ) -> Option<Window> {
        if self.waiting.contains_key(&principal) {
            return None;
        }
        let quarter = |room: u64, now: u64, max: u64| (room.saturating_add(now) / 4).min(max);
        let items_room = self.items.room(principal, quota.items);
        let items = quarter(items_room, window.items.into(), JOB_ITEMS_MAX.into());
        let items = u32::try_from(items).unwrap_or(JOB_ITEMS_MAX).max(window.items);
        let bytes_room = self.bytes.room(principal, quota.bytes);
        let bytes = quarter(bytes_room, window.bytes, JOB_BYTES_MAX).max(window.bytes);
        if items / 2 < window.items && bytes / 2 < window.bytes {
            return None;
        }
        let more = Window { items: items - window.items, bytes: bytes - window.bytes };
        self.take(principal, more);
        Some(Window { items, bytes })
    }

    /// `job` ended; the windows of waiting jobs for which there is room now.
    pub(super) fn close(
        &mut self,
        job: JobId,
        principal: Principal,
        window: Window,
    ) -> Vec<(JobId, Window)> {
        if let Some((_, jobs)) = self.waiting.get_mut(&principal) {
            jobs.remove(&job);
            self.forget_if_empty(principal);
        }
        self.items.give_back(principal, window.items.into());
        self.bytes.give_back(principal, window.bytes);
        let mut opened = Vec::new();
        // In turn, so that what became free goes to all alike.
        loop {
            let opened_before = opened.len();
            for principal in self.waiting.keys().copied().collect::<Vec<_>>() {
                opened.extend(self.open_next(principal));
            }
            if opened.len() == opened_before {
                return opened;
            }
        }
    }

    /// Gives the first waiting job of `principal` its window, if there is room.
    fn open_next(&mut self, principal: Principal) -> Option<(JobId, Window)> {
        let quota = self.waiting.get(&principal)?.0;
        if !self.has_room(principal, quota) {
            return None;
        }
        let job = self.waiting.get_mut(&principal)?.1.pop_first()?;
        self.forget_if_empty(principal);
        Some((job, self.take(principal, self.smallest)))
    }

    fn forget_if_empty(&mut self, principal: Principal) {
        if self.waiting.get(&principal).is_some_and(|(_, jobs)| jobs.is_empty()) {
            self.waiting.remove(&principal);
        }
    }

    fn has_room(&self, principal: Principal, quota: Quota) -> bool {
        self.items.room(principal, quota.items) >= self.smallest.items.into()
            && self.bytes.room(principal, quota.bytes) >= self.smallest.bytes
    }

    fn take(&mut self, principal: Principal, window: Window) -> Window {
        self.items.take(principal, window.items.into());
        self.bytes.take(principal, window.bytes);
        window
    }

    /// Asserts that what principals hold is the sum of the windows of their `jobs`, and that exactly the
    /// jobs without a window wait.
    pub(super) fn check_invariants(&self, jobs: &[(JobId, Principal, Window)]) {
        let held = |amount: fn(Window) -> u64| {
            jobs.iter().map(move |&(_, principal, window)| (principal, amount(window)))
        };
        self.items.check_invariants(held(|window| window.items.into()));
        self.bytes.check_invariants(held(|window| window.bytes));
        let mut waiting = BTreeMap::<Principal, BTreeSet<JobId>>::new();
        for &(job, principal, window) in jobs {
            if window.items == 0 {
                waiting.entry(principal).or_default().insert(job);
            }
        }
        let known = self.waiting.iter().map(|(principal, (_, jobs))| (principal, jobs));
        assert!(known.eq(&waiting), "jobs without a window wait");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Principal::Uid;

    const ALL: Quota = Quota::MAX;

    fn id(number: u64) -> JobId {
        JobId { epoch: 1, number }
    }

    fn ledger(items_max: u64) -> Ledger {
        Ledger::new(&Limits { items_max, bytes_max: 1 << 40, ..Limits::default() })
    }

    #[test]
    fn windows_never_pass_the_limits_and_every_job_gets_its_turn() {
        let mut ledger = ledger(100);
        let mut windows: BTreeMap<JobId, Window> = BTreeMap::new();
        let uid = |job: JobId| Uid(u32::try_from(job.number % 3).unwrap());
        for job in (0..300).map(id) {
            let window = ledger.open(job, uid(job), ALL);
            let larger = ledger.grow(uid(job), ALL, window).filter(|_| window.items > 0);
            windows.insert(job, larger.unwrap_or(window));
            assert!(windows.values().map(|w| w.items).sum::<u32>() <= 100);
        }
        assert!(windows.values().any(|window| window.items == 0), "some have to wait");
        let mut served = 0;
        while let Some((&job, &window)) = windows.iter().find(|(_, window)| window.items > 0) {
            windows.remove(&job);
            for (job, window) in ledger.close(job, uid(job), window) {
                windows.insert(job, window);
            }
            assert!(windows.values().map(|w| w.items).sum::<u32>() <= 100);
            served += 1;
        }
        assert_eq!(served, 300);
        assert_eq!((ledger.items.total(), ledger.bytes.total()), (0, 0));
    }

    #[test]
    fn jobs_that_wait_are_in_the_way_of_their_own_user_only() {
        let mut ledger = ledger(1000);
        let idle: Vec<u32> = (0..600).map(|i| ledger.open(id(i), Uid(7), ALL).items).collect();
        assert_eq!((idle[0], idle[599]), (3, 0), "the last ones have to wait");
        for uid in 8..12 {
            let window = ledger.open(id(1000 + u64::from(uid)), Uid(uid), ALL);
            assert!(window.items > 0, "uid {uid} has room");
            let larger = ledger.grow(Uid(uid), ALL, window).expect("and for a window of use");
            assert!(larger.items >= 8, "{larger:?}");
        }
    }

    #[test]
    fn idle_jobs_leave_their_user_room_for_a_window_of_use() {
        let mut ledger = ledger(1000);
        for i in 0..22 {
            assert!(ledger.open(id(i), Uid(7), ALL).items > 0, "job {i}");
        }
        let window = ledger.open(id(22), Uid(7), ALL);
        let larger = ledger.grow(Uid(7), ALL, window).expect("there is room");
        assert!(larger.items > 100, "{larger:?}");
        assert_eq!(ledger.grow(Uid(7), ALL, larger), None, "a quarter, and no more");
    }

    #[test]
    fn a_quota_bounds_the_windows_of_a_user() {
        let mut ledger = ledger(1000);
        let quota = Quota { items: 40, ..Quota::MAX };
        let window = ledger.open(id(1), Uid(7), quota);
        assert_eq!(ledger.grow(Uid(7), quota, window).map(|window| window.items), Some(10));
    }

    #[test]
    fn a_waiting_job_that_is_closed_is_forgotten() {
        let mut ledger = ledger(2);
        let window = ledger.open(id(1), Uid(7), ALL);
        assert_eq!(window.items, 1);
        assert_eq!(ledger.open(id(2), Uid(8), ALL), Window::default());
        assert_eq!(ledger.close(id(2), Uid(8), Window::default()), []);
        assert_eq!(ledger.close(id(1), Uid(7), window), []);
    }
}
