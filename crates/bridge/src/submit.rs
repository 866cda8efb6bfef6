//! The role of the host that has a job: publishes shards, accepts each result once, publishes again what has none.
//!
//! Drive it with [`SubmitRole::step`] and perform the actions in their order: a [`SubmitAction::Record`] is
//! durable before the next action is performed. After a crash [`SubmitRole::new`] with the records of before
//! goes on. [`SubmitRole::next_timer`] says when to call again if nothing happens.
//!
//! Invariants:
//! - an attempt is in the ledger before it is published, so that its number is never used for another one;
//! - a result is in the ledger before it is acknowledged;
//! - at most [`SubmitLimits::outstanding`] shards are with the broker.

use crate::shard::{
    Base64Bytes, DatasetKey, JobKey, Shard, ShardAnswer, ShardFile, ShardKey, ShardOutcome,
    files_len,
};
use crate::transport::{ACK_WAIT, BrokerCommand, BrokerEvent, BrokerQueue, DeliveryTag};
use ipc_proto::Algorithm;
use std::collections::BTreeSet;
use std::time::Duration;

/// First pause before a publication that failed is made again.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// Pause after a pull that ended.
const PULL_PAUSE: Duration = Duration::from_millis(100);

/// Rate at which even a slow host hashes, in bytes per second: a shard has time for its length besides.
const SLOW_RATE: u64 = 8 << 20;

/// Attempts at a shard that may end as dead letters before its files fail.
pub const DEAD_MAX: u32 = 3;

/// Results that are asked for at a time.
const RESULTS_PULL_LEN: usize = 64;

/// A job: what to hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPlan {
    /// The job.
    pub job: JobKey,
    /// Where the files are.
    pub dataset: DatasetKey,
    /// Starts of the walk that found the files, relative to the dataset's root; none for all of it.
    pub starts: Vec<Base64Bytes>,
    /// The digest of each file.
    pub algorithm: Algorithm,
    /// The files of each shard.
    pub shards: Vec<Vec<ShardFile>>,
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerRecord {
    /// The next attempt at a shard is going to be published.
    Attempt(ShardKey),
    /// The result of a shard, which is final.
    Answer(ShardAnswer),
}

/// Limits and times of a submitting host.
#[derive(Clone, Copy, Debug)]
pub struct SubmitLimits {
    /// Most shards that are with the broker.
    pub outstanding: usize,
    /// A shard without a result is published again after this time, then after twice that, and so on without
    /// an end: a time that is always too short would fence every result. Long shards have more time.
    pub republish_after: Duration,
}

impl Default for SubmitLimits {
    fn default() -> Self {
        Self { outstanding: 256, republish_after: Duration::from_secs(600) }
    }
}

/// An event for a submitting host.
#[derive(Clone, Debug)]
pub enum SubmitEvent {
    /// The broker says something.
    Broker(BrokerEvent),
    /// Time passes. The first event is one.
    Tick,
}

/// An action of a submitting host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitAction {
    /// Write to the ledger, durably.
    Record(LedgerRecord),
    /// Ask the broker.
    Send(BrokerCommand),
    /// Every shard has its result.
    Finish,
}

/// Counts for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmitCounts {
    /// Shards with a result.
    pub done: usize,
    /// Attempts that were published again because no result came in time.
    pub expired: u64,
    /// Results of earlier attempts, or second ones, which were dropped.
    pub stale: u64,
    /// Messages that are no result of this job.
    pub invalid: u64,
    /// Attempts that no host finished.
    pub dead: u64,
    /// Bytes of the files of the shards with a result, without those of before the start.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not with the broker.
    Waiting,
    /// Published, not confirmed: to be published again, as the same attempt, then.
    Unconfirmed(Duration),
    /// Confirmed: to be published again, as the next attempt, then.
    Confirmed(Duration),
    Done,
}

#[derive(Clone, Copy, Debug)]
struct ShardState {
    attempt: u32,
    /// Attempts that ended as dead letters since the start.
    dead: u32,
    pause: Duration,
    phase: Phase,
}

/// The state machine of a submitting host, for one job.
#[derive(Debug)]
pub struct SubmitRole {
    plan: JobPlan,
    limits: SubmitLimits,
    states: Vec<ShardState>,
    /// Deadlines of what is with the broker.
    timers: BTreeSet<(Duration, u32)>,
    /// Shards below this are not new.
    next: usize,
    /// The next pull; `None` while one is open.
    pull_at: Option<Duration>,
    finished: bool,
    counts: SubmitCounts,
}

