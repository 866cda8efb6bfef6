//! Rates at which principals connect, by the generic cell rate algorithm (ITU-T I.371, annex A).
//!
//! A process has a rate as well as its principal, so that one that connects without end does not use up
//! what the others of its user need. What comes too early waits, and what would wait too long is refused.

use crate::core::Principal;
use std::collections::HashMap;
use std::time::Duration;

/// Connections per second of a process and of a principal.
const RATES: [u32; 2] = [1000, 2000];

/// Connections that may come at once, in time at the rate.
const BURST: Duration = Duration::from_secs(1);

/// Longest wait.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Entries from which on those that are not needed are dropped.
const ENTRIES_MAX: usize = 1024;

/// Whoever has a rate: a process of a principal, or all of them.
type Key = (Principal, Option<u32>);

#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Time at which each would be at its rate if nothing more came.
    due: HashMap<Key, Duration>,
}

impl Rates {
    /// Counts a connection of process `pid`, if that is known; how long it has to wait, or `None` if it is
    /// not to be served.
    pub(super) fn connect(
        &mut self,
        now: Duration,
        principal: Principal,
        pid: Option<u32>,
    ) -> Option<Duration> {
        if self.due.len() >= ENTRIES_MAX {
            self.due.retain(|_, due| *due > now);
        }
        let mut wait = Duration::ZERO;
        let keys = [pid.map(|pid| (principal, Some(pid))), Some((principal, None))];
        let entries = || keys.into_iter().zip(RATES).filter_map(|(key, rate)| Some((key?, rate)));
        for (key, rate) in entries() {
            let due = self.due.get(&key).copied().unwrap_or_default().max(now);
            wait = wait.max((due + Duration::from_secs(1) / rate).saturating_sub(now + BURST));
        }
        if wait > WAIT_MAX {
            return None;
        }
        for (key, rate) in entries() {
            let due = self.due.entry(key).or_default();
            *due = now.max(*due) + Duration::from_secs(1) / rate;
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Principal::Uid;

    /// Connections that are served at once, later, and not at all.
    fn connect(
        rates: &mut Rates,
        now: Duration,
        uid: u32,
        pids: impl Iterator<Item = u32>,
    ) -> [u32; 3] {
        let mut outcomes = [0; 3];
        for pid in pids {
            let outcome = rates.connect(now, Uid(uid), Some(pid));
            outcomes[outcome.map_or(2, |wait| usize::from(!wait.is_zero()))] += 1;
        }
        outcomes
    }

    #[test]
    fn who_connects_without_end_is_refused_and_nobody_else() {
        let (mut rates, now) = (Rates::default(), Duration::from_secs(9));
        let flood = std::iter::repeat_n(1, 100_000);
        assert_eq!(connect(&mut rates, now, 7, flood), [1000, 1000, 98_000]);
        assert_eq!(connect(&mut rates, now, 7, 2..502), [0, 500, 0], "other processes of the user");
        assert_eq!(connect(&mut rates, now, 7, 502..9000), [0, 1500, 6998], "and its own rate");
        assert_eq!(connect(&mut rates, now, 8, 2..102), [100, 0, 0], "another user");
        let later = now + Duration::from_secs(3);
        assert_eq!(connect(&mut rates, later, 7, std::iter::repeat_n(1, 200)), [200, 0, 0]);
    }

    #[test]
    fn memory_is_bounded_by_those_that_came_lately() {
        let mut rates = Rates::default();
        for second in 0..10 {
            let now = Duration::from_secs(second * 10);
            connect(&mut rates, now, 7, 0..900);
            assert!(rates.due.len() <= ENTRIES_MAX + 900, "{}", rates.due.len());
        }
    }
}
