//! Durable jobs: submitted, listed, waited for, changed, and their results.
//!
//! Requests are repeated after a lost connection, so that a controller may restart meanwhile: each of
//! them changes nothing the second time.

mod findings;
pub(crate) mod result;
mod session;
pub(crate) mod submit;
mod text;

use crate::args::JobArgs;
use crate::cli::print;
use crate::config::Config;
use crate::examples;
use crate::exit::Exit;
use crate::say::say;
use clap::{Args, ValueEnum};
use ipc_proto::limits::{FRAME_NAMES_MAX, JOB_KEY_LEN_MAX, NAME_LEN_MAX};
use ipc_proto::message::{
    DeadItem, JobAct, JobFilter, JobId, JobRow, JobState, ServiceRefusal, ServiceReply,
    ServiceRequest,
};
pub(crate) use session::{JobName, JobSession, nonsense};
use std::ffi::OsString;

/// Longest wait of one request, in milliseconds; then it is repeated.
const WAIT_MS: u32 = 30_000;

/// Most items whose workers were lost that `show` lists.
const DEAD_SHOWN_MAX: usize = 8 * FRAME_NAMES_MAX;

#[derive(Debug, Args)]
#[command(after_help = examples::JOBS)]
pub(crate) struct JobsArgs {
    /// Only jobs in this state
    #[arg(long, value_name = "STATE", value_enum)]
    state: Option<StateName>,
    /// Only jobs with this label
    #[arg(long, value_name = "LABEL", value_parser = label)]
    label: Option<String>,
    /// Only the job of this key
    #[arg(long, value_name = "KEY", value_parser = key)]
    id: Option<String>,
    /// Print one JSON object per job; docs/jobs.md has the keys
    #[arg(long)]
    json: bool,
}

/// A state, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateName {
    Filling,
    Running,
    Paused,
    Done,
    Cancelled,
    Failed,
}

impl From<StateName> for JobState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Filling => Self::Filling,
            StateName::Running => Self::Running,
            StateName::Paused => Self::Paused,
            StateName::Done => Self::Done,
            StateName::Cancelled => Self::Cancelled,
            StateName::Failed => Self::Failed,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = examples::SHOW)]
pub(crate) struct ShowArgs {
    /// The job: its id, or the key that it was submitted with
    #[arg(value_name = "JOB")]
    job: JobName,
    /// Print one JSON object; docs/jobs.md has the keys
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = examples::WAIT)]
pub(crate) struct WaitArgs {
    /// The jobs: their ids, or the keys that they were submitted with
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<JobName>,
    /// Give up, with status 1, after SECONDS [default: wait]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    /// The jobs: their ids, or the keys that they were submitted with
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<JobName>,
}

impl ActArgs {
    /// With names that were not parsed, as they cannot be options.
    pub(crate) fn and(mut self, more: &[OsString]) -> Self {
        self.jobs.extend(more.iter().map(JobName::from));
        self
    }
}

impl WaitArgs {
    /// With names that were not parsed, as they cannot be options.
    pub(crate) fn and(mut self, more: &[OsString]) -> Self {
        self.jobs.extend(more.iter().map(JobName::from));
        self
    }
}

/// Bytes per second, as an argument.
fn rate(text: &str) -> Result<u64, String> {
    let rate = schedule::rate(text);
    rate.ok_or_else(|| "a number above 0, perhaps with K, M, G or T (powers of 1024)".to_owned())
}

/// A label, as an argument.
fn label(text: &str) -> Result<String, String> {
    match text.len() {
        1..=NAME_LEN_MAX => Ok(text.to_owned()),
        len => Err(format!("{len} bytes, a label has 1 to {NAME_LEN_MAX}")),
    }
}

/// A key, as an argument.
fn key(text: &str) -> Result<String, String> {
    match text.len() {
        1..=JOB_KEY_LEN_MAX if JobId::parse(text).is_none() => Ok(text.to_owned()),
        1..=JOB_KEY_LEN_MAX => Err("it looks like the id of a job".to_owned()),
        len => Err(format!("{len} bytes, a key has 1 to {JOB_KEY_LEN_MAX}")),
    }
}

