//! The command line.

use crate::config::{BridgeConfig, BridgeConfigError};
use crate::drive::{self, LocalHashing};
use crate::ledger::{LedgerError, NewLedger, OpenedLedger, ShardLedger};
use crate::metrics::Observer;
use crate::nats::{NatsError, NatsTransport, look, public_key};
use crate::registry::{HostState, SeenHost, host_table};
use crate::serve::{ServeLimits, ServeRole};
use crate::shard::{Base64Bytes, JobKey, ShardOutcome};
use crate::submit::{AuditShare, JobPlan, SubmitLimits, SubmitRole};
use crate::tree::{TreeError, place, walk, write_line};
use clap::{Parser, Subcommand};
use client::{Address, AddressError, client_runtime_dir};
use ipc_proto::Algorithm;
use ipc_proto::message::Failure;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use telemetry::http::HttpAddress;
use thiserror::Error;

/// A file without a digest.
const FAILURE: u8 = 1;
/// Invalid arguments, configuration or files.
const USAGE: u8 = 2;
/// The broker cannot be reached, or refuses.
const UNREACHABLE: u8 = 3;
/// A signal ended it.
const INTERRUPTED: u8 = 4;

const AFTER_HELP: &str = "\
Exit status: 0 done, 1 a file has no digest, 2 arguments, configuration or files are invalid, \
3 the broker cannot be reached or refuses, 4 interrupted.";

