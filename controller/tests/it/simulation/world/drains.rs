//! Workers that are drained, by an operator or because they shut down: they get no work, and lose none.

use super::{ADMINISTRATOR, World, quarantine::number};
use hashcluster_controller::core::{Event, Principal};
use ipc_proto::message::{ClientRequest, DrainOutcome, WorkerReply};

impl World {
    fn ask(&mut self, request: ClientRequest) {
        let Some(client) = Self::pick(&mut self.random, &self.clients) else { return };
        self.step(Event::ClientSaid(client, request, Vec::new()));
    }

    pub(super) fn drain_worker(&mut self) {
        let worker = format!("w{}", self.random.below(8));
        let deadline_ms = u32::try_from(self.random.below(4_000)).expect("small");
        let lasts = self.random.chance(50);
        self.ask(ClientRequest::Drain { worker, deadline_ms, lasts });
    }

    pub(super) fn undrain_worker(&mut self) {
        let mut names: Vec<u64> = self.drained.iter().copied().collect();
        names.push(999);
        let worker = format!("w{}", names[self.random.index(names.len())]);
        self.ask(ClientRequest::Undrain { worker });
    }

    pub(super) fn shut_down_worker(&mut self) {
        let Some(worker) = Self::pick(&mut self.random, &self.workers) else { return };
        self.leaving.insert(worker);
        let within_ms = u32::try_from(self.random.below(4_000)).expect("small");
        self.step(Event::WorkerSaid(worker, WorkerReply::Leaving { within_ms }));
    }

    pub(super) fn take_drain(
        &mut self,
        worker: &str,
        by: Principal,
        refused: Option<DrainOutcome>,
    ) {
        match refused {
            None => {
                assert_eq!(by, ADMINISTRATOR, "seed {}", self.seed);
                self.drained.insert(number(worker));
                self.tally.drained += 1;
            }
            Some(DrainOutcome::Forbidden) => assert_ne!(by, ADMINISTRATOR, "seed {}", self.seed),
            refused => assert_eq!(refused, Some(DrainOutcome::Unknown), "seed {}", self.seed),
        }
    }

    pub(super) fn take_drained(&mut self, worker: &str) {
        let name = number(worker);
        let held = self.workers.values().filter(|worker| worker.name == name && !worker.hung);
        // What was revoked is not known to a worker that hangs.
        assert!(held.map(|worker| worker.queue.len()).all(|len| len == 0), "seed {}", self.seed);
        self.tally.drains_ended += 1;
    }

    pub(super) fn take_undrain(&mut self, worker: &str, by: Principal, outcome: DrainOutcome) {
        let want = match (by, self.drained.contains(&number(worker))) {
            (ADMINISTRATOR, true) => DrainOutcome::Undrained,
            (ADMINISTRATOR, false) => DrainOutcome::NotDraining,
            _ => DrainOutcome::Forbidden,
        };
        assert_eq!(outcome, want, "seed {}: {worker}, {by}", self.seed);
        if outcome == DrainOutcome::Undrained {
            self.drained.remove(&number(worker));
        }
    }
}
