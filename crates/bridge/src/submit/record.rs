//! Lines of the ledger, and what they say together.

use crate::shard::{ShardAnswer, ShardKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerRecord {
    /// The next attempt at a shard is going to be published.
    Attempt(ShardKey),
    /// The result of a shard. It is final unless its host is distrusted later, and it was not audited.
    Answer(ShardAnswer),
    /// This host has found the same as the result of this shard.
    Audited(u32),
    /// This host has found another digest than that one: its results that were not audited are withdrawn.
    Distrust(String),
    /// The job is done, with all that was to be audited.
    Finished,
}

/// An answer that counts, without its outcomes: they are in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedAnswer {
    /// The attempt.
    pub attempt: u32,
    /// Name of the host.
    pub host: Arc<str>,
    /// It is a dead letter.
    pub is_dead: bool,
}

/// The state of a job by its ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerState {
    /// The last attempt at each shard.
    pub attempts: BTreeMap<u32, u32>,
    /// Results that count, by shard.
    pub answers: BTreeMap<u32, AcceptedAnswer>,
    /// Hosts that have answered.
    pub hosts: BTreeSet<Arc<str>>,
    /// Shards whose results this host has found as well.
    pub audited: BTreeSet<u32>,
    /// Hosts whose results do not count.
    pub distrusted: BTreeSet<String>,
    /// The job is done.
    pub is_finished: bool,
}

impl LedgerState {
    /// That of a whole ledger.
    #[must_use]
    pub fn of(records: &[LedgerRecord]) -> Self {
        let mut state = Self::default();
        records.iter().for_each(|record| state.add(record));
        state
    }

    /// Takes in the next line.
    pub fn add(&mut self, record: &LedgerRecord) {
        match record {
            LedgerRecord::Attempt(key) => {
                self.attempts.insert(key.shard, key.attempt);
            }
            LedgerRecord::Answer(answer) => {
                let host = self.hosts.get(&*answer.host).cloned().unwrap_or_else(|| {
                    let host: Arc<str> = answer.host.as_str().into();
                    self.hosts.insert(Arc::clone(&host));
                    host
                });
                let (attempt, is_dead) = (answer.key.attempt, !answer.is_of_digests());
                self.answers.insert(answer.key.shard, AcceptedAnswer { attempt, host, is_dead });
            }
            LedgerRecord::Audited(shard) => {
                self.audited.insert(*shard);
            }
            LedgerRecord::Distrust(host) => {
                let audited = &self.audited;
                self.answers
                    .retain(|shard, answer| *answer.host != **host || audited.contains(shard));
                self.distrusted.insert(host.clone());
            }
            LedgerRecord::Finished => self.is_finished = true,
        }
    }
}

/// The share of results that the submitting host looks at itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditShare {
    /// From 0 for none to 1 for all.
    pub share: f64,
    /// Unknown to other hosts, so that they cannot know which.
    pub secret: u64,
}

impl AuditShare {
    /// True for the shards of the share.
    pub(super) fn has(self, shard: u32) -> bool {
        // SplitMix64 (Steele, Lea, Flood 2014).
        let mut z = self.secret.wrapping_add(u64::from(shard).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
        f64::from(bits) < self.share * f64::from(u32::MAX) || self.share >= 1.0
    }
}
