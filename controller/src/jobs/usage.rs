//! Amounts that the jobs of each principal hold in the journal, and in memory.

use super::limits::{
    PRINCIPAL_BYTES_MAX, PRINCIPAL_ITEMS_MAX, PRINCIPAL_JOBS_MAX, PRINCIPAL_SPECS_MAX,
};
use super::record::{JobOrigin, JobProgress};
use crate::core::{Principal, Quota};
use std::collections::BTreeMap;

/// An amount of everything that is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) jobs: u64,
    pub(super) items: u64,
    /// Of items.
    pub(super) bytes: u64,
    /// Of specs.
    pub(super) specs: u64,
}

impl Amount {
    const MAX: Self = Self {
        jobs: PRINCIPAL_JOBS_MAX,
        items: PRINCIPAL_ITEMS_MAX,
        bytes: PRINCIPAL_BYTES_MAX,
        specs: PRINCIPAL_SPECS_MAX,
    };

    fn fields(&mut self) -> [(&'static str, &mut u64); 4] {
        let Self { jobs, items, bytes, specs } = self;
        [
            ("durable jobs", jobs),
            ("items of durable jobs", items),
            ("bytes of stored items", bytes),
            ("bytes of specs", specs),
        ]
    }

    /// All of a job.
    pub(super) fn of(origin: &JobOrigin, progress: &JobProgress) -> Self {
        Self {
            jobs: 1,
            items: progress.items,
            bytes: progress.stored_len,
            specs: (origin.key.len() + origin.spec.source.paths_len()) as u64,
        }
    }
}

/// Bounds on what a principal may hold in the journal, by its rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldMax {
    pub(super) jobs: u64,
    pub(super) items: u64,
}

impl HeldMax {
    /// Those of everybody.
    pub(super) const ANY: Self = Self { jobs: u64::MAX, items: u64::MAX };
}

impl From<Quota> for HeldMax {
    fn from(quota: Quota) -> Self {
        Self { jobs: quota.durable_jobs, items: quota.durable_items }
    }
}

/// Held amounts by principal.
#[derive(Debug, Default)]
pub(super) struct Usage(BTreeMap<Principal, Amount>);

impl Usage {
    /// Takes `more`, or says which bound is in the way: one of everybody, or the principal's own.
    pub(super) fn take(
        &mut self,
        principal: Principal,
        more: Amount,
        own: HeldMax,
    ) -> Result<(), String> {
        let mut sum = self.0.get(&principal).copied().unwrap_or_default();
        let (mut more, mut max) = (more, Amount::MAX);
        let mut own = Amount { jobs: own.jobs, items: own.items, ..Amount::MAX };
        let bounds = max.fields().into_iter().zip(own.fields());
        for (((name, held), (_, more)), ((_, max), (_, own))) in
            sum.fields().into_iter().zip(more.fields()).zip(bounds)
        {
            *held = held.saturating_add(*more);
            if *more > 0 && *held > *max.min(own) {
                let (max, of) =
                    if own < max { (own, ", the quota of its rule") } else { (max, "") };
                return Err(format!(
                    "{principal} would have more than {max} {name}{of}; remove jobs"
                ));
            }
        }
        self.0.insert(principal, sum);
        Ok(())
    }

    /// Takes `more` that is there already.
    pub(super) fn add(&mut self, principal: Principal, mut more: Amount) {
        let held = self.0.entry(principal).or_default();
        for ((_, held), (_, more)) in held.fields().into_iter().zip(more.fields()) {
            *held = held.saturating_add(*more);
        }
    }

    pub(super) fn give_back(&mut self, principal: Principal, mut less: Amount) {
        let Some(held) = self.0.get_mut(&principal) else { return };
        for ((_, held), (_, less)) in held.fields().into_iter().zip(less.fields()) {
            *held = held.saturating_sub(*less);
        }
        if *held == Amount::default() {
            self.0.remove(&principal);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
