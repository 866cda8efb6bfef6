//! The fuzz targets `core` and `policy` over their seeds and over random inputs.

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

/// Pieces of policies, with a bar after each.
const PIECES: &str = "[[rule]]\n|rule = [{|}]|, |\n|uids = [|gids = [|]\n|1|7|50|4711|0x1|4294967295|-1|\
    token_file = 'ci'\n|may = [|'submit'|'see-jobs'|'release'|'work'|datasets = ['*'|'known'|\
    quota = { jobs = 3 }\n|=|'|#|\u{1b}";

#[test]
fn a_policy_gives_rights_to_nobody_whom_it_does_not_name() {
    let pieces: Vec<&str> = PIECES.split('|').collect();
    let random = (0..RUNS).map(|seed| {
        let mut random = Random::new(seed);
        let mut input = Vec::new();
        for _ in 0..random.below(30) {
            match random.below(30) {
                0 => input.push(random.byte()),
                _ => input.extend(random.one_of(&pieces).bytes()),
            }
        }
        (format!("seed {seed}"), input)
    });
    fuzz("policy", targets::policy, random);
}
