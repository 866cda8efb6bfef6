//! Results: an answer is accepted, verified, cross-checked, resolved and reported.
//!
//! - accepted: its sender holds the lease at that moment, otherwise it is fenced;
//! - verified: it has the form of its lease, otherwise its sender is quarantined;
//! - cross-checked: items of the sample are kept back until the policy (`check`) has a verdict;
//! - resolved: its items are let go of, and parts are put together;
//! - reported: the owner is told.

use super::batch::{Batch, Load};
use super::check::{self, Ruling, Vote};
use super::fault::Fault;
use super::tally::{ClientState, Hashed, NO_BACKENDS};
use super::{Action, Core, JobId, WorkerId};
use ipc_proto::message::{ClientReply, Failure, Failures, LeaseId, Run};
use ipc_proto::{Algorithms, Blob};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The outcome of each item of a batch.
#[derive(Debug)]
pub(super) struct Outcomes {
    items_len: usize,
    /// Of the items that did not fail, back to back, of one length.
    outputs: Blob,
    /// Ascending.
    failures: Failures,
}

impl Outcomes {
    /// All of `items_len` items failed.
    fn failed(items_len: usize, failure: Failure) -> Self {
        Self::of(std::iter::repeat_n(Err(failure), items_len))
    }

    /// `outcomes`, in order.
    fn of<'a>(outcomes: impl Iterator<Item = Result<&'a [u8], Failure>>) -> Self {
        let (mut items_len, mut outputs, mut failures) = (0, Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Ok(output) => outputs.extend_from_slice(output),
                Err(failure) => {
                    let position = u32::try_from(items_len).expect("a batch fits a frame");
                    failures.push((position, failure));
                }
            }
            items_len += 1;
        }
        Self { items_len, outputs: Blob(outputs), failures }
    }

    /// The outcome of the item at `position`.
    fn outcome(&self, position: usize) -> Result<&[u8], Failure> {
        let before = self.failures.partition_point(|&(failed, _)| (failed as usize) < position);
        match self.failures.get(before) {
            Some(&(failed, failure)) if failed as usize == position => Err(failure),
            _ => {
                let len = self.outputs.len() / (self.items_len - self.failures.len());
                Ok(&self.outputs[(position - before) * len..][..len])
            }
        }
    }

    /// The outcomes at `positions`, in their order.
    fn pick(&self, positions: &[usize]) -> Self {
        Self::of(positions.iter().map(|&position| self.outcome(position)))
    }
}

impl<F: Clone> Core<F> {
    /// Takes in the answer of `worker` to a lease: `outputs`, and `failures` by position.
    pub(super) fn accept(
        &mut self,
        worker: WorkerId,
        (id, attempt): (LeaseId, u32),
        (outputs, failures): (Blob, Failures),
        busy_us: u64,
    ) -> Result<(), Fault> {
        let fits = |batch: &Batch<F>, algorithms| fits(batch, algorithms, &outputs, &failures);
        if self.counts(worker, (id, attempt), fits)?.is_none() {
            return Ok(());
        }
        let lease = self.take_lease(id).expect("it was just there");
        if lease.batch.checkpoints.started() > 0 && failures == [(0, Failure::Invalid)] {
            self.start_over(lease);
            return Ok(());
        }
        let (cost, bytes) = (lease.batch.cost(), lease.batch.bytes_done(&failures));
        let hashed = Hashed {
            bytes,
            bytes_failed: lease.batch.bytes_failed(&failures),
            ..Hashed::default()
        };
        self.backends = self.fleet.backends_of(worker);
        let algorithms = self.jobs[&lease.job].order.algorithms;
        self.tally.count_hashed(algorithms, &self.backends, hashed);
        self.timings.batches.push(self.now.saturating_sub(lease.leased));
        let items_len = lease.batch.items_len();
        self.fleet.measure(worker, (cost, items_len as u64, bytes), &algorithms, busy_us);
        if let Some(job) = self.jobs.get_mut(&lease.job) {
            job.bytes = job.bytes.saturating_add(bytes);
        }
        self.counters.bytes = self.counters.bytes.saturating_add(bytes);
        let name = self.fleet.get(worker).map(|worker| Rc::clone(&worker.name));
        let outcomes = Outcomes { items_len, outputs, failures };
        self.cross_checked(lease.job, &name.expect("it holds a lease"), lease.batch, outcomes);
        self.backends = NO_BACKENDS;
        Ok(())
    }

