//! The worker's command line.

use clap::Parser;
use clap::builder::ValueParser;
use engine::exec::order::{ReadOptions, Scratch};
use engine::hash::{self, Backend, Forced};
use engine::input::dataset::{Datasets, IoThreads, Mount};
use engine::input::reader::{Asked, Reader, Reading};
use hashcluster_worker::host::{Cores, Policy, Settings, Share};
use hashcluster_worker::link::connection as link;
use hashcluster_worker::link::hang::HangDetector;
use hashcluster_worker::link::reconnect::{self, Dialer};
use hashcluster_worker::link::shutdown::{LEAVE_WITHIN_MS, Shutdown};
use hashcluster_worker::log::{Event, LOG};
use hashcluster_worker::pages::PageServer;
use hashcluster_worker::pool::Pool;
use hashcluster_worker::sandbox::{Role, Sandbox};
use ipc_proto::endpoint::{self, Endpoint, EndpointError, SYSTEM_RUNTIME_DIR, WORKER_SOCKET};
use ipc_proto::image::{self, IMAGE_VARIABLE};
use ipc_proto::limits::{NAME_LEN_MAX, PROGRESS_LEN_MAX, WORKER_THREADS_MAX};
use ipc_proto::message::WorkerIntro;
use ipc_proto::{Algorithm, Blob};
use ipc_socket::ServiceManager;
use nix::sys::signal::{SigSet, Signal};
use sandbox::Enforcement;
use std::env;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use telemetry::http::HttpAddress;
use telemetry::{LineFormat, SyslogTarget};

/// Grace period for leases in flight after a signal.
const STOP_GRACE: Duration = Duration::from_millis(LEAVE_WITHIN_MS as u64 + 1_000);

/// Exit status for a wrong command line.
const USAGE: u8 = 2;

/// Computes digests for a hashcluster controller.
///
/// Everything to hash arrives over the controller's socket, as open descriptors or as bytes, or is
/// in a directory that --dataset names: this program opens no other file. It reconnects whenever
/// the controller is back.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Signals: on SIGTERM or SIGINT the worker takes no new work, works on its leases for up to 4 seconds, \
and exits with 0; the controller gives the rest to another worker before that. A second signal exits at once.
Exit status: 0 after a signal or when the controller sent the worker away, 1 if the host or the \
controller does not allow what was asked for, 2 for a wrong command line, 3 if every hashing thread \
hangs in a file that does not answer: its supervisor should start it again.
Backends: at its start the worker times the backends of this machine for less than a millisecond \
and logs which it uses.
Environment: HASHCLUSTER_DENY_CPU=sha,avx2,… hides processor features, so that slower backends are \
used; HASHCLUSTER_REQUIRE_BACKENDS=NAME,… refuses to start without these; HASHCLUSTER_IMAGE is the \
digest of the image that the worker runs from."
)]
struct Options {
    /// Directory with the controller's sockets [default: $HASHCLUSTER_RUNTIME_DIR,
    /// /run/hashcluster or $XDG_RUNTIME_DIR/hashcluster]
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,

