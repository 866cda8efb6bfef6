//! Workers in quarantine: nobody gives them work, however often they connect, until they are released.

use super::{ADMINISTRATOR, World};
use hashcluster_controller::core::{Event, Fault, Principal, Standing};
use ipc_proto::message::{ClientRequest, ReleaseOutcome};
use std::collections::BTreeSet;

impl World {
    /// Somebody, who may or may not, releases a worker that is in quarantine, or one that is not.
    pub(super) fn release_worker(&mut self) {
        let Some(client) = Self::pick(&mut self.random, &self.clients) else { return };
        let mut names: Vec<u64> = self.quarantined.iter().copied().collect();
        names.push(999);
        let name = names[self.random.index(names.len())];
        let request = ClientRequest::Release { worker: format!("w{name}") };
        self.step(Event::ClientSaid(client, request, Vec::new()));
    }

    pub(super) fn take_quarantine(&mut self, worker: &str, fault: Fault) {
        let name = number(worker);
        self.tally.quarantined += 1;
        self.distrust(name);
        if matches!(fault, Fault::WrongAnswer(_) | Fault::Contradicted) {
            self.quarantined.insert(name);
        }
    }

    pub(super) fn take_doubt(&mut self, worker: &str) {
        assert_eq!(Some(number(worker)), self.liar, "seed {}: files stay as they are", self.seed);
        self.tally.doubted += 1;
    }

    pub(super) fn take_back_in_quarantine(&mut self, worker: &str) {
        let is_known = self.quarantined.contains(&number(worker));
        assert!(is_known, "seed {}: {worker} did nothing that lasts", self.seed);
        self.tally.back_in_quarantine += 1;
    }

    pub(super) fn take_kept(&mut self, worker: &str, standing: &Standing) {
        let name = number(worker);
        if *standing == Standing::default() {
            self.kept.remove(&name);
        } else {
            self.kept.insert(name, *standing);
        }
    }

    /// Another controller in the place of this one would give nobody work who gets none now, for as long as that is
    /// for good; and everybody else.
    pub(super) fn judge_kept(&self) {
        let quarantined: BTreeSet<u64> = self
            .kept
            .iter()
            .filter(|kept| kept.1.quarantined.is_some())
            .map(|kept| *kept.0)
            .collect();
        assert_eq!(quarantined, self.quarantined, "seed {}", self.seed);
        let drained = self.kept.iter().filter(|kept| kept.1.drained.is_some());
        for (name, _) in drained {
            assert!(self.drained.contains(name), "seed {}: w{name} is drained", self.seed);
        }
    }

    pub(super) fn take_release(&mut self, worker: &str, by: Principal, outcome: ReleaseOutcome) {
        let want = match (by, self.quarantined.contains(&number(worker))) {
            (ADMINISTRATOR, true) => ReleaseOutcome::Released,
            (ADMINISTRATOR, false) => ReleaseOutcome::NotQuarantined,
            _ => ReleaseOutcome::Forbidden,
        };
        assert_eq!(outcome, want, "seed {}: {worker}, {by}", self.seed);
        if outcome == ReleaseOutcome::Released {
            self.quarantined.remove(&number(worker));
            self.tally.released += 1;
        }
    }
}

pub(super) fn number(worker: &str) -> u64 {
    worker.strip_prefix('w').and_then(|number| number.parse().ok()).expect("w and a number")
}
