//! The role of a host that works: pulls shards, has them hashed, answers.
//!
//! Drive it with [`ServeRole::step`], perform the actions, and report the end of each [`ServeAction::Work`] by
//! [`ServeEvent::Worked`]. [`ServeRole::next_timer`] says when to call again if nothing happens.
//!
//! Invariants:
//! - no more than [`ServeLimits::shards`] are held, whatever the broker delivers;
//! - a delivery is acknowledged when the broker has its answer, not before;
//! - a shard that was delivered more than [`DELIVERIES_MAX`] times is not tried again, but answered as dead.

use crate::shard::{
    DatasetKey, ReturnNote, Shard, ShardAnswer, ShardDigest, ShardKey, ShardOutcome,
};
use crate::transport::{
    ACK_WAIT, BrokerCommand, BrokerEvent, BrokerQueue, DeliveryTag, PROGRESS_INTERVAL,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Deliveries of a shard that are tried.
pub const DELIVERIES_MAX: u64 = 5;

/// First pause after a failure of this host, or of a publication.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Pause after a pull that ended, and between two looks for a dataset that is not there.
const PULL_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a host.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Most shards that it holds.
    pub shards: usize,
}

/// An event for a host that works.
#[derive(Clone, Debug)]
pub enum ServeEvent {
    /// The broker says something.
    Broker(BrokerEvent),
    /// The work at a shard has ended, or this host could not do it for that reason, and another may.
    Worked(ShardKey, Result<ShardOutcome, String>),
    /// Take nothing more; what is held is finished.
    Drain,
    /// Leave: what is held goes back to the broker.
    Leave,
    /// Time passes. The first event is one.
    Tick,
}

/// An action of a host that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeAction {
    /// Ask the broker.
    Send(BrokerCommand),
    /// Hash the files of this shard.
    Work(Shard),
}

/// Counts for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeCounts {
    /// Shards that were begun.
    pub begun: u64,
    /// Answers that the broker has.
    pub answered: u64,
    /// Shards that went back, as this host could not do them.
    pub returned: u64,
    /// Deliveries of what this host has already.
    pub again: u64,
    /// Shards that were delivered too often.
    pub dead: u64,
    /// Messages that are no shard of the dataset.
    pub invalid: u64,
    /// Bytes of the files of the shards that were answered.
    pub bytes: u64,
}

#[derive(Clone, Debug)]
enum Stage {
    Working,
    /// The body of the answer; published again then.
    Answering(Vec<u8>, Duration),
}

#[derive(Debug)]
struct HeldShard {
    tag: DeliveryTag,
    queue: BrokerQueue,
    delivery: u64,
    /// The message that brought it.
    of: ShardDigest,
    /// Bytes of its files.
    bytes: u64,
    /// The next sign of life.
    alive_at: Duration,
    stage: Stage,
}

#[derive(Debug)]
struct Source {
    queue: BrokerQueue,
    /// Messages that an open pull may still bring.
    pulling: usize,
    pull_at: Duration,
}

/// The state machine of a host that works.
#[derive(Debug)]
pub struct ServeRole {
    host: String,
    limits: ServeLimits,
    sources: Vec<Source>,
    held: BTreeMap<ShardKey, HeldShard>,
    /// Source that is asked first.
    turn: usize,
    pause: Duration,
    leaving: bool,
    counts: ServeCounts,
}

impl ServeRole {
    /// A host of this name that has these datasets.
    #[must_use]
    pub fn new(host: &str, datasets: &[DatasetKey], limits: ServeLimits) -> Self {
        let source = |dataset: &DatasetKey| Source {
            queue: BrokerQueue::Shards(dataset.clone()),
            pulling: 0,
            pull_at: Duration::ZERO,
        };
        Self {
            host: host.to_owned(),
            limits,
            sources: datasets.iter().map(source).collect(),
            held: BTreeMap::new(),
            turn: 0,
            pause: PAUSE_MIN,
            leaving: false,
            counts: ServeCounts::default(),
        }
    }

