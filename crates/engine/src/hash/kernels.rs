//! What one batch is hashed by: the backends of this process' choice or, to check those, others.

use super::{Choice, Midway, choice};
use ipc_proto::Algorithm;

/// The backends that one batch is hashed by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    algorithm: Algorithm,
    /// `None` for the usual ones, which may still be chosen with what they hash.
    other: Option<Choice>,
}

impl Kernels {
    /// Those that are the fastest here.
    pub(crate) const fn usual(algorithm: Algorithm) -> Self {
        Self { algorithm, other: None }
    }

    /// Others, to check what the usual ones gave. A stream has only one.
    pub(crate) fn others(algorithm: Algorithm) -> Self {
        Self { algorithm, other: Some(Choice::of(algorithm).other(algorithm)) }
    }

    /// What they compute.
    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many messages [`Kernels::hash_many`] takes best at once.
    pub(crate) fn lanes(&self) -> usize {
        self.other.unwrap_or_else(|| Choice::of(self.algorithm)).lanes()
    }

    /// How many long messages are best absorbed beside each other.
    pub(crate) fn long_lanes(&self) -> usize {
        // Alone, a message goes to the portable backend: another one than beside others.
        if self.other.is_some() { 1 } else { Midway::lanes(self.algorithm) }
    }

    /// As [`choice::hash_many`].
    pub(crate) fn hash_many(&self, inputs: &[&[u8]], out: &mut Vec<u8>) {
        match &self.other {
            Some(choice) => choice.hash_many(self.algorithm, inputs, out),
            None => choice::hash_many(self.algorithm, inputs, out),
        }
    }
}
