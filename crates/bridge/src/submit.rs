//! The role of the host that has a job: publishes shards, accepts each result once, publishes again what has none.
//!
//! Drive it with [`SubmitRole::step`] and perform the actions in their order: a [`SubmitAction::Record`] is
//! durable before the next action is performed. After a crash [`SubmitRole::new`] with the records of before
//! goes on. [`SubmitRole::next_timer`] says when to call again if nothing happens.
//!
//! Files are not held: [`SubmitAction::Publish`] and [`SubmitAction::Audit`] name a shard, whose files the driver reads then.
//!
//! Invariants:
//! - an attempt is in the ledger before it is published, so that its number is never used for another one;
//! - a result is in the ledger before it is acknowledged;
//! - at most [`SubmitLimits::outstanding`] shards are with the broker, and no new one is published while
//!   [`UNCONFIRMED_MAX`] wait for its confirmation, so that their messages are few;
//! - results are taken once what may have been with the broker before a crash is published again;
//! - of a host whose digest this host has contradicted, no result counts but those that it has confirmed.

mod plan;
mod record;

pub use plan::{JobPlan, ShardSize};
pub use record::{AcceptedAnswer, AuditShare, LedgerRecord, LedgerState};

use crate::shard::{ShardAnswer, ShardDigest, ShardFile, ShardKey, ShardOutcome};
use crate::transport::{ACK_WAIT, BrokerCommand, BrokerEvent, BrokerQueue, DeliveryTag};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// First pause before a publication that failed is made again.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// Pause after a pull that ended.
const PULL_PAUSE: Duration = Duration::from_millis(100);

/// Rate at which even a slow host hashes, in bytes per second: a shard has time for its length besides.
const SLOW_RATE: u64 = 8 << 20;

/// Attempts at a shard that may end as dead letters before its files fail.
pub const DEAD_MAX: u32 = 3;

/// Answers of hosts that are not trusted, after which this host hashes a shard itself.
const REFUSED_MAX: u32 = 3;

/// Pause before it tries again what it could not hash.
const OWN_PAUSE: Duration = Duration::from_secs(5);

/// Publications without a confirmation from which on no other shard is published.
pub const UNCONFIRMED_MAX: usize = 64;

/// Results that are asked for at a time.
const RESULTS_PULL_LEN: usize = 64;

/// Limits and times of a submitting host.
#[derive(Clone, Copy, Debug)]
pub struct SubmitLimits {
    /// Most shards that are with the broker.
    pub outstanding: usize,
    /// A shard without a result is published again after this time, then after twice that, and so on without
    /// an end: a time that is always too short would fence every result. Long shards have more time.
    pub republish_after: Duration,
    /// Results that this host compares with its own.
    pub audit: AuditShare,
}

impl Default for SubmitLimits {
    fn default() -> Self {
        Self {
            outstanding: 256,
            republish_after: Duration::from_secs(600),
            audit: AuditShare::default(),
        }
    }
}

/// An event for a submitting host.
#[derive(Clone, Debug)]
pub enum SubmitEvent {
    /// The broker says something.
    Broker(BrokerEvent),
    /// The end of a [`SubmitAction::Audit`].
    Audited {
        /// Number of the shard.
        shard: u32,
        /// This host's own answer, and whether the one that there is [agrees](ShardAnswer::agrees); `None` if it could not
        /// hash the files.
        local: Option<(ShardAnswer, bool)>,
    },
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
    /// Publish this attempt, by [`SubmitRole::publication`].
    Publish(ShardKey),
    /// Hash the files of this shard here; answered by [`SubmitEvent::Audited`]. One at a time.
    Audit(ShardKey),
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
    /// Messages that are no result of this job, or of hosts that are not trusted.
    pub invalid: u64,
    /// Results that this host compared with its own.
    pub audited: u64,
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
    /// Answers of hosts that are not trusted, since the start.
    refused: u32,
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
    /// Messages of what is with the broker.
    sent: BTreeMap<u32, ShardDigest>,
    /// Shards that wait for a confirmation.
    unconfirmed: usize,
    /// Shards that were with the broker before a crash, to be published again as the attempts that they were.
    again: VecDeque<u32>,
    /// Shards below this are not new.
    next: usize,
    /// Those of them that wait to be published again.
    redo: VecDeque<u32>,
    /// The state by the ledger.
    record: LedgerState,
    /// Shards that this host is to hash: to compare, or because nobody else can be trusted with them.
    own: VecDeque<u32>,
    is_hashing: bool,
    hash_at: Duration,
    /// The next pull; `None` while one is open.
    pull_at: Option<Duration>,
    finished: bool,
    counts: SubmitCounts,
}