/// Lets many hosts, each with its own controller and workers, hash one dataset. They find work at a broker,
/// NATS JetStream; the files must be on each of them.
#[derive(Debug, Parser)]
#[command(name = "hashcluster-bridge", version, after_help = AFTER_HELP)]
struct Line {
    #[command(subcommand)]
    command: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Hands out the files of a dataset and prints their digests, as sha256sum does
    Submit {
        /// Configuration file
        #[arg(long, value_name = "FILE", default_value_os_t = default_config())]
        config: PathBuf,
        /// Record of the job: the same again goes on where it ended, whatever ended it
        #[arg(long, value_name = "FILE")]
        ledger: PathBuf,
        /// Digest: sha224, sha256, sha384, sha512, sha512-256, blake3, blake2b, md5 or sha1
        #[arg(short, long, value_name = "ALGO", default_value = "sha256")]
        algorithm: Algorithm,
        /// Write to FILE, as a whole or not at all, not to standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Show metrics and health at ADDRESS:PORT or unix:PATH
        #[arg(long, value_name = "ADDRESS")]
        http: Option<HttpAddress>,
        /// Dataset, as it is named in the configuration
        dataset: String,
        /// Files and directories of the dataset, relative to its root; all if none is named
        paths: Vec<PathBuf>,
    },
    /// Takes shards of the configured datasets and has the local controller hash them, until a signal
    Serve {
        /// Configuration file
        #[arg(long, value_name = "FILE", default_value_os_t = default_config())]
        config: PathBuf,
        /// Show metrics and health at ADDRESS:PORT or unix:PATH
        #[arg(long, value_name = "ADDRESS")]
        http: Option<HttpAddress>,
    },
    /// Prints the public part of the NKey in FILE, which the broker is to know; a FILE that is not there is made, with mode 0600
    Key {
        /// The file with its seed, which is secret
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Lists the hosts that have reported to the broker within a day
    Hosts {
        /// Configuration file
        #[arg(long, value_name = "FILE", default_value_os_t = default_config())]
        config: PathBuf,
        /// Print an object per line
        #[arg(long)]
        json: bool,
    },
    /// Lists the dead letters of a week: attempts at shards that no host finished
    Dead {
        /// Configuration file
        #[arg(long, value_name = "FILE", default_value_os_t = default_config())]
        config: PathBuf,
        /// Print an object per line
        #[arg(long)]
        json: bool,
    },
}

/// The configuration file, unless the command line names one.
fn default_config() -> PathBuf {
    let named = std::env::var_os("HASHCLUSTER_BRIDGE_CONFIG").filter(|name| !name.is_empty());
    named.map_or_else(|| "/etc/hashcluster/bridge.toml".into(), PathBuf::from)
}

#[derive(Debug, Error)]
enum ProgramError {
    #[error("{0}")]
    Config(#[from] BridgeConfigError),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Broker(#[from] NatsError),
    #[error("{0}")]
    Tree(#[from] TreeError),
    #[error("{0}")]
    Address(#[from] AddressError),
    #[error("{}: a path below the dataset's root, without . and ..", .0.display())]
    Start(PathBuf),
    #[error("{path}: the job of {had}, not of {wanted}; another job needs another --ledger",
        path = .path.display())]
    OtherJob { path: PathBuf, had: String, wanted: String },
    #[error("no dataset in the configuration: nothing to serve")]
    NoDatasets,
    #[error("--http: {0}")]
    Pages(#[source] io::Error),
    #[error("{0}: {1}")]
    Write(String, #[source] io::Error),
}

impl ProgramError {
    fn status(&self) -> u8 {
        match self {
            Self::Broker(NatsError::Connect { .. }) => UNREACHABLE,
            Self::Write(..) => FAILURE,
            Self::Config(_)
            | Self::Ledger(_)
            | Self::Broker(NatsError::Credentials(..) | NatsError::Thread(_))
            | Self::Tree(_)
            | Self::Address(_)
            | Self::Start(_)
            | Self::OtherJob { .. }
            | Self::Pages(_)
            | Self::NoDatasets => USAGE,
        }
    }
}

/// Prints a line on standard error.
#[expect(clippy::print_stderr, reason = "what a person or the journal of systemd reads")]
pub(crate) fn say(line: &str) {
    eprintln!("hashcluster-bridge: {line}");
}

/// The program.
#[must_use]
pub fn run() -> ExitCode {
    let outcome = match Line::parse().command {
        Role::Submit { config, ledger, algorithm, output, http, dataset, paths } => {
            let asked = Asked { ledger, algorithm, output, http, dataset, paths };
            submit(&config, &asked)
        }
        Role::Serve { config, http } => serve(&config, http.as_ref()),
        Role::Key { file } => key(&file),
        Role::Hosts { config, json } => hosts(&config, json),
        Role::Dead { config, json } => dead(&config, json),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        say(&error.to_string());
        error.status()
    }))
}

fn serve(config: &Path, http: Option<&HttpAddress>) -> Result<u8, ProgramError> {
    let config = Arc::new(BridgeConfig::read(config)?);
    let mut datasets = Vec::new();
    for name in config.datasets.keys() {
        datasets.push(config.dataset(name)?.1);
    }
    if datasets.is_empty() {
        return Err(ProgramError::NoDatasets);
    }
    let address = local_controller(&config)?;
    let (own, inputs) = channel();
    let mut transport = NatsTransport::connect(&config.broker, own.clone())?;
    let role =
        ServeRole::new(&config.broker.host, &datasets, ServeLimits { shards: config.shards });
    let served = config.datasets.keys().cloned();
    let mut observer =
        Observer::start(&config, HostState::Serving, served, http).map_err(ProgramError::Pages)?;
    say(&format!("serving {} as {}", names(&config), config.broker.host));
    let counts =
        drive::serve(role, &address, &config, &mut transport, &inputs, &own, &mut observer);
    let (answered, returned, dead) = (counts.answered, counts.returned, counts.dead);
    say(&format!("leaving: {answered} shards answered, {returned} returned, {dead} dead"));
    Ok(0)
}

/// The place of the controller on this host.
fn local_controller(config: &BridgeConfig) -> Result<Address, AddressError> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let asked = config.runtime_dir.clone().or_else(|| variable("HASHCLUSTER_RUNTIME_DIR"));
    Address::in_dir(&client_runtime_dir(asked, variable("XDG_RUNTIME_DIR")))
}

/// Prints a public key.
fn key(file: &Path) -> Result<u8, ProgramError> {
    let key = public_key(file)?;
    let printed = writeln!(io::stdout().lock(), "{key}");
    printed.map_err(|error| ProgramError::Write("standard output".to_owned(), error))?;
    Ok(0)
}

/// Prints hosts; status 1 if one is lost.
fn hosts(config: &Path, json: bool) -> Result<u8, ProgramError> {
    let config = BridgeConfig::read(config)?;
    let (hosts, invalid) = look::hosts(&config.broker)?;
    let mut out = io::stdout().lock();
    let printed = if json {
        hosts.iter().try_for_each(|host| writeln!(out, "{}", host.object()))
    } else {
        out.write_all(host_table(&hosts).as_bytes())
    };
    printed.map_err(|error| ProgramError::Write("standard output".to_owned(), error))?;
    say_invalid(invalid, "reports");
    Ok(if hosts.iter().any(|host: &SeenHost| host.state() == "lost") { FAILURE } else { 0 })
}

/// Prints dead letters; status 1 if there is one.
fn dead(config: &Path, json: bool) -> Result<u8, ProgramError> {
    let config = BridgeConfig::read(config)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut printed, mut status) = (Ok(()), 0);
    let invalid = look::dead(&config.broker, |letter| {
        status = FAILURE;
        let line = if json { letter.object().to_string() } else { letter.line() };
        if printed.is_ok() {
            printed = writeln!(out, "{line}");
        }
    })?;
    let printed = printed.and_then(|()| out.flush());
    printed.map_err(|error| ProgramError::Write("standard output".to_owned(), error))?;
    say_invalid(invalid, "dead letters");
    Ok(status)
}

