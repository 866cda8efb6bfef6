//! The fuzz target `schedule` over its seeds and over random inputs.

use crate::targets;
use test_kit::{Random, fuzz};

const RUNS: u64 = 1_000;

/// Pieces of schedule files, with a bar after each.
const PIECES: &str = "schedules: |a: |b: |{|}|[|]|, |\n|\n  |\n    |kind: |sum|check|audit|scrub|dataset: |d|at: |'*/5 * * * *'|\
    30 2 * * *|'0 0 29 2 *'|every: |1h|90s|timezone: |Europe/Berlin|Australia/Lord_Howe|jitter: |parallel: |sequential: |after: |\
    parameters: |p: |'${p}'|'$$'|'${date}'|path: |manifest: |period: |30d|only: |22:00-06:00|rate: |200M|retries: |count: |3|delay: |\
    notify: |url: |http://h/|command: |on: |rot|labels: |&x |*x|!!s |- |? |: |'|\"|#|\t|\u{feff}|\u{0}";

#[test]
fn no_schedule_file_breaks_what_must_hold() {
    let pieces: Vec<&str> = PIECES.split('|').collect();
    let random = (0..RUNS).map(|seed| {
        let mut random = Random::new(seed);
        let mut text =
            String::from(["", "schedules: {a: {kind: sum, dataset: d, "][random.index(2)]);
        for _ in 0..random.index(40) {
            text += pieces[random.index(pieces.len())];
        }
        text += ["", "}}"][random.index(2)];
        (format!("seed {seed}"), text.into_bytes())
    });
    fuzz("schedule", targets::schedule, random);
}
