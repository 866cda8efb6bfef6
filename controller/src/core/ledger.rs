//! Windows: how much each job may have unresolved, so that the sum never passes the limits.
//!
//! A new job is promised a quarter of what its principal has free, up to a cap, and keeps it until it
//! ends, so that even jobs that sit idle leave something to the next; the jobs of one principal together get at
//! most three quarters of everything. A job that can be promised nothing useful waits, in order,
//! until another one ends. Invariants: the promises add up to at most the
//! limits, and a promise is never taken back.

use super::limits::{JOB_BYTES_MAX, JOB_BYTES_MIN, JOB_ITEMS_MAX, Limits};
use super::{JobId, Principal};
use ipc_proto::message::Window;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    items: u64,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Ledger {
    items_max: u64,
    bytes_max: u64,
    total: Promised,
    principals: BTreeMap<Principal, Promised>,
    waiting: BTreeMap<JobId, Principal>,
}

impl Ledger {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            items_max: limits.items_max,
            bytes_max: limits.bytes_max,
            total: Promised::default(),
            principals: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// The window of a new job; without items if it has to wait.
    pub(super) fn open(&mut self, job: JobId, principal: Principal) -> Window {
        // Who came first is served first.
        let window = if self.waiting.is_empty() { self.promise(principal) } else { None };
        window.unwrap_or_else(|| {
            self.waiting.insert(job, principal);
            Window::default()
        })
    }

    /// `job` ended; the windows of waiting jobs that this makes room for.
    pub(super) fn close(
        &mut self,
        job: JobId,
        principal: Principal,
        window: Window,
    ) -> Vec<(JobId, Window)> {
        self.waiting.remove(&job);
        let held = self.principals.entry(principal).or_default();
        for promised in [held, &mut self.total] {
            promised.items -= u64::from(window.items);
            promised.bytes -= window.bytes;
        }
        if self.principals.get(&principal).is_some_and(|held| held.items == 0) {
            self.principals.remove(&principal);
        }
        let mut opened = Vec::new();
        let waiting: Vec<_> =
            self.waiting.iter().map(|(&job, &principal)| (job, principal)).collect();
        for (job, principal) in waiting {
            if let Some(window) = self.promise(principal) {
                self.waiting.remove(&job);
                opened.push((job, window));
            }
        }
        opened
    }

    fn promise(&mut self, principal: Principal) -> Option<Window> {
        let held = self.principals.get(&principal).copied().unwrap_or_default();
        let free = |max: u64, total: u64, held: u64| {
            (max - total).min((max - max / 4).saturating_sub(held))
        };
        let free_items = free(self.items_max, self.total.items, held.items);
        let free_bytes = free(self.bytes_max, self.total.bytes, held.bytes);
        if free_items == 0 || free_bytes < JOB_BYTES_MIN {
            return None;
        }
        let items = u32::try_from(free_items.div_ceil(4)).unwrap_or(u32::MAX).min(JOB_ITEMS_MAX);
        let bytes = (free_bytes / 4).clamp(JOB_BYTES_MIN, JOB_BYTES_MAX);
        let held = self.principals.entry(principal).or_default();
        for promised in [held, &mut self.total] {
            promised.items += u64::from(items);
            promised.bytes += bytes;
        }
        debug_assert!(self.total.items <= self.items_max && self.total.bytes <= self.bytes_max);
        Some(Window { items, bytes })
    }
}

impl Ledger {
    /// Asserts that what is promised is the sum of the windows of `jobs`, per principal and in total, and
    /// within the limits; and that exactly the jobs without a window wait.
    pub(super) fn check_invariants(&self, jobs: impl Iterator<Item = (JobId, Principal, Window)>) {
        let (mut total, mut principals) =
            (Promised::default(), BTreeMap::<Principal, Promised>::new());
        let mut waiting = BTreeMap::new();
        for (job, principal, window) in jobs {
            if window.items == 0 {
                waiting.insert(job, principal);
                continue;
            }
            for promised in [principals.entry(principal).or_default(), &mut total] {
                promised.items += u64::from(window.items);
                promised.bytes += window.bytes;
            }
        }
        let pair = |promised: &Promised| (promised.items, promised.bytes);
        assert_eq!(pair(&self.total), pair(&total), "the promises are the windows");
        assert!(
            self.principals
                .iter()
                .map(|(principal, of)| (principal, pair(of)))
                .eq(principals.iter().map(|(principal, of)| (principal, pair(of)))),
            "the promises of each principal: {self:?}"
        );
        assert!(total.items <= self.items_max && total.bytes <= self.bytes_max, "{total:?}");
        assert_eq!(self.waiting, waiting, "jobs without a window wait");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Principal::Uid;

    fn id(number: u64) -> JobId {
        JobId { epoch: 1, number }
    }

    fn ledger(items_max: u64) -> Ledger {
        Ledger::new(&Limits { items_max, ..Limits::default() })
    }

    #[test]
    fn promises_never_pass_the_limits_and_every_job_gets_its_turn() {
        let mut ledger = ledger(100);
        let mut windows: BTreeMap<JobId, Window> = BTreeMap::new();
        for i in 0..50 {
            windows.insert(id(i), ledger.open(id(i), Uid(u32::try_from(i % 3).unwrap())));
            assert!(windows.values().map(|w| w.items).sum::<u32>() <= 100);
        }
        assert!(windows.values().any(|window| window.items == 0), "some have to wait");
        let mut served = 0;
        while let Some((&job, &window)) = windows.iter().find(|(_, window)| window.items > 0) {
            windows.remove(&job);
            let uid = Uid(u32::try_from(job.number % 3).unwrap());
            for (job, window) in ledger.close(job, uid, window) {
                windows.insert(job, window);
            }
            assert!(windows.values().map(|w| w.items).sum::<u32>() <= 100);
            served += 1;
        }
        assert_eq!(served, 50);
        assert_eq!(ledger.total.items + ledger.total.bytes, 0);
    }

    #[test]
    fn one_principal_leaves_a_quarter_to_the_others() {
        let mut ledger = ledger(100);
        let mine: u32 = (0..40).map(|i| ledger.open(id(i), Uid(7)).items).sum();
        assert_eq!(mine, 75);
        assert!(ledger.promise(Uid(8)).is_some(), "another principal has room");
    }

    #[test]
    fn a_dozen_idle_jobs_leave_their_principal_room_for_another() {
        let mut ledger = ledger(1000);
        let windows: Vec<u32> = (0..13).map(|i| ledger.open(id(i), Uid(7)).items).collect();
        assert!(windows.iter().all(|&items| items > 0), "{windows:?}");
        assert!(windows[0] > 100, "and the first has a window of use: {windows:?}");
    }

    #[test]
    fn a_waiting_job_that_is_closed_is_forgotten() {
        let mut ledger = ledger(1);
        let window = ledger.open(id(1), Uid(7));
        assert_eq!(window.items, 1);
        assert_eq!(ledger.open(id(2), Uid(8)), Window::default());
        assert_eq!(ledger.close(id(2), Uid(8), Window::default()), []);
        assert_eq!(ledger.close(id(1), Uid(7), window), []);
    }
}