fn say_invalid(number: u64, what: &str) {
    if number > 0 {
        say(&format!("{number} messages are no {what}, and are left out"));
    }
}

fn names(config: &BridgeConfig) -> String {
    config.datasets.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// A command line of `submit`.
struct Asked {
    ledger: PathBuf,
    algorithm: Algorithm,
    output: Option<PathBuf>,
    http: Option<HttpAddress>,
    dataset: String,
    paths: Vec<PathBuf>,
}

fn submit(config: &Path, asked: &Asked) -> Result<u8, ProgramError> {
    let config = Arc::new(BridgeConfig::read(config)?);
    let (root, dataset) = config.dataset(&asked.dataset)?;
    let is_new = fs::symlink_metadata(&asked.ledger).is_err();
    let plan = JobPlan {
        job: JobKey(random(u128::from_le_bytes)?),
        dataset,
        starts: starts(&asked.paths)?,
        algorithm: asked.algorithm,
        shards: Vec::new(),
    };
    let opened = if is_new {
        begin(&asked.ledger, plan, &root)?
    } else {
        let opened = ShardLedger::open(&asked.ledger)?;
        let (had, wanted) = (described(&opened.plan), described(&plan));
        if had != wanted {
            return Err(ProgramError::OtherJob { path: asked.ledger.clone(), had, wanted });
        }
        opened
    };
    let OpenedLedger { mut ledger, plan, record } = opened;
    let mut limits = SubmitLimits::default();
    limits.outstanding = config.outstanding.unwrap_or(limits.outstanding);
    limits.republish_after =
        config.republish_after_s.map_or(limits.republish_after, Duration::from_secs);
    limits.audit = AuditShare { share: config.audit, secret: random(u64::from_le_bytes)? };
    if !record.is_finished {
        let (own, inputs) = channel();
        let mut transport = NatsTransport::connect(&config.broker, own.clone())?;
        let files: u64 = plan.shards.iter().map(|size| u64::from(size.files_len)).sum();
        let (done, all) = (record.answers.len(), plan.shards.len());
        say(&format!("job {}: {files} files in {all} shards, {done} with a result", plan.job));
        let role = SubmitRole::new(plan.clone(), limits, record);
        let of = [asked.dataset.clone()];
        let mut observer = Observer::start(&config, HostState::Submitting, of, asked.http.as_ref())
            .map_err(ProgramError::Pages)?;
        let local = LocalHashing { address: local_controller(&config)?, config: &config, own };
        let ended =
            drive::submit(role, &mut ledger, &mut transport, &inputs, &mut observer, &local)?;
        if !ended {
            say("interrupted; the same command goes on");
            return Ok(INTERRUPTED);
        }
    }
    print(&plan, &ledger, asked.output.as_deref())
}

/// The paths of a command line without slashes at their ends.
fn starts(paths: &[PathBuf]) -> Result<Vec<Base64Bytes>, ProgramError> {
    let start = |path: &PathBuf| {
        if !path.components().all(|component| matches!(component, Component::Normal(_))) {
            return Err(ProgramError::Start(path.clone()));
        }
        let path: PathBuf = path.components().collect();
        Ok(Base64Bytes(path.into_os_string().into_vec()))
    };
    paths.iter().map(start).collect()
}

/// All of a plan that a command line says, for people: equal exactly for equal jobs.
fn described(plan: &JobPlan) -> String {
    let quoted = |start: &Base64Bytes| start.0.escape_ascii().to_string().replace(',', "\\x2c");
    let starts: Vec<String> = plan.starts.iter().map(quoted).collect();
    let below = if starts.is_empty() { "all".to_owned() } else { starts.join(", ") };
    format!("{} of dataset {} ({below})", plan.algorithm.name(), plan.dataset)
}

/// Begins the ledger of a new job with the files that a walk finds.
fn begin(ledger: &Path, plan: JobPlan, root: &Path) -> Result<OpenedLedger, ProgramError> {
    let all = [Base64Bytes::default()];
    let starts = plan.starts.clone();
    let mut ledger = NewLedger::begin(ledger, plan)?;
    let mut skipped = 0;
    for start in if starts.is_empty() { &all[..] } else { &starts } {
        skipped += walk(root, &place(Path::new(""), &start.0), |file| {
            ledger.push(file).map_err(ProgramError::Ledger)
        })?;
    }
    if skipped > 0 {
        say(&format!("{skipped} links and special files are left out"));
    }
    Ok(ledger.finish()?)
}

/// A random number.
fn random<T, const N: usize>(make: fn([u8; N]) -> T) -> Result<T, ProgramError> {
    let mut bytes = [0; N];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| ProgramError::Write("/dev/urandom".to_owned(), error))?;
    Ok(make(bytes))
}

