//! What a worker says that it computed, item by item.

use ipc_proto::Blob;
use ipc_proto::message::{Failure, Failures};

/// The outcome of each item of a batch.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) items_len: usize,
    /// Of the items that did not fail, back to back, of one length.
    pub(super) outputs: Blob,
    /// Ascending.
    pub(super) failures: Failures,
    pub(super) busy_us: u64,
}

impl Answer {
    /// All of `items_len` items failed.
    pub(super) fn failed(items_len: usize, failure: Failure) -> Self {
        Self::of(std::iter::repeat_n(Err(failure), items_len))
    }

    /// These outcomes, in order.
    pub(super) fn of<'a>(outcomes: impl Iterator<Item = Result<&'a [u8], Failure>>) -> Self {
        let (mut items_len, mut outputs, mut failures) = (0, Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Ok(output) => outputs.extend_from_slice(output),
                Err(failure) => {
                    let position = u32::try_from(items_len).expect("a batch fits a frame");
                    failures.push((position, failure));
                }
            }
            items_len += 1;
        }
        Self { items_len, outputs: Blob(outputs), failures, busy_us: 0 }
    }

    /// The outcome of the item at `position`.
    pub(super) fn outcome(&self, position: usize) -> Result<&[u8], Failure> {
        let before = self.failures.partition_point(|&(failed, _)| (failed as usize) < position);
        match self.failures.get(before) {
            Some(&(failed, failure)) if failed as usize == position => Err(failure),
            _ => {
                let len = self.outputs.len() / (self.items_len - self.failures.len());
                Ok(&self.outputs[(position - before) * len..][..len])
            }
        }
    }

    /// The outcomes at `positions`, in their order.
    pub(super) fn pick(&self, positions: &[usize]) -> Self {
        Self::of(positions.iter().map(|&position| self.outcome(position)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_taken_apart_and_put_together_in_order() {
        let failure = Failure::Io { errno: 5 };
        let outcomes = [Err(Failure::Changed), Ok(&b"ab"[..]), Err(failure), Ok(b"cd"), Ok(b"ef")];
        let answer = Answer::of(outcomes.into_iter());
        assert_eq!((answer.items_len, &answer.outputs[..]), (5, &b"abcdef"[..]));
        assert_eq!(answer.failures, [(0, Failure::Changed), (2, failure)]);
        for (position, outcome) in outcomes.into_iter().enumerate() {
            assert_eq!(answer.outcome(position), outcome, "{position}");
        }
        let picked = answer.pick(&[2, 4, 1]);
        assert_eq!((picked.items_len, &picked.outputs[..]), (3, &b"efab"[..]));
        assert_eq!(picked.failures, [(0, failure)]);
    }
}
