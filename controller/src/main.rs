//! Parses the command line, runs the controller, maps its end to an exit status.

use clap::Parser;
use clap::builder::ValueParser;
use hashcluster_controller::driver::live::{Live, LiveFile, LiveFiles};
use hashcluster_controller::driver::log::{Event, LOG};
use hashcluster_controller::driver::policy::{self, AccessPolicy};
use hashcluster_controller::driver::token::Token;
use hashcluster_controller::driver::{self, KeptSockets, Settings};
use hashcluster_controller::jobs::JOURNAL_LEN_MIN;
use hashcluster_controller::journal::{self, BackupError};
use ipc_proto::endpoint::{self, Endpoint};
use ipc_proto::image::{self, IMAGE_VARIABLE};
use ipc_proto::message::{LimitExceeded, check_dataset};
use ipc_proto::sample::Sample;
use ipc_proto::token::FILE_LEN_MAX;
use ipc_socket::{ServiceManager, Trust, inherited_sockets};
use sandbox::Enforcement;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use telemetry::http::HttpAddress;
use telemetry::{LineFormat, SyslogTarget};

/// Distributes the hash jobs of clients to workers.
///
/// SIGTERM or SIGINT stops it and removes its sockets. Workers reconnect when it is back. SIGHUP reads the
/// files of --worker-tokens, --datasets-file and --api-tokens again, which are to be written in place.
#[derive(Debug, Parser)]
#[command(version, name = "hashcluster-controller")]
struct Args {
    /// Directory of the sockets; created with mode 0700 if it is missing
    /// [default: /run/hashcluster if it exists, else $XDG_RUNTIME_DIR/hashcluster].
    #[arg(long, value_name = "DIR", env = "HASHCLUSTER_RUNTIME_DIR")]
    runtime_dir: Option<PathBuf>,

    /// Where clients connect, instead of client.sock in the runtime directory: unix:PATH, or in a VM
    /// vsock:any:PORT.
    #[arg(long, value_name = "ENDPOINT", value_parser = Endpoint::to_listen)]
    client_socket: Option<Endpoint>,

    /// Where workers connect, instead of worker.sock in the runtime directory.
    #[arg(long, value_name = "ENDPOINT", value_parser = Endpoint::to_listen)]
    worker_socket: Option<Endpoint>,

    /// Require clients over vsock, where peers have no uid, to know the token in this file: 1 to 64
    /// bytes, a newline at the end is ignored.
    #[arg(long, value_name = "FILE")]
    client_token_file: Option<PathBuf>,

    /// Require workers over vsock, where peers have no uid, to know the token of their name in this
    /// file: one "NAME TOKEN" per line.
    #[arg(long, value_name = "FILE")]
    worker_tokens: Option<PathBuf>,

    /// Allow this user, in addition to the controller's own user and root, to hash what it can open
    /// itself; may be repeated.
    #[arg(long, value_name = "UID")]
    allow_uid: Vec<u32>,

    /// Allow this group the same (the effective group of a peer); may be repeated.
    #[arg(long, value_name = "GID")]
    allow_gid: Vec<u32>,

    /// Rules in TOML: what each user, group, or holder of a token over vsock may do, and in which
    /// datasets it may name files; see docs/policy.md.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Allow clients to name files in this dataset, which workers have under the same name; may be
    /// repeated, up to 16 times.
    #[arg(long, value_name = "NAME", value_parser = dataset)]
    dataset: Vec<String>,

    /// The same for the datasets in this file, one name per line.
    #[arg(long, value_name = "FILE")]
    datasets_file: Option<PathBuf>,

    /// Hash one in N items a second time, on another worker and by another backend; a worker that
    /// returned a wrong digest gets no more work. Clients can ask for a larger fraction.
    #[arg(long, value_name = "1/N")]
    cross_check: Option<Sample>,

    /// Show metrics, health and a status page over HTTP: ADDRESS:PORT, such as 127.0.0.1:9464, or unix:PATH.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<HttpAddress>,

    /// Show no status page and no status.json over HTTP, which have the jobs of all users, and no GET of the API
    /// without a token: only what monitoring systems read.
    #[arg(long)]
    no_status_page: bool,

    /// Take changes over HTTP from whoever knows a token of this file, of mode 0600: one "NAME TOKEN RIGHT..."
    /// per line; see docs/api.md.
    #[arg(long, value_name = "FILE", requires = "http")]
    api_tokens: Option<PathBuf>,

    /// Directory in which durable jobs are kept, for one controller at a time; created with mode 0700 if it is
    /// missing. There are no durable jobs without it.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// Keep the journal of the state directory below this size, of at least 64M (units K, M, G and T): the jobs that ended
    /// first are removed early, and while there are none, new ones are refused. The file may be three times as large.
    #[arg(long, value_name = "SIZE", value_parser = journal_max)]
    journal_max: Option<u64>,

