//! Room of workers for more leases, and of one whose threads all have long ones.

use super::{Fleet, LOAD_SCALE, Worker, skills};
use crate::core::limits::{PREFETCH_TIME, SPARE_SKIPPED_MAX};
use crate::core::plane::Plane;
use crate::core::{LeaseId, WorkerId};
use ipc_proto::{Algorithms, Family};
use std::collections::BTreeSet;

impl Fleet {
    /// Workers with a spare thread for a short lease of `algorithms` on `plane`, as few as are looked at, with
    /// the leases that they have.
    pub(in crate::core) fn spare(
        &self,
        plane: Plane,
        algorithms: Algorithms,
    ) -> impl Iterator<Item = (WorkerId, impl Iterator<Item = LeaseId> + '_)> + '_ {
        let needed = skills(&*algorithms);
        let workers = self.spare.iter().take(SPARE_SKIPPED_MAX).filter_map(move |id| {
            self.workers.get(id).filter(|worker| worker.can(plane, needed)).map(|w| (*id, w))
        });
        workers.map(|(id, worker)| (id, worker.leases.keys().copied()))
    }

    /// True if any worker has a spare thread.
    pub(in crate::core) fn any_spare(&self) -> bool {
        !self.spare.is_empty()
    }
}

impl Worker {
    /// Threads that work or are idle. One that does not come back from a lease that was revoked keeps
    /// its credit; it may have had several that interleave.
    pub(super) fn working_threads(&self) -> u64 {
        let backends = self.intro.backends.iter();
        let interleave_max = backends.map(|backend| backend.interleave_max).max().unwrap_or(1);
        let withheld = self.granted - self.leases_max();
        let hung = withheld.div_ceil(u64::from(interleave_max.max(1)));
        u64::from(self.intro.threads).saturating_sub(hung)
    }

    /// Number of leases that it holds once its credit is used up.
    pub(super) fn leases_max(&self) -> u64 {
        u64::from(self.credits) + self.leases.len() as u64
    }

    pub(super) fn is_ready(&self) -> bool {
        let threads = self.working_threads();
        let has_idle_thread = (self.leases.len() as u64) < threads;
        let has_room = !self.turns.is_stalled
            && self.outstanding_cost < threads.saturating_mul(self.cost_in(PREFETCH_TIME));
        self.takes_others() && (has_idle_thread || has_room)
    }

    /// True if its threads all have long leases, and no other was given to its spare one.
    pub(super) fn has_spare_thread(&self) -> bool {
        self.long.len() as u64 >= self.working_threads()
            && self.long.len() == self.leases.len()
            && self.takes_others()
    }

    /// The family of which a thread of it would interleave one more file.
    pub(super) fn interleave_room_for(&self) -> Option<Family> {
        let family = self.only_interleaved().filter(|_| self.takes_others())?;
        let mut backends = self.intro.backends.iter().filter(|b| b.algorithm.family() == family);
        let files_max = u64::from(backends.next()?.interleave_max) * u64::from(self.intro.threads);
        ((self.leases.len() as u64) < files_max).then_some(family)
    }

    /// The family with which everything that it has interleaves, if there is one.
    pub(super) fn only_interleaved(&self) -> Option<Family> {
        let all = |leases: &BTreeSet<_>| !leases.is_empty() && leases.len() == self.leases.len();
        self.interleaved.iter().find(|(_, leases)| all(leases)).map(|(family, _)| *family)
    }

    pub(super) fn load(&self) -> u32 {
        let leases = u32::try_from(self.leases.len()).unwrap_or(u32::MAX / LOAD_SCALE);
        leases * LOAD_SCALE / u32::from(self.intro.threads)
    }
}