    /// Counts so far.
    #[must_use]
    pub fn counts(&self) -> ServeCounts {
        self.counts
    }

    /// Shards that are held.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Most shards that it holds.
    #[must_use]
    pub fn held_max(&self) -> usize {
        self.limits.shards
    }

    /// The next time at which [`ServeEvent::Tick`] does something.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        let held = self.held.values().flat_map(|held| {
            let again = match held.stage {
                Stage::Working => None,
                Stage::Answering(_, at) => Some(at),
            };
            [Some(held.alive_at), again].into_iter().flatten()
        });
        let idle = self.room() > 0;
        let pulls = self.sources.iter().filter(move |source| idle && source.pulling == 0);
        held.chain(pulls.map(|source| source.pull_at)).min()
    }

    /// Takes an event; the actions are to be performed in their order.
    pub fn step(&mut self, now: Duration, event: ServeEvent) -> Vec<ServeAction> {
        let mut actions = Vec::new();
        match event {
            ServeEvent::Broker(BrokerEvent::Published { id, stored }) => {
                self.published(now, &id, stored, &mut actions);
            }
            ServeEvent::Broker(BrokerEvent::Delivered { queue, tag, delivery, body }) => {
                self.delivered(now, queue, tag, delivery, &body, &mut actions);
            }
            ServeEvent::Broker(BrokerEvent::Pulled { queue }) => {
                if let Some(source) = self.sources.iter_mut().find(|source| source.queue == queue) {
                    source.pulling = 0;
                    source.pull_at = source.pull_at.max(now + PULL_PAUSE);
                }
            }
            ServeEvent::Worked(key, outcome) => self.worked(now, key, outcome, &mut actions),
            ServeEvent::Drain => self.leaving = true,
            ServeEvent::Leave => {
                self.leaving = true;
                for held in std::mem::take(&mut self.held).into_values() {
                    send(&mut actions, BrokerCommand::Return(held.tag, Duration::ZERO));
                }
            }
            ServeEvent::Tick => {}
        }
        self.fire(now, &mut actions);
        self.pull(now, &mut actions);
        actions
    }

    /// Shards that may be asked for.
    fn room(&self) -> usize {
        let pulling: usize = self.sources.iter().map(|source| source.pulling).sum();
        let taken = self.held.len() + pulling;
        if self.leaving { 0 } else { self.limits.shards.saturating_sub(taken) }
    }

    fn delivered(
        &mut self,
        now: Duration,
        queue: BrokerQueue,
        tag: DeliveryTag,
        delivery: u64,
        body: &[u8],
        actions: &mut Vec<ServeAction>,
    ) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.queue == queue) {
            source.pulling = source.pulling.saturating_sub(1);
        }
        let shard = Shard::decode(body).ok();
        let Some(shard) = shard.filter(|shard| BrokerQueue::Shards(shard.dataset.clone()) == queue)
        else {
            // It is not going to be a shard on another host either.
            self.counts.invalid += 1;
            return send(actions, BrokerCommand::Ack(tag));
        };
        if let Some(held) = self.held.get_mut(&shard.key) {
            // The broker took the delivery of before for lost: this one is to be acknowledged now.
            (held.tag, held.delivery) = (tag, delivery);
            self.counts.again += 1;
            return;
        }
        if self.leaving || self.held.len() >= self.limits.shards {
            return send(actions, BrokerCommand::Return(tag, Duration::ZERO));
        }
        let key = shard.key;
        let stage = Stage::Working;
        let alive_at = now + PROGRESS_INTERVAL;
        let (of, bytes) = (ShardDigest::of(body), shard.bytes());
        self.held.insert(key, HeldShard { tag, queue, delivery, of, bytes, alive_at, stage });
        if delivery > DELIVERIES_MAX {
            self.counts.dead += 1;
            let dead = BrokerQueue::Dead(key.job);
            let copy = BrokerCommand::Publish {
                queue: dead,
                id: format!("dead.{key}"),
                body: body.into(),
            };
            send(actions, copy);
            self.answer(now, key, ShardOutcome::Dead, actions);
        } else {
            self.counts.begun += 1;
            actions.push(ServeAction::Work(shard));
        }
    }

    fn worked(
        &mut self,
        now: Duration,
        key: ShardKey,
        outcome: Result<ShardOutcome, String>,
        actions: &mut Vec<ServeAction>,
    ) {
        let reason = match outcome {
            Ok(outcome) => {
                self.pause = PAUSE_MIN;
                return self.answer(now, key, outcome, actions);
            }
            Err(reason) => reason,
        };
        let Some(held) = self.held.remove(&key) else { return };
        self.counts.returned += 1;
        // What this host cannot do now, it does not take from others either.
        send(actions, BrokerCommand::Return(held.tag, self.pause));
        let note = ReturnNote { key, host: self.host.clone(), reason };
        // Losing it loses no shard: nobody waits for it.
        send(
            actions,
            BrokerCommand::Publish {
                queue: BrokerQueue::Reasons(key.job),
                id: format!("reason.{key}.{}", held.delivery),
                body: note.encode(),
            },
        );
        for source in self.sources.iter_mut().filter(|source| source.queue == held.queue) {
            source.pull_at = now + self.pause;
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn answer(
        &mut self,
        now: Duration,
        key: ShardKey,
        outcome: ShardOutcome,
        actions: &mut Vec<ServeAction>,
    ) {
        let Some(held) = self.held.get_mut(&key) else { return };
        let body = ShardAnswer { key, of: held.of, host: self.host.clone(), outcome }.encode();
        send(actions, publish(key, &body));
        held.stage = Stage::Answering(body, now + ACK_WAIT);
    }

    fn published(&mut self, now: Duration, id: &str, stored: bool, actions: &mut Vec<ServeAction>) {
        let key = id.strip_prefix(ANSWER_PREFIX).and_then(|key| key.parse().ok());
        let Some(key) = key else { return };
        let Some(held) = self.held.get_mut(&key) else { return };
        if stored {
            send(actions, BrokerCommand::Ack(held.tag));
            self.counts.bytes = self.counts.bytes.saturating_add(held.bytes);
            self.counts.answered += 1;
            self.held.remove(&key);
        } else if let Stage::Answering(_, at) = &mut held.stage {
            *at = now + PAUSE_MIN;
        }
    }

    fn fire(&mut self, now: Duration, actions: &mut Vec<ServeAction>) {
        for (key, held) in &mut self.held {
            if held.alive_at <= now {
                held.alive_at = now + PROGRESS_INTERVAL;
                send(actions, BrokerCommand::Progress(held.tag));
            }
            if let Stage::Answering(body, at) = &mut held.stage
                && *at <= now
            {
                *at = now + ACK_WAIT;
                send(actions, publish(*key, body));
            }
        }
    }

    /// Asks each dataset's queue in turn for what there is room for.
    fn pull(&mut self, now: Duration, actions: &mut Vec<ServeAction>) {
        for _ in 0..self.sources.len() {
            let room = self.room();
            let sources_len = self.sources.len();
            let source = &mut self.sources[self.turn % sources_len];
            self.turn = (self.turn + 1) % sources_len;
            if room > 0 && source.pulling == 0 && source.pull_at <= now {
                // One at a time where several queues share the room, so that an empty one keeps no other waiting.
                let len = if sources_len == 1 { room } else { 1 };
                source.pulling = len;
                source.pull_at = now + PULL_PAUSE;
                send(actions, BrokerCommand::Pull { queue: source.queue.clone(), len });
            }
        }
    }
}

/// In front of a shard's key, the id of its answer.
const ANSWER_PREFIX: &str = "answer.";

fn publish(key: ShardKey, body: &[u8]) -> BrokerCommand {
    let id = format!("{ANSWER_PREFIX}{key}");
    BrokerCommand::Publish { queue: BrokerQueue::Results(key.job), id, body: body.to_vec() }
}

fn send(actions: &mut Vec<ServeAction>, command: BrokerCommand) {
    actions.push(ServeAction::Send(command));
}

#[cfg(test)]
mod tests;