impl SubmitRole {
    /// Goes on with `plan` after `records`, of which there are none at first.
    #[must_use]
    pub fn new(plan: JobPlan, limits: SubmitLimits, records: &[LedgerRecord]) -> Self {
        let fresh = ShardState { attempt: 0, dead: 0, pause: PUBLISH_PAUSE, phase: Phase::Waiting };
        let mut role = Self {
            states: vec![fresh; plan.shards.len()],
            plan,
            limits,
            timers: BTreeSet::new(),
            next: 0,
            pull_at: Some(Duration::ZERO),
            finished: false,
            counts: SubmitCounts::default(),
        };
        for record in records {
            match record {
                LedgerRecord::Attempt(key) => {
                    if let Some(state) = role.states.get_mut(key.shard as usize) {
                        state.attempt = key.attempt;
                    }
                }
                LedgerRecord::Answer(answer) => {
                    if let Some(state) = role.states.get_mut(answer.key.shard as usize) {
                        state.phase = Phase::Done;
                        role.counts.done += 1;
                    }
                }
            }
        }
        // What may be with the broker is published again as the attempt that it was: it may have been lost before.
        for shard in 0..role.len() {
            let state = role.states[shard as usize];
            if state.attempt > 0 && state.phase != Phase::Done {
                role.set(shard, Phase::Unconfirmed(Duration::ZERO));
            }
        }
        role
    }

    /// Counts so far.
    #[must_use]
    pub fn counts(&self) -> SubmitCounts {
        self.counts
    }

