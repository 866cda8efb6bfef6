//! Measurement of how long a backend takes.
//!
//! Each candidate is timed several times, in turns with the others, and its least time counts: a
//! disturbance only adds to it. One that is slow at first is not timed again.

use super::{CLASSES, Class, SAMPLE_FEW, SAMPLE_MANY};
use crate::clock::Stopwatch;
use crate::hash::Backend;
use ipc_proto::Algorithm;
use std::hint::black_box;

/// Number of timings per candidate, unless it is slow.
const ROUNDS: usize = 2;

/// A candidate that takes this many times as long as the fastest in the first round is not timed again,
/// unless it stands before that one: it is expected to be faster, and may only have been interrupted.
const SLOW_FACTOR: u64 = 2;

/// Smallest gain that counts, as a fraction 1/N of the time: of two backends that are about the
/// same, every start must choose the same.
const EVEN_PART: u64 = 16;

/// Fewer bytes are hashed repeatedly until they are as many: a clock does not see less.
const TIMED_LEN_MIN: usize = 4 << 10;

/// The messages that are timed: hashed at once, all of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) count: usize,
    pub(super) len: usize,
}

/// The fastest of `candidates`, or the first of those that are about as fast. One alone is not
/// timed.
pub(super) fn fastest<B: Copy>(candidates: &[B], mut time: impl FnMut(B) -> u64) -> B {
    let mut least = vec![u64::MAX; candidates.len()];
    let rounds = if candidates.len() > 1 { ROUNDS } else { 0 };
    for _ in 0..rounds {
        let (fastest, limit) = least
            .iter()
            .copied()
            .enumerate()
            .min_by_key(|&(_, least)| least)
            .map_or((0, u64::MAX), |(i, least)| (i, least.saturating_mul(SLOW_FACTOR)));
        for (i, (least, &candidate)) in least.iter_mut().zip(candidates).enumerate() {
            if i < fastest || *least <= limit {
                *least = time(candidate).min(*least);
            }
        }
    }
    let mut best = 0;
    for i in 1..candidates.len() {
        if least[i].saturating_add(least[i] / EVEN_PART) < least[best] {
            best = i;
        }
    }
    candidates[best]
}

/// Times backends by the clock, for one algorithm.
pub(super) struct Meter {
    algorithm: Algorithm,
    /// Bytes to hash: messages lie in it back to back, as files do after reading.
    data: Vec<u8>,
    out: Vec<u8>,
    hashed_len: u64,
}

impl Meter {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let count = |class: &Class| if class.is_for_trees { SAMPLE_FEW } else { SAMPLE_MANY };
        let longest = CLASSES.iter().map(|class| class.sample_len * count(class)).max();
        let len = longest.expect("there are classes");
        Self { algorithm, data: vec![0x5a; len], out: Vec::new(), hashed_len: 0 }
    }

    /// Bytes hashed so far.
    pub(super) fn hashed_len(&self) -> u64 {
        self.hashed_len
    }

    /// Time that `backend` takes for the case, in nanoseconds.
    pub(super) fn ns(&mut self, backend: Backend, Case { count, len }: Case) -> u64 {
        let inputs: Vec<&[u8]> = self.data.chunks_exact(len).take(count).collect();
        let repeats = TIMED_LEN_MIN.div_ceil(count * len);
        self.hashed_len += (repeats * count * len) as u64;
        let watch = Stopwatch::start();
        for _ in 0..repeats {
            self.out.clear();
            backend.hash_many(self.algorithm, black_box(&inputs), &mut self.out);
        }
        watch.elapsed_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fastest of candidates whose measurements are these, in turns; those behind the fastest of
    /// the first round that are slow in it are measured once.
    #[track_caller]
    fn check(times: &[[u64; ROUNDS]], want: usize) {
        let mut timed = vec![0; times.len()];
        let candidates: Vec<usize> = (0..times.len()).collect();
        let best = fastest(&candidates, |candidate| {
            timed[candidate] += 1;
            times[candidate][timed[candidate] - 1]
        });
        assert_eq!(best, want, "{times:?}");
        let fastest = (0..times.len()).min_by_key(|&i| times[i][0]).unwrap();
        let first_of_fastest = times[fastest][0];
        for (i, (timed, times)) in timed.into_iter().zip(times).enumerate() {
            let is_slow = i > fastest && times[0] > first_of_fastest.saturating_mul(SLOW_FACTOR);
            assert_eq!(timed, if is_slow { 1 } else { ROUNDS }, "{times:?}");
        }
    }

    #[test]
    fn uses_the_minimum_time() {
        check(&[[100, 100], [50, 50]], 1);
        check(&[[50, 50], [100, 100]], 0);
        check(&[[100, 100], [150, 50]], 1);
        check(&[[100, 5000], [120, 120]], 0);
        check(&[[300; 2], [100; 2], [200; 2]], 1);
        check(&[[90_000, 50], [100; 2], [800; 2]], 0);
    }

    #[test]
    fn prefers_the_first_of_two_equally_fast_backends() {
        check(&[[100; 2], [100; 2]], 0);
        check(&[[100; 2], [95; 2], [97; 2]], 0);
        check(&[[0; 2], [0; 2]], 0);
        check(&[[u64::MAX; 2], [u64::MAX - 1; 2]], 0);
        check(&[[100; 2], [94; 2]], 1);
    }

    #[test]
    fn a_single_candidate_is_not_timed() {
        assert_eq!(fastest(&["only"], |_| panic!("timed")), "only");
    }

    #[test]
    fn every_case_is_timed_over_its_bytes() {
        for &backend in Backend::available() {
            for (case, hashed_len) in [
                (Case { count: 4, len: 40 }, 26 * 160),
                (Case { count: 16, len: 768 }, 12 << 10),
                (Case { count: 4, len: 20 << 10 }, 80 << 10),
            ] {
                let mut meter = Meter::new(Algorithm::Sha512);
                assert!(meter.ns(backend, case) > 0, "{case:?} by {}", backend.name());
                assert_eq!(meter.hashed_len(), hashed_len, "{case:?}");
            }
        }
    }
}
