//! Workers that say how far they are with a SHA-2 file, and lies.

use super::World;
use crate::simulation::model;
use hashcluster_controller::core::{Event, WorkerId};
use ipc_proto::Blob;
use ipc_proto::message::{Failure, FileSource, Stamp, Work, WorkerReply};

impl World {
    pub(super) fn answer_wrongly(&mut self) {
        let Some(id) = Self::pick(&mut self.random, &self.workers) else { return };
        let Some((lease, attempt, ..)) = self.workers[&id].queue.front().cloned() else { return };
        // As long as no output is, of however many items.
        let outputs = Blob(vec![0; 1001]);
        let failures = Vec::new();
        let reply = WorkerReply::Done { lease, attempt, credit: 1, busy_us: 0, outputs, failures };
        self.step(Event::WorkerSaid(id, reply));
    }

    /// Says how far the worker is with what is next, if that is one SHA-2 file: with another `state`
    /// than the right one, if that is asked for. Says whether it did.
    pub(super) fn come_forward(&mut self, id: WorkerId, state: Option<Blob>) -> bool {
        let worker = self.workers.get_mut(&id).expect("it lives");
        let Some((lease, attempt, algorithms, work, files)) = worker.queue.front() else {
            return false;
        };
        let Some((item, start)) = model::whole_of(*algorithms, work) else { return false };
        let before = worker.done.get(lease).copied().unwrap_or(start);
        let blocks = (item.len() - before) / 128;
        let is_bad = model::starts_from_a_lie(work);
        if blocks == 0 || is_bad || model::is_poison(files[0]) {
            return false;
        }
        let offset = before + 128 * (1 + self.random.below(blocks));
        let content = model::content_of(files[0], &item);
        let state = state.unwrap_or_else(|| model::state_at(*algorithms, content, offset));
        worker.done.insert(*lease, offset);
        let points = self.reported.entry(files[0]).or_default();
        points.push((worker.name, offset));
        self.tally.progress += 1;
        let (lease, attempt) = (*lease, *attempt);
        let reply = WorkerReply::Progress { lease, attempt, file: item.stamp, offset, state };
        self.step(Event::WorkerSaid(id, reply));
        true
    }

    /// Says of a file what is not so: in a form that shows it, or found out by its next reader, or
    /// because the worker lies once more.
    pub(super) fn lie_about_progress(&mut self) {
        let Some(id) = Self::pick(&mut self.random, &self.workers) else { return };
        match self.random.below(4) {
            0 => {
                let Some((lease, attempt, algorithms, work, _)) = self.workers[&id].queue.front()
                else {
                    return;
                };
                let (lease, attempt) = (*lease, *attempt);
                let whole = model::whole_of(*algorithms, work);
                let offset = whole.map_or(128, |(_, start)| start.max(128));
                let before = self.workers[&id].done.get(&lease).copied();
                // Not forward, not of a whole file, or not of that one: which nobody can see of the
                // first that is said of a descriptor.
                let is_passed = matches!(work, Work::Files { source: FileSource::Descriptors, .. });
                if before.is_none() && is_passed && whole.is_some() {
                    return;
                }
                let file = Stamp { size: 1 << 40, mtime_ns: 77, ctime_ns: 0 };
                let state = model::poisoned_state();
                let reply = WorkerReply::Progress { lease, attempt, file, offset, state };
                self.step(Event::WorkerSaid(id, reply));
            }
            1 => {
                if self.come_forward(id, Some(model::false_state())) {
                    self.kill(id);
                }
            }
            _ => {
                // Where other users' work waits the file could go on elsewhere before the liar is found out.
                let jobs = self.core.status(self.now, usize::MAX).jobs;
                if !self.pages.is_empty() || jobs.iter().any(|job| job.uid != jobs[0].uid) {
                    return;
                }
                if self.come_forward(id, Some(model::poisoned_state())) {
                    let (lease, attempt, ..) = self.workers[&id].queue[0];
                    let (outputs, failures) = (Blob(vec![0; 7]), Vec::new());
                    let (credit, busy_us) = (1, 0);
                    self.step(Event::WorkerSaid(
                        id,
                        WorkerReply::Done { lease, attempt, credit, busy_us, outputs, failures },
                    ));
                    self.tally.found_out += 1;
                }
            }
        }
    }

    /// Nothing counts any more that depends on what the worker of this name said.
    pub(super) fn distrust(&mut self, name: u64) {
        for points in self.reported.values_mut() {
            if let Some(first) = points.iter().position(|(by, _)| *by == name) {
                points.truncate(first);
            }
        }
    }
}

/// True if a worker rejects the state that it was given.
pub(super) fn says_invalid(reply: &WorkerReply) -> bool {
    matches!(reply, WorkerReply::Done { failures, .. } if *failures == [(0, Failure::Invalid)])
}
