//! Scrubs of a planner: what each run reads, and what it finds.

use super::world::PlannerWorld;
use ipc_proto::message::{DifferenceKind, RunOutcome, ScheduleAct};

#[test]
fn a_scrub_reads_everything_once_per_period_and_finds_what_rotted() {
    let mut world = PlannerWorld::new();
    let names: Vec<&'static str> = (0..200).map(|n| &*format!("f{n:03}").leak()).collect();
    world.files = names.iter().map(|&name| (name, (1, 10, 1))).collect();
    world.page_len = 4_000;
    world.apply("schedules: {s: {every: 1h, kind: scrub, period: 10h, rate: 5M, dataset: d}}");
    world.pass(10 * 3_600 + 60);
    let read = world.read();
    assert_eq!((read.len(), world.last_spec().rate), (10, 5 << 20));
    assert!(read.iter().all(|names| (5..50).contains(&names.len())), "shares: {read:?}");
    let mut all: Vec<String> = read.concat();
    all.sort_unstable();
    assert_eq!(all, names, "each file once");
    for run in 1..10 {
        assert_eq!(world.run("s", run, 0).0.changes, None, "nothing was read before: run {run}");
    }
    // A file rots, one comes, one goes and one is written to, each in the share of run 13.
    let [rotted, gone, written, ..] = &read[2][..] else { panic!("{read:?}") };
    world.files.get_mut(rotted.as_str()).unwrap().0 = 9;
    world.files.remove(gone.as_str());
    *world.files.get_mut(written.as_str()).unwrap() = (8, 10, 2);
    // It was read by the run before that one, which does not say it again.
    let other = read[1][0].as_str();
    world.crash(false);
    world.pass(2 * 3_600);
    for run in [11, 12] {
        assert!(world.differences("s", run, 0).is_empty(), "run {run}");
    }
    world.files.get_mut(other).unwrap().0 = 7;
    world.pass(3_600);
    let mut want =
        [format!("rotted {rotted} "), format!("gone {gone} "), format!("changed {written} ")];
    let mut found = world.differences("s", 13, 0);
    want.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, want);
    let changes = world.run("s", 13, 0).0.changes.unwrap();
    assert_eq!((changes.of(DifferenceKind::Rotted), changes.of(DifferenceKind::New)), (1, 0));
    world.pass(9 * 3_600);
    assert_eq!(world.differences("s", 22, 0), [format!("rotted {other} ")]);
    // Rot is found again by the next scrub of the file: its run is none to compare with.
    world.pass(3_600);
    assert!(world.differences("s", 23, 0).contains(&format!("rotted {rotted} ")));
}

#[test]
fn a_scrub_that_is_cut_off_or_misses_runs_reads_its_share_with_the_next_one() {
    let mut world = PlannerWorld::new();
    let names: Vec<&'static str> = (0..200).map(|n| &*format!("f{n:03}").leak()).collect();
    world.files = names.iter().map(|&name| (name, (1, 10, 1))).collect();
    world.apply("schedules: {s: {every: 1h, kind: scrub, period: 10h, dataset: d}}");
    world.pass(3_600 + 2);
    world.act("s", ScheduleAct::Cancel);
    world.pass(60);
    assert_eq!(world.ended, [("s".to_owned(), 1, RunOutcome::Cancelled)]);
    world.pass(3_600);
    // Three due times pass while nothing runs: one run has the work of all.
    world.outage(3 * 3_600);
    world.pass(60);
    let read = world.read();
    assert_eq!(read.len(), 3);
    assert_eq!(read[0], read[1], "the share of the run that was cancelled");
    assert!(read[2].len() > 2 * read[1].len(), "{} and {}", read[2].len(), read[1].len());
    world.pass(6 * 3_600);
    let mut all: Vec<String> = world.read()[1..].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, names);
}
