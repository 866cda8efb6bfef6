//! Shares of a resource between principals.
//!
//! A principal holds at most 1/(n + 2) of what the n others that hold some leave, as the user accounting of
//! dbus-broker (`src/util/user.c`) does: alone it gets half, and whoever comes later still finds room,
//! however much those before took. What is held is never taken back.
//!
//! Invariant: what all hold together is at most the resource.

use super::Principal;
use std::collections::BTreeMap;

/// One resource, and how much of it each principal holds.
#[derive(Debug)]
pub struct Shares {
    max: u64,
    total: u64,
    held: BTreeMap<Principal, u64>,
}

impl Shares {
    /// A resource of which `max` may be held.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self { max, total: 0, held: BTreeMap::new() }
    }

    /// Amount that `principal` holds.
    #[must_use]
    pub fn held(&self, principal: Principal) -> u64 {
        self.held.get(&principal).copied().unwrap_or(0)
    }

    /// Amount that all principals hold.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Most that `principal` may hold now, of which its quota allows `quota`.
    #[must_use]
    pub fn limit(&self, principal: Principal, quota: u64) -> u64 {
        let held = self.held(principal);
        let others_len = self.held.len() - usize::from(held > 0);
        (self.max.saturating_sub(self.total - held) / (others_len as u64 + 2)).min(quota)
    }

    /// Amount that `principal` may still take, of which its quota allows `quota`.
    #[must_use]
    pub fn room(&self, principal: Principal, quota: u64) -> u64 {
        self.limit(principal, quota).saturating_sub(self.held(principal))
    }

    /// Takes `amount`. That there is room is for the caller to see to.
    pub fn take(&mut self, principal: Principal, amount: u64) {
        if amount > 0 {
            *self.held.entry(principal).or_default() += amount;
            self.total += amount;
        }
    }

    /// Gives `amount` back.
    pub fn give_back(&mut self, principal: Principal, amount: u64) {
        if let Some(held) = self.held.get_mut(&principal) {
            *held -= amount;
            self.total -= amount;
            if *held == 0 {
                self.held.remove(&principal);
            }
        }
    }

    /// Asserts that each principal holds the sum of its amounts in `held`.
    pub(super) fn check_invariants(&self, held: impl Iterator<Item = (Principal, u64)>) {
        let mut sums = BTreeMap::<Principal, u64>::new();
        for (principal, amount) in held.filter(|(_, amount)| *amount > 0) {
            *sums.entry(principal).or_default() += amount;
        }
        assert_eq!(self.held, sums, "what each principal holds");
        assert_eq!(self.total, sums.values().sum::<u64>(), "what all hold");
        assert!(self.total <= self.max, "{self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Principal::Uid;

    #[test]
    fn every_principal_that_comes_later_finds_room() {
        let mut shares = Shares::new(1_000_000);
        for (uid, want) in [(1, 500_000), (2, 166_666), (3, 83_333), (4, 50_000)] {
            assert_eq!(shares.room(Uid(uid), u64::MAX), want, "uid {uid}");
            shares.take(Uid(uid), want);
            assert_eq!(shares.room(Uid(uid), u64::MAX), 0, "uid {uid} has its share");
        }
        for uid in 5..=100 {
            let room = shares.room(Uid(uid), u64::MAX);
            assert!(room > 0, "uid {uid}");
            shares.take(Uid(uid), room);
        }
        (1..=100).for_each(|uid| shares.give_back(Uid(uid), shares.held(Uid(uid))));
        assert_eq!((shares.total(), shares.held.len()), (0, 0));
    }

    #[test]
    fn a_quota_is_less_than_a_share() {
        let mut shares = Shares::new(100);
        assert_eq!(shares.room(Uid(1), 7), 7);
        shares.take(Uid(1), 5);
        assert_eq!(shares.room(Uid(1), 7), 2);
        assert_eq!(shares.room(Uid(1), 3), 0);
        assert_eq!(shares.room(Uid(2), u64::MAX), 31);
    }
}
