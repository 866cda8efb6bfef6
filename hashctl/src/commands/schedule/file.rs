//! Files of schedules, checked and explained without a cluster.

use crate::cli::print;
use crate::config::Config;
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::say::{io_text, say};
use schedule::{FILE_LEN_MAX, Schedules, Zone, instant, local_text};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn check(config: &Config, path: &Path) -> Exit {
    let Some(Schedules { schedules }) = read(path) else { return Exit::Failure };
    let steps = schedules.iter().flat_map(|schedule| &schedule.steps);
    let tasks = steps.filter(|step| step.task.is_some()).count();
    let count =
        |count: usize, of: &str| format!("{count} {of}{}", if count == 1 { "" } else { "s" });
    let [schedules, tasks] = [count(schedules.len(), "schedule"), count(tasks, "task")];
    print(config.stdio, &format!("{}: {schedules}, {tasks}\n", quote(path.as_os_str().as_bytes())))
}

pub(super) fn next(config: &Config, path: &Path, count: u32, from: Option<&str>) -> Exit {
    if let Some(text) = from
        && instant(text, &Zone::utc()).is_none()
    {
        say(format_args!(
            "{} is no time; use 2026-11-27T22:00:00Z, 2026-11-27 or @SECONDS",
            quote(text.as_bytes())
        ));
        return Exit::Usage;
    }
    let Some(Schedules { schedules }) = read(path) else { return Exit::Failure };
    let mut text = String::new();
    for schedule in &schedules {
        // A time that its zone has not at all is taken for the one after the gap: it always has a value.
        let from = from.and_then(|text| instant(text, &schedule.zone)).unwrap_or_else(now);
        let mut due =
            std::iter::successors(schedule.next_after(from), |at| schedule.next_after(*at));
        let due = due.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX));
        let before = text.len();
        for at in due {
            let _ = writeln!(text, "{} {}", local_text(&schedule.zone, at), schedule.name);
        }
        if text.len() == before {
            let why = if schedule.trigger.is_some() { "no due time left" } else { "by hand" };
            let _ = writeln!(text, "{why:25} {}", schedule.name);
        }
    }
    print(config.stdio, &text)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// The schedules of a file, unless it has errors, which are reported.
pub(super) fn read(path: &Path) -> Option<Schedules> {
    let name = quote(path.as_os_str().as_bytes());
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            say(format_args!("{name}: {}", io_text(&error)));
            return None;
        }
    };
    let errors = match schedule::parse(&bytes) {
        Ok(schedules) => return Some(schedules),
        Err(errors) => errors,
    };
    for error in errors.all() {
        say(format_args!("{name}:{error}"));
    }
    None
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let input: &mut dyn Read = match path.as_os_str().as_bytes() {
        b"-" => &mut io::stdin().lock(),
        _ => &mut File::open(path)?,
    };
    let mut bytes = Vec::new();
    // One more than is allowed: the parser refuses it.
    input.take(FILE_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
