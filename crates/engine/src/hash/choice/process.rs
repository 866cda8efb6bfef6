//! The choices of a process, and when it makes them.
//!
//! A daemon measures when it starts ([`choose`]). Embedded in another program, this measures a family
//! of algorithms once that has been asked to hash as much as makes the time for it small, and goes by
//! the order of [`Backend::available`] until then. A choice that was made stays.

use super::measure::Meter;
use super::{Choice, Forced};
use crate::hash::{Backend, Stream};
use ipc_proto::Algorithm;
use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Algorithms that differ in constants only, so that one is measured for all of its family: the
/// first.
const FAMILIES: [&[Algorithm]; 3] = [
    &[Algorithm::Sha256, Algorithm::Sha224],
    &[Algorithm::Sha512, Algorithm::Sha384, Algorithm::Sha512_256],
    &[Algorithm::Blake3],
];

/// How many bytes of a family's messages a process hashes before that is worth measuring, unless it
/// asks: measuring takes about as long as a tenth of them.
const UNMEASURED_LEN_MAX: u64 = 64 << 20;

impl Choice {
    /// What this process chose for `algorithm`.
    ///
    /// # Panics
    /// If [`Backend::check`] fails.
    #[must_use]
    pub fn of(algorithm: Algorithm) -> Self {
        PROCESS.choice(algorithm, 0)
    }
}

/// Appends the digest of each input to `out`, in order, by the backends that are the fastest for
/// messages like these.
///
/// # Panics
/// If [`Backend::check`] fails.
pub fn hash_many(algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
    let len = inputs.iter().map(|input| input.len() as u64).sum();
    PROCESS.choice(algorithm, len).hash_many(algorithm, inputs, out);
}

/// Starts a message that comes in pieces, by the backend that is the fastest for it.
///
/// # Panics
/// If [`Backend::check`] fails.
#[must_use]
pub fn stream(algorithm: Algorithm) -> Stream {
    Choice::of(algorithm).stream.stream(algorithm)
}

