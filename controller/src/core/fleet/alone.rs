//! Workers that have one batch and nothing else, or are kept free for one.

use super::{Fleet, Worker, skills};
use crate::core::batch::Batch;
use crate::core::plane::Plane;
use crate::core::{LeaseId, WorkerId};
use ipc_proto::Algorithms;

/// Reason for which a worker gets no other work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alone {
    /// Nothing.
    No,
    /// It gets a batch once it is idle.
    Reserved,
    /// This lease.
    With(LeaseId),
}

impl Worker {
    /// True if it may be given batches beside what it has.
    pub(super) fn takes_others(&self) -> bool {
        self.credits > 0 && self.is_served() && self.alone == Alone::No
    }
}

impl Fleet {
    /// The worker that gets `batch` alone, now or when it is idle: one that did not lose it, if there is one, and of
    /// those one that did good work, as whoever says that it lost others has to be somebody known.
    pub(in crate::core) fn pick_alone<F: Clone>(
        &self,
        plane: Plane,
        algorithms: Algorithms,
        batch: &Batch<F>,
    ) -> Option<WorkerId> {
        let needed = skills(&*algorithms);
        let may = |worker: &Worker| {
            worker.can(plane, needed) && worker.greeted && !matches!(worker.alone, Alone::With(_))
        };
        let rank = |id: WorkerId, worker: &Worker| {
            let is_new = worker.meter.items == 0;
            let is_other = self.reserved != Some(id);
            let leases_len = worker.leases.len();
            (batch.avoids(&worker.name), is_new, is_other, worker.long.len(), leases_len, id)
        };
        let workers = self.workers.iter().filter(|(_, worker)| may(worker));
        workers.min_by_key(|&(&id, worker)| rank(id, worker)).map(|(&id, _)| id)
    }

    /// True if a reserved worker can be given its batch.
    pub(in crate::core) fn is_free(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| {
            worker.leases.is_empty() && worker.credits > 0 && worker.is_served()
        })
    }

    /// Reserves this worker, and no other.
    pub(in crate::core) fn reserve(&mut self, wanted: Option<WorkerId>) {
        if self.reserved == wanted {
            return;
        }
        let before = std::mem::replace(&mut self.reserved, wanted);
        self.set(before, |alone| *alone == Alone::Reserved, Alone::No);
        self.set(wanted, |alone| *alone == Alone::No, Alone::Reserved);
    }

    /// A reserved worker holds `lease` alone from now on.
    pub(in crate::core) fn set_alone(&mut self, id: WorkerId, lease: LeaseId) {
        self.reserved.take_if(|reserved| *reserved == id);
        self.set(Some(id), |_| true, Alone::With(lease));
    }

    fn set(&mut self, id: Option<WorkerId>, is_so: impl Fn(&Alone) -> bool, alone: Alone) {
        if let Some(id) = id
            && let Some(worker) = self.workers.get_mut(&id).filter(|worker| is_so(&worker.alone))
        {
            worker.alone = alone;
            self.update(id);
        }
    }
}
