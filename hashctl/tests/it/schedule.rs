//! `hashctl schedule`: files are checked and explained without a cluster.

use crate::program::{Outcome, hashctl_alone, run};
use std::fs;
use tempfile::tempdir;

fn schedule(args: &[&str], file: &str) -> Outcome {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("s.yaml"), file).unwrap();
    run(hashctl_alone().current_dir(dir.path()).arg("schedule").args(args))
}

const NIGHTLY: &str = "\
timezone: Europe/Berlin
dataset: photos
schedules:
  nightly: {at: 30 2 * * *, kind: audit}
  hand: {parallel: {a: {kind: sum}, b: {kind: sum}}}
";

#[test]
fn a_file_without_errors_is_counted() {
    let checked = schedule(&["check", "s.yaml"], NIGHTLY);
    assert_eq!((checked.code, checked.out().as_str()), (0, "s.yaml: 2 schedules, 3 tasks\n"));
    assert_eq!(checked.stderr, "");
}

#[test]
fn due_times_are_shown_in_the_schedules_time_zone() {
    let next = schedule(&["next", "s.yaml", "--count", "2", "--from", "2026-03-28T12:00"], NIGHTLY);
    let want = "\
2026-03-29T03:00:00+02:00 nightly
2026-03-30T02:30:00+02:00 nightly
by hand                   hand
";
    assert_eq!((next.code, next.out().as_str()), (0, want));
    let from_now = schedule(&["next", "s.yaml"], NIGHTLY);
    assert!(from_now.code == 0 && from_now.out().contains("T02:30:00"), "{from_now:?}");
}

#[test]
fn a_schedule_without_a_due_time_left_says_so() {
    let far = ["next", "s.yaml", "--from", "9999-12-30T00:00:00Z"];
    let next = schedule(&far, NIGHTLY);
    let want = "no due time left          nightly\nby hand                   hand\n";
    assert_eq!((next.code, next.out().as_str()), (0, want));
}

#[test]
fn every_error_has_its_line_and_ends_with_status_1() {
    let bad = "schedules:\n  a:\n    at: 30 25 * * *\n    kind: sum\n    datset: d\n";
    for command in ["check", "next"] {
        let refused = schedule(&[command, "s.yaml"], bad);
        let want = "\
hashctl: s.yaml:3:5: a sum needs dataset, here or at a higher level
hashctl: s.yaml:3:9: at: '30 25 * * *': number out of bounds
hashctl: s.yaml:5:5: unknown key 'datset' (did you mean 'dataset'?)
";
        assert_eq!((refused.code, refused.stderr.as_str(), refused.out().as_str()), (1, want, ""));
    }
}

#[test]
fn a_time_or_a_file_that_is_none_is_reported() {
    let no_time = schedule(&["next", "s.yaml", "--from", "noon"], NIGHTLY);
    assert_eq!(no_time.code, 2);
    assert!(no_time.stderr.contains("noon is no time"), "{}", no_time.stderr);
    let no_file = schedule(&["check", "other.yaml"], NIGHTLY);
    let want = "hashctl: other.yaml: No such file or directory\n";
    assert_eq!((no_file.code, no_file.stderr.as_str()), (1, want));
}