    /// The number of shards.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.plan.shards.len()).unwrap_or(u32::MAX)
    }

    /// Shards that are with the broker.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.timers.len()
    }

    /// True for a job without shards.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plan.shards.is_empty()
    }

    /// The next time at which [`SubmitEvent::Tick`] does something.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        let shards = self.timers.first().map(|(at, _)| *at);
        shards.into_iter().chain(self.pull_at).min()
    }

    /// Takes an event; the actions are to be performed in their order.
    pub fn step(&mut self, now: Duration, event: SubmitEvent) -> Vec<SubmitAction> {
        let mut actions = Vec::new();
        match event {
            SubmitEvent::Broker(BrokerEvent::Published { id, stored }) => {
                self.published(now, &id, stored);
            }
            SubmitEvent::Broker(BrokerEvent::Delivered { tag, body, .. }) => {
                self.delivered(now, tag, &body, &mut actions);
            }
            SubmitEvent::Broker(BrokerEvent::Pulled { .. }) => {
                self.pull_at = Some(now + PULL_PAUSE);
            }
            SubmitEvent::Tick => {}
        }
        self.fire(now, &mut actions);
        self.fill(now, &mut actions);
        if self.counts.done == self.states.len() && !self.finished {
            self.finished = true;
            let queue = BrokerQueue::Results(self.plan.job);
            actions.push(SubmitAction::Send(BrokerCommand::Forget(queue)));
            actions.push(SubmitAction::Finish);
        }
        if !self.finished && self.pull_at.is_some_and(|at| at <= now) {
            self.pull_at = None;
            let queue = BrokerQueue::Results(self.plan.job);
            actions.push(SubmitAction::Send(BrokerCommand::Pull { queue, len: RESULTS_PULL_LEN }));
        }
        actions
    }

    fn set(&mut self, shard: u32, phase: Phase) {
        let timer = |phase| match phase {
            Phase::Unconfirmed(at) | Phase::Confirmed(at) => Some((at, shard)),
            Phase::Waiting | Phase::Done => None,
        };
        let state = &mut self.states[shard as usize];
        if let Some(old) = timer(state.phase) {
            self.timers.remove(&old);
        }
        state.phase = phase;
        self.timers.extend(timer(phase));
    }

    /// The shard of a message if this attempt at it is the current one.
    fn current(&self, key: ShardKey) -> Option<u32> {
        let state = self.states.get(key.shard as usize)?;
        let is_out = matches!(state.phase, Phase::Unconfirmed(_) | Phase::Confirmed(_));
        let is_current = key.job == self.plan.job && key.attempt == state.attempt && is_out;
        is_current.then_some(key.shard)
    }

    fn published(&mut self, now: Duration, id: &str, stored: bool) {
        let Some(shard) = id.parse().ok().and_then(|key| self.current(key)) else { return };
        let len = files_len(&self.plan.shards[shard as usize]);
        let state = &mut self.states[shard as usize];
        if stored {
            let doublings = state.attempt.saturating_sub(1).min(16);
            let after = self.limits.republish_after.saturating_mul(1 << doublings);
            state.pause = PUBLISH_PAUSE;
            let reading = Duration::from_secs(len / SLOW_RATE);
            self.set(shard, Phase::Confirmed(now + after + reading));
        } else if matches!(state.phase, Phase::Unconfirmed(_)) {
            let pause = state.pause;
            state.pause = pause.saturating_mul(2).min(ACK_WAIT);
            self.set(shard, Phase::Unconfirmed(now + pause));
        }
    }

    fn delivered(
        &mut self,
        now: Duration,
        tag: DeliveryTag,
        body: &[u8],
        actions: &mut Vec<SubmitAction>,
    ) {
        let answer = ShardAnswer::decode(body).ok().filter(|answer| {
            let files = self.plan.shards.get(answer.key.shard as usize);
            answer.key.job == self.plan.job
                && files.is_some_and(|files| answer.fits(files.len(), self.plan.algorithm))
        });
        match answer {
            None => self.counts.invalid += 1,
            Some(answer) => match self.current(answer.key) {
                None => self.counts.stale += 1,
                Some(shard) if answer.outcome == ShardOutcome::Dead => {
                    self.counts.dead += 1;
                    self.states[shard as usize].dead += 1;
                    if self.states[shard as usize].dead < DEAD_MAX {
                        self.publish_next(now, shard, actions);
                    } else {
                        self.accept(shard, answer, actions);
                    }
                }
                Some(shard) => self.accept(shard, answer, actions),
            },
        }
        // Whatever it was: a second look would find the same.
        actions.push(SubmitAction::Send(BrokerCommand::Ack(tag)));
    }

    fn accept(&mut self, shard: u32, answer: ShardAnswer, actions: &mut Vec<SubmitAction>) {
        self.set(shard, Phase::Done);
        self.counts.done += 1;
        let len = files_len(&self.plan.shards[shard as usize]);
        self.counts.bytes = self.counts.bytes.saturating_add(len);
        actions.push(SubmitAction::Record(LedgerRecord::Answer(answer)));
    }

    /// Publishes what has waited for long enough.
    fn fire(&mut self, now: Duration, actions: &mut Vec<SubmitAction>) {
        while let Some(&(at, shard)) = self.timers.first()
            && at <= now
        {
            match self.states[shard as usize].phase {
                Phase::Confirmed(_) => {
                    self.counts.expired += 1;
                    self.publish_next(now, shard, actions);
                }
                Phase::Unconfirmed(_) | Phase::Waiting | Phase::Done => {
                    self.publish(now, shard, actions);
                }
            }
        }
    }

    /// Publishes new shards while there is room.
    fn fill(&mut self, now: Duration, actions: &mut Vec<SubmitAction>) {
        while self.timers.len() < self.limits.outstanding && self.next < self.states.len() {
            let shard = u32::try_from(self.next).unwrap_or(u32::MAX);
            self.next += 1;
            if self.states[shard as usize].phase == Phase::Waiting {
                self.publish_next(now, shard, actions);
            }
        }
    }

    fn publish_next(&mut self, now: Duration, shard: u32, actions: &mut Vec<SubmitAction>) {
        let state = &mut self.states[shard as usize];
        state.attempt += 1;
        let key = ShardKey { job: self.plan.job, shard, attempt: state.attempt };
        actions.push(SubmitAction::Record(LedgerRecord::Attempt(key)));
        self.publish(now, shard, actions);
    }

    /// Publishes the current attempt. Until the broker answers, its time is that of an answer that was lost.
    fn publish(&mut self, now: Duration, shard: u32, actions: &mut Vec<SubmitAction>) {
        let attempt = self.states[shard as usize].attempt;
        let message = Shard {
            key: ShardKey { job: self.plan.job, shard, attempt },
            dataset: self.plan.dataset.clone(),
            algorithm: self.plan.algorithm,
            files: self.plan.shards[shard as usize].clone(),
        };
        self.set(shard, Phase::Unconfirmed(now + ACK_WAIT));
        actions.push(SubmitAction::Send(BrokerCommand::Publish {
            queue: BrokerQueue::Shards(message.dataset.clone()),
            id: message.key.to_string(),
            body: message.encode(),
        }));
    }
}

#[cfg(test)]
mod tests;
