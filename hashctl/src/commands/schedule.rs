//! `hashctl schedule`: files of schedules, checked and explained without a cluster.

use crate::cli::print;
use crate::config::Config;
use crate::examples;
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::say::{io_text, say};
use clap::{Args, Subcommand};
use schedule::{FILE_LEN_MAX, Schedules, Zone, instant, local_text};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most due times that are shown per schedule.
const COUNT_MAX: i64 = 10_000;

#[derive(Debug, Args)]
#[command(after_help = examples::SCHEDULE)]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    command: ScheduleCommand,
}

#[derive(Debug, Subcommand)]
enum ScheduleCommand {
    /// Check a schedule file: every error with its line and column
    #[command(after_help = examples::SCHEDULE_CHECK)]
    Check {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show when the schedules of a file are due
    #[command(after_help = examples::SCHEDULE_NEXT)]
    Next {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Due times per schedule
        #[arg(long, value_name = "N", default_value = "1",
              value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
        count: u32,
        /// Show those after TIME: 2026-11-27T22:00:00Z, a local time or date in the schedule's time zone, or @SECONDS
        /// since 1970 [default: now]
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
    },
}

pub(crate) fn schedule(config: &Config, args: ScheduleArgs) -> Exit {
    match args.command {
        ScheduleCommand::Check { file } => check(config, &file),
        ScheduleCommand::Next { file, count, from } => next(config, &file, count, from.as_deref()),
    }
}

fn check(config: &Config, path: &Path) -> Exit {
    let Some(Schedules { schedules }) = read(path) else { return Exit::Failure };
    let steps = schedules.iter().flat_map(|schedule| &schedule.steps);
    let tasks = steps.filter(|step| step.task.is_some()).count();
    let count =
        |count: usize, of: &str| format!("{count} {of}{}", if count == 1 { "" } else { "s" });
    let [schedules, tasks] = [count(schedules.len(), "schedule"), count(tasks, "task")];
    print(config.stdio, &format!("{}: {schedules}, {tasks}\n", quote(path.as_os_str().as_bytes())))
}

fn next(config: &Config, path: &Path, count: u32, from: Option<&str>) -> Exit {
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
            let _ = writeln!(text, "{:25} {}", "by hand", schedule.name);
        }
    }
    print(config.stdio, &text)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// The schedules of a file, unless it has errors, which are reported.
fn read(path: &Path) -> Option<Schedules> {
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
