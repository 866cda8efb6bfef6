//! Counts of histories.

use super::broker::BrokerCounts;

/// Counts of what happened, so that a run can show that everything did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BridgeCounts {
    pub(super) broker: BrokerCounts,
    pub(super) shards: u64,
    pub(super) crashes: [u64; 3],
    pub(super) stale: u64,
    pub(super) expired: u64,
    pub(super) invalid: u64,
    pub(super) dead: u64,
    pub(super) given_up: u64,
    pub(super) returned: u64,
    pub(super) again: u64,
    pub(super) lies: u64,
    pub(super) withdrawn: u64,
}

impl BridgeCounts {
    fn fields(&self) -> Vec<u64> {
        let BrokerCounts { lost, unanswered, doubled, deduplicated, .. } = self.broker;
        let BrokerCounts { redelivered, stale_acks, forgotten, came_back, .. } = self.broker;
        let [submits, serves, brokers] = self.crashes;
        let broker = [
            lost,
            unanswered,
            doubled,
            deduplicated,
            redelivered,
            stale_acks,
            forgotten,
            came_back,
        ];
        let hosts = [self.shards, submits, serves, brokers, self.stale, self.expired, self.invalid];
        let rest = [self.dead, self.given_up, self.returned, self.again];
        let rest = [&rest[..], &[self.lies, self.withdrawn]].concat();
        [&broker[..], &hosts, &rest].concat()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let sums: Vec<u64> =
            self.fields().iter().zip(other.fields()).map(|(one, other)| one + other).collect();
        let take = |at: usize| sums[at];
        self.broker = BrokerCounts {
            lost: take(0),
            unanswered: take(1),
            doubled: take(2),
            deduplicated: take(3),
            redelivered: take(4),
            stale_acks: take(5),
            forgotten: take(6),
            came_back: take(7),
        };
        (self.shards, self.crashes) = (take(8), [take(9), take(10), take(11)]);
        (self.stale, self.expired, self.invalid) = (take(12), take(13), take(14));
        (self.dead, self.given_up) = (take(15), take(16));
        (self.returned, self.again) = (take(17), take(18));
        (self.lies, self.withdrawn) = (take(19), take(20));
    }

    pub(crate) fn assert_everything_happened(&self) {
        assert!(self.fields().iter().all(|&count| count > 0), "not everything happened: {self:?}");
    }
}
