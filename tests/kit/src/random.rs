//! Seeded random numbers, the same on every machine.

use std::hash::{BuildHasher, RandomState};
use std::thread;

/// `SplitMix64` (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
///
/// A test that fails while one is alive is told its seed.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// The generator of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// A generator with another seed in each run, or with that of `HASHCLUSTER_TEST_SEED`.
    pub fn from_entropy() -> Self {
        let given = std::env::var("HASHCLUSTER_TEST_SEED").ok();
        let given = given.map(|seed| seed.parse().expect("HASHCLUSTER_TEST_SEED is a number"));
        Self::new(given.unwrap_or_else(|| RandomState::new().hash_one(0)))
    }

    /// The seed: [`Self::new`] gives the same numbers for it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// An index into something of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next_u64() % len as u64).expect("less than a usize")
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.next_u64().to_le_bytes()[0]
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next_u64().to_le_bytes()).take(len).collect()
    }

    /// One of `values`.
    pub fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.index(values.len())].clone()
    }
}

impl Drop for Random {
    #[expect(clippy::print_stderr, reason = "a failed test needs its seed")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("random numbers of seed {}", self.seed);
        }
    }
}

/// `len` bytes without a period that fits a block; of two lengths also the starts differ.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().skip(len % 251).take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation (Vigna, `splitmix64.c`) with the seed 1234567.
    #[test]
    fn the_numbers_of_a_seed_are_those_of_the_reference() {
        let mut random = Random::new(1_234_567);
        let want =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.next_u64()), want);
    }

    #[test]
    fn bytes_are_those_of_the_numbers_whatever_their_count() {
        let numbers = [1, 2, 3].map(|_| ());
        let mut random = Random::new(7);
        let want: Vec<u8> = numbers.iter().flat_map(|()| random.next_u64().to_le_bytes()).collect();
        for len in 0..=want.len() {
            assert_eq!(Random::new(7).bytes(len), want[..len], "{len} bytes");
        }
    }

    #[test]
    fn patterns_differ_where_they_start() {
        assert_eq!(pattern(3), [3, 4, 5]);
        assert_eq!(pattern(252)[..2], [1, 2]);
        assert_eq!((pattern(1000)[250 - 247], pattern(1000).len()), (250, 1000));
    }
}