    /// Judges what `worker` says of a lease; the algorithms of its job if it counts. It is dropped if
    /// the lease was revoked, or passed on, meanwhile. A worker is quarantined for what does not fit.
    pub(super) fn counts(
        &mut self,
        worker: WorkerId,
        (id, attempt): (LeaseId, u32),
        fits: impl FnOnce(&Batch<F>, Algorithms) -> bool,
    ) -> Result<Option<Algorithms>, Fault> {
        let held = match self.leases.get(&id) {
            None if id.epoch != self.epoch || id.number < self.next_lease => None,
            Some(lease) if lease.worker == worker => {
                Some(lease).filter(|lease| lease.batch.history.leased == attempt)
            }
            _ => return Err(Fault::ForeignLease(id)),
        };
        let Some(lease) = held else {
            self.counters.answers_fenced += 1;
            return Ok(None);
        };
        let algorithms = self.jobs[&lease.job].order.algorithms;
        if !fits(&lease.batch, algorithms) {
            self.quarantine(worker, Fault::WrongAnswer(id));
            return Ok(None);
        }
        Ok(Some(algorithms))
    }

    /// Keeps back the items of the sample that the worker called `name` computed, counts its votes if
    /// `batch` is a check, and resolves the rest.
    fn cross_checked(
        &mut self,
        key: JobId,
        name: &Rc<str>,
        mut batch: Batch<F>,
        outcomes: Outcomes,
    ) {
        let Some(job) = self.jobs.get(&key) else { return };
        if job.is_abandoned(&batch) {
            return;
        }
        let votes = std::mem::take(&mut batch.votes);
        if !votes.is_empty() {
            return self.judge(key, name, &votes, &batch, &outcomes);
        }
        let (sampler, every) = (self.sampler, job.order.cross_check);
        if sampler.is_idle(every) {
            return self.resolve_unchecked(key, name, &batch, outcomes);
        }
        let is_own = batch.checkpoints.is_of(name);
        let picked: Vec<bool> = (0..)
            .zip(batch.indexes())
            .map(|(position, index)| {
                outcomes.outcome(position).is_ok() && sampler.picks(key, index, every)
            })
            .collect();
        for (is_picked, positions) in batch.groups(&picked) {
            let (part, outcomes) = (batch.pick(&positions), outcomes.pick(&positions));
            if is_picked {
                let vote = Vote { worker: Rc::clone(name), is_own, outputs: outcomes.outputs };
                self.requeue(key, [Batch { votes: vec![vote], ..part }]);
            } else {
                self.resolve_unchecked(key, name, &part, outcomes);
            }
        }
    }