    /// Write the journal of the state directory to this new file, and end; no controller may use it.
    #[arg(long, value_name = "FILE", requires = "state_dir", conflicts_with = "restore_from")]
    backup_to: Option<PathBuf>,

    /// Replace an empty journal of the state directory by the backup in this file, and end; no controller may use it.
    #[arg(long, value_name = "FILE", requires = "state_dir")]
    restore_from: Option<PathBuf>,

    /// Give space of the journal that nothing uses any more back to the file system, and end; no controller may use it.
    #[arg(long, requires = "state_dir", conflicts_with_all = ["backup_to", "restore_from"])]
    compact: bool,

    /// With --restore-from: also replace a journal that has jobs or schedules, which are lost.
    #[arg(long, requires = "restore_from")]
    replace: bool,

    /// Directory of the commands that notifications of runs may start; none may without it. The commands and the
    /// directory must be writable by nobody but this user and root.
    #[arg(long, value_name = "DIR")]
    notify_commands: Option<PathBuf>,

    /// Directory of the secrets that sign notifications over HTTP: a file each, of mode 0640 or less.
    #[arg(long, value_name = "DIR")]
    notify_secrets: Option<PathBuf>,

    /// Deliver the notifications of the controller whose socket is standard input.
    #[arg(long, hide = true)]
    deliver_notices: bool,

    /// Behaviour on a host that lacks a part of the sandbox: enforce does not start, best-effort starts
    /// and logs the part, off starts without any.
    #[arg(long, value_name = "MODE", default_value = "enforce",
          value_parser = ValueParser::new(Enforcement::from_str))]
    sandbox: Enforcement,

    /// Format of log lines on standard error: text, logfmt or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LineFormat,

    /// Syslog collector that also gets the log, as RFC 5424: PATH of a datagram socket, udp:HOST:PORT or
    /// off [default: /dev/log, unless it is journald's].
    #[arg(long, value_name = "WHERE")]
    syslog: Option<SyslogTarget>,

    /// Write a line to this descriptor once both sockets listen.
    #[arg(long, value_name = "N")]
    ready_fd: Option<u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // The first thread is alone until it is in the sandbox, and is not to wait for whoever reads the log.
    LOG.hold();
    let target = args.syslog.clone().unwrap_or_default();
    if let Err(error) = LOG.configure(args.log_format, &target) {
        LOG.log(&Event::NoSyslog { target: &target, error: &error });
        LOG.flush();
        return ExitCode::FAILURE;
    }
    if args.deliver_notices {
        return deliver(&args);
    }
    if let Some(result) = maintain(&args) {
        let (event, code) = match &result {
            Ok(done) => (Event::Maintained { done }, ExitCode::SUCCESS),
            Err(error) => (Event::Failed { error }, ExitCode::FAILURE),
        };
        LOG.log(&event);
        LOG.flush();
        return code;
    }
    let ready = args.ready_fd.map(|number| (number, ready_file(number)));
    let manager = ServiceManager::from_env().unwrap_or_else(|error| {
        LOG.log(&Event::NoManager { error: &error });
        None
    });
    let tell = |state| manager.iter().for_each(|manager| manager.tell(state));
    let run = |settings| {
        let kept = KeptSockets::new(manager.is_some(), inherited_sockets());
        driver::run(&settings, kept, |kept| {
            for name in kept.hand_over(manager.as_ref()) {
                LOG.log(&Event::UnusedSocket { name: &name });
            }
            ready.into_iter().for_each(announce);
            tell("READY=1");
        })
    };
    let ended = settings(&args).and_then(|settings| run(settings).map_err(|e| e.to_string()));
    if let Err(text) = &ended {
        LOG.log(&Event::Failed { error: text });
    }
    tell("STOPPING=1");
    LOG.flush();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Permissions of whatever delivers notifications.
fn permissions(args: &Args) -> notifier::Permissions {
    notifier::Permissions {
        commands: args.notify_commands.clone(),
        secrets: args.notify_secrets.clone(),
    }
}

