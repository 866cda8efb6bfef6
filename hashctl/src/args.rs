//! The arguments as they are typed. What they mean together is `config`'s.

use crate::commands::audit::AuditArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::dups::DupsArgs;
use crate::commands::get::{GetArgs, SearchArgs};
use crate::commands::jobs::result::ResultArgs;
use crate::commands::jobs::submit::SubmitArgs;
use crate::commands::jobs::{ActArgs, JobsArgs, ShowArgs, WaitArgs};
use crate::commands::schedule::ScheduleArgs;
use crate::commands::top::TopArgs;
use crate::commands::update::UpdateArgs;
use crate::compat;
use crate::config::Config;
use crate::engine::embedded::THREADS_MAX;
use crate::examples;
use crate::input::plane::Choice;
use crate::input::selection::{Selection, glob};
use crate::output::Format;
use crate::progress::ProgressMode;
use clap::{Args as Group, Parser, Subcommand};
use client::JobOptions;
use ipc_proto::Algorithm;
use ipc_proto::limits::NAME_LEN_MAX;
use ipc_proto::sample::Sample;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Hash, check and watch from the command line.
#[derive(Debug, Parser)]
#[command(name = "hashctl", version, about, disable_help_subcommand = true)]
#[command(after_help = notes())]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn notes() -> String {
    let names: Vec<&str> = compat::names().collect();
    format!(
        "\
Programs: hashctl NAME ARGS… behaves like the program NAME, and so does a link of that name to hashctl:
  {}

Exit status: 0 all is well, 1 something has no digest or does not match, 2 usage, 3 no controller, \
4 interrupted.",
        names.join(", ")
    )
}

#[derive(Debug, Group)]
#[command(next_help_heading = "Engine")]
pub(crate) struct Global {
    /// Hash in this process, without a cluster [default: where no cluster is named or found]
    #[arg(long, global = true, conflicts_with_all = ["cluster", "connect", "runtime_dir"])]
    pub(crate) embedded: bool,
    /// Have a cluster hash [default: where one is named or found]
    #[arg(long, global = true)]
    pub(crate) cluster: bool,
    /// Never hash in this process, which reads the files with your rights; the variable
    /// HASHCLUSTER_ISOLATED=1, and isolated = true in /etc/hashctl.toml or
    /// $XDG_CONFIG_HOME/hashctl.toml, say the same
    #[arg(long, global = true, conflicts_with = "embedded")]
    pub(crate) isolated: bool,
    /// Check the command line and, of `sum` and `check`, whether anything that it names exists; for run.sh,
    /// before it boots a cluster
    #[arg(long, hide = true)]
    pub(crate) usage_only: bool,
    /// Hashing threads in this process [default: one per processor]
    #[arg(long, value_name = "N", global = true,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(THREADS_MAX)))]
    pub(crate) threads: Option<u16>,
    /// Show how far a run is
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        value_enum,
        default_value = "auto",
        help_heading = "Output"
    )]
    pub(crate) progress: ProgressMode,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