    /// Compares what `name` gave for `batch` with the votes that were given before.
    fn judge(
        &mut self,
        key: JobId,
        name: &Rc<str>,
        votes: &[Vote],
        batch: &Batch<F>,
        outcomes: &Outcomes,
    ) {
        let (is_own, items_len) = (batch.checkpoints.is_of(name), batch.items_len());
        let dispute = if batch.is_proof() { Failure::Disputed } else { Failure::Changed };
        let mut liars: BTreeSet<Rc<str>> = BTreeSet::new();
        let mut verdicts = Vec::with_capacity(items_len);
        for position in 0..items_len {
            let given: Vec<&[u8]> =
                votes.iter().map(|vote| vote.output_of(position, items_len)).collect();
            let outcome = outcomes.outcome(position);
            let verdict = check::judge(&given, outcome, dispute);
            if votes.len() == 1 && outcome.is_ok() {
                self.counters.items_checked += 1;
                self.counters.items_contradicted += u64::from(verdict == Ruling::Open);
            }
            if let Ruling::Settled(Ok(output)) = verdict {
                let wrong = votes.iter().zip(&given).filter(|(_, given)| **given != output);
                let own = wrong.filter(|(vote, _)| vote.is_own);
                liars.extend(own.map(|(vote, _)| Rc::clone(&vote.worker)));
            }
            verdicts.push(verdict);
        }
        // Before the last item of a job is resolved, and with it the job.
        for liar in liars {
            if batch.is_proof() {
                self.contradicted(&liar);
            } else {
                self.doubted(key, &liar);
            }
        }
        let is_open: Vec<bool> = verdicts.iter().map(|&v| v == Ruling::Open).collect();
        for (is_open, positions) in batch.groups(&is_open) {
            let part = batch.pick(&positions);
            if is_open {
                let outputs = outcomes.pick(&positions).outputs;
                let vote = Vote { worker: Rc::clone(name), is_own, outputs };
                let before = votes.iter().map(|vote| vote.pick(&positions, items_len));
                let votes = before.chain([vote]).collect();
                self.requeue(key, [Batch { votes, ..part }]);
            } else {
                let settled = positions.iter().map(|&position| match verdicts[position] {
                    Ruling::Settled(outcome) => outcome,
                    Ruling::Open => unreachable!("open items are in the other group"),
                });
                self.resolve(key, &part, Outcomes::of(settled));
            }
        }
    }

    /// Gives the worker called `name` no more work, and reports to every owner of an unchecked output
    /// of it.
    fn contradicted(&mut self, name: &Rc<str>) {
        self.quarantine_name(name, Fault::Contradicted);
        let keys: Vec<JobId> = self.jobs.keys().copied().collect();
        keys.into_iter().for_each(|key| self.report_unchecked(key, name));
    }

    /// The worker called `name` was contradicted over a file of a job, for which the file can be to blame.
    fn doubted(&mut self, key: JobId, name: &Rc<str>) {
        self.actions.push(Action::Doubted(name.to_string()));
        self.report_unchecked(key, name);
    }

    /// Reports the unchecked outputs of the worker called `name`, if there are any, to the owner of a job.
    fn report_unchecked(&mut self, key: JobId, name: &Rc<str>) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let Some(items) = job.unchecked.remove(name) else { return };
        let (owner, worker) = (job.order.owner, name.to_string());
        self.tell(owner, ClientReply::Suspect { job: key, worker, items });
    }

    fn resolve_unchecked(
        &mut self,
        key: JobId,
        name: &Rc<str>,
        batch: &Batch<F>,
        outcomes: Outcomes,
    ) {
        let outputs_len = (outcomes.items_len - outcomes.failures.len()) as u64;
        if let Some(job) = self.jobs.get_mut(&key).filter(|_| outputs_len > 0) {
            *job.unchecked.entry(Rc::clone(name)).or_default() += outputs_len;
        }
        self.resolve(key, batch, outcomes);
    }

    /// Resolves the items of `batch`, or puts a part of one to the others.
    fn resolve(&mut self, key: JobId, batch: &Batch<F>, outcomes: Outcomes) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        if job.is_abandoned(batch) {
            return;
        }
        if let (Load::Part { file, number, len, .. }, Ok(value)) =
            (&batch.load, outcomes.outcome(0))
        {
            let merge = job.part_done(file.index, *number, value);
            self.tell_advance(key, file.index, *len);
            return merge.into_iter().for_each(|merge| self.requeue(key, [merge]));
        }
        if let (Load::Merge { index, parent: Some(node), .. }, Ok(value)) =
            (&batch.load, outcomes.outcome(0))
        {
            let merge = job.merge_done(*index, *node, value);
            return merge.into_iter().for_each(|merge| self.requeue(key, [merge]));
        }
        // A page that was given comes by another way.
        if let (Load::List { .. }, Err(failure)) = (&batch.load, outcomes.outcome(0)) {
            return self.listed(key, failure);
        }
        self.inline_bytes -= job.let_go(batch);
        self.enqueue(key);
        self.report(key, batch.runs(), outcomes);
    }

    /// Resolves every item of `batch` without a digest.
    pub(super) fn fail(&mut self, job: JobId, batch: &Batch<F>, failure: Failure) {
        self.resolve(job, batch, Outcomes::failed(batch.items_len(), failure));
    }

    /// Resolves items that were just admitted, without looking at them.
    pub(super) fn turn_down(&mut self, key: JobId, run: Run, failure: Failure) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        job.received += u64::from(run.len);
        self.report(key, vec![run], Outcomes::failed(run.len as usize, failure));
    }

    /// Reports resolved items to the owner of their job.
    fn report(&mut self, key: JobId, runs: Vec<Run>, outcomes: Outcomes) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let Outcomes { items_len, outputs, failures } = outcomes;
        let (items_len, failed) = (items_len as u64, failures.len() as u64);
        job.resolved += items_len;
        debug_assert!(job.resolved <= job.received, "an item of job {key} is resolved twice");
        job.failed += failed;
        self.unresolved -= items_len;
        self.counters.items += items_len;
        self.counters.items_failed += failed;
        let done = items_len - failed;
        let hashed = Hashed { items: done, items_failed: failed, ..Hashed::default() };
        self.tally.count_hashed(job.order.algorithms, &self.backends, hashed);
        self.tally.results[ClientState::Connected as usize] += items_len;
        if done > 0 {
            self.tally.last_digest = self.now;
        }
        let owner = job.order.owner;
        self.tell(owner, ClientReply::Results { job: key, runs, outputs, failures });
        self.close_if_done(key);
    }
}

