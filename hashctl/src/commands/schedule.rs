//! `hashctl schedule`: files of schedules, which need no cluster, and the schedules of a controller.

mod apply;
mod changes;
mod file;
mod runs;
mod text;

use crate::commands::jobs::{JobSession, nonsense};
use crate::config::Config;
use crate::examples;
use crate::exit::Exit;
use clap::{Args, Subcommand};
use ipc_proto::limits::NAME_LEN_MAX;
use ipc_proto::message::{
    ScheduleAct, ScheduleReply, ScheduleRequest, ServiceReply, ServiceRequest,
};
use std::path::PathBuf;

pub(crate) use apply::all;
pub(crate) use runs::runs_of;
pub(crate) use text::differences as differences_text;

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
    /// Hand the schedules of a file to the controller, which runs them from then on
    #[command(after_help = examples::SCHEDULE_APPLY)]
    Apply {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// Remove your other schedules, which are not in the file
        #[arg(long)]
        prune: bool,
    },
    /// Compare a file with the schedules of the controller: status 1 if they differ
    #[command(after_help = examples::SCHEDULE_DIFF)]
    Diff {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Also show your other schedules, which are not in the file
        #[arg(long)]
        prune: bool,
    },
    /// List the schedules of the controller
    #[command(after_help = examples::SCHEDULE_LIST)]
    List {
        /// Print one JSON object per schedule; docs/schedules.md has the keys
        #[arg(long)]
        json: bool,
    },
    /// Show a schedule, or one of its runs with the tasks
    #[command(after_help = examples::SCHEDULE_SHOW)]
    Show {
        /// The schedule
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
        /// Number of a run
        #[arg(value_name = "RUN")]
        run: Option<u64>,
        /// Print one JSON object; docs/schedules.md has the keys
        #[arg(long)]
        json: bool,
    },
    /// List the runs of a schedule, the newest first
    #[command(after_help = examples::SCHEDULE_RUNS)]
    Runs {
        /// The schedule
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
        /// Runs that are listed
        #[arg(long, value_name = "N", default_value = "20",
              value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Print one JSON object per run; docs/schedules.md has the keys
        #[arg(long)]
        json: bool,
    },
    /// List the files of a run that differ from the last good run: new, gone, moved, changed, older or rotted
    #[command(after_help = examples::SCHEDULE_DIFFERENCES)]
    Differences {
        /// The schedule
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
        /// Number of the run [default: the last one that ended]
        #[arg(value_name = "RUN")]
        run: Option<u64>,
        /// Print one JSON object per file; docs/schedules.md has the keys
        #[arg(long)]
        json: bool,
    },
    /// Start a run now, and print its number
    #[command(after_help = examples::SCHEDULE_RUN)]
    Run {
        /// The schedule
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
        /// Wait for its end: status 1 unless every task succeeds
        #[arg(long)]
        wait: bool,
    },
    /// Hold schedules back: what is due meanwhile is skipped
    #[command(after_help = examples::SCHEDULE_PAUSE)]
    Pause(ScheduleNames),
    /// Let schedules be due again
    #[command(after_help = examples::SCHEDULE_RESUME)]
    Resume(ScheduleNames),
    /// End the active runs of schedules, and cancel their jobs
    #[command(after_help = examples::SCHEDULE_CANCEL)]
    Cancel(ScheduleNames),
    /// Remove schedules with the records of their runs; jobs that they submitted stay
    #[command(after_help = examples::SCHEDULE_RM)]
    Rm(ScheduleNames),
}

#[derive(Debug, Args)]
struct ScheduleNames {
    /// The schedules
    #[arg(value_name = "NAME", required = true, value_parser = name)]
    names: Vec<String>,
}

/// The name of a schedule, as an argument.
fn name(text: &str) -> Result<String, String> {
    match text.len() {
        1..=NAME_LEN_MAX => Ok(text.to_owned()),
        len => Err(format!("{len} bytes, a name has 1 to {NAME_LEN_MAX}")),
    }
}

pub(crate) fn schedule(config: &Config, args: ScheduleArgs) -> Exit {
    let done = match args.command {
        ScheduleCommand::Check { file } => return file::check(config, &file),
        ScheduleCommand::Next { file, count, from } => {
            return file::next(config, &file, count, from.as_deref());
        }
        ScheduleCommand::Apply { file, dry_run, prune } => {
            apply::apply(config, &file, dry_run, prune)
        }
        ScheduleCommand::Diff { file, prune } => apply::diff(config, &file, prune),
        ScheduleCommand::List { json } => runs::list(config, json),
        ScheduleCommand::Show { name, run: None, json } => runs::show(config, name, json),
        ScheduleCommand::Show { name, run: Some(run), json } => {
            runs::show_run(config, &name, run, json)
        }
        ScheduleCommand::Runs { name, count, json } => runs::runs(config, &name, count, json),
        ScheduleCommand::Differences { name, run, json } => {
            runs::differences(config, &name, run, json)
        }
        ScheduleCommand::Run { name, wait } => runs::run(config, &name, wait),
        ScheduleCommand::Pause(names) => act(config, names, ScheduleAct::Pause),
        ScheduleCommand::Resume(names) => act(config, names, ScheduleAct::Resume),
        ScheduleCommand::Cancel(names) => act(config, names, ScheduleAct::Cancel),
        ScheduleCommand::Rm(names) => act(config, names, ScheduleAct::Remove),
    };
    done.unwrap_or_else(|exit| exit)
}

/// The controller's answer to a request; a refusal is reported.
fn ask(session: &mut JobSession<'_>, request: ScheduleRequest) -> Result<ScheduleReply, Exit> {
    let request = ServiceRequest::Schedule(request);
    let ServiceReply::Schedule(reply) = session.ask(&request)? else { return Err(nonsense()) };
    Ok(reply)
}

/// Changes schedules, as many as can be.
fn act(config: &Config, names: ScheduleNames, act: ScheduleAct) -> Result<Exit, Exit> {
    let mut session = JobSession::new(config);
    let mut exit = Exit::Success;
    for name in names.names {
        match ask(&mut session, ScheduleRequest::Act { name, act }) {
            Ok(ScheduleReply::Changed(_)) => {}
            Ok(_) => return Err(nonsense()),
            Err(Exit::Failure) => exit = Exit::Failure,
            Err(other) => return Err(other),
        }
    }
    Ok(exit)
}