#[derive(Debug, Group)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Directory with the controller's sockets [default: $HASHCLUSTER_RUNTIME_DIR, else where there
    /// is a controller: /run/hashcluster, $XDG_RUNTIME_DIR/hashcluster or /tmp/hashcluster-UID]
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "connect")]
    pub(crate) runtime_dir: Option<PathBuf>,
    /// The controller's client socket: unix:PATH, or a path with a slash; for a controller in a VM
    /// vsock-unix:PATH:PORT, or vsock:CID:PORT
    #[arg(long, value_name = "ENDPOINT", global = true)]
    pub(crate) connect: Option<String>,
    /// Token for a controller in a VM [default: client.token in the runtime directory]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Data plane by which files reach the workers; a file that cannot use it has no digest
    #[arg(long, value_name = "PLANE", global = true, value_enum, default_value = "auto")]
    pub(crate) plane: Choice,
    /// Report how files reach the workers, and which symbolic links are left out
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print digests, as sha256sum and b3sum do
    Sum(Sum),
    /// Check digests against manifests, as sha256sum -c does
    Check(Check),
    /// Compare a tree with manifests: what is changed, moved, copied, new or missing
    Audit(AuditArgs),
    /// Bring a manifest up to date with a tree, reading only what may have changed
    Update(UpdateArgs),
    /// Compare copies of one tree: which copy of which file is the odd one out
    Compare(CompareArgs),
    /// Find equal files
    Dups(DupsArgs),
    /// Show workers, jobs and limits
    Status(Status),
    /// Watch workers, jobs and events
    Top(TopArgs),
    /// Submit a durable job, which outlives this command and restarts of the cluster
    Submit(SubmitArgs),
    /// List durable jobs
    Jobs(JobsArgs),
    /// Show a durable job
    Show(ShowArgs),
    /// Wait for the end of durable jobs
    Wait(WaitArgs),
    /// Print the manifest of a durable job
    Result(ResultArgs),
    /// End durable jobs; their results so far stay
    #[command(after_help = examples::CANCEL)]
    Cancel(ActArgs),
    /// Hash the failed items of durable jobs again
    #[command(after_help = examples::RETRY)]
    Retry(ActArgs),
    /// Hold durable jobs back
    #[command(after_help = examples::PAUSE)]
    Pause(ActArgs),
    /// Let paused durable jobs run again
    #[command(after_help = examples::RESUME)]
    Resume(ActArgs),
    /// Remove durable jobs that have ended, with their results
    #[command(after_help = examples::RM)]
    Rm(ActArgs),
    /// Check files of schedules, hand them to the controller, and look after their runs
    Schedule(ScheduleArgs),
    /// Print a register: workers, durable jobs, datasets, schedules, runs, policies, events, hosts
    Get(GetArgs),
    /// Find a text in the registers of the controller, the names of workers as well as the audit trail
    Search(SearchArgs),
    /// End a worker's quarantine for a wrong digest
    Release(Release),
    /// Give a worker no more work, and wait until it has none, before it is stopped
    Drain(DrainArgs),
    /// Give a worker work again that was drained
    Undrain(UndrainArgs),
    /// Write a backup of the controller's durable jobs and schedules, while it runs
    Backup(BackupArgs),
    /// Restore a backup into the state directory of a controller that is stopped
    Restore(RestoreArgs),
    /// Print the versions of hashctl and, if it runs, of the controller
    #[command(after_help = examples::VERSION)]
    Version,
}

#[derive(Debug, Group)]
#[command(after_help = examples::SUM)]
pub(crate) struct Sum {
    #[command(flatten)]
    pub(crate) options: SumOptions,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Files; - or nothing is standard input
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Clone, Debug, Group)]
pub(crate) struct SumOptions {
    #[arg(short, long, value_name = "ALGO,…", value_delimiter = ',', help_heading = "Hashing",
          help = algorithms_help())]
    pub(crate) algorithm: Vec<Algorithm>,
    /// Check the digests in lists, as hashctl check does
    #[arg(short, long, help_heading = "Hashing", conflicts_with_all = ["recursive", "output", "tag",
          "binary", "text", "files_from"])]
    pub(crate) check: bool,
    /// Hash every file below a directory, in the order of names
    #[arg(short, long, help_heading = "Input")]
    pub(crate) recursive: bool,
    /// Hash also the files that FILE names, one per line; - is standard input
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub(crate) files_from: Option<OsString>,
    /// Names in FILE end with a zero byte, as those of find -print0
    #[arg(short = '0', long, requires = "files_from", help_heading = "Input")]
    pub(crate) null: bool,
    /// Follow symbolic links below a directory
    #[arg(
        short = 'L',
        long,
        overrides_with = "no_follow_links",
        requires = "recursive",
        help_heading = "Input"
    )]
    pub(crate) follow_links: bool,
    /// Don't follow symbolic links below a directory [default]
    #[arg(short = 'P', long, overrides_with = "follow_links", help_heading = "Input")]
    no_follow_links: bool,
    /// Leave out files and directories below a directory whose name matches; with a slash in GLOB,
    /// whose path does
    #[arg(long, value_name = "GLOB", requires = "recursive", value_parser = glob, help_heading = "Input")]
    pub(crate) exclude: Vec<String>,
    /// Hash only files below a directory whose name, or path, matches one of these
    #[arg(long, value_name = "GLOB", requires = "recursive", value_parser = glob, help_heading = "Input")]
    pub(crate) include: Vec<String>,
    /// Leave out directories on other file systems
    #[arg(long, requires = "recursive", help_heading = "Input")]
    pub(crate) one_file_system: bool,
    /// Hash only files below a directory that were modified after WHEN: an age (90d), a date
    /// (2026-01-31, UTC), @SECONDS since 1970, or a file that was modified then
    #[arg(
        long,
        value_name = "WHEN",
        requires = "recursive",
        help_heading = "Input",
        allow_hyphen_values = false
    )]
    pub(crate) newer_than: Option<OsString>,
    /// Print digests as soon as they are there, not in the order of the input
    #[arg(long, conflicts_with = "check", help_heading = "Output")]
    pub(crate) unordered: bool,
    /// Write to FILE instead of standard output, and replace it only once all digests are there
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Part of a tree, for the commands that walk whole ones.
#[derive(Clone, Debug, Group)]
pub(crate) struct SelectionArgs {
    /// Leave out files and directories whose name matches; with a slash in GLOB, whose path below
    /// DIR does. Entries of manifests about them count for nothing
    #[arg(long, value_name = "GLOB", value_parser = glob, help_heading = "Input")]
    exclude: Vec<String>,
    /// Leave out files whose name, or path, matches none of these
    #[arg(long, value_name = "GLOB", value_parser = glob, help_heading = "Input")]
    include: Vec<String>,
}

