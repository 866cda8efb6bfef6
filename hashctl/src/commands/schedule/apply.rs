//! Schedules of a file handed to the controller, or compared with those that it has.

use super::changes::line_changes;
use super::runs::shown;
use super::{ask, file, nonsense};
use crate::cli::print;
use crate::commands::jobs::JobSession;
use crate::config::Config;
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::say::say;
use ipc_proto::limits::{SCHEDULE_ROWS_MAX, SCHEDULE_TEXT_LEN_MAX};
use ipc_proto::message::{ScheduleAct, ScheduleReply, ScheduleRequest, ScheduleRow};
use schedule::{Schedule, Schedules};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file, and the schedules of the controller that this client may see.
struct Compared {
    schedules: Vec<Schedule>,
    known: BTreeMap<String, ScheduleRow>,
}

impl Compared {
    fn read(session: &mut JobSession<'_>, path: &Path) -> Result<Self, Exit> {
        let Some(Schedules { schedules }) = file::read(path) else { return Err(Exit::Failure) };
        let known = all(session)?.into_iter().map(|row| (row.name.clone(), row)).collect();
        Ok(Self { schedules, known })
    }

    /// The client's own schedules that are not in the file.
    fn others(&self) -> impl Iterator<Item = &String> {
        let named: BTreeSet<&str> = self.schedules.iter().map(|s| s.name.as_str()).collect();
        let own = self.known.iter().filter(|(_, row)| row.is_own);
        own.map(|(name, _)| name).filter(move |name| !named.contains(name.as_str()))
    }
}

/// All schedules of the controller that this client may see.
pub(crate) fn all(session: &mut JobSession<'_>) -> Result<Vec<ScheduleRow>, Exit> {
    let mut all: Vec<ScheduleRow> = Vec::new();
    loop {
        let after = all.last().map(|row| row.name.clone()).unwrap_or_default();
        let limit = u16::try_from(SCHEDULE_ROWS_MAX).unwrap_or(u16::MAX);
        let reply = ask(session, ScheduleRequest::List { after, limit })?;
        let ScheduleReply::Schedules { rows, more } = reply else { return Err(nonsense()) };
        let is_over = !more || rows.is_empty();
        all.extend(rows);
        if is_over {
            return Ok(all);
        }
    }
}

/// The normal form of a schedule of the controller.
fn text_of(session: &mut JobSession<'_>, name: &str) -> Result<String, Exit> {
    shown(session, name.to_owned()).map(|(_, text)| text)
}

pub(super) fn apply(
    config: &Config,
    path: &Path,
    is_dry: bool,
    prunes: bool,
) -> Result<Exit, Exit> {
    let mut session = JobSession::new(config);
    let compared = Compared::read(&mut session, path)?;
    let mut exit = Exit::Success;
    let mut lines = String::new();
    let mut note = |name: &str, done: Result<&str, Exit>| match done {
        Ok(word) => {
            let would = if is_dry && word != "unchanged" { "would be " } else { "" };
            let _ = writeln!(lines, "{name}: {would}{word}");
            Ok(())
        }
        Err(Exit::Failure) => {
            exit = Exit::Failure;
            Ok(())
        }
        Err(other) => Err(other),
    };
    let mut done = Ok(());
    for schedule in &compared.schedules {
        let is_known = compared.known.contains_key(&schedule.name);
        let one = apply_one(&mut session, schedule, is_known, is_dry);
        done = done.and(note(&schedule.name, one));
        if done.is_err() {
            break;
        }
    }
    for name in compared.others().filter(|_| prunes) {
        if done.is_err() {
            break;
        }
        let removed = if is_dry { Ok("removed") } else { remove(&mut session, name) };
        done = done.and(note(name, removed));
    }
    let printed = print(config.stdio, &lines);
    done?;
    Ok(if printed == Exit::Success { exit } else { printed })
}

fn apply_one(
    session: &mut JobSession<'_>,
    schedule: &Schedule,
    is_known: bool,
    is_dry: bool,
) -> Result<&'static str, Exit> {
    let text = schedule.to_json();
    if text.len() > SCHEDULE_TEXT_LEN_MAX {
        say(format_args!(
            "{}: {} bytes in its normal form, a controller takes {SCHEDULE_TEXT_LEN_MAX}; split it",
            schedule.name,
            text.len()
        ));
        return Err(Exit::Failure);
    }
    if is_known && text_of(session, &schedule.name)? == text {
        return Ok("unchanged");
    }
    if !is_dry {
        let reply = ask(session, ScheduleRequest::Apply { text })?;
        let ScheduleReply::Changed(_) = reply else { return Err(nonsense()) };
    }
    Ok(if is_known { "changed" } else { "added" })
}

fn remove(session: &mut JobSession<'_>, name: &str) -> Result<&'static str, Exit> {
    let act = ScheduleAct::Remove;
    let reply = ask(session, ScheduleRequest::Act { name: name.to_owned(), act })?;
    let ScheduleReply::Changed(_) = reply else { return Err(nonsense()) };
    Ok("removed")
}

pub(super) fn diff(config: &Config, path: &Path, prunes: bool) -> Result<Exit, Exit> {
    let mut session = JobSession::new(config);
    let compared = Compared::read(&mut session, path)?;
    let file = quote(path.as_os_str().as_bytes()).to_string();
    let mut shown = String::new();
    let mut show = |name: &str, old: &str, new: &str| {
        if old != new {
            let _ = write!(shown, "--- {name} (controller)\n+++ {name} ({file})\n");
            line_changes(old, new, &mut shown);
        }
    };
    for schedule in &compared.schedules {
        let name = &schedule.name;
        let old = match compared.known.contains_key(name) {
            true => text_of(&mut session, name)?,
            false => String::new(),
        };
        show(name, &old, &schedule.to_json());
    }
    for name in compared.others().filter(|_| prunes) {
        show(name, &text_of(&mut session, name)?, "");
    }
    let differs = !shown.is_empty();
    let printed = print(config.stdio, &overview::plain_lines(&shown));
    Ok(if printed == Exit::Success { Exit::from_ok(!differs) } else { printed })
}
