//! The choices of this process: each family is measured when many bytes are to be hashed for the first
//! time, or for a daemon at its start ([`choose`]). A choice that was made stays.

use super::measure::Meter;
use super::{Choice, Forced};
use crate::hash::Backend;
use ipc_proto::{Algorithm, Family};
use std::sync::OnceLock;

static CHOICES: [OnceLock<Choice>; Family::ALL.len()] =
    [const { OnceLock::new() }; Family::ALL.len()];

impl Choice {
    /// Choice of this process for `algorithm`.
    ///
    /// # Panics
    /// If [`Backend::check`] fails.
    #[must_use]
    pub fn of(algorithm: Algorithm) -> Self {
        of_family(algorithm.family(), None)
    }

    /// The same if it is made already, else the portable backend for everything. Nothing is measured.
    pub(in crate::hash) fn known_or_portable(algorithm: Algorithm) -> Self {
        let known = CHOICES[position(algorithm.family())].get();
        known.copied().unwrap_or(Self::only(Backend::PORTABLE))
    }
}

/// Makes every choice of this process now: by measurement, except for what is `forced`.
///
/// # Panics
/// If [`Backend::check`] fails.
pub fn choose(forced: Option<Forced>) -> [(Family, Choice); Family::ALL.len()] {
    Family::ALL.map(|family| (family, of_family(family, forced)))
}

fn of_family(family: Family, forced: Option<Forced>) -> Choice {
    *CHOICES[position(family)].get_or_init(|| decide(family, forced).0)
}

fn position(family: Family) -> usize {
    Family::ALL.iter().position(|other| *other == family).expect("one of all")
}

/// Decides for a family, and returns how many bytes were hashed for it.
fn decide(family: Family, forced: Option<Forced>) -> (Choice, u64) {
    let candidates: Vec<Backend> = serving(family).collect();
    let forced = forced.and_then(|Forced(name)| candidates.iter().find(|b| b.name() == name));
    match (forced, &candidates[..]) {
        (Some(&only), _) | (None, &[only]) => (Choice::only(only), 0),
        (None, _) => {
            let mut meter = Meter::new(model(family));
            let time = |backend, case| meter.time_ps(backend, case);
            let choice = if family == Family::Blake3 {
                Choice::of_trees(&candidates, time)
            } else {
                Choice::of_blocks(&candidates, Backend::width, time)
            };
            (choice, meter.hashed_len())
        }
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

    /// The amount depends only on the number of backends, not on their speed.
    #[test]
    fn a_family_is_measured_over_little() {
        for family in Family::ALL {
            let candidates = serving(family).count() as u64;
            let (_, hashed_len) = decide(family, None);
            let backend_len_max = if family == Family::Blake3 { 96 << 10 } else { 64 << 10 };
            assert!(hashed_len <= candidates * backend_len_max, "{hashed_len} for {family:?}");
            assert_eq!(hashed_len == 0, candidates == 1, "{family:?}");
        }
    }

    #[test]
    fn a_choice_that_was_made_stays() {
        let made = choose(None);
        let portable = "portable".parse().unwrap();
        assert_eq!(choose(Some(portable)), made);
        assert!(made.iter().all(|&(family, choice)| Choice::of(model(family)) == choice));
    }

    #[test]
    fn a_forced_backend_hashes_everything_that_it_serves_and_is_not_measured() {
        for &backend in Backend::available() {
            let forced: Forced = backend.name().parse().unwrap();
            for family in Family::ALL.into_iter().filter(|&f| serving(f).any(|b| b == backend)) {
                let (choice, hashed_len) = decide(family, Some(forced));
                assert_eq!((choice, hashed_len), (Choice::only(backend), 0), "{family:?}");
                assert_eq!(choice.to_string(), backend.name());
            }
        }
    }
}