impl From<SelectionArgs> for Selection {
    fn from(SelectionArgs { exclude, include }: SelectionArgs) -> Self {
        Self { exclude, include, ..Self::default() }
    }
}

/// Words of `check` about files and lines.
#[derive(Clone, Copy, Debug, Group)]
pub(crate) struct ReportArgs {
    /// Don't print OK for each file that matches
    #[arg(long, overrides_with_all = ["status", "warn"], help_heading = "Output of a check")]
    pub(crate) quiet: bool,
    /// Print nothing on standard output: the exit status tells
    #[arg(long, overrides_with_all = ["quiet", "warn"], help_heading = "Output of a check")]
    pub(crate) status: bool,
    /// Fail on lines that are improperly formatted
    #[arg(long, help_heading = "Output of a check")]
    pub(crate) strict: bool,
    /// Name each line that is improperly formatted
    #[arg(short, long, overrides_with_all = ["quiet", "status"], help_heading = "Output of a check")]
    pub(crate) warn: bool,
    /// Neither fail on nor report files that are missing
    #[arg(long, help_heading = "Output of a check")]
    pub(crate) ignore_missing: bool,
}

impl ReportArgs {
    /// The first option that is given.
    pub(crate) fn first(self) -> Option<&'static str> {
        let options = [
            ("--quiet", self.quiet),
            ("--status", self.status),
            ("--strict", self.strict),
            ("--warn", self.warn),
            ("--ignore-missing", self.ignore_missing),
        ];
        options.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
    }
}

fn algorithms_help() -> String {
    let names = |is_legacy| {
        let all = Algorithm::ALL.into_iter().filter(move |a| a.is_legacy() == is_legacy);
        all.map(Algorithm::name).collect::<Vec<_>>().join(", ")
    };
    let (names, legacy) = (names(false), names(true));
    format!(
        "{names}; legacy, which show damage but no forgery: {legacy}. Several, with commas between \
         them, are computed in one read and printed as by --tag [default: sha256]"
    )
}

#[derive(Debug, Group)]
#[command(after_help = examples::CHECK)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) options: CheckOptions,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Lists of sha*sum, b3sum and many other tools; - or nothing is standard input. Behind one that
    /// has nothing but a digest, and is not named after its file, that file
    #[arg(value_name = "LIST")]
    pub(crate) files: Vec<OsString>,
}

