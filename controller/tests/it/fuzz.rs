//! The fuzz target `core` over its seeds and over random inputs.

use crate::targets;
use ipc_proto::message::Counters;
use test_kit::{Random, fuzz, seeds};

const RUNS: u64 = 1_000;

#[test]
fn no_sequence_of_events_breaks_an_invariant_of_the_core() {
    let random = (0..RUNS).map(|seed| {
        let mut random = Random::new(seed);
        let len = 50 + random.index(600);
        (format!("seed {seed}"), random.bytes(len))
    });
    fuzz("core", |input| _ = targets::core(input), random);
}

#[test]
fn the_committed_sequences_reach_what_they_are_named_for() {
    for (name, input) in seeds("core") {
        let got = targets::core(&input);
        let Counters { leases, leases_lost, items, items_failed, .. } = got;
        let has_reached = match &name[..] {
            "checkpoint-then-invalid-state" => leases == 3 && leases_lost == 1 && items == 1,
            "cross-check-contradicts" => got.items_contradicted > 0 && got.workers_quarantined == 0,
            "silent-worker" => got.peers_faulty == 1 && leases_lost == 1,
            "split-file-whose-worker-leaves" => leases > 3 && leases_lost > 0,
            "split-file-with-a-failed-part" => items_failed == 1 && got.answers_fenced > 0,
            "window-and-waiting-jobs" => got.jobs == 8 && got.jobs_cancelled == 8,
            "wrong-answer-then-release" => got.workers_quarantined == 1 && items == 3,
            _ => continue,
        };
        assert!(has_reached, "{name}: {got:?}");
    }
}