/// Delivers notifications until the controller ends.
fn deliver(args: &Args) -> ExitCode {
    let socket = io::stdin().as_fd().try_clone_to_owned();
    match socket.and_then(|socket| notifier::serve(socket, permissions(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            LOG.log(&Event::Failed { error: &error });
            LOG.flush();
            ExitCode::FAILURE
        }
    }
}

/// Makes or restores a backup, or compacts the journal, if that is what is asked for; what was done, for people.
fn maintain(args: &Args) -> Option<Result<String, String>> {
    let dir = args.state_dir.as_ref()?;
    if args.compact {
        let done = journal::compact(dir).map_err(|error| error.to_string());
        return Some(
            done.map(|(before, after)| format!("the journal had {before} bytes, and has {after}")),
        );
    }
    let (file, rows, verb) = match (&args.backup_to, &args.restore_from) {
        (Some(file), _) => (file, journal::back_up_to(dir, file), "holds"),
        (None, Some(file)) => (file, journal::restore_from(dir, file, args.replace), "restored:"),
        (None, None) => return None,
    };
    let file = file.display();
    Some(match rows {
        Ok(rows) => Ok(format!("{file} {verb} {rows} rows")),
        Err(error @ BackupError::StateDir(_)) => Err(error.to_string()),
        Err(error) => Err(format!("{file}: {error}")),
    })
}

fn settings(args: &Args) -> Result<Settings, String> {
    let system_dir_exists = Path::new(endpoint::SYSTEM_RUNTIME_DIR).is_dir();
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let dir = endpoint::runtime_dir(args.runtime_dir.clone(), system_dir_exists, xdg);
    let socket = |asked: &Option<Endpoint>, name| match asked {
        Some(endpoint) => Ok(endpoint.clone()),
        None => Endpoint::unix(dir.join(name))
            .map_err(|error| format!("{}: {error}", dir.join(name).display())),
    };
    let live_file = |path: &Option<PathBuf>, trust: Trust| {
        let open = |path: &PathBuf| {
            let file = trust.open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(LiveFile::new(file, path))
        };
        path.as_ref().map(open).transpose()
    };
    let files = LiveFiles {
        worker_tokens: live_file(&args.worker_tokens, Trust::Secret)?,
        datasets: live_file(&args.datasets_file, Trust::Unwritten)?,
        api_tokens: live_file(&args.api_tokens, Trust::Private)?,
    };
    let live = Live::open(files, args.dataset.clone())?;
    Ok(Settings {
        policy: policy(args, &live.datasets)?,
        live,
        cross_check: args.cross_check,
        http: args.http.clone(),
        has_status_page: !args.no_status_page,
        state_dir: args.state_dir.clone(),
        journal_max: args.journal_max,
        notify: permissions(args),
        sandbox: args.sandbox,
        client_socket: socket(&args.client_socket, endpoint::CLIENT_SOCKET)?,
        worker_socket: socket(&args.worker_socket, endpoint::WORKER_SOCKET)?,
        image: image::parse(std::env::var_os(IMAGE_VARIABLE)).map_err(|error| error.to_string())?,
    })
}

fn policy(args: &Args, datasets: &[String]) -> Result<AccessPolicy, String> {
    let mut policy = AccessPolicy::own(nix::unistd::geteuid().as_raw());
    if let Some(path) = &args.client_token_file {
        policy.trust(token(path)?);
    }
    if let Some(path) = &args.policy {
        parse_file(path, Trust::Unwritten, policy::FILE_LEN_MAX, |content| {
            policy.extend(content, datasets, token)
        })?;
    }
    policy.allow(args.allow_uid.clone(), args.allow_gid.clone());
    Ok(policy)
}

fn token(path: &Path) -> Result<Token, String> {
    parse_file(path, Trust::Secret, FILE_LEN_MAX, Token::parse)
}

/// Reads a file that others cannot have written of at most `len_max` bytes and parses it.
fn parse_file<T, E: std::error::Error>(
    path: &Path,
    trust: Trust,
    len_max: usize,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<T, String> {
    let mut content = Vec::new();
    trust
        .open(path)
        .and_then(|file| file.take(len_max as u64 + 1).read_to_end(&mut content))
        .map_err(|error| error.to_string())
        .and_then(|len| {
            if len > len_max {
                return Err(format!("it has more than {len_max} bytes"));
            }
            parse(&content).map_err(|error| match error.source() {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            })
        })
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn dataset(name: &str) -> Result<String, LimitExceeded> {
    check_dataset(name).map(|()| name.to_owned())
}

fn journal_max(text: &str) -> Result<u64, String> {
    let len = schedule::rate(text).filter(|len| *len >= JOURNAL_LEN_MIN);
    len.ok_or_else(|| "a size of at least 64M is wanted, such as 2G".to_owned())
}

fn ready_file(number: u32) -> io::Result<File> {
    OpenOptions::new().write(true).open(format!("/proc/self/fd/{number}"))
}

/// Tells whoever started us that both sockets listen.
fn announce((ready_fd, file): (u32, io::Result<File>)) {
    if let Err(error) = file.and_then(|mut file| file.write_all(b"ready\n")) {
        // The service is up; only whoever waits for the line does not learn it.
        LOG.log(&Event::NotAnnounced { ready_fd, error: &error });
    }
}