#[derive(Clone, Debug, Group)]
pub(crate) struct CheckOptions {
    /// Algorithm of lines that do not name theirs [default: by the digest's length, sha256 for 64
    /// digits]
    #[arg(short, long, value_name = "ALGO", help_heading = "Hashing")]
    pub(crate) algorithm: Option<Algorithm>,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
    /// Print one JSON object per file, and one with the counts; docs/json.md has the keys
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Lines of the lists end with a zero byte
    #[arg(short, long, help_heading = "Input")]
    pub(crate) zero: bool,
    /// Look for the files in DIR; lists are named from the current directory all the same
    #[arg(short = 'C', long, value_name = "DIR", help_heading = "Input")]
    pub(crate) directory: Option<PathBuf>,
    /// Keep in FILE which files matched, and pass over those it has from an interrupted run; it is
    /// removed when the check is at its end
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub(crate) resume: Option<PathBuf>,
    /// Remove N leading components from the names in lists
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        hide_default_value = true,
        help_heading = "Input"
    )]
    pub(crate) strip_components: usize,
}

/// Options of the jobs that a command opens.
#[derive(Clone, Copy, Debug, Group)]
pub(crate) struct JobArgs {
    /// Hash one in N files a second time, on another worker and by another backend; a worker that
    /// gave a wrong digest gets no more work
    #[arg(long, value_name = "1/N", help_heading = "Hashing")]
    cross_check: Option<Sample>,
    /// Look for writers of every file before it is read, not only of those that changed recently
    #[arg(long, help_heading = "Hashing")]
    strict_reads: bool,
    /// Give up, with status 3, if no result comes for SECONDS [default: wait]
    #[arg(long, value_name = "SECONDS", help_heading = "Connection",
          value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
}

impl JobArgs {
    pub(crate) fn cross_check(self) -> Option<Sample> {
        self.cross_check
    }

    pub(crate) fn strict_reads(self) -> bool {
        self.strict_reads
    }

    pub(crate) fn apply(self, config: Config) -> Config {
        let Self { cross_check, strict_reads, timeout } = self;
        let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
        Config { job: JobOptions { cross_check, strict_reads }, timeout, ..config }
    }
}

#[derive(Debug, Group)]
#[command(after_help = examples::STATUS)]
pub(crate) struct Status {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Wait until N workers are ready, instead of showing anything
    #[arg(long, value_name = "N", conflicts_with = "json")]
    pub(crate) ready: Option<u32>,
    /// Timeout in seconds
    #[arg(long, value_name = "S", requires = "ready", default_value = "30")]
    pub(crate) timeout_s: u32,
}

#[derive(Debug, Group)]
#[command(after_help = examples::RELEASE)]
pub(crate) struct Release {
    /// The worker's name, as hashctl status shows it
    #[arg(value_name = "NAME", value_parser = worker_name)]
    pub(crate) worker: String,
}

#[derive(Debug, Group)]
#[command(after_help = examples::DRAIN)]
pub(crate) struct DrainArgs {
    /// The worker's name, as hashctl status shows it
    #[arg(value_name = "WORKER", value_parser = worker_name)]
    pub(crate) worker: String,
    /// Time that the worker has for what it works on; the rest then goes to others
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = drain_time)]
    pub(crate) deadline: Duration,
}

#[derive(Debug, Group)]
#[command(after_help = examples::UNDRAIN)]
pub(crate) struct UndrainArgs {
    /// The worker's name
    #[arg(value_name = "WORKER", value_parser = worker_name)]
    pub(crate) worker: String,
}

#[derive(Debug, Group)]
#[command(after_help = examples::BACKUP)]
pub(crate) struct BackupArgs {
    /// The file; one of this name is replaced when the backup is complete
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Group)]
#[command(after_help = examples::RESTORE)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The controller's state directory
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
    /// Also replace a journal that has jobs or schedules, which are lost
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Longest time that a drain may be given.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// A time such as `30`, `30s`, `5m` or `2h`.
fn drain_time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) => (digits, &text[digits.len()..]),
        None => (text, "s"),
    };
    let scale = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.parse::<u64>().ok().filter(|_| is_number);
    let time = seconds.and_then(|s| s.checked_mul(scale)).map(Duration::from_secs);
    time.filter(|time| *time <= DRAIN_TIME_MAX)
        .ok_or_else(|| "write a time of at most 24h as 30s, 5m or 2h".to_owned())
}

fn worker_name(name: &str) -> Result<String, String> {
    match name.len() {
        1..=NAME_LEN_MAX => Ok(name.to_owned()),
        len => Err(format!("{len} bytes, a worker's name has 1 to {NAME_LEN_MAX}")),
    }
}
