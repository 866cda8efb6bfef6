//! A seeded simulation of the core among unreliable workers and impatient clients.
//!
//! Workers die, hang past their heartbeat, answer late, twice, with an old attempt, or wrongly; in some
//! worlds one gives wrong outputs, and everything is cross-checked;
//! clients open jobs of every kind, cancel them, leave in the middle, or say nonsense. Some datasets
//! are on some workers only, or on none, or unknown; pages of directories are wanted, and not wanted any more. A model
//! computes what every item must give, and checks after every step that results are right, come
//! exactly once, and stay inside the windows; every invariant of the core is asserted as well. The digest of "file n" is a function of n, and a
//! merge gives it only if the parts cover the file once, in order.
//!
//! `HASHCLUSTER_SIM_SEEDS` sets how many seeds are run (150), `HASHCLUSTER_SIM_FIRST` the first.

mod model;
mod tally;
mod world;

use tally::CoreCounts;
use world::World;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number of seeds"))
}

#[test]
#[expect(clippy::print_stdout, reason = "what happened is the result of a long run")]
fn simulation_resolves_every_item_exactly_once() {
    let first = setting("HASHCLUSTER_SIM_FIRST", 1);
    let seeds = setting("HASHCLUSTER_SIM_SEEDS", 150);
    let mut total = CoreCounts::default();
    for seed in first..first + seeds {
        total.add(&World::new(seed).run());
    }
    println!("{seeds} seeds from {first}: {total:?}");
    total.assert_everything_happened();
}

#[test]
fn simulation_gives_the_same_trace_for_the_same_seed() {
    for seed in [1, 7, 99] {
        let trace = |seed| World::new(seed).traced().run().trace;
        let (one, other) = (trace(seed), trace(seed));
        assert!(one.len() > 100, "seed {seed} did something");
        assert_eq!(one, other, "seed {seed}");
        assert_ne!(one, trace(seed + 1));
    }
}
