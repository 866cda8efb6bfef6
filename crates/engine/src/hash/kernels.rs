//! The backends of one batch: those of this process' choice or, to check their digests, others.

use super::Choice;
use ipc_proto::Algorithm;

/// Most messages, and most bytes of them in all, that may be hashed before the backends are measured:
/// with them that takes longer than hashing.
pub(crate) const FEW_MAX: usize = 16;
pub(crate) const FEW_LEN_MAX: usize = 128 << 10;

/// The backends that one batch is hashed by, resolved once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    algorithm: Algorithm,
    choice: Choice,
    is_check: bool,
}

impl Kernels {
    /// The backends that are the fastest here.
    pub(crate) fn usual(algorithm: Algorithm) -> Self {
        Self { algorithm, choice: Choice::of(algorithm), is_check: false }
    }

    /// The backends for [a few](FEW_MAX) messages: the fastest if they are known already.
    pub(crate) fn of_few(algorithm: Algorithm) -> Self {
        Self { algorithm, choice: Choice::known_or_portable(algorithm), is_check: false }
    }

    /// Others than the usual ones, to check their digests. A stream has only one.
    pub(crate) fn others(algorithm: Algorithm) -> Self {
        let choice = Choice::of(algorithm).other(algorithm);
        Self { algorithm, choice, is_check: true }
    }

    /// Algorithm that they compute.
    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Preferred number of messages per call of [`Kernels::hash_many`].
    pub(crate) fn preferred_batch(&self) -> usize {
        self.choice.preferred_batch()
    }

    /// Best number of long messages to interleave; 1 where interleaving gains nothing.
    pub(crate) fn interleave_max(&self) -> usize {
        // Alone, a message goes to the portable backend: another one than interleaved.
        if self.is_check { 1 } else { self.choice.interleave_max() }
    }

    /// Appends the digest of each input to `out`, in order.
    pub(crate) fn hash_many(&self, inputs: &[&[u8]], out: &mut Vec<u8>) {
        self.choice.hash_many(self.algorithm, inputs, out);
    }
}