    /// Where to connect, instead of worker.sock in the runtime directory: unix:PATH, or in a VM
    /// vsock:2:PORT
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "runtime_dir",
          value_parser = Endpoint::to_dial)]
    connect: Option<Endpoint>,

    /// File with the token that proves the name to a controller behind vsock: 1 to 64 bytes, a
    /// newline at the end is ignored
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Name of this worker, unique in its cluster [default: worker-PID]
    #[arg(long, value_parser = ValueParser::new(parse_name))]
    name: Option<String>,

    /// Open files below DIR when clients name them in dataset NAME; may be repeated
    #[arg(long, value_name = "NAME=DIR")]
    dataset: Vec<Mount>,

    /// Limit the threads that read from dataset NAME concurrently, for rotating disks; may be
    /// repeated [default: all]
    #[arg(long, value_name = "NAME=N")]
    io_threads: Vec<IoThreads>,

    /// Method to read files that are not in the page cache
    #[arg(long, value_name = "HOW", default_value = "auto", hide_possible_values = false)]
    reading: Asked,

    /// Hashing threads [default: one per core]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKER_THREADS_MAX)))]
    threads: Option<u16>,

    /// Cores to run on, such as 0,2-3 [default: all that the process may use]
    #[arg(long, value_name = "LIST")]
    cpuset: Option<Cores>,

    /// Nice value, -20 (first) to 19 (last)
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i8).range(-20..=19))]
    nice: Option<i8>,

    /// Scheduling policy: other, batch or fifo:PRIO with 1 to 99
    #[arg(long, value_name = "POLICY")]
    sched: Option<Policy>,

    /// Backend for every algorithm that it serves [default: the fastest, by measurement]
    #[arg(long, value_name = "NAME")]
    backend: Option<Forced>,

    /// Send a checkpoint of a long SHA-2 file every BYTES, so that another worker can resume it
    #[arg(long, value_name = "BYTES", default_value_t = ReadOptions::default().report_len,
          value_parser = clap::value_parser!(u64).range(1..=PROGRESS_LEN_MAX))]
    report_every: u64,

    /// Behaviour on a host that lacks a part of the sandbox: enforce does not start, best-effort
    /// starts and logs the part, off starts without any
    #[arg(long, value_name = "MODE", default_value = "enforce",
          value_parser = ValueParser::new(Enforcement::from_str))]
    sandbox: Enforcement,

    /// Format of log lines on standard error: text, logfmt or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LineFormat,

    /// Syslog collector that also gets the log, as RFC 5424: PATH of a datagram socket, udp:HOST:PORT or
    /// off [default: /dev/log, unless it is journald's]
    #[arg(long, value_name = "WHERE")]
    syslog: Option<SyslogTarget>,
    /// Show metrics and health over HTTP: ADDRESS:PORT, such as 127.0.0.1:9464, or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    http: Option<HttpAddress>,

    /// Evict large files from the page cache after hashing, except pages that were cached before
    #[arg(long)]
    drop_behind: bool,
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_LEN_MAX || text.chars().any(char::is_control) {
        return Err(format!("a name has 1 to {NAME_LEN_MAX} bytes and no control characters"));
    }
    Ok(text.to_owned())
}

fn main() -> ExitCode {
    let options = Options::parse();
    // The first thread is alone until it is in the sandbox, and is not to wait for whoever reads the log.
    LOG.hold();
    let target = options.syslog.clone().unwrap_or_default();
    if let Err(error) = LOG.configure(options.log_format, &target) {
        LOG.log(&Event::NoSyslog { target: &target, error: &error });
        LOG.flush();
        return ExitCode::FAILURE;
    }
    let endpoint = match endpoint(&options) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            LOG.log(&Event::NoSocket { error: &error });
            LOG.flush();
            return ExitCode::from(USAGE);
        }
    };
    let run = || {
        let mode = options.sandbox;
        let mut prepared = prepare(endpoint, options)?;
        let manager = ServiceManager::from_env().unwrap_or_else(|error| {
            LOG.log(&Event::NoManager { error: &error });
            None
        });
        let keeps_cwd = prepared.dialer.is_in_working_directory();
        let (sandbox, report) = Sandbox::enter(mode, &mut prepared.datasets, keeps_cwd)?;
        prepared.intro.sandbox = report.layers();
        // It reconnects for as long as it runs: the manager need not wait for a controller.
        let tell = |state| manager.iter().for_each(|manager| manager.tell(state));
        tell("READY=1");
        let served = serve(prepared, sandbox);
        tell("STOPPING=1");
        served
    };
    let ended = run();
    if let Err(error) = &ended {
        LOG.log(&Event::Failed { error });
    }
    LOG.flush();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn endpoint(options: &Options) -> Result<Endpoint, EndpointError> {
    if let Some(endpoint) = &options.connect {
        return Ok(endpoint.clone());
    }
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let asked = options.runtime_dir.clone().or_else(|| variable("HASHCLUSTER_RUNTIME_DIR"));
    let system_dir_exists = Path::new(SYSTEM_RUNTIME_DIR).is_dir();
    let dir = endpoint::runtime_dir(asked, system_dir_exists, variable("XDG_RUNTIME_DIR"));
    Endpoint::unix(dir.join(WORKER_SOCKET))
}

/// All that needs paths, privileges or measurements. There is one thread so far, and no other connection
/// to the outside than what is in here.
struct Prepared {
    dialer: Dialer,
    intro: WorkerIntro,
    datasets: Datasets,
    share: Share,
    credit: u16,
    /// One per hashing thread.
    scratches: Vec<Scratch>,
    /// Of the thread that hashes while those have long files.
    spare: Scratch,
    /// Blocked, and waited for by a thread of their own.
    signals: SigSet,
    pages: Option<PageServer>,
}

