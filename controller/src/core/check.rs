//! Cross-check policy: a sample of the outputs is computed once more, by another backend and on another
//! worker if there is one. Where the two differ a third run decides. The worker that stands alone is given
//! no more work if it was given bytes that nobody could change; a file can be written to without a trace
//! (through a mapping), so a worker that read one is doubted and not blamed.
//!
//! Invariant: an item of the sample gets only an output that two runs gave, or one whose file could not
//! be read again: it changed since. One for which workers are lost fails, as any other.
//!
//! Not here: what a verdict changes (`results`).

use super::JobId;
use ipc_proto::Blob;
use ipc_proto::message::Failure;
use std::rc::Rc;

/// Runs that decide over an item.
const RUNS_MAX: usize = 3;

/// Which items are checked: one in so many, by a number that no worker knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sampler {
    /// 0 for none.
    pub(super) every: u32,
    pub(super) seed: u64,
}

impl Sampler {
    /// True if nothing is checked in a job whose client requests one item in `every`.
    pub(super) const fn is_idle(self, every: u32) -> bool {
        self.every == 0 && every == 0
    }

    /// True if item `index` is checked in a job whose client requests one in `every`.
    pub(super) fn picks(self, job: JobId, index: u64, every: u32) -> bool {
        let every = match (self.every, every) {
            (0, every) | (every, 0) => every,
            (ours, theirs) => ours.min(theirs),
        };
        every > 0 && mix(mix(self.seed ^ job.number) ^ index).is_multiple_of(every.into())
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Outputs of one worker for all items of a batch.
#[derive(Clone, Debug)]
pub(super) struct Vote {
    pub(super) worker: Rc<str>,
    /// True if no other worker had a part in it.
    pub(super) is_own: bool,
    pub(super) outputs: Blob,
}

impl Vote {
    /// The output of the item at `position`, of `items_len`.
    pub(super) fn output_of(&self, position: usize, items_len: usize) -> &[u8] {
        let len = self.outputs.len() / items_len;
        &self.outputs[position * len..][..len]
    }

    /// The vote on the items at `positions`, of `items_len`.
    pub(super) fn pick(&self, positions: &[usize], items_len: usize) -> Self {
        let outputs = positions.iter().flat_map(|&position| self.output_of(position, items_len));
        let outputs = Blob(outputs.copied().collect());
        Self { worker: Rc::clone(&self.worker), outputs, ..*self }
    }
}

/// The state of an item after another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling<'a> {
    /// Its outcome; votes for another output are wrong.
    Settled(Result<&'a [u8], Failure>),
    /// Another run has to decide.
    Open,
}

/// Judges an item for which `votes` were given, of which there are some, by the `outcome` of the next
/// run. If not even two runs agree it fails with `dispute`.
pub(super) fn judge<'a>(
    votes: &[&'a [u8]],
    outcome: Result<&'a [u8], Failure>,
    dispute: Failure,
) -> Ruling<'a> {
    match (outcome, votes) {
        (Err(_), [output]) => Ruling::Settled(Ok(output)),
        (Err(_), _) => Ruling::Settled(outcome),
        (Ok(output), _) if votes.contains(&output) => Ruling::Settled(outcome),
        (Ok(_), _) if votes.len() + 1 < RUNS_MAX => Ruling::Open,
        (Ok(_), _) => Ruling::Settled(Err(dispute)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_equal_outputs_settle_an_item_and_three_different_ones_dispute_it() {
        let (a, b, c) = (&b"a"[..], &b"b"[..], &b"c"[..]);
        let changed = Err(Failure::Changed);
        for (votes, outcome, want) in [
            (&[a][..], Ok(a), Ruling::Settled(Ok(a))),
            (&[a], Ok(b), Ruling::Open),
            (&[a], changed, Ruling::Settled(Ok(a))),
            (&[a, b], Ok(a), Ruling::Settled(Ok(a))),
            (&[a, b], Ok(b), Ruling::Settled(Ok(b))),
            (&[a, b], Ok(c), Ruling::Settled(Err(Failure::Disputed))),
            (&[a, b], changed, Ruling::Settled(changed)),
        ] {
            assert_eq!(judge(votes, outcome, Failure::Disputed), want, "{votes:?}, {outcome:?}");
        }
    }
}
