//! Schedules among crashes and jumping clocks: the planner, a journal in memory and a book that a test plays.
//!
//! A crash can come between any two steps, before a commit or after it; commits fail; the book is busy; jobs
//! fail; the wall clock is set forward and back. At the end every run has ended, in the right order.
//!
//! `HASHCLUSTER_SIM_SEEDS` sets how many seeds are run (200), `HASHCLUSTER_SIM_FIRST` the first.

mod audits;
mod scrub;
mod world;

use hashcluster_controller::core::{DatasetRights, Principal, Rights};
use hashcluster_controller::notices::Notice;
use hashcluster_controller::schedules::{PRINCIPAL_TEXTS_LEN_MAX, ScheduleOwner};
use ipc_proto::message::{
    DifferenceKind, JobId, JobKind, JobSource, RunOutcome, ScheduleAct, ScheduleReply,
    ScheduleRequest, ServiceRefusal, ServiceReply, StepEnd,
};
use notifier::DeliveryTarget;
use serde_json::json;
use test_kit::Random;
use world::{PlannerWorld, START_S};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number of seeds"))
}

const RANDOM: &str = "\
dataset: d
schedules:
  often: {every: 1h, kind: sum}
  queue: {every: 1h, overlap: queue, missed: skip, kind: sum, retries: {count: 2, delay: 10s}}
  tree:
    every: 2h
    deadline: 90m
    sequential:
      first: {kind: sum, retries: {count: 1, delay: 1m}}
      both: {on_failure: continue, parallel: {a: {kind: sum}, b: {kind: sum, after: a, timeout: 10m}}}
      last: {kind: sum}
  night: {at: 0 * * * *, only: 22:00-06:00, kind: sum}
  scrub: {every: 20m, kind: scrub, period: 3h, retries: {count: 1, delay: 1m}}
  listed: {every: 1h, kind: audit, manifest: m, retries: {count: 1, delay: 1m}}
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
        world.findings = audits::one_each();
        for _ in 0..600 {
            match random.below(100) {
                0 | 1 => world.crash(random.chance(50)),
                2 => world.fails_commit = true,
                3 => world.jump(i64::try_from(random.below(7_200)).unwrap()),
                4 => world.jump(-i64::try_from(random.below(7_200)).unwrap()),
                5 => world.is_busy = !world.is_busy,
                6 => {
                    let pauses = random.chance(50);
                    let act = if pauses { ScheduleAct::Pause } else { ScheduleAct::Resume };
                    world.act("often", act);
                }
                7 => world.act("tree", ScheduleAct::Cancel),
                8 => world.act("night", ScheduleAct::Run),
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
    assert_eq!(keys, ["schedule:s:1:1:0:1", "schedule:s:1:1:1:1"]);
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
        world.act("s", ScheduleAct::Run);
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
    world.act("s", ScheduleAct::Run);
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
    world.act("s", ScheduleAct::Run);
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
    world.act("s", ScheduleAct::Run);
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
    let all = world.list();
    assert_eq!((all[0].name.as_str(), all[0].next_s), ("s", Some(START_S + 3_600)));
    let reply = world.answer(ScheduleRequest::Show { name: "s".into() });
    let ServiceReply::Schedule(ScheduleReply::Schedule { text, .. }) = reply else {
        panic!("{reply:?}")
    };
    assert!(text.contains("\"every\": \"1h\""), "{text}");
    world.act("s", ScheduleAct::Pause);
    world.pass(7_200);
    assert!(world.ended.is_empty());
    world.act("s", ScheduleAct::Remove);
    world.crash(false);
    world.pass(1);
    assert_eq!(world.list(), []);
    let no_map = "1:1: the file: 'nothing' is not a map with the key schedules";
    for (text, reason, want) in [
        ("schedules: {}", ServiceRefusal::BadSchedule, "0 schedules instead of one"),
        ("nothing", ServiceRefusal::BadSchedule, no_map),
        (
            "schedules: {s: {kind: sum, dataset: e}}",
            ServiceRefusal::UnknownDataset,
            "s: there is no dataset e",
        ),
    ] {
        let answer = world.answer(ScheduleRequest::Apply { text: text.into() });
        assert_eq!(answer, ServiceReply::Refused { reason, text: want.into() });
    }
}

#[test]
fn a_check_is_a_job_of_its_manifest_and_is_compared_with_nothing_else() {
    let mut world = PlannerWorld::new();
    for (path, base) in [("", "lists"), (", path: other/dir", "other/dir")] {
        world.apply(&format!(
            "schedules: {{s: {{kind: check, dataset: d{path}, manifest: 'lists/${{schedule}}.sha256'}}}}"
        ));
        for _ in 0..2 {
            world.act("s", ScheduleAct::Run);
            world.pass(60);
        }
        let spec = world.last_spec();
        let (name, path) = ("d".to_owned(), b"lists/s.sha256"[..].into());
        let source = JobSource::Manifest { name, path, base: base.as_bytes().into() };
        assert_eq!((spec.kind, &spec.source), (JobKind::Check, &source));
        let last = world.list()[0].last.clone().unwrap();
        assert_eq!((last.outcome, last.changes), (Some(RunOutcome::Succeeded), None));
    }
}

#[test]
fn the_schedules_of_a_user_have_a_bounded_length() {
    let mut world = PlannerWorld::new();
    let text = |name: &str| {
        let path = "x/".repeat(2000) + "x";
        let task = |i| format!("t{i}: {{kind: sum, path: {path}{i}}}");
        let tasks: Vec<String> = (0..230).map(task).collect();
        let tasks = tasks.join(", ");
        let all = format!("schedules: {{{name}: {{dataset: d, parallel: {{{tasks}}}}}}}");
        schedule::parse(all.as_bytes()).unwrap().schedules[0].to_json()
    };
    let each = text("s1").len();
    let room = PRINCIPAL_TEXTS_LEN_MAX / each;
    for i in 0..room {
        world.apply(&text(&format!("s{i}")));
    }
    let refuses = |world: &mut PlannerWorld, name: &str| {
        let reply = world.answer(ScheduleRequest::Apply { text: text(name) });
        matches!(reply, ServiceReply::Refused { reason: ServiceRefusal::TooMuch, .. })
    };
    assert!(refuses(&mut world, "more"), "{room} of {each} bytes");
    assert!(!refuses(&mut world, "s1"), "it takes the place of itself");
    world.act("s1", ScheduleAct::Remove);
    assert!(!refuses(&mut world, "more"));
}

#[test]
fn requests_during_a_start_wait_until_the_journal_is_read() {
    let mut world = PlannerWorld::new();
    world.apply("schedules: {s: {kind: sum, dataset: d}}");
    world.ask_while_starting(ScheduleRequest::Show { name: "s".into() });
    let reply = world.answers.pop().unwrap();
    assert!(matches!(reply, ServiceReply::Schedule(ScheduleReply::Schedule { .. })), "{reply:?}");
}

#[test]
fn runs_are_recorded_with_their_tasks_and_shown_in_pages() {
    let mut world = PlannerWorld::new();
    world.page_len = 1 << 20;
    world.apply(
        "schedules: {s: {dataset: d, keep: 5, on_failure: continue, parallel: {a: {kind: sum}, \
         b: {kind: sum}, c: {kind: sum, after: [a, b]}}}}",
    );
    for run in 1..=7 {
        world.fail_percent = if run == 6 { 100 } else { 0 };
        world.act("s", ScheduleAct::Run);
        world.pass(60);
    }
    world.crash(false);
    world.pass(1);
    let numbers = |world: &mut PlannerWorld, before, limit| -> Vec<u64> {
        world.runs("s", before, limit).iter().map(|run| run.run).collect()
    };
    assert_eq!(numbers(&mut world, None, 512), [7, 6, 5, 4, 3], "five are kept");
    assert_eq!(numbers(&mut world, None, 2), [7, 6]);
    assert_eq!(numbers(&mut world, Some(6), 2), [5, 4]);
    assert_eq!(numbers(&mut world, Some(1), 2), [0_u64; 0]);
    let (row, steps) = world.run("s", 6, 0);
    assert_eq!((row.outcome, row.failed, row.is_by_hand), (Some(RunOutcome::Failed), 3, true));
    assert!(row.ended_s > row.started_s);
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let want = "1 of 3 files have no digest, 0 not the expected one".to_owned();
    assert_eq!(steps[0].end, Some(StepEnd::Failed(want)));
    assert!(steps.iter().all(|step| step.job.is_some() && step.attempt == 1));
    assert_eq!(world.run("s", 6, 2).1, steps[2..]);
    let all = world.list();
    assert_eq!((all[0].runs, all[0].tasks, all[0].active), (7, 3, None));
    let last = all[0].last.clone().unwrap();
    assert_eq!((last.run, last.outcome), (7, Some(RunOutcome::Succeeded)));
    for run in [2, 8] {
        let text = format!("there is no run {run} of s; see hashctl schedule runs s");
        let reason = ServiceRefusal::UnknownSchedule;
        let run = ScheduleRequest::Run { name: "s".into(), run, from: 0, limit: 1 };
        assert_eq!(world.answer(run), ServiceReply::Refused { reason, text });
    }
}

#[test]
fn a_schedule_that_was_removed_and_applied_again_gets_new_jobs() {
    let mut world = PlannerWorld::new();
    for generation in 1..=2 {
        world.apply("schedules: {s: {kind: sum, dataset: d}}");
        world.act("s", ScheduleAct::Run);
        world.pass(30);
        world.act("s", ScheduleAct::Remove);
        world.crash(false);
        world.pass(1);
        assert_eq!(world.submitted.last(), Some(&format!("schedule:s:{generation}:1:0:1")));
    }
    assert_eq!(world.ended.len(), 2);
}

#[test]
fn the_jobs_of_a_schedule_that_is_removed_are_cancelled() {
    let mut world = PlannerWorld::new();
    world.apply("schedules: {s: {kind: sum, dataset: d}}");
    world.job_s = 1_000;
    world.act("s", ScheduleAct::Run);
    world.pass(1);
    world.act("s", ScheduleAct::Remove);
    world.pass(2);
    assert_eq!(world.cancelled(), 1);
}

#[test]
fn only_the_owner_or_a_manager_changes_a_schedule_and_rights_are_those_of_the_policy() {
    let mut world = PlannerWorld::new();
    world.apply("schedules: {s: {kind: sum, dataset: d}}");
    let other = ScheduleOwner { principal: Principal::Uid(7), gid: 7 };
    let mut ask = |owner, rights, request| {
        world.ask_as(owner, rights, request);
        let ServiceReply::Refused { reason, .. } = world.answers.pop().unwrap() else {
            return None;
        };
        Some(reason)
    };
    let sees = || Rights { datasets: DatasetRights::All, ..Rights::jobs() };
    let blind = || Rights { see_jobs: false, ..sees() };
    let text = || "schedules: {s: {kind: sum, dataset: d}}".to_owned();
    let apply = || ScheduleRequest::Apply { text: text() };
    let show = || ScheduleRequest::Show { name: "s".into() };
    let act = |act| ScheduleRequest::Act { name: "s".into(), act };
    assert_eq!(ask(other, blind(), show()), Some(ServiceRefusal::UnknownSchedule));
    assert_eq!(ask(other, sees(), show()), None);
    assert_eq!(ask(other, sees(), act(ScheduleAct::Pause)), Some(ServiceRefusal::Forbidden));
    assert_eq!(ask(other, sees(), apply()), Some(ServiceRefusal::Forbidden));
    let nothing = Rights { submit: false, ..sees() };
    let owner = ScheduleOwner { principal: Principal::Uid(1000), gid: 100 };
    assert_eq!(ask(owner, nothing.clone(), apply()), Some(ServiceRefusal::Forbidden));
    assert_eq!(ask(owner, nothing, act(ScheduleAct::Run)), Some(ServiceRefusal::Forbidden));
    assert_eq!(ask(owner, Rights::jobs(), apply()), Some(ServiceRefusal::UnknownDataset));
    assert_eq!(ask(owner, blind(), apply()), None);
    let manager = Rights { manage_jobs: true, ..sees() };
    assert_eq!(ask(other, manager, act(ScheduleAct::Pause)), None);
}

#[test]
fn a_run_whose_owner_lost_the_right_fails_with_that_reason() {
    let mut world = PlannerWorld::new();
    world.page_len = 1 << 20;
    world.apply("schedules: {s: {kind: sum, dataset: d, retries: {count: 1, delay: 10s}}}");
    world.is_forbidden = true;
    world.act("s", ScheduleAct::Run);
    world.pass(30);
    assert_eq!(world.ended, [("s".to_owned(), 1, RunOutcome::Failed)]);
    let (_, steps) = world.run("s", 1, 0);
    assert_eq!(steps[0].end, Some(StepEnd::Failed("no".to_owned())));
    assert_eq!(steps[0].attempt, 2);
}

/// Content of a notice.
fn said(notice: &Notice) -> serde_json::Value {
    assert!(notice.body.len() <= notifier::BODY_LEN_MAX);
    serde_json::from_str(&notice.body).expect("notices are JSON")
}

#[test]
fn recipients_hear_of_the_ends_that_they_asked_for_until_it_is_delivered() {
    let mut world = PlannerWorld::new();
    world.apply(
        "schedules: {s: {every: 1h, dataset: d, sequential: {bad: {kind: sum}, never: {kind: sum}}, notify: \
         [{url: 'http://a/x', secret: ops}, {command: [mail, ops], on: [success]}]}}",
    );
    world.fail_percent = 100;
    world.delivers = false;
    world.pass(3_650);
    let [notice] = &world.notices[..] else { panic!("{:?}", world.notices) };
    let to = DeliveryTarget::Url { url: "http://a/x".into(), secret: Some("ops".into()) };
    assert_eq!((&notice.to, notice.id.as_str()), (&to, "s/1/1/0"));
    let body = said(notice);
    for (key, want) in [
        ("version", json!(1)),
        ("schedule", json!("s")),
        ("run", json!(1)),
        ("occasions", json!(["failure"])),
        ("outcome", json!("failed")),
        ("due", json!(START_S + 3_600)),
        ("by_hand", json!(false)),
        ("failed_tasks", json!(1)),
    ] {
        assert_eq!(body[key], want, "{key}: {body}");
    }
    assert_eq!(body["failures"][0]["task"], "bad", "{body}");
    // It was not delivered: the next controller has it again, with the same id.
    world.crash(false);
    assert_eq!(world.notices.len(), 2);
    assert_eq!(world.notices[0], world.notices[1]);
    world.delivers = true;
    world.crash(false);
    world.crash(false);
    assert_eq!(world.notices.len(), 3, "and then no more");
    world.fail_percent = 0;
    world.pass(3_650);
    let last = world.notices.last().unwrap();
    let to = DeliveryTarget::Command { name: "mail".into(), args: vec!["ops".into()] };
    assert_eq!((&last.to, said(last)["occasions"].clone()), (&to, json!(["success"])));
}

#[test]
fn a_notice_of_many_long_failures_has_its_limit() {
    let mut world = PlannerWorld::new();
    let groups = |from: &str| {
        (0..3)
            .map(|_| "x".repeat(60))
            .fold(from.to_owned(), |inner, group| format!("{{parallel: {{{group}: {inner}}}}}"))
    };
    let tasks: Vec<String> = (0..40).map(|i| format!("t{i}: {}", groups("{kind: sum}"))).collect();
    world.apply(&format!(
        "schedules: {{s: {{dataset: d, on_failure: continue, notify: {{url: 'http://a/'}}, parallel: {{{}}}}}}}",
        tasks.join(", ")
    ));
    world.fail_percent = 100;
    world.act("s", ScheduleAct::Run);
    world.pass(100);
    let body = said(&world.notices[0]);
    assert_eq!(body["failed_tasks"], 40);
    assert!((1..=32).contains(&body["failures"].as_array().unwrap().len()), "{body}");
}

/// Counts of a run, in the order of [`DifferenceKind::ALL`].
fn counted(world: &mut PlannerWorld, run: u64) -> Option<[u64; 6]> {
    let (row, steps) = world.run("s", run, 0);
    assert_eq!(row.changes, steps[0].changes, "of one task");
    row.changes.map(|changes| DifferenceKind::ALL.map(|kind| changes.of(kind)))
}

fn run_once(world: &mut PlannerWorld) {
    world.act("s", ScheduleAct::Run);
    world.pass(30);
}

#[test]
fn a_run_is_compared_with_the_last_good_one() {
    let mut world = PlannerWorld::new();
    world.apply(
        "schedules: {s: {kind: audit, dataset: d, notify: {url: 'http://a/', on: [change, rot]}}}",
    );
    let old = |i: u8| (i, u64::from(i), i64::from(i));
    let names = ["changed", "gone", "moved", "old", "rotten", "same"];
    world.files = names.into_iter().zip((1..).map(old)).collect();
    run_once(&mut world);
    assert_eq!(counted(&mut world, 1), None, "there is nothing to compare it with");
    let moved = world.files.remove("moved").unwrap();
    world.files.remove("gone");
    world.files.extend([
        ("changed", (10, 1, 7)),
        ("elsewhere", moved),
        ("new", (11, 11, 11)),
        ("old", (12, 4, 3)),
        ("rotten", (13, 5, 5)),
    ]);
    // A crash in the middle of the comparison: it is done again.
    world.holds_results = true;
    run_once(&mut world);
    world.holds_results = false;
    world.crash(false);
    world.pass(10);
    assert_eq!(counted(&mut world, 2), Some([1; 6]));
    let want = [
        "changed changed ",
        "older old ",
        "rotted rotten ",
        "moved elsewhere moved",
        "gone gone ",
        "new new ",
    ];
    assert_eq!(world.differences("s", 2, 0), want);
    let [notice] = &world.notices[..] else { panic!("{:?}", world.notices) };
    let body = said(notice);
    assert_eq!(body["occasions"], json!(["change", "rot"]));
    assert_eq!(body["differences"]["rotted"], 1, "{body}");
    // What rotted is found again until it is mended, as that run is not the one that the next is compared with.
    run_once(&mut world);
    assert_eq!(counted(&mut world, 3), Some([1; 6]));
    world.files.insert("rotten", old(5));
    run_once(&mut world);
    assert_eq!(counted(&mut world, 4), Some([1, 1, 1, 1, 0, 1]));
    run_once(&mut world);
    assert_eq!(counted(&mut world, 5), Some([0; 6]));
    assert_eq!(world.differences("s", 5, 0), [""; 0]);
    assert_eq!(world.notices.len(), 3);
}

#[test]
fn a_run_whose_last_good_one_lost_its_results_is_the_next_to_compare_with() {
    let mut world = PlannerWorld::new();
    world.apply("schedules: {s: {kind: sum, dataset: d}}");
    run_once(&mut world);
    world.lost = Some(JobId { epoch: 1, number: 1 });
    run_once(&mut world);
    assert_eq!(counted(&mut world, 2), None);
    run_once(&mut world);
    assert_eq!(counted(&mut world, 3), Some([0; 6]));
    // Other digests cannot be compared.
    world.apply("schedules: {s: {kind: sum, dataset: d, algorithms: blake3}}");
    run_once(&mut world);
    assert_eq!(counted(&mut world, 4), None);
}