/// First step: opens directories and rings, takes memory, sets cores and priorities, chooses backends.
fn prepare(endpoint: Endpoint, options: Options) -> Result<Prepared, Box<dyn Error>> {
    Backend::check()?;
    let image = image::parse(env::var_os(IMAGE_VARIABLE))?;
    let read_options = ReadOptions {
        report_len: options.report_every,
        drop_behind: options.drop_behind,
        close: |files| ipc_socket::close_here(files),
    };
    let Options {
        name,
        token_file,
        dataset,
        io_threads,
        reading,
        threads,
        cpuset: cores,
        nice,
        ..
    } = options;
    let (policy, backend) = (options.sched, options.backend);
    // Relative paths are resolved before the working directory changes, and the socket is bound after.
    let http = options.http.map(HttpAddress::absolute).transpose()?;
    // Relative paths are resolved before the working directory changes.
    let token = match token_file {
        Some(path) => {
            ipc_socket::read_token(&path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => Blob::default(),
    };
    let mut datasets = Datasets::open(dataset)?;
    datasets.limit(io_threads)?;
    let share = Settings { cores, nice, policy, threads }.apply()?;
    ipc_socket::reserve_descriptor_table()?;
    let dir = endpoint.to_string();
    let dialer = Dialer::new(endpoint).map_err(|error| {
        format!("cannot enter the directory of {dir}: {error}; start the controller first")
    })?;
    choose_backends(backend);
    let pages = http.and_then(|address| PageServer::prepare(&address, &image));
    let credit = share.credit(link::interleave_max())?;
    let (reading, readers) = Reading::open(reading, share.threads)
        .map_err(|error| format!("--reading uring: io_uring is refused: {error}"))?;
    LOG.log(&Event::Reading { way: &reading });
    let scratches = readers.into_iter().map(|reader| Scratch::new(reader, read_options)).collect();
    let spare = Scratch::new(Reader::default(), read_options);
    let name = name.unwrap_or_else(|| format!("worker-{}", process::id()));
    let descriptors = dialer.carries_descriptors();
    let intro = link::intro(name, image, share.threads, descriptors, &datasets, &reading);
    let intro = WorkerIntro { token, ..intro };
    // Threads inherit that they are blocked.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    Ok(Prepared { dialer, intro, datasets, share, credit, scratches, spare, signals, pages })
}

/// Third step: starts the threads, which inherit the sandbox, and works for the controller.
fn serve(prepared: Prepared, sandbox: Sandbox) -> Result<(), Box<dyn Error>> {
    let Prepared { dialer, intro, datasets, share, credit, scratches, spare, signals, pages } =
        prepared;
    let datasets = Arc::new(datasets);
    let no_thread = |error| {
        format!("start of a thread: {error}; see the limit of processes (ulimit -u, TasksMax=)")
    };
    LOG.write_in_background(move |dir| sandbox.narrow_log(dir)).map_err(no_thread)?;
    let shutdown = Arc::new(Shutdown::default());
    shut_down_on(signals, &shutdown, sandbox).map_err(no_thread)?;
    ipc_socket::start_closers(share.closing_max(), move || sandbox.narrow(Role::Closer))
        .map_err(no_thread)?;
    let pool = Pool::start(scratches, spare, &share.pins, sandbox).map_err(no_thread)?;
    let hang_detector =
        HangDetector::start(share.threads, &shutdown, sandbox).map_err(no_thread)?;
    if let Some(pages) = pages {
        pages
            .start(sandbox, intro.sandbox, &pool, hang_detector.clone(), Arc::clone(&shutdown))
            .map_err(no_thread)?;
    }
    sandbox.narrow(Role::Link)?;
    reconnect::run(&dialer, &intro, &pool, credit, &datasets, &shutdown, &hang_detector)?;
    Ok(())
}

/// Measures where and how the hashing threads will run, but before there are any: they would be in the way.
fn choose_backends(forced: Option<Forced>) {
    for (family, choice) in hash::choose(forced) {
        let algorithms = Algorithm::ALL.into_iter().filter(|a| a.family() == family);
        let names: Vec<_> = algorithms.map(Algorithm::name).collect();
        LOG.log(&Event::Backends { algorithms: &names.join(", "), choice: &choice.describe() });
    }
}

/// Requests the shutdown at the first of `signals`, and ends the process at the second.
fn shut_down_on(signals: SigSet, shutdown: &Arc<Shutdown>, sandbox: Sandbox) -> io::Result<()> {
    let shutdown = Arc::clone(shutdown);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        sandbox.narrow(Role::Signals).expect("the kernel took a filter before");
        let wait = || signals.wait().expect("the set holds valid signals");
        let signal = wait();
        LOG.log(&Event::Stopping { signal: &signal });
        shutdown.request();
        // Without a timer the second signal ends a drain that hangs.
        drop(thread::Builder::new().spawn(|| {
            thread::sleep(STOP_GRACE);
            end();
        }));
        wait();
        end();
    })?;
    Ok(())
}

fn end() -> ! {
    LOG.flush();
    process::exit(0);
}
