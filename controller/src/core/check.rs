//! Cross-checks: a sample of what workers gave is hashed once more, by another backend and on another
//! worker if there is one. Where the two differ a third run decides, and the worker that stands alone
//! is given no more work.
//!
//! Invariant: an item of the sample gets only an output that two runs gave, or one whose file could not
//! be read again: it changed since. One for which workers are lost fails, as any other.

use super::answer::Answer;
use super::batch::Batch;
use super::fault::Fault;
use super::job::Job;
use super::{Core, JobId};
use ipc_proto::Blob;
use ipc_proto::message::{ClientReply, Failure};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Runs that decide over an item.
const RUNS_MAX: usize = 3;

/// Which items are checked: one in so many, by a number that no worker knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sampler {
    /// 0 for none.
    pub(super) every: u32,
    pub(super) seed: u64,
}

impl Sampler {
    /// Whether nothing is checked, of a job whose client wants one item in `every` to be.
    const fn is_idle(self, every: u32) -> bool {
        self.every == 0 && every == 0
    }

    /// Whether to check item `index`, of a job whose client wants one in `every` to be.
    fn picks(self, job: JobId, index: u64, every: u32) -> bool {
        let every = match (self.every, every) {
            (0, every) | (every, 0) => every,
            (ours, theirs) => ours.min(theirs),
        };
        every > 0 && mix(mix(self.seed ^ job.number) ^ index).is_multiple_of(every.into())
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a worker gave for all items of a batch.
#[derive(Clone, Debug)]
pub(super) struct Opinion {
    pub(super) worker: Rc<str>,
    /// Whether others had no part in it.
    pub(super) is_own: bool,
    pub(super) outputs: Blob,
}

/// What an item of a check has come to.
enum Verdict {
    /// This output is right.
    Output(Vec<u8>),
    Failure(Failure),
    /// Another run has to decide.
    Open,
}

impl<F: Clone> Core<F> {
    /// Takes what the worker called `name` computed for `batch`: keeps back what is to be checked,
    /// judges what this is a check of, and resolves the rest.
    pub(super) fn take_answer(
        &mut self,
        key: JobId,
        name: &Rc<str>,
        mut batch: Batch<F>,
        answer: Answer,
    ) {
        let Some(job) = self.jobs.get(&key) else { return };
        if job.is_abandoned(&batch) {
            return;
        }
        if !batch.opinions.is_empty() {
            let opinions = std::mem::take(&mut batch.opinions);
            return self.judge(key, name, &opinions, &batch, &answer);
        }
        let (sampler, every) = (self.sampler, job.order.cross_check);
        if sampler.is_idle(every) {
            return self.resolve_unchecked(key, name, &batch, answer);
        }
        let is_own = batch.midway.is_of(name);
        let picked: Vec<bool> = (0..)
            .zip(batch.indexes())
            .map(|(position, index)| {
                answer.outcome(position).is_ok() && sampler.picks(key, index, every)
            })
            .collect();
        for (is_picked, positions) in batch.groups(&picked) {
            let (part, answer) = (batch.pick(&positions), answer.pick(&positions));
            if is_picked {
                self.check(
                    key,
                    part,
                    vec![Opinion { worker: Rc::clone(name), is_own, outputs: answer.outputs }],
                );
            } else {
                self.resolve_unchecked(key, name, &part, answer);
            }
        }
    }

    /// Has `batch` hashed again.
    fn check(&mut self, key: JobId, mut batch: Batch<F>, opinions: Vec<Opinion>) {
        batch.opinions = opinions;
        if let Some(job) = self.jobs.get_mut(&key) {
            job.push_retry(batch);
            self.enqueue(key);
        }
    }

    /// Compares what `name` gave for `batch` with what was given before.
    fn judge(
        &mut self,
        key: JobId,
        name: &Rc<str>,
        opinions: &[Opinion],
        batch: &Batch<F>,
        answer: &Answer,
    ) {
        let is_own = batch.midway.is_of(name);
        let mut liars: BTreeSet<Rc<str>> = BTreeSet::new();
        let verdicts: Vec<Verdict> = (0..batch.items_len())
            .map(|position| {
                let items_len = batch.items_len();
                let given: Vec<&[u8]> =
                    opinions.iter().map(|o| o.output_of(position, items_len)).collect();
                let output = match (answer.outcome(position), &given[..]) {
                    (Ok(output), _) => output,
                    (Err(_), [_]) => return Verdict::Output(given[0].to_vec()),
                    (Err(failure), _) => return Verdict::Failure(failure),
                };
                let is_first_check = opinions.len() == 1;
                self.counters.items_checked += u64::from(is_first_check);
                if given.contains(&output) {
                    let wrong = opinions.iter().zip(&given).filter(|(_, given)| **given != output);
                    let own = wrong.filter(|(opinion, _)| opinion.is_own);
                    liars.extend(own.map(|(opinion, _)| Rc::clone(&opinion.worker)));
                    return Verdict::Output(output.to_vec());
                }
                self.counters.items_contradicted += u64::from(is_first_check);
                if opinions.len() + 1 < RUNS_MAX {
                    return Verdict::Open;
                }
                Verdict::Failure(Failure::Disputed)
            })
            .collect();
        // Before the last item of a job is resolved, and with it the job.
        liars.into_iter().for_each(|liar| self.contradicted(&liar));
        let is_open: Vec<bool> =
            verdicts.iter().map(|verdict| matches!(verdict, Verdict::Open)).collect();
        for (is_open, positions) in batch.groups(&is_open) {
            let part = batch.pick(&positions);
            if is_open {
                let mut opinions: Vec<Opinion> = opinions
                    .iter()
                    .map(|opinion| opinion.pick(&positions, batch.items_len()))
                    .collect();
                let outputs = answer.pick(&positions).outputs;
                opinions.push(Opinion { worker: Rc::clone(name), is_own, outputs });
                self.check(key, part, opinions);
            } else {
                let verdicts = positions.iter().map(|&position| match &verdicts[position] {
                    Verdict::Output(output) => Ok(&output[..]),
                    Verdict::Failure(failure) => Err(*failure),
                    Verdict::Open => unreachable!("open items are in the other group"),
                });
                self.resolve(key, &part, Answer::of(verdicts));
            }
        }
    }

    /// Gives the worker called `name` no more work, and tells whoever has unchecked outputs of it.
    fn contradicted(&mut self, name: &Rc<str>) {
        self.quarantine_name(name, Fault::Contradicted);
        let suspect = |job: &mut Job<F>| {
            let items = job.unchecked.remove(name)?;
            let (job, worker) = (job.order.id, name.to_string());
            Some((job, ClientReply::Suspect { job, worker, items }))
        };
        let suspects: Vec<_> = self.jobs.values_mut().filter_map(suspect).collect();
        for (job, reply) in suspects {
            self.tell(self.jobs[&job].order.owner, reply);
        }
    }

    fn resolve_unchecked(&mut self, key: JobId, name: &Rc<str>, batch: &Batch<F>, answer: Answer) {
        let outputs_len = (answer.items_len - answer.failures.len()) as u64;
        if let Some(job) = self.jobs.get_mut(&key).filter(|_| outputs_len > 0) {
            match job.unchecked.get_mut(name) {
                Some(sum) => *sum += outputs_len,
                None => _ = job.unchecked.insert(Rc::clone(name), outputs_len),
            }
        }
        self.resolve(key, batch, answer);
    }
}

impl Opinion {
    fn output_of(&self, position: usize, items_len: usize) -> &[u8] {
        let len = self.outputs.len() / items_len;
        &self.outputs[position * len..][..len]
    }

    /// What it says of the items at `positions`, of `items_len`.
    pub(super) fn pick(&self, positions: &[usize], items_len: usize) -> Self {
        let outputs = positions.iter().flat_map(|&position| self.output_of(position, items_len));
        let outputs = Blob(outputs.copied().collect());
        Self { worker: Rc::clone(&self.worker), outputs, ..*self }
    }
}