/// True for a failure that a worker may find in a file that it reads. The others are the controller's verdicts, and
/// those of manifests.
pub(super) fn is_of_reading(failure: Failure) -> bool {
    match failure {
        Failure::Changed
        | Failure::NotRegular
        | Failure::Io { .. }
        | Failure::Invalid
        | Failure::Unsupported
        | Failure::UnknownDataset => true,
        Failure::WorkersLost { .. }
        | Failure::Disputed
        | Failure::Outside
        | Failure::NotAList
        | Failure::BadLines { .. } => false,
    }
}

/// True if an answer has one outcome per item, and outputs of the right length.
fn fits<F: Clone>(
    batch: &Batch<F>,
    algorithms: Algorithms,
    outputs: &Blob,
    failures: &Failures,
) -> bool {
    let items_len = batch.items_len();
    let position_fits = |&(position, failure): &(u32, Failure)| {
        usize::try_from(position).is_ok_and(|position| position < items_len)
            && is_of_reading(failure)
    };
    let is_page = matches!(batch.load, Load::List { .. });
    if is_page || failures.len() > items_len || !failures.iter().all(position_fits) {
        return false;
    }
    match items_len - failures.len() {
        0 => outputs.is_empty(),
        digests_len => {
            outputs.len().is_multiple_of(digests_len)
                && batch.output_len(algorithms).contains(&(outputs.len() / digests_len))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_taken_apart_and_put_together_in_order() {
        let failure = Failure::Io { errno: 5 };
        let outcomes = [Err(Failure::Changed), Ok(&b"ab"[..]), Err(failure), Ok(b"cd"), Ok(b"ef")];
        let all = Outcomes::of(outcomes.into_iter());
        assert_eq!((all.items_len, &all.outputs[..]), (5, &b"abcdef"[..]));
        assert_eq!(all.failures, [(0, Failure::Changed), (2, failure)]);
        for (position, outcome) in outcomes.into_iter().enumerate() {
            assert_eq!(all.outcome(position), outcome, "{position}");
        }
        let picked = all.pick(&[2, 4, 1]);
        assert_eq!((picked.items_len, &picked.outputs[..]), (3, &b"efab"[..]));
        assert_eq!(picked.failures, [(0, failure)]);
    }
}