/// Makes every choice of this process now, as a daemon does that is about to work: a few
/// milliseconds of measuring, less what is `forced`. A choice that was made before stays.
///
/// Gives each family of algorithms with its choice.
///
/// # Panics
/// If [`Backend::check`] fails.
pub fn choose(forced: Option<Forced>) -> [(&'static [Algorithm], Choice); FAMILIES.len()] {
    PROCESS.choose(forced)
}

static PROCESS: Chooser = Chooser::new();

/// The choices of a process.
struct Chooser {
    families: [Family; FAMILIES.len()],
    /// Bytes that were hashed for no other purpose.
    measured_len: AtomicU64,
}

struct Family {
    choice: OnceLock<Choice>,
    /// Bytes that were hashed without one.
    hashed_len: AtomicU64,
}

impl Chooser {
    const fn new() -> Self {
        let families = [const { Family { choice: OnceLock::new(), hashed_len: AtomicU64::new(0) } };
            FAMILIES.len()];
        Self { families, measured_len: AtomicU64::new(0) }
    }

    fn choose(&self, forced: Option<Forced>) -> [(&'static [Algorithm], Choice); FAMILIES.len()] {
        array::from_fn(|i| {
            let model = FAMILIES[i][0];
            let forced = forced.and_then(|Forced(name)| serving(model).find(|b| b.name() == name));
            let choose = || forced.map_or_else(|| self.measure(model), Choice::by);
            (FAMILIES[i], *self.families[i].choice.get_or_init(choose))
        })
    }

    /// The choice for `algorithm`, of which `len` bytes are hashed next.
    fn choice(&self, algorithm: Algorithm, len: u64) -> Choice {
        let is_its = |algorithms: &&[Algorithm]| algorithms.contains(&algorithm);
        let i = FAMILIES.iter().position(is_its).expect("every algorithm is in a family");
        let Family { choice, hashed_len } = &self.families[i];
        if let Some(choice) = choice.get() {
            return *choice;
        }
        if hashed_len.fetch_add(len, Ordering::Relaxed).saturating_add(len) < UNMEASURED_LEN_MAX {
            return Choice::by(serving(algorithm).next().expect("portable serves all"));
        }
        *choice.get_or_init(|| self.measure(FAMILIES[i][0]))
    }

    fn measure(&self, algorithm: Algorithm) -> Choice {
        let whole: Vec<Backend> = serving(algorithm).collect();
        if let [only] = whole[..] {
            return Choice::by(only);
        }
        let streams: Vec<Backend> = serving(algorithm).filter(|b| b.streams()).collect();
        let mut meter = Meter::new(algorithm);
        let is_tree = algorithm == Algorithm::Blake3;
        let time = |backend, case| meter.ns(backend, case);
        let choice = Choice::measured(is_tree, &whole, &streams, time);
        self.measured_len.fetch_add(meter.hashed_len(), Ordering::Relaxed);
        choice
    }
}

pub(super) fn serving(algorithm: Algorithm) -> impl Iterator<Item = Backend> {
    Backend::available().iter().copied().filter(move |backend| backend.serves(algorithm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_of_a_family_have_the_same_backends() {
        let mut all: Vec<Algorithm> = FAMILIES.concat();
        for family in FAMILIES {
            for &algorithm in family {
                let backends: Vec<_> = serving(algorithm).map(Backend::name).collect();
                let model: Vec<_> = serving(family[0]).map(Backend::name).collect();
                assert_eq!(backends, model, "{algorithm}");
            }
        }
        all.sort_unstable();
        assert_eq!(all, Algorithm::ALL);
    }

    /// What is measured does not depend on the machine, but for how many backends it has.
    #[test]
    fn a_start_measures_at_most_two_megabytes_for_each_backend() {
        let chooser = Chooser::new();
        chooser.choose(None);
        let candidates = FAMILIES.iter().map(|family| serving(family[0]).count());
        let timed: usize = candidates.filter(|&candidates| candidates > 1).sum();
        let measured_len = chooser.measured_len.load(Ordering::Relaxed);
        assert!(measured_len <= timed as u64 * (2 << 20), "{measured_len} for {timed}");
        assert_eq!(measured_len == 0, timed == 0);
        chooser.choose(None);
        chooser.choice(Algorithm::Sha256, u64::MAX);
        assert_eq!(chooser.measured_len.load(Ordering::Relaxed), measured_len, "only once");
    }

    #[test]
    fn a_program_that_hashes_little_measures_nothing() {
        let chooser = Chooser::new();
        for algorithm in Algorithm::ALL {
            for _ in 0..1000 {
                let choice = chooser.choice(algorithm, 4096);
                assert_eq!(choice, Choice::by(serving(algorithm).next().unwrap()));
            }
        }
        assert_eq!(chooser.measured_len.load(Ordering::Relaxed), 0);
        assert!(chooser.families.iter().all(|family| family.choice.get().is_none()));
    }

    #[test]
    fn a_program_that_hashes_much_measures_that_family_once() {
        let chooser = Chooser::new();
        chooser.choice(Algorithm::Sha224, UNMEASURED_LEN_MAX - 1);
        assert!(chooser.families[0].choice.get().is_none());
        let choice = chooser.choice(Algorithm::Sha256, 1);
        assert_eq!(chooser.families[0].choice.get(), Some(&choice));
        assert_eq!(chooser.choice(Algorithm::Sha224, 1 << 40), choice);
        assert!(chooser.families[1..].iter().all(|family| family.choice.get().is_none()));
        let is_measured = chooser.measured_len.load(Ordering::Relaxed) > 0;
        assert_eq!(is_measured, serving(Algorithm::Sha256).count() > 1);
    }

    #[test]
    fn a_forced_backend_does_all_that_it_serves() {
        for &backend in Backend::available() {
            let forced: Forced = backend.name().parse().unwrap();
            for (algorithms, choice) in Chooser::new().choose(Some(forced)) {
                let mut named = serving(algorithms[0]).filter(|b| b.name() == backend.name());
                if let Some(named) = named.next() {
                    assert_eq!(choice, Choice::by(named), "{algorithms:?}");
                    assert_eq!(choice.to_string(), backend.name());
                }
            }
        }
        let forced = Some(Forced("portable"));
        let chooser = Chooser::new();
        chooser.choose(forced);
        assert_eq!(chooser.measured_len.load(Ordering::Relaxed), 0, "nothing is left to measure");
    }
}
