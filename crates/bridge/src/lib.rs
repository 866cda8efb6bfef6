//! Work for many hosts: one host lists a dataset and cuts it into shards, others hash them with their own
//! controllers and workers, and a broker carries shards and results between them.
//!
//! [`submit`] and [`serve`] are the two roles, pure state machines: `step(now, event)` returns actions, and
//! whoever drives them performs these in their order. What they send goes through a [`transport::Transport`].
//! [`ledger`] is the record of a job on the submitting host.
//!
//! Invariants:
//! - the broker is never the record: what it forgets, the submitting host publishes again from its ledger;
//! - a result counts for the attempt that is current, once, and is in the ledger before the broker is told;
//! - bytes of files do not go through the broker.
//!
//! Not here: how a host hashes. To its controller a host that serves is a client like any other.

mod clock;
pub mod config;
pub mod drive;
pub mod ledger;
pub mod local;
mod metrics;
pub mod nats;
pub mod program;
pub mod registry;
pub mod serve;
pub mod shard;
pub mod submit;
pub mod transport;
pub mod tree;