/// Prints the manifest; status 1 if a file has no digest.
fn print(plan: &JobPlan, ledger: &ShardLedger, output: Option<&Path>) -> Result<u8, ProgramError> {
    let Some(path) = output else {
        let fail = |error| ProgramError::Write("standard output".to_owned(), error);
        return write(plan, ledger, &mut BufWriter::new(io::stdout().lock()), fail);
    };
    let fail = |error| ProgramError::Write(path.display().to_string(), error);
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let file = File::create(&fresh).map_err(fail)?;
    let status = write(plan, ledger, &mut BufWriter::new(&file), fail)?;
    file.sync_all().and_then(|()| fs::rename(&fresh, path)).map_err(fail)?;
    Ok(status)
}

fn write(
    plan: &JobPlan,
    ledger: &ShardLedger,
    out: &mut impl Write,
    fail: impl Fn(io::Error) -> ProgramError,
) -> Result<u8, ProgramError> {
    let mut status = 0;
    for (number, _) in (0..).zip(&plan.shards) {
        let (files, answer) = (ledger.files(number)?, ledger.answer(number)?);
        if answer.outcome == ShardOutcome::Dead {
            say(&format!("shard {}: no host could hash it", answer.key));
        }
        for (file, outcome) in files.iter().zip(answer.outcomes(files.len(), plan.algorithm)) {
            match outcome {
                Ok(digest) => write_line(out, digest, &file.path.0).map_err(&fail)?,
                Err(failure) => {
                    status = FAILURE;
                    let name = String::from_utf8_lossy(&file.path.0);
                    say(&format!("{}: {}", name.escape_debug(), reason(failure)));
                }
            }
        }
    }
    out.flush().map_err(fail)?;
    Ok(status)
}

fn reason(failure: Failure) -> String {
    match failure {
        Failure::Changed => "changed since the job began".to_owned(),
        Failure::NotRegular => "not a regular file".to_owned(),
        Failure::Io { errno } => io::Error::from_raw_os_error(errno).to_string(),
        Failure::WorkersLost { .. } => "no host could hash it".to_owned(),
        Failure::Invalid
        | Failure::Unsupported
        | Failure::UnknownDataset
        | Failure::Disputed
        | Failure::Outside
        | Failure::NotAList
        | Failure::BadLines { .. } => format!("{failure:?}"),
    }
}
