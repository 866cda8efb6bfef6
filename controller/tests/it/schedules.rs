//! Schedules among crashes and jumping clocks: the planner, a journal in memory and a book that a test plays.
//!
//! A crash can come between any two steps, before a commit or after it; commits fail; the book is busy; jobs
//! fail; the wall clock is set forward and back. At the end every run has ended, in the right order.
//!
//! `HASHCLUSTER_SIM_SEEDS` sets how many seeds are run (200), `HASHCLUSTER_SIM_FIRST` the first.

mod world;

use hashcluster_controller::schedules::{RunOutcome, ScheduleAnswer, ScheduleAsk};
use test_kit::Random;
use world::{PlannerWorld, START_S};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number of seeds"))
}

const RANDOM: &str = "\
dataset: d
schedules:
  often: {every: 1h, kind: sum}
  queue: {every: 1h, overlap: queue, missed: skip, kind: audit, retries: {count: 2, delay: 10s}}
  tree:
    every: 2h
    deadline: 90m
    sequential:
      first: {kind: sum, retries: {count: 1, delay: 1m}}
      both: {on_failure: continue, parallel: {a: {kind: sum}, b: {kind: sum, after: a, timeout: 10m}}}
      last: {kind: sum}
  night: {at: 0 * * * *, only: 22:00-06:00, kind: sum}
";

#[test]
fn simulation_of_schedules_with_crashes_and_clock_jumps() {
    let first = setting("HASHCLUSTER_SIM_FIRST", 1);
    let seeds = setting("HASHCLUSTER_SIM_SEEDS", 200);
    let (mut runs, mut crashes, mut retries) = (0, 0, 0);
    for seed in first..first + seeds {
        let mut random = Random::new(seed);
        let mut world = PlannerWorld::new();
        world.apply(RANDOM);
        world.fail_percent = 10;
        for _ in 0..600 {
            match random.below(100) {
                0 | 1 => world.crash(random.chance(50)),
                2 => world.fails_commit = true,
                3 => world.jump(i64::try_from(random.below(7_200)).unwrap()),
                4 => world.jump(-i64::try_from(random.below(7_200)).unwrap()),
                5 => world.is_busy = !world.is_busy,
                6 => world.ask(ScheduleAsk::Pause("often".into(), random.chance(50))),
                7 => world.ask(ScheduleAsk::Cancel("tree".into())),
                8 => world.ask(ScheduleAsk::Run("night".into())),
                _ => world.advance(random.below(120), &mut random),
            }
            world.check();
        }
        world.settle(&mut random);
        world.check();
        runs += world.ended.len();
        crashes += world.crashes;
        retries += world.retries();
    }
    assert!(runs > 1_000 && crashes > 100 && retries > 50, "{runs}, {crashes}, {retries}");
}

#[test]
fn a_due_time_runs_once_and_in_the_order_of_the_tasks() {
    let mut world = PlannerWorld::new();
    world.apply(
        "schedules: {s: {at: 30 0 * * *, dataset: d, sequential: {a: {kind: sum}, b: {kind: sum}}}}",
    );
    world.pass(86_400);
    let keys: Vec<&str> = world.submitted.iter().map(String::as_str).collect();
    assert_eq!(keys, ["schedule:s:1:0:1", "schedule:s:1:1:1"]);
    assert_eq!(world.ended, [("s".to_owned(), 1, RunOutcome::Succeeded)]);
}

#[test]
fn due_times_during_an_outage_are_one_run_or_none() {
    for (missed, want) in [("once", 1), ("skip", 0)] {
        let mut world = PlannerWorld::new();
        world.apply(&format!(
            "schedules: {{s: {{every: 1h, missed: {missed}, kind: sum, dataset: d}}}}"
        ));
        world.outage(10 * 3_600 + 300);
        world.pass(120);
        assert_eq!(world.ended.len(), want, "missed: {missed}");
        // The next one is due as ever.
        world.pass(3_600);
        assert_eq!(world.ended.len(), want + 1, "missed: {missed}");
    }
}

#[test]
fn a_clock_that_is_set_back_repeats_nothing_and_one_that_was_years_ahead_starts_anew() {
    let mut world = PlannerWorld::new();
    world.apply("schedules: {s: {every: 1h, kind: sum, dataset: d}}");
    world.pass(2 * 3_600 + 60);
    assert_eq!(world.ended.len(), 2);
    world.jump(-7_200);
    world.pass(7_200);
    assert_eq!(world.ended.len(), 2, "both due times had their runs");
    world.pass(3_600);
    assert_eq!(world.ended.len(), 3);
    let years = 10 * 365 * 86_400;
    world.jump(years);
    world.pass(120);
    assert_eq!(world.ended.len(), 4, "one for all that were missed");
    world.jump(-years);
    world.pass(3_600);
    assert_eq!(world.ended.len(), 5, "due again at once");
}

#[test]
fn a_due_time_during_a_run_is_skipped_or_queued() {
    for (overlap, want) in [("forbid", 1), ("queue", 2)] {
        let mut world = PlannerWorld::new();
        world.apply(&format!(
            "schedules: {{s: {{every: 1h, overlap: {overlap}, kind: sum, dataset: d}}}}"
        ));
        world.job_s = 3 * 3_600 + 1_800;
        world.pass(3_600 + 60);
        world.pass(3 * 3_600);
        world.job_s = 10;
        world.pass(2_000);
        assert_eq!(world.ended.len(), want, "overlap: {overlap}");
    }
}

