//! Next instants of cron expressions, for the comparison with croniter (`cargo xtask croniter`).
//!
//! Reads lines `ZONE TAB AFTER TAB COUNT TAB EXPRESSION`, and answers each with a line: the instants in seconds since
//! 1970, or `!` and the reason.

#![expect(clippy::print_stdout, reason = "a program for a script")]

use schedule::{Schedule, parse};
use std::io;

fn main() -> io::Result<()> {
    for line in io::stdin().lines() {
        println!("{}", answer(&line?));
    }
    Ok(())
}

fn answer(line: &str) -> String {
    let fields: Vec<&str> = line.splitn(4, '\t').collect();
    let [zone, after, count, expression] = fields[..] else { return "! four fields".into() };
    let (Ok(after), Ok(count)) = (after.parse::<i64>(), count.parse()) else {
        return "! numbers".into();
    };
    let file = format!(
        "timezone: {zone}\nschedules: {{a: {{at: \"{expression}\", kind: sum, dataset: d}}}}\n"
    );
    let schedules = match parse(file.as_bytes()) {
        Ok(schedules) => schedules.schedules,
        Err(errors) => return format!("! {errors}").replace('\n', " "),
    };
    let next = |schedule: &Schedule, at: i64| schedule.next_after(at);
    let all = schedules.iter().flat_map(|schedule| {
        std::iter::successors(next(schedule, after), move |at| next(schedule, *at)).take(count)
    });
    all.map(|at| at.to_string()).collect::<Vec<_>>().join(" ")
}
