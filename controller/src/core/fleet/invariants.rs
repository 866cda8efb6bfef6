//! Assertions about workers, for `Core::check_invariants`.

use super::{Fleet, Skills, Worker};
use crate::core::limits::NAMES_MAX;
use crate::core::plane::Plane;
use crate::core::{LeaseId, WorkerId};
use ipc_proto::limits::CREDIT_MAX;
use std::collections::{BTreeMap, BTreeSet};

impl Fleet {
    /// Asserts that workers hold exactly `leases`, and that every index over the workers is what one
    /// that is built anew would be.
    pub(in crate::core) fn check_invariants(
        &self,
        leases: impl Iterator<Item = (LeaseId, WorkerId)>,
    ) {
        let held: BTreeSet<(LeaseId, WorkerId)> = leases.collect();
        let known = self.workers.iter();
        let known = known.flat_map(|(&id, worker)| worker.leases.keys().map(move |&l| (l, id)));
        assert_eq!(known.collect::<BTreeSet<_>>(), held, "workers know the leases that they hold");
        let ready_len = self.workers.values().filter(|worker| worker.counts()).count();
        assert_eq!(self.ready_len, ready_len, "the number of ready workers");
        let (mut ready, mut rooms) = (BTreeSet::new(), BTreeSet::new());
        let mut able: BTreeMap<(Plane, Skills), (u32, u64)> = BTreeMap::new();
        for (&id, worker) in &self.workers {
            let name = &worker.name;
            worker.check_invariants();
            assert_eq!(self.names.get(name), Some(&id), "worker {name} is found by its name");
            let key = (worker.load(), worker.last_assigned, id);
            let is_reserved = worker.alone == super::Alone::Reserved;
            assert_eq!(is_reserved, self.reserved == Some(id), "worker {name} is reserved");
            if let super::Alone::With(lease) = worker.alone {
                assert!(worker.leases.keys().eq([&lease]), "worker {name} has one lease alone");
            }
            let is_ready = worker.is_ready();
            let room = worker.interleave_room_for().filter(|_| !is_ready);
            let is_spare = !is_ready && worker.has_spare_thread();
            assert_eq!((worker.is_spare, self.spare.contains(&id)), (is_spare, is_spare), "{name}");
            assert_eq!(worker.ready, is_ready.then_some(key), "worker {name}");
            assert_eq!(worker.interleave_room, room.map(|family| (family, key)), "worker {name}");
            for &plane in &worker.planes {
                ready.extend(worker.ready.map(|key| (plane, worker.skills, key)));
                rooms.extend(worker.interleave_room.map(|(family, key)| (plane, family, key)));
                if worker.is_served() {
                    let (workers, threads) = able.entry((plane, worker.skills)).or_default();
                    *workers += 1;
                    *threads += u64::from(worker.intro.threads);
                }
            }
        }
        assert_eq!(self.names.len(), self.workers.len(), "names are of connected workers");
        let listed = self
            .ready
            .iter()
            .flat_map(|(&(plane, skills), keys)| keys.iter().map(move |&key| (plane, skills, key)));
        assert!(listed.eq(ready), "the order of ready workers");
        let listed = self
            .interleave_room
            .iter()
            .flat_map(|(&(plane, family), keys)| keys.iter().map(move |&key| (plane, family, key)));
        assert!(listed.eq(rooms), "the order of workers with room to interleave");
        let listed = self.able.iter().map(|(&place, able)| (place, (able.workers, able.threads)));
        assert!(listed.eq(able), "workers that are given work");
        assert!(self.spare.iter().all(|id| self.workers.contains_key(id)));
        assert!(self.lost_by_name.len() <= NAMES_MAX);
    }
}

impl Worker {
    fn check_invariants(&self) {
        let name = &self.name;
        assert!(self.leases_max() <= CREDIT_MAX.into(), "credit and leases of worker {name}");
        assert!(self.greeted || self.leases.is_empty(), "worker {name} holds leases for no credit");
        assert_eq!(self.outstanding_cost, self.leases.values().sum::<u64>(), "worker {name}");
        assert!(self.long.iter().all(|lease| self.leases.contains_key(lease)), "worker {name}");
        let mut interleaved = self.interleaved.iter().flat_map(|(_, leases)| leases);
        assert!(interleaved.all(|lease| self.leases.contains_key(lease)), "worker {name}");
    }
}
