//! The choices of a process, and when it makes them.
//!
//! A daemon measures when it starts ([`choose`]). Embedded in another program, this measures a family
//! of algorithms once that has been asked to hash as much as makes the time for it small, and goes by
//! the order of [`Backend::available`] until then. A choice that was made stays.

use super::measure::Meter;
use super::{Choice, Forced};
use crate::hash::Backend;
use ipc_proto::{Algorithm, Family};
use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a family's messages that a process hashes before a measurement is worth it, unless the
/// process asks for one: measuring takes about as long as a tenth of them.
const UNMEASURED_LEN_MAX: u64 = 64 << 20;

impl Choice {
    /// Choice of this process for `algorithm`, measured now if it has hashed enough for that.
    ///
    /// # Panics
    /// If [`Backend::check`] fails.
    #[must_use]
    pub fn of(algorithm: Algorithm) -> Self {
        PROCESS.choice(algorithm.family())
    }
}

/// Appends the digest of each input to `out`, in order, by the backends that are the fastest for
/// messages like these.
///
/// # Panics
/// If [`Backend::check`] fails.
pub fn hash_many(algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
    count(algorithm, inputs);
    Choice::of(algorithm).hash_many(algorithm, inputs, out);
}

/// Counts what is hashed before the first choice.
pub(in crate::hash) fn count(algorithm: Algorithm, inputs: &[&[u8]]) {
    PROCESS.count(algorithm.family(), || inputs.iter().map(|input| input.len() as u64).sum());
}

/// Makes every choice of this process now, as a daemon does that is about to work: by measurement,
/// except for what is `forced`. A choice that was made before stays.
///
/// Gives each family of algorithms with its choice.
///
/// # Panics
/// If [`Backend::check`] fails.
pub fn choose(forced: Option<Forced>) -> [(Family, Choice); Family::ALL.len()] {
    PROCESS.choose(forced)
}

static PROCESS: Chooser = Chooser::new();

/// The choices of a process.
struct Chooser {
    families: [Unmeasured; Family::ALL.len()],
    /// Bytes that were hashed for measurements.
    measured_len: AtomicU64,
}

/// A family that has no choice at first.
struct Unmeasured {
    choice: OnceLock<Choice>,
    /// Bytes that were hashed without one.
    hashed_len: AtomicU64,
}

impl Chooser {
    const fn new() -> Self {
        let families = [const { Unmeasured { choice: OnceLock::new(), hashed_len: AtomicU64::new(0) } };
            Family::ALL.len()];
        Self { families, measured_len: AtomicU64::new(0) }
    }

    fn choose(&self, forced: Option<Forced>) -> [(Family, Choice); Family::ALL.len()] {
        array::from_fn(|i| {
            let family = Family::ALL[i];
            let forced = forced.and_then(|Forced(name)| serving(family).find(|b| b.name() == name));
            let choose = || forced.map_or_else(|| self.measure(family), Choice::only);
            (family, *self.families[i].choice.get_or_init(choose))
        })
    }

    fn family(&self, family: Family) -> &Unmeasured {
        let i = Family::ALL.iter().position(|other| *other == family).expect("one of all");
        &self.families[i]
    }

    fn count(&self, family: Family, len: impl FnOnce() -> u64) {
        let Unmeasured { choice, hashed_len } = self.family(family);
        if choice.get().is_none() {
            hashed_len.fetch_add(len(), Ordering::Relaxed);
        }
    }

    fn choice(&self, family: Family) -> Choice {
        let Unmeasured { choice, hashed_len } = self.family(family);
        if choice.get().is_none() && hashed_len.load(Ordering::Relaxed) < UNMEASURED_LEN_MAX {
            return Choice::only(serving(family).next().expect("portable serves all"));
        }
        *choice.get_or_init(|| self.measure(family))
    }

    fn measure(&self, family: Family) -> Choice {
        let candidates: Vec<Backend> = serving(family).collect();
        if let [only] = candidates[..] {
            return Choice::only(only);
        }
        let mut meter = Meter::new(model(family));
        let time = |backend, case| meter.ns(backend, case);
        let choice = Choice::measured(family == Family::Blake3, &candidates, time);
        self.measured_len.fetch_add(meter.hashed_len(), Ordering::Relaxed);
        choice
    }
}

pub(super) fn serving(family: Family) -> impl Iterator<Item = Backend> {
    Backend::available().iter().copied().filter(move |backend| backend.serves(model(family)))
}

/// An algorithm that stands for its family: the others differ in constants only.
fn model(family: Family) -> Algorithm {
    let mut algorithms = Algorithm::ALL.into_iter().filter(|a| a.family() == family);
    algorithms.next().expect("a family has an algorithm")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: [Family; Family::ALL.len()] = Family::ALL;

    /// The amount measured depends only on the number of backends, not on their speed.
    #[test]
    fn a_start_measures_at_most_half_a_megabyte_per_backend() {
        let chooser = Chooser::new();
        chooser.choose(None);
        let candidates = FAMILIES.map(|family| serving(family).count()).into_iter();
        let timed: usize = candidates.filter(|&candidates| candidates > 1).sum();
        let measured_len = chooser.measured_len.load(Ordering::Relaxed);
        assert!(measured_len <= timed as u64 * (512 << 10), "{measured_len} for {timed}");
        assert_eq!(measured_len == 0, timed == 0);
        chooser.choose(None);
        chooser.count(Family::Sha256, || u64::MAX);
        chooser.choice(Family::Sha256);
        assert_eq!(chooser.measured_len.load(Ordering::Relaxed), measured_len, "only once");
    }

    #[test]
    fn a_program_that_hashes_little_measures_nothing() {
        let chooser = Chooser::new();
        for family in FAMILIES {
            for _ in 0..1000 {
                chooser.count(family, || 4096);
                let choice = chooser.choice(family);
                assert_eq!(choice, Choice::only(serving(family).next().unwrap()));
            }
        }
        assert_eq!(chooser.measured_len.load(Ordering::Relaxed), 0);
        assert!(chooser.families.iter().all(|family| family.choice.get().is_none()));
    }

    #[test]
    fn a_program_that_hashes_much_measures_that_family_once() {
        let chooser = Chooser::new();
        let hash = |len| {
            chooser.count(Family::Sha256, || len);
            chooser.choice(Family::Sha256)
        };
        hash(UNMEASURED_LEN_MAX - 1);
        assert!(chooser.families[0].choice.get().is_none());
        let choice = hash(1);
        assert_eq!(chooser.families[0].choice.get(), Some(&choice));
        assert_eq!(hash(1 << 40), choice);
        assert!(chooser.families[1..].iter().all(|family| family.choice.get().is_none()));
        let is_measured = chooser.measured_len.load(Ordering::Relaxed) > 0;
        assert_eq!(is_measured, serving(Family::Sha256).count() > 1);
    }

    #[test]
    fn a_forced_backend_hashes_everything_that_it_serves() {
        for &backend in Backend::available() {
            let forced: Forced = backend.name().parse().unwrap();
            for (family, choice) in Chooser::new().choose(Some(forced)) {
                if serving(family).any(|serving| serving == backend) {
                    assert_eq!(choice, Choice::only(backend), "{family:?}");
                    assert_eq!(choice.to_string(), backend.name());
                }
            }
        }
        let chooser = Chooser::new();
        chooser.choose(Some(Forced("portable")));
        assert_eq!(chooser.measured_len.load(Ordering::Relaxed), 0, "nothing is left to measure");
    }
}