/// Lists jobs.
pub(crate) fn jobs(config: &Config, args: JobsArgs) -> Exit {
    let filter = JobFilter {
        state: args.state.map(Into::into),
        label: args.label.unwrap_or_default(),
        key: args.id.unwrap_or_default(),
    };
    let all = match JobSession::new(config).jobs(&filter) {
        Ok(rows) => rows,
        Err(exit) => return exit,
    };
    let text =
        if args.json { all.iter().map(text::json).collect::<String>() } else { text::table(&all) };
    print(config.stdio, &text)
}

/// Shows one job.
pub(crate) fn show(config: &Config, args: &ShowArgs) -> Exit {
    let mut session = JobSession::new(config);
    let found = session.find(&args.job).and_then(|row| {
        let dead = if row.failed == 0 { Vec::new() } else { dead_items(&mut session, row.id)? };
        Ok((row, dead))
    });
    match found {
        Ok((row, dead)) => {
            let text = if args.json {
                text::json_with(&row, &dead)
            } else {
                text::details(&row) + &text::dead(&dead)
            };
            print(config.stdio, &text)
        }
        Err(exit) => exit,
    }
}

/// The items of a job whose workers were lost.
pub(crate) fn dead_items(session: &mut JobSession<'_>, job: JobId) -> Result<Vec<DeadItem>, Exit> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let limit = u16::try_from(FRAME_NAMES_MAX).unwrap_or(u16::MAX);
        let ServiceReply::Deaths { rows, more } =
            session.ask(&ServiceRequest::Deaths { job, from, limit })?
        else {
            return Err(session::nonsense());
        };
        let last = rows.last().map(|row| row.index);
        all.extend(rows);
        match last {
            Some(last) if more && all.len() < DEAD_SHOWN_MAX => from = last + 1,
            _ => return Ok(all),
        }
    }
}

/// Waits for the end of jobs.
pub(crate) fn wait(config: &Config, args: &WaitArgs) -> Exit {
    let mut session = JobSession::new(config);
    session.set_limit(args.timeout);
    let mut exit = Exit::Success;
    for job in &args.jobs {
        match session.find(job).and_then(|row| session.wait_for(row)) {
            Ok(row) if is_good(&row) => {}
            Ok(row) => {
                say(format_args!("job {}: {}", row.id, text::outcome(&row)));
                exit = Exit::Failure;
            }
            Err(exit) => return exit,
        }
    }
    exit
}

/// True if every item has its digest, the expected one if there is one, and an audit has found no difference.
pub(crate) fn is_good(row: &JobRow) -> bool {
    row.state == JobState::Done && row.bad_items() == 0
}

/// Changes jobs.
pub(crate) fn act(config: &Config, args: &ActArgs, act: JobAct) -> Exit {
    let mut session = JobSession::new(config);
    let mut exit = Exit::Success;
    for job in &args.jobs {
        let done = session.id(job).and_then(|job| session.ask(&ServiceRequest::Act { job, act }));
        match done {
            Ok(ServiceReply::Job(_)) => {}
            Ok(_) => return session::nonsense(),
            Err(Exit::Failure) => exit = Exit::Failure,
            Err(exit) => return exit,
        }
    }
    exit
}

/// Remedy of a refusal, after its text.
fn remedy(reason: ServiceRefusal) -> &'static str {
    match reason {
        ServiceRefusal::UnknownJob => "; see hashctl jobs",
        ServiceRefusal::TooMuch => " with hashctl rm",
        ServiceRefusal::NoJournal
        | ServiceRefusal::JournalFailed
        | ServiceRefusal::Forbidden
        | ServiceRefusal::UnknownDataset
        | ServiceRefusal::KeyTaken
        | ServiceRefusal::WrongState
        | ServiceRefusal::WrongItems
        | ServiceRefusal::NotDurable
        | ServiceRefusal::UnknownSchedule
        | ServiceRefusal::BadSchedule => "",
    }
}

impl JobArgs {
    /// The wire form of its options: one item per how many is cross-checked, and strict reads.
    pub(crate) fn of_spec(self) -> (u32, bool) {
        (ipc_proto::sample::Sample::to_wire(self.cross_check()), self.strict_reads())
    }
}
