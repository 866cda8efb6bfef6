//! When schedules are due, above all around changes of the clocks.

use crate::files::read;
use schedule::{Schedule, Zone, instant, local_text};

fn schedule(zone: &str, trigger: &str) -> Schedule {
    let text = format!("timezone: {zone}\nschedules: {{s: {{{trigger}, kind: sum, dataset: d}}}}");
    read(&text).remove(0)
}

#[track_caller]
fn due(zone: &str, trigger: &str, from: &str, want: &[&str]) {
    let schedule = schedule(zone, trigger);
    let mut at = instant(from, &schedule.zone).unwrap();
    for want in want {
        let next = schedule.next_after(at).unwrap();
        assert_eq!(local_text(&schedule.zone, next), *want, "{trigger} in {zone}");
        assert_eq!(schedule.last_until(next), Some(next), "{trigger} in {zone}");
        at = next;
    }
}

#[test]
fn a_fixed_time_in_a_gap_is_due_at_its_end_and_in_a_repeated_hour_once() {
    let berlin = "Europe/Berlin";
    due(
        berlin,
        "at: 30 2 * * *",
        "2026-03-28T12:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
    );
    due(
        berlin,
        "at: 30 2 * * *",
        "2026-10-24T12:00",
        &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
    );
    // A gap at midnight.
    due(
        "America/Santiago",
        "at: 0 0 * * *",
        "2026-09-05T12:00",
        &["2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"],
    );
}

#[test]
fn other_expressions_follow_the_clock_on_the_wall() {
    let berlin = "Europe/Berlin";
    due(
        berlin,
        "at: '*/30 * * * *'",
        "2026-03-29T01:29",
        &["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00"],
    );
    due(
        berlin,
        "at: '*/30 2 * * *'",
        "2026-10-25T01:00",
        &[
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-26T02:00:00+01:00",
        ],
    );
    // Half an hour of difference only.
    due(
        "Australia/Lord_Howe",
        "at: '*/15 1 * * *'",
        "2026-04-05T01:40",
        &["2026-04-05T01:45:00+11:00", "2026-04-05T01:30:00+10:30", "2026-04-05T01:45:00+10:30"],
    );
}

#[test]
fn intervals_know_no_clock_changes() {
    due(
        "Europe/Berlin",
        "every: 12h",
        "2026-03-28T14:00",
        &[
            "2026-03-29T02:00:00+02:00".replace("02:00:00+02:00", "01:00:00+01:00").as_str(),
            "2026-03-29T14:00:00+02:00",
            "2026-03-30T02:00:00+02:00",
        ],
    );
}

#[test]
fn jitter_depends_on_the_name_only() {
    let plain = schedule("UTC", "at: 0 3 * * *");
    let late = schedule("UTC", "at: 0 3 * * *, jitter: 1h");
    assert!((0..=3_600).contains(&late.delay()));
    assert_eq!(late.delay(), schedule("UTC", "every: 1h, jitter: 1h").delay());
    let [at, later] = [&plain, &late].map(|schedule| schedule.next_after(0).unwrap());
    assert_eq!(later - at, late.delay());
    // The due time of 3:00 comes after midnight plus its delay.
    assert_eq!(late.next_after(at), Some(later));
    let names: String = (0..100).map(|i| format!("s{i}: {{kind: sum}}, ")).collect();
    let all = read(&format!("{{dataset: d, jitter: 1h, schedules: {{{names}}}}}"));
    let early = all.iter().filter(|schedule| schedule.delay() < 1_800).count();
    assert!((25..=75).contains(&early), "{early} of 100 in the first half");
}

#[test]
fn a_schedule_without_trigger_is_never_due() {
    let text = "schedules: {s: {kind: sum, dataset: d}}";
    assert_eq!(read(text)[0].next_after(0), None);
}

#[test]
fn instants_are_read_in_the_zone_of_the_schedule() {
    let berlin = Zone::named("Europe/Berlin").unwrap();
    for (text, want) in [
        ("@0", Some(0)),
        ("1970-01-01T01:00", Some(0)),
        ("1970-01-01T00:00:00Z", Some(0)),
        ("1970-01-01", Some(-3_600)),
        ("1970-01-01T02:00:00+02:00", Some(0)),
        ("yesterday", None),
        ("@99999999999999999", None),
    ] {
        assert_eq!(instant(text, &berlin), want, "{text}");
    }
    assert_eq!(Zone::named("Nowhere/Town"), None);
    assert_eq!((berlin.minute_of_day(0), berlin.date(0, -1)), (60, "1969-12-31".into()));
}
