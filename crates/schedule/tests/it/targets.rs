//! Body of the fuzz target `schedule`, as a plain function: `fuzz/` wraps it for libFuzzer.

use schedule::{Schedule, TASKS_MAX, parse};

/// A schedule file: what is accepted is read again from its normal form and is due in order, the rest is
/// refused in printable lines.
pub(crate) fn schedule(input: &[u8]) {
    let schedules = match parse(input) {
        Ok(accepted) => accepted.schedules,
        Err(errors) => {
            let told = errors.to_string();
            let is_plain = |c: char| c == '\n' || !c.is_control();
            assert!(!told.is_empty() && told.chars().all(is_plain), "{told:?}");
            return;
        }
    };
    let tasks =
        |schedule: &Schedule| schedule.steps.iter().filter(|step| step.task.is_some()).count();
    assert!(schedules.iter().map(tasks).sum::<usize>() <= 2 * TASKS_MAX);
    for schedule in schedules {
        for (i, step) in schedule.steps.iter().enumerate() {
            assert!(step.after.iter().all(|&before| before < i), "{step:?}");
        }
        let json = schedule.to_json();
        let again = parse(json.as_bytes()).map_err(|errors| panic!("{errors}\n{json}"));
        let mut at = 1_800_000_000;
        for _ in 0..3 {
            let Some(next) = schedule.next_after(at) else { break };
            assert!(
                next > at && schedule.last_until(next) == Some(next),
                "{next} after {at}: {json}"
            );
            at = next;
        }
        assert_eq!(again.map(|again| again.schedules), Ok(vec![schedule]), "{json}");
    }
}
