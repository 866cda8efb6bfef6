//! Durable jobs among crashes: the book, the core and a journal that fails, with workers that die and
//! clients that ask again.
//!
//! A crash can come between any two steps: before a commit, after it and before the book hears of it, in
//! the middle of a recovery. The journal is sometimes full. A client keeps what the controller has
//! acknowledged and compares it with what it is told after every crash; at the end each manifest must be
//! that of the items. Late answers of workers carry wrong digests, so that one that were accepted shows.
//!
//! `HASHCLUSTER_SIM_SEEDS` sets how many seeds are run (500), `HASHCLUSTER_SIM_FIRST` the first.

mod audits;
mod client;
mod disk;
mod history;
mod totals;
mod world;

use totals::Totals;
use world::{Broken, JobsWorld};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number of seeds"))
}

#[test]
#[expect(clippy::print_stdout, reason = "what happened is the result of a long run")]
fn durable_jobs_have_the_same_manifest_after_any_number_of_crashes() {
    let first = setting("HASHCLUSTER_SIM_FIRST", 1);
    let seeds = setting("HASHCLUSTER_SIM_SEEDS", 500);
    let mut totals = Totals::default();
    for seed in first..first + seeds {
        let world = JobsWorld::new(seed, Broken::Nothing);
        totals.add(&world.run().unwrap_or_else(|loss| panic!("seed {seed}: {loss}")));
    }
    println!("{seeds} seeds from {first}: {totals:?}");
    totals.assert_everything_happened();
}

/// A test of the test above.
#[test]
fn an_fsync_that_lies_is_caught() {
    let caught = (1..=40).filter(|&seed| JobsWorld::new(seed, Broken::Sync).run().is_err()).count();
    assert!(caught >= 10, "{caught} of 40 worlds saw that something acknowledged was lost");
}

/// Another one: the model finds it in the history before a manifest shows it.
#[test]
fn an_answer_of_an_old_attempt_that_is_accepted_is_caught() {
    let found = (1..=40).filter_map(|seed| JobsWorld::new(seed, Broken::Fence).run().err());
    let caught = found.filter(|text| text.contains("an answer of an old attempt")).count();
    assert!(caught >= 10, "{caught} of 40 histories showed that an old attempt was accepted");
}
