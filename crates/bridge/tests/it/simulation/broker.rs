//! A model of a broker that keeps the contract of `transport` and nothing more.

use hashcluster_bridge::transport::{
    ACK_WAIT, BrokerCommand, BrokerEvent, BrokerQueue, DeliveryTag,
};
use std::collections::BTreeMap;
use std::time::Duration;
use test_kit::Random;

/// A host, in one of its lives: what was meant for an earlier one does not reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) host: usize,
    pub(crate) life: u32,
}

#[derive(Clone, Debug)]
struct Stored {
    queue: BrokerQueue,
    body: Vec<u8>,
    delivery: u64,
    /// Deliverable from then on.
    ready_at: Duration,
    stored_at: Duration,
}

/// Faults of a broker so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BrokerCounts {
    pub(crate) lost: u64,
    pub(crate) unanswered: u64,
    pub(crate) doubled: u64,
    pub(crate) deduplicated: u64,
    pub(crate) redelivered: u64,
    pub(crate) stale_acks: u64,
    pub(crate) forgotten: u64,
    pub(crate) came_back: u64,
}

/// The broker.
#[derive(Debug)]
pub(crate) struct ModelBroker {
    messages: BTreeMap<u64, Stored>,
    /// Messages that were acknowledged, until it is certain that it is gone.
    acknowledged: Vec<(u64, Stored, Duration)>,
    /// Ids that are remembered, until then.
    ids: BTreeMap<String, Duration>,
    /// Deliveries: which message each was of.
    tags: BTreeMap<DeliveryTag, u64>,
    next: u64,
    pub(crate) faulty: bool,
    pub(crate) counts: BrokerCounts,
}

/// For so long an id is remembered.
const ID_MEMORY: Duration = Duration::from_secs(120);

/// Changes younger than this are not on the disk yet.
const UNSYNCED: Duration = Duration::from_secs(5);

impl ModelBroker {
    pub(crate) fn new() -> Self {
        Self {
            messages: BTreeMap::new(),
            acknowledged: Vec::new(),
            ids: BTreeMap::new(),
            tags: BTreeMap::new(),
            next: 1,
            faulty: true,
            counts: BrokerCounts::default(),
        }
    }

    fn fails(&self, random: &mut Random, percent: u64) -> bool {
        self.faulty && random.chance(percent)
    }

    /// Carries out a command; the events reach the host that gave it, some time later.
    pub(crate) fn command(
        &mut self,
        now: Duration,
        command: BrokerCommand,
        random: &mut Random,
    ) -> Vec<BrokerEvent> {
        match command {
            BrokerCommand::Publish { queue, id, body } => {
                let stored = self.publish(now, queue, &id, body, random);
                vec![BrokerEvent::Published { id, stored }]
            }
            BrokerCommand::Pull { queue, len } => {
                let mut events = self.pull(now, &queue, len, random);
                events.push(BrokerEvent::Pulled { queue });
                events
            }
            BrokerCommand::Ack(tag) => {
                if !self.fails(random, 5) {
                    self.ack(now, tag);
                }
                vec![]
            }
            BrokerCommand::Progress(tag) => {
                self.hold(tag, now + ACK_WAIT);
                vec![]
            }
            BrokerCommand::Return(tag, pause) => {
                self.hold(tag, now + pause);
                vec![]
            }
            BrokerCommand::Forget(queue) => {
                self.messages.retain(|_, stored| stored.queue != queue);
                vec![]
            }
        }
    }

    pub(crate) fn publish(
        &mut self,
        now: Duration,
        queue: BrokerQueue,
        id: &str,
        body: Vec<u8>,
        random: &mut Random,
    ) -> bool {
        if self.fails(random, 5) {
            self.counts.lost += 1;
            return false;
        }
        if self.ids.get(id).is_some_and(|until| *until > now) {
            self.counts.deduplicated += 1;
        } else {
            self.ids.insert(id.to_owned(), now + ID_MEMORY);
            let stored = Stored { queue, body, delivery: 0, ready_at: now, stored_at: now };
            if self.fails(random, 3) {
                self.counts.doubled += 1;
                self.store(stored.clone());
            }
            self.store(stored);
        }
        let unanswered = self.fails(random, 5);
        self.counts.unanswered += u64::from(unanswered);
        !unanswered
    }

    fn store(&mut self, stored: Stored) {
        self.messages.insert(self.next, stored);
        self.next += 1;
    }

    fn pull(
        &mut self,
        now: Duration,
        queue: &BrokerQueue,
        len: usize,
        random: &mut Random,
    ) -> Vec<BrokerEvent> {
        let is_ready = |stored: &Stored| stored.queue == *queue && stored.ready_at <= now;
        let mut ready: Vec<u64> =
            self.messages.iter().filter(|(_, m)| is_ready(m)).map(|(&number, _)| number).collect();
        let mut events = Vec::new();
        while events.len() < len && !ready.is_empty() {
            let at = if self.faulty { random.index(ready.len()) } else { 0 };
            let number = ready.remove(at);
            let Some(stored) = self.messages.get_mut(&number) else { continue };
            stored.delivery += 1;
            stored.ready_at = now + ACK_WAIT;
            self.counts.redelivered += u64::from(stored.delivery > 1);
            let tag = DeliveryTag(self.next);
            self.next += 1;
            self.tags.insert(tag, number);
            events.push(BrokerEvent::Delivered {
                queue: queue.clone(),
                tag,
                delivery: stored.delivery,
                body: stored.body.clone(),
            });
        }
        events
    }

    /// Deletes the message of a delivery, also where another host has it by now.
    fn ack(&mut self, now: Duration, tag: DeliveryTag) {
        let Some(&number) = self.tags.get(&tag) else { return };
        let Some(stored) = self.messages.remove(&number) else { return };
        let newest = self.tags.iter().rev().find(|(_, of)| **of == number).map(|(tag, _)| *tag);
        self.counts.stale_acks += u64::from(newest != Some(tag));
        self.acknowledged.retain(|(.., at)| *at + UNSYNCED > now);
        self.acknowledged.push((number, stored, now));
    }

    fn hold(&mut self, tag: DeliveryTag, until: Duration) {
        let number = self.tags.get(&tag).copied().unwrap_or(0);
        if let Some(stored) = self.messages.get_mut(&number) {
            stored.ready_at = until;
        }
    }

    /// Ends and starts again: what was not on the disk is as if it had not happened.
    pub(crate) fn crash(&mut self, now: Duration, random: &mut Random) {
        for (number, stored, at) in std::mem::take(&mut self.acknowledged) {
            if at + UNSYNCED > now && random.chance(50) {
                self.counts.came_back += 1;
                self.messages.insert(number, Stored { ready_at: now, ..stored });
            }
        }
        let before = self.messages.len();
        self.messages.retain(|_, m| m.stored_at + UNSYNCED <= now || random.chance(50));
        self.counts.forgotten += (before - self.messages.len()) as u64;
        if random.chance(50) {
            self.ids.clear();
        }
    }
}
