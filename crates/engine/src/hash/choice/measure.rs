//! Measurement of how long a backend takes.
//!
//! Each candidate is timed several times, in turns with the others, and its least time counts: a
//! disturbance only adds to it.

use super::MESSAGE_COST_LEN;
use crate::clock::Stopwatch;
use crate::hash::Backend;
use ipc_proto::Algorithm;
use std::hint::black_box;

/// Number of timings per candidate. In the first ones, code and data come into the caches.
const ROUNDS: usize = 4;

/// Number of timings after which a candidate counts as slow that takes [`SLOW_FACTOR`] times as long as
/// the fastest, and is timed no more.
const SLOW_ROUNDS: usize = 2;
const SLOW_FACTOR: u64 = 2;

/// Smallest gain that counts, as a fraction 1/N of the time: of two backends that are about the
/// same, every start must choose the same.
const EVEN_PART: u64 = 16;

/// Messages that cost less than this many bytes are hashed repeatedly: a clock does not see less.
const TIMED_LEN_MIN: usize = 2 << 10;

/// The messages that are timed: hashed at once, all of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) count: usize,
    pub(super) len: usize,
}

/// The least time of each candidate; `time` measures the time per message.
pub(super) fn least_times<B: Copy>(candidates: &[B], mut time: impl FnMut(B) -> u64) -> Vec<u64> {
    let mut least = vec![u64::MAX; candidates.len()];
    for round in 0..ROUNDS {
        let fastest = least.iter().min().map_or(0, |&fastest| fastest);
        let limit =
            if round < SLOW_ROUNDS { u64::MAX } else { fastest.saturating_mul(SLOW_FACTOR) };
        for (least, &candidate) in least.iter_mut().zip(candidates) {
            if *least <= limit {
                *least = time(candidate).min(*least);
            }
        }
    }
    least
}

/// The candidate with the least time, or the first of those that are about as fast.
pub(super) fn fastest<B>(times: impl IntoIterator<Item = (B, u64)>) -> B {
    let faster = |best: (B, u64), other: (B, u64)| {
        if other.1.saturating_add(other.1 / EVEN_PART) < best.1 { other } else { best }
    };
    times.into_iter().reduce(faster).expect("there is a candidate").0
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
        Self { algorithm, data: Vec::new(), out: Vec::new(), hashed_len: 0 }
    }

    /// Bytes hashed so far.
    pub(super) fn hashed_len(&self) -> u64 {
        self.hashed_len
    }

    /// Time that `backend` takes per message of the case, in picoseconds.
    pub(super) fn time_ps(&mut self, backend: Backend, Case { count, len }: Case) -> u64 {
        if self.data.len() < count * len {
            self.data.resize(count * len, 0x5a);
        }
        let inputs: Vec<&[u8]> = self.data.chunks_exact(len).take(count).collect();
        let repeats = TIMED_LEN_MIN.div_ceil(count * (len + MESSAGE_COST_LEN));
        self.hashed_len += (repeats * count * len) as u64;
        let watch = Stopwatch::start();
        for _ in 0..repeats {
            self.out.clear();
            backend.hash_many(self.algorithm, black_box(&inputs), &mut self.out);
        }
        watch.elapsed_ns().saturating_mul(1000) / (repeats * count) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fastest of candidates whose measurements are these, in turns; one that ends early is not
    /// measured again.
    #[track_caller]
    fn check(times: &[&[u64]], want: usize) {
        let mut timed = vec![0; times.len()];
        let candidates: Vec<usize> = (0..times.len()).collect();
        let least = least_times(&candidates, |candidate| {
            timed[candidate] += 1;
            times[candidate][timed[candidate] - 1]
        });
        assert_eq!(timed, times.iter().map(|times| times.len()).collect::<Vec<_>>());
        assert_eq!(fastest(candidates.into_iter().zip(least)), want, "{times:?}");
    }

    #[test]
    fn uses_the_minimum_time() {
        check(&[&[100; 4], &[50; 4]], 1);
        check(&[&[50; 4], &[100; 4]], 0);
        check(&[&[100; 4], &[900, 150, 120, 50]], 1);
        check(&[&[100, 5000, 130, 120], &[120; 4]], 0);
        check(&[&[90_000, 50, 50, 60], &[100; 4]], 0);
    }

    #[test]
    fn a_slow_backend_is_timed_less_often() {
        check(&[&[101; 2], &[50; 4], &[300, 200]], 1);
        check(&[&[500, 101], &[50; 4], &[100, 150, 100, 100]], 1);
    }

    #[test]
    fn prefers_the_first_of_two_equally_fast_backends() {
        check(&[&[100; 4], &[100; 4]], 0);
        check(&[&[100; 4], &[95; 4], &[97; 4]], 0);
        check(&[&[0; 4], &[0; 4]], 0);
        check(&[&[u64::MAX; 4], &[u64::MAX - 1; 4]], 0);
        check(&[&[100; 4], &[94; 4]], 1);
    }

    #[test]
    fn every_case_is_timed_over_its_bytes() {
        for &backend in Backend::available() {
            for (case, hashed_len) in [
                (Case { count: 4, len: 40 }, 5 * 160),
                (Case { count: 16, len: 768 }, 12 << 10),
                (Case { count: 3, len: 20 << 10 }, 60 << 10),
            ] {
                let mut meter = Meter::new(Algorithm::Sha512);
                assert!(meter.time_ps(backend, case) > 0, "{case:?} by {}", backend.name());
                assert_eq!(meter.hashed_len(), hashed_len, "{case:?}");
            }
        }
    }
}