impl SubmitRole {
    /// Goes on with `plan` after what its ledger says, which is nothing at first.
    #[must_use]
    pub fn new(plan: JobPlan, limits: SubmitLimits, record: LedgerState) -> Self {
        let pause = PUBLISH_PAUSE;
        let fresh = ShardState { attempt: 0, dead: 0, refused: 0, pause, phase: Phase::Waiting };
        let mut role = Self {
            states: vec![fresh; plan.shards.len()],
            plan,
            limits,
            timers: BTreeSet::new(),
            sent: BTreeMap::new(),
            unconfirmed: 0,
            again: VecDeque::new(),
            next: 0,
            redo: VecDeque::new(),
            record,
            own: VecDeque::new(),
            is_hashing: false,
            hash_at: Duration::ZERO,
            pull_at: Some(Duration::ZERO),
            finished: false,
            counts: SubmitCounts::default(),
        };
        for (shard, state) in (0..).zip(&mut role.states) {
            state.attempt = role.record.attempts.get(&shard).copied().unwrap_or(0);
            if let Some(answer) = role.record.answers.get(&shard) {
                state.phase = Phase::Done;
                role.counts.done += 1;
                let is_audited = role.record.audited.contains(&shard);
                if role.limits.audit.has(shard) && !is_audited && !answer.is_dead {
                    role.own.push_back(shard);
                }
            }
        }
        // What may be with the broker is published again as the attempt that it was: it may have been lost before.
        for shard in 0..role.len() {
            let state = role.states[shard as usize];
            if state.attempt == 0 || state.phase == Phase::Done {
                continue;
            }
            // More than the window holds were withdrawn, or waited for this host.
            if role.again.len() < role.limits.outstanding {
                role.again.push_back(shard);
            } else {
                role.redo.push_back(shard);
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

    /// The job.
    #[must_use]
    pub fn plan(&self) -> &JobPlan {
        &self.plan
    }

    /// The state by the ledger.
    #[must_use]
    pub fn record(&self) -> &LedgerState {
        &self.record
    }

    /// Carries out a [`SubmitAction::Publish`] of a shard with these files.
    pub fn publication(&mut self, key: ShardKey, files: Vec<ShardFile>) -> BrokerCommand {
        let body = self.plan.shard(key, files).encode();
        if self.current(key).is_some() {
            self.sent.insert(key.shard, ShardDigest::of(&body));
        }
        let queue = BrokerQueue::Shards(self.plan.dataset.clone());
        BrokerCommand::Publish { queue, id: key.to_string(), body }
    }

    /// True if two answers to a shard have no file with two different digests.
    #[must_use]
    pub fn agree(&self, one: &ShardAnswer, another: &ShardAnswer) -> bool {
        one.agrees(another, self.plan.files_len(one.key.shard), self.plan.algorithm)
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
        let own = (!self.is_hashing && !self.own.is_empty()).then_some(self.hash_at);
        shards.into_iter().chain(self.pull_at).chain(own).min()
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
            SubmitEvent::Audited { shard, local } => self.audited(now, shard, local, &mut actions),
            SubmitEvent::Tick => {}
        }
        self.fire(now, &mut actions);
        self.fill(now, &mut actions);
        self.hash_own(now, &mut actions);
        let is_done = self.counts.done == self.states.len();
        if is_done && self.own.is_empty() && !self.is_hashing && !self.finished {
            self.finished = true;
            self.write(LedgerRecord::Finished, &mut actions);
            let queue = BrokerQueue::Results(self.plan.job);
            actions.push(SubmitAction::Send(BrokerCommand::Forget(queue)));
            actions.push(SubmitAction::Finish);
        }
        let is_ready = !self.finished && self.again.is_empty();
        if is_ready && self.pull_at.is_some_and(|at| at <= now) {
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
        let is_unconfirmed = |phase| usize::from(matches!(phase, Phase::Unconfirmed(_)));
        let state = &mut self.states[shard as usize];
        if let Some(old) = timer(state.phase) {
            self.timers.remove(&old);
        }
        self.unconfirmed += is_unconfirmed(phase);
        self.unconfirmed -= is_unconfirmed(state.phase);
        state.phase = phase;
        if timer(phase).is_none() {
            self.sent.remove(&shard);
        }
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
        let len = self.plan.shards[shard as usize].bytes;
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
            let size = self.plan.shards.get(answer.key.shard as usize);
            let fits = |size: &ShardSize| answer.fits(size.files_len as usize, self.plan.algorithm);
            answer.key.job == self.plan.job && size.is_some_and(fits)
        });
        match answer {
            None => self.counts.invalid += 1,
            Some(answer) => match self.current(answer.key) {
                None => self.counts.stale += 1,
                Some(shard) if self.sent.get(&shard) != Some(&answer.of) => {
                    self.counts.invalid += 1;
                }
                // A dead letter is no digest: whoever says so, the files have none in the end.
                Some(shard)
                    if answer.is_of_digests() && self.record.distrusted.contains(&answer.host) =>
                {
                    self.counts.invalid += 1;
                    self.states[shard as usize].refused += 1;
                    if self.states[shard as usize].refused < REFUSED_MAX {
                        self.publish_next(now, shard, actions);
                    } else {
                        self.set(shard, Phase::Waiting);
                        self.own.push_back(shard);
                    }
                }
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
        let len = self.plan.shards[shard as usize].bytes;
        self.counts.bytes = self.counts.bytes.saturating_add(len);
        if self.limits.audit.has(shard) && answer.is_of_digests() {
            self.own.push_back(shard);
        }
        self.write(LedgerRecord::Answer(answer), actions);
    }

    fn write(&mut self, record: LedgerRecord, actions: &mut Vec<SubmitAction>) {
        self.record.add(&record);
        actions.push(SubmitAction::Record(record));
    }

    /// Has the next of its own shards hashed.
    fn hash_own(&mut self, now: Duration, actions: &mut Vec<SubmitAction>) {
        if self.is_hashing || self.hash_at > now {
            return;
        }
        let Some(shard) = self.own.pop_front() else { return };
        self.is_hashing = true;
        let attempt = self.states[shard as usize].attempt;
        let key = ShardKey { job: self.plan.job, shard, attempt };
        actions.push(SubmitAction::Audit(key));
    }

    /// Compares a result with what this host has found, or takes that.
    fn audited(
        &mut self,
        now: Duration,
        shard: u32,
        local: Option<(ShardAnswer, bool)>,
        actions: &mut Vec<SubmitAction>,
    ) {
        self.is_hashing = false;
        let Some((local, agrees)) = local else {
            self.hash_at = now + OWN_PAUSE;
            if self.record.answers.contains_key(&shard) {
                self.own.push_front(shard);
            } else {
                // Others may do it meanwhile.
                self.states[shard as usize].refused = 0;
                self.redo.push_back(shard);
            }
            return;
        };
        // The attempt may be another by now; the files are the same.
        let attempt = self.states[shard as usize].attempt;
        let local = ShardAnswer { key: ShardKey { attempt, ..local.key }, ..local };
        let Some(theirs) = self.record.answers.get(&shard) else {
            // It was withdrawn meanwhile, or nobody else can be trusted with it.
            self.redo.retain(|&other| other != shard);
            self.set(shard, Phase::Done);
            self.counts.done += 1;
            self.write(LedgerRecord::Answer(local), actions);
            return self.write(LedgerRecord::Audited(shard), actions);
        };
        self.counts.audited += 1;
        if !agrees {
            let host = theirs.host.to_string();
            self.distrust(&host, actions);
            if self.states[shard as usize].phase != Phase::Done {
                // Withdrawn with the others.
                self.redo.retain(|&other| other != shard);
                self.set(shard, Phase::Done);
                self.counts.done += 1;
            }
            self.write(LedgerRecord::Answer(local), actions);
        }
        self.write(LedgerRecord::Audited(shard), actions);
    }

    /// Withdraws what a host has answered, but for what was audited.
    fn distrust(&mut self, host: &str, actions: &mut Vec<SubmitAction>) {
        let before: Vec<u32> = self.record.answers.keys().copied().collect();
        self.write(LedgerRecord::Distrust(host.to_owned()), actions);
        for shard in before {
            if !self.record.answers.contains_key(&shard) {
                self.set(shard, Phase::Waiting);
                self.counts.done -= 1;
                self.own.retain(|&other| other != shard);
                self.redo.push_back(shard);
            }
        }
    }

    /// Publishes what has waited for long enough.
    fn fire(&mut self, now: Duration, actions: &mut Vec<SubmitAction>) {
        while let Some(&(at, shard)) = self.timers.first()
            && at <= now
        {
            match self.states[shard as usize].phase {
                Phase::Confirmed(_) => {
                    self.counts.expired += 1;
                    self.set(shard, Phase::Waiting);
                    self.redo.push_back(shard);
                }
                Phase::Unconfirmed(_) | Phase::Waiting | Phase::Done => {
                    self.publish(now, shard, actions);
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.timers.len() < self.limits.outstanding && self.unconfirmed < UNCONFIRMED_MAX
    }

    /// Publishes shards while there is room: those of before a crash, those without a result, and new ones.
    fn fill(&mut self, now: Duration, actions: &mut Vec<SubmitAction>) {
        while self.has_room()
            && let Some(shard) = self.again.pop_front()
        {
            self.publish(now, shard, actions);
        }
        while self.has_room()
            && let Some(shard) = self.redo.pop_front()
        {
            // One that this host failed to hash may be out again, or done, by now.
            if self.states[shard as usize].phase == Phase::Waiting {
                self.publish_next(now, shard, actions);
            }
        }
        while self.has_room() && self.next < self.states.len() {
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
        self.write(LedgerRecord::Attempt(key), actions);
        self.publish(now, shard, actions);
    }

    /// Publishes the current attempt. Until the broker answers, its time is that of an answer that was lost.
    fn publish(&mut self, now: Duration, shard: u32, actions: &mut Vec<SubmitAction>) {
        let attempt = self.states[shard as usize].attempt;
        self.set(shard, Phase::Unconfirmed(now + ACK_WAIT));
        actions.push(SubmitAction::Publish(ShardKey { job: self.plan.job, shard, attempt }));
    }
}

#[cfg(test)]
mod tests;
