//! The broker as the roles see it: queues whose messages are held until they are acknowledged.
//!
//! The contract is weak, so that a real broker can keep it over crashes: a message that was published may be
//! lost, delivered twice, late, to several hosts, and again after it was acknowledged.

use crate::registry::HostReport;
use crate::shard::{DatasetKey, JobKey};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A delivery that is not acknowledged is made again after this time without a sign of life.
pub const ACK_WAIT: Duration = Duration::from_secs(30);

/// Interval of the signs of life of a host that works.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Longest message in bytes: the broker's default.
pub const BODY_LEN_MAX: usize = 1 << 20;

/// A queue of the broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BrokerQueue {
    /// Shards of a dataset, for hosts that have it.
    Shards(DatasetKey),
    /// Results of a job, for the host that submitted it.
    Results(JobKey),
    /// Shards of a job that no host could finish, for people to look at.
    Dead(JobKey),
    /// Reasons for which hosts gave back shards of a job, for people as well.
    Reasons(JobKey),
}

impl fmt::Display for BrokerQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shards(dataset) => write!(f, "shards.{dataset}"),
            Self::Results(job) => write!(f, "results.{job}"),
            Self::Dead(job) => write!(f, "dead.{job}"),
            Self::Reasons(job) => write!(f, "reasons.{job}"),
        }
    }
}

/// A delivery, to be acknowledged; never used again by the same transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryTag(pub u64);

/// A request of a role to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerCommand {
    /// Stores a message; answered by [`BrokerEvent::Published`].
    Publish {
        /// Where.
        queue: BrokerQueue,
        /// A second message of this id is dropped while the broker remembers the first.
        id: String,
        /// The message.
        body: Vec<u8>,
    },
    /// Asks for up to `len` messages; answered by [`BrokerEvent::Delivered`] for each and, when no more come
    /// for this request, by [`BrokerEvent::Pulled`].
    Pull {
        /// From where.
        queue: BrokerQueue,
        /// Messages.
        len: usize,
    },
    /// The delivery is done with.
    Ack(DeliveryTag),
    /// The delivery is still worked on.
    Progress(DeliveryTag),
    /// The delivery is for another host, after a pause.
    Return(DeliveryTag, Duration),
    /// Nobody asks for messages of this queue any more: drop what is left.
    Forget(BrokerQueue),
}

/// An event of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerEvent {
    /// The outcome of a `Publish`. Without `stored` the message may be there or not.
    Published {
        /// Id of the message.
        id: String,
        /// The broker acknowledged it.
        stored: bool,
    },
    /// A message.
    Delivered {
        /// From where.
        queue: BrokerQueue,
        /// Names the delivery in the answer.
        tag: DeliveryTag,
        /// Number of this delivery of the message, from 1.
        delivery: u64,
        /// The message.
        body: Vec<u8>,
    },
    /// A `Pull` has ended.
    Pulled {
        /// From where.
        queue: BrokerQueue,
    },
}

/// State of the broker, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerSurvey {
    /// Time that it took to store a message.
    pub delay: Duration,
    /// Shards that wait for a host, by dataset; only those of datasets that this host has asked for.
    pub backlog: BTreeMap<String, u64>,
}

/// A connection to a broker.
///
/// Commands are carried out in the background; the events come to whom the transport was made with. A
/// connection that is lost is the transport's to mend: meanwhile publishing fails, and pulls end empty.
pub trait Transport {
    /// Starts `command`.
    fn send(&mut self, command: BrokerCommand);

    /// Tells whoever looks for hosts. Losing it does no harm.
    fn report(&mut self, _report: &HostReport) {}
}