#[test]
fn a_failed_task_is_tried_again_and_then_stops_the_run_or_not() {
    for (on_failure, want) in [("stop", 3), ("continue", 4)] {
        let mut world = PlannerWorld::new();
        world.apply(&format!(
            "schedules: {{s: {{dataset: d, on_failure: {on_failure}, sequential: \
             {{a: {{kind: sum, retries: {{count: 2, delay: 10s}}}}, b: {{kind: sum}}}}}}}}"
        ));
        world.fail_percent = 100;
        world.ask(ScheduleAsk::Run("s".into()));
        world.pass(120);
        assert_eq!(world.submitted.len(), want, "on_failure: {on_failure}");
        assert_eq!(world.ended, [("s".to_owned(), 1, RunOutcome::Failed)]);
    }
}

#[test]
fn a_run_that_passes_its_deadline_is_cancelled_with_its_jobs() {
    let mut world = PlannerWorld::new();
    world.apply("schedules: {s: {deadline: 10m, kind: sum, dataset: d}}");
    world.job_s = 86_400;
    world.ask(ScheduleAsk::Run("s".into()));
    world.pass(590);
    assert!(world.ended.is_empty());
    world.pass(20);
    assert_eq!(world.ended, [("s".to_owned(), 1, RunOutcome::Late)]);
    assert_eq!(world.cancelled(), 1);
}

#[test]
fn a_task_pauses_outside_of_its_hours() {
    let mut world = PlannerWorld::new();
    // The world begins at midnight.
    world.apply("schedules: {s: {only: 01:00-02:00, kind: sum, dataset: d}}");
    world.job_s = 5_400;
    world.ask(ScheduleAsk::Run("s".into()));
    world.pass(3_500);
    assert!(world.submitted.is_empty());
    world.pass(3_600);
    assert_eq!(world.submitted.len(), 1);
    world.pass(200);
    assert_eq!(world.paused(), 1);
    world.pass(22 * 3_600);
    assert_eq!(world.paused(), 1);
    world.pass(2 * 3_600);
    assert_eq!(world.ended, [("s".to_owned(), 1, RunOutcome::Succeeded)]);
}

#[test]
fn ten_thousand_tasks_and_ten_thousand_schedules_run() {
    let mut world = PlannerWorld::new();
    let tasks: String = (0..9_999).map(|i| format!("t{i}: {{kind: sum}}, ")).collect();
    world.apply(&format!("schedules: {{s: {{dataset: d, parallel: {{{tasks}}}}}}}"));
    world.job_s = 0;
    world.ask(ScheduleAsk::Run("s".into()));
    world.pass(10);
    assert_eq!(world.submitted.len(), 9_999);
    assert_eq!(world.ended, [("s".to_owned(), 1, RunOutcome::Succeeded)]);
    let mut world = PlannerWorld::new();
    let all: String = (0..10_000).map(|i| format!("s{i}: {{every: 1h, kind: sum}}, ")).collect();
    world.apply(&format!("{{dataset: d, schedules: {{{all}}}}}"));
    world.job_s = 0;
    world.pass(3_600);
    assert_eq!(world.ended.len(), 10_000);
}

#[test]
fn requests_are_answered_once_they_are_durable() {
    let mut world = PlannerWorld::new();
    world.apply("schedules: {s: {every: 1h, kind: sum, dataset: d}}");
    world.crash(false);
    world.pass(1);
    let answers = |world: &mut PlannerWorld, ask| {
        world.ask(ask);
        world.answers.pop().unwrap()
    };
    let ScheduleAnswer::All(all) = answers(&mut world, ScheduleAsk::List) else { panic!() };
    assert_eq!((all[0].name.as_str(), all[0].next_s), ("s", Some(START_S + 3_600)));
    let ScheduleAnswer::Text(text) = answers(&mut world, ScheduleAsk::Show("s".into())) else {
        panic!()
    };
    assert!(text.contains("\"every\": \"1h\""), "{text}");
    assert_eq!(answers(&mut world, ScheduleAsk::Pause("s".into(), true)), ScheduleAnswer::Done);
    world.pass(7_200);
    assert!(world.ended.is_empty());
    assert_eq!(answers(&mut world, ScheduleAsk::Remove("s".into())), ScheduleAnswer::Done);
    world.crash(false);
    world.pass(1);
    assert_eq!(answers(&mut world, ScheduleAsk::List), ScheduleAnswer::All(Vec::new()));
    for (text, want) in [
        (
            "schedules: {s: {kind: scrub, period: 30d, dataset: d}}",
            "s: this controller cannot run kind scrub",
        ),
        ("schedules: {}", "0 schedules instead of one"),
        ("nothing", "1:1: the file: 'nothing' is not a map with the key schedules"),
    ] {
        let answer = answers(&mut world, ScheduleAsk::Apply(text.into()));
        assert_eq!(answer, ScheduleAnswer::Refused(want.into()));
    }
}
