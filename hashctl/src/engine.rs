//! One run of a command that hashes. The lister thread lists entries, openers open and send them,
//! this thread takes results and prints them in input order, and a signal ends all of it.

mod dirs;
pub(crate) mod embedded;
pub(crate) mod function;
pub(crate) mod lister;
mod opener;
mod reconnect;
pub(crate) mod reorder;
mod sender;
mod silence;
mod stdin;
mod stream;

use crate::config::{Config, EngineChoice};
use crate::exit::Exit;
use crate::input::plane::Route;
use crate::output::Out;
use crate::problem::losses_text;
use crate::progress::Progress;
use crate::say::{io_text, say};
use crate::signals::Signals;
use client::{Client, ClientError, ConnectError, Event, ReceiveError, Replies, Submitter};
use embedded::{EmbeddedError, EmbeddedRun};
use function::Blake3Mode;
use ipc_proto::Algorithms;
use lister::{Last, Lister};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use opener::{Openers, Resender};
use reorder::{End, Item, Reorder, Stopped, Verdict};
use silence::Silence;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time for the controller to confirm that the jobs are cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of a frame that has begun to arrive, so that signals are noticed.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Fewest open files with which a run gets on: the standard ones, its events and sockets, and for each
/// thread a directory and a file.
const OPEN_FILES_MIN: u64 = 16;

/// Prints what became of each entry.
pub(crate) trait Printer {
    /// One entry, in input order.
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()>;

    /// The end, after the last entry of a run that was not broken off.
    fn finish(&mut self, _: &mut Out) -> io::Result<()> {
        Ok(())
    }

    /// True if everything printed so far was good.
    fn is_ok(&self) -> bool;

    /// True if only what is wrong is of interest.
    fn is_quiet(&self) -> bool {
        false
    }
}

/// Why a run ends before everything is printed.
#[derive(Debug)]
enum Broken {
    Stdout(io::Error),
    Controller(ClientError),
    Sending(String),
    /// No result came for this long.
    Silence(Duration),
    Interrupted,
}

impl From<ClientError> for Broken {
    fn from(error: ClientError) -> Self {
        Self::Controller(error)
    }
}

/// Connects, sends what `list` finds, and prints it. `expected` is the algorithm of all entries, if
/// that is known.
pub(crate) fn run(
    config: &Config,
    printer: &mut impl Printer,
    expected: Option<Algorithms>,
    list: impl FnOnce(&mut Lister) -> Result<(), Stopped> + Send + 'static,
) -> Exit {
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(errno) => return internal("signals", errno),
    };
    if let Err(error) = raise_open_files() {
        say(format_args!("{}", io_text(&error)));
        return Exit::Failure;
    }
    let client = match find_cluster(config) {
        Ok(Some(client)) => client,
        Ok(None) => return run_embedded(config, signals, printer, list),
        Err(exit) => return exit,
    };
    let planes = &client.welcome().planes;
    let route = match Route::new(config.plane, planes, config.datasets.as_deref()) {
        Ok(route) => Arc::new(route),
        Err(error) => {
            say(format_args!("{error}"));
            return Exit::Unreachable;
        }
    };
    if config.verbose {
        let (software, endpoint) = (&client.welcome().software, config.endpoint_text());
        say(format_args!("controller {software} at {endpoint}; files go {route}"));
    }
    let reorder = match Reorder::new() {
        Ok(reorder) => Arc::new(reorder),
        Err(errno) => return internal("eventfd", errno),
    };
    if config.is_unordered {
        reorder.set_unordered();
    }
    let planes = client.welcome().planes.clone();
    let (submitter, replies) = client.split();
    submitter.recover();
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let (flag, waker, canceller) =
        (Arc::clone(&is_interrupted), Arc::clone(&reorder), submitter.clone());
    let watched = signals.watch(move || {
        flag.store(true, Ordering::Release);
        waker.wake();
        // Not left to the main thread, which may be stuck in writing.
        cancel_aside(canceller);
    });
    if let Err(error) = watched {
        say(format_args!("start of a thread: {}", io_text(&error)));
        return Exit::Failure;
    }
    let mut run = Run {
        submitter,
        replies,
        reorder,
        is_interrupted,
        out: Out::new(config.stdio.has_stdout),
        printed: 0,
        marks: 0,
        is_quiet: printer.is_quiet(),
        resender: None,
        is_sent: false,
        lost: None,
        is_suspect: false,
        progress: Progress::start(config.progress),
        silence: Silence::new(config.address.clone(), config.timeout),
    };
    let options = opener::Options {
        job: config.job,
        has_stdin: config.stdio.has_stdin,
        is_verbose: config.verbose,
        expected,
    };
    let result = run.start(route, options, list).and_then(|()| run.all(config, &planes, printer));
    let resent = run.resender.as_ref().map_or(0, Resender::unseen);
    run.progress.end(&run.reorder);
    if config.verbose && resent > 0 {
        let files = if resent == 1 { "file" } else { "files" };
        say(format_args!(
            "{resent} {files} that the workers see differently went inline after all"
        ));
    }
    run.reorder.stop();
    match result {
        Ok(()) => Exit::from_ok(printer.is_ok() && !run.is_suspect),
        // Whatever else came of it.
        Err(_) if run.is_interrupted.load(Ordering::Acquire) => {
            run.give_up(&Broken::Interrupted, config, printer)
        }
        Err(broken) => run.give_up(&broken, config, printer),
    }
}

/// The cluster that hashes; `None` for this process.
fn find_cluster(config: &Config) -> Result<Option<Client>, Exit> {
    let needs_other_workers = config.job.cross_check.is_some();
    match config.engine {
        EngineChoice::Cluster => connect(config).map(Some),
        EngineChoice::Embedded if needs_other_workers => {
            say(format_args!("--cross-check needs the workers of a cluster"));
            Err(Exit::Usage)
        }
        EngineChoice::Embedded => Ok(None),
        EngineChoice::Found if needs_other_workers => connect(config).map(Some),
        EngineChoice::Found => match Client::connect(&config.address) {
            Ok(client) => Ok(Some(client)),
            // None is there, or what was there left its socket behind.
            Err(ConnectError::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(explain(config, error)),
        },
    }
}

/// Hashes in this process.
fn run_embedded(
    config: &Config,
    signals: Signals,
    printer: &mut impl Printer,
    list: impl FnOnce(&mut Lister) -> Result<(), Stopped> + Send + 'static,
) -> Exit {
    if config.verbose {
        say(format_args!("files are hashed in this process"));
    }
    let options = embedded::EmbeddedOptions {
        threads: config.threads,
        reads_special: true,
        has_stdin: config.stdio.has_stdin,
        has_stdout: config.stdio.has_stdout,
        defers_write_errors: false,
        strict_reads: config.job.strict_reads,
        blake3: Blake3Mode::Hash,
    };
    let mut run = match EmbeddedRun::new(&options) {
        Ok(run) => run,
        Err(error) => {
            say(format_args!("eventfd: {}", io_text(&error)));
            return Exit::Failure;
        }
    };
    if config.is_unordered {
        run.reorder.set_unordered();
    }
    run.progress = Some(Progress::start(config.progress));
    run.timeout = config.timeout;
    let (flag, waker) = (Arc::clone(&run.is_interrupted), Arc::clone(&run.reorder));
    let watched = signals.watch(move || {
        flag.store(true, Ordering::Release);
        waker.wake();
    });
    if let Err(error) = watched {
        say(format_args!("start of a thread: {}", io_text(&error)));
        return Exit::Failure;
    }
    let result = run.all(options, printer, list);
    if let Some(progress) = &mut run.progress {
        progress.end(&run.reorder);
    }
    match result {
        Ok(()) => Exit::from_ok(printer.is_ok()),
        Err(EmbeddedError::Interrupted) => {
            // Standard output may be what the signal was for.
            let _ = run.print_ready(printer);
            say(format_args!("interrupted"));
            Exit::Interrupted
        }
        Err(EmbeddedError::Stdout(error)) => {
            say(format_args!("{}: {}", config.output, io_text(&error)));
            Exit::Failure
        }
        Err(error @ EmbeddedError::Silence(_)) => {
            let _ = run.print_ready(printer);
            say(format_args!("{error}"));
            Exit::Unreachable
        }
        Err(EmbeddedError::System(error)) => {
            say(format_args!("{}", io_text(&error)));
            Exit::Failure
        }
    }
}

/// Connects to the controller, or says why that is impossible.
pub(crate) fn connect(config: &Config) -> Result<Client, Exit> {
    Client::connect(&config.address).map_err(|error| explain(config, error))
}

/// Says why the controller cannot be reached.
fn explain(config: &Config, error: ConnectError) -> Exit {
    let place = config.endpoint_text();
    let todo = if config.address.endpoint.carries_descriptors() {
        "start one with ./run.sh --local, or name its socket with --connect"
    } else {
        "start its VM with ./run.sh, or name another with --connect"
    };
    match error {
        ConnectError::Io(error) => {
            say(format_args!("no controller at {place} ({}); {todo}", io_text(&error)));
        }
        ConnectError::Wire(error) => {
            say(format_args!("no controller at {place} ({error}); {todo}"));
        }
        ConnectError::Refused { text, .. } => {
            say(format_args!("the controller at {place} refused: {text}"));
        }
        ConnectError::Protocol(error) => {
            say(format_args!("what listens at {place} is no controller: {error}"));
        }
    }
    Exit::Unreachable
}

struct Run {
    submitter: Submitter,
    replies: Replies,
    reorder: Arc<Reorder>,
    is_interrupted: Arc<AtomicBool>,
    out: Out,
    /// Entries that the printer got.
    printed: u64,
    /// Those of them that are no files.
    marks: u64,
    /// That a job waits for its window is not said.
    is_quiet: bool,
    /// Sends files as bytes that the workers do not see.
    resender: Option<Resender>,
    /// Every item is sent, or its file was given to the resender.
    is_sent: bool,
    /// Why the connection ended, while nothing depended on it.
    lost: Option<ClientError>,
    /// Digests that were printed may be wrong.
    is_suspect: bool,
    progress: Progress,
    silence: Silence,
}

impl Run {
    /// Starts the sending side.
    fn start(
        &mut self,
        route: Arc<Route>,
        options: opener::Options,
        list: impl FnOnce(&mut Lister) -> Result<(), Stopped> + Send + 'static,
    ) -> Result<(), Broken> {
        let (reorder, submitter) = (Arc::clone(&self.reorder), self.submitter.clone());
        let (openers, resender) = Openers::start(reorder, route, submitter, options)?;
        self.resender = Some(resender);
        let mut lister = Lister::new(Arc::clone(&self.reorder), Box::new(openers));
        // Without it the openers end, or the main thread has ended the run.
        let listing = move || list(&mut lister).and_then(|()| lister.flush(Last::OfAll));
        let started = thread::Builder::new().spawn(listing);
        started.map(drop).map_err(|error| Broken::Controller(ClientError::Send(error)))
    }

    fn all_of_connection(&mut self, printer: &mut impl Printer) -> Result<(), Broken> {
        self.replies.set_timeout(Some(RECEIVE_TIMEOUT))?;
        loop {
            if self.submitter.jobs_len() > 0
                && let Some(lost) = self.lost.take()
            {
                return Err(lost.into());
            }
            // Asked first: what they became is printed below.
            let resent = self.resender.as_ref().map_or(0, Resender::done);
            self.take_ready()?;
            self.print_ready(printer)?;
            let has_resent = self.resender.as_ref().is_none_or(|all| all.given() == resent);
            let is_over = self.is_sent && has_resent && self.submitter.jobs_len() == 0;
            if is_over && self.reorder.is_empty() {
                let finished = printer.finish(&mut self.out).and_then(|()| self.out.flush());
                return finished.map_err(Broken::Stdout);
            }
            if self.is_interrupted.load(Ordering::Acquire) {
                return Err(Broken::Interrupted);
            }
            if is_over {
                return Err(ClientError::Nonsense("the jobs ended before their items").into());
            }
            if let Some(limit) = self.silence.passed() {
                return Err(Broken::Silence(limit));
            }
            self.progress.show(&self.reorder, self.is_sent);
            let silence = self.silence.timeout();
            self.wait(self.progress.timeout().map_or(silence, |update| update.min(silence)))?;
        }
    }

    /// Takes in everything that is there.
    fn take_ready(&mut self) -> Result<(), Broken> {
        match self.reorder.take_end() {
            Some(End::Done) => self.is_sent = true,
            Some(End::Failed(text)) => return Err(Broken::Sending(text)),
            // It needed the connection after all.
            Some(End::Stopped) if self.lost.is_some() => {
                return self.lost.take().map_or(Ok(()), |lost| Err(lost.into()));
            }
            // Otherwise why it was stopped comes from the connection, or from a signal.
            Some(End::Stopped) | None => {}
        }
        while let Some(event) = self.replies.next_ready()? {
            self.take(event);
        }
        Ok(())
    }

    /// Waits for the controller, an opener or a signal, and receives if it was the first.
    fn wait(&mut self, timeout: PollTimeout) -> Result<(), Broken> {
        let mut fds = [
            PollFd::new(self.reorder.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.replies.as_fd(), PollFlags::POLLIN),
        ];
        let fds_len = if self.lost.is_some() { 1 } else { 2 };
        // It fails when a signal comes, or memory is short: look again.
        let _ = poll(&mut fds[..fds_len], timeout);
        let [is_awake, has_replies] = fds.map(|fd| fd.any() == Some(true));
        if is_awake {
            self.reorder.clear_wakes();
        }
        if !has_replies {
            return Ok(());
        }
        match self.replies.receive() {
            Ok(Some(event)) => self.take(event),
            Ok(None) => {}
            // The controller may leave before everything is known to be sent.
            Err(error) if self.submitter.jobs_len() == 0 => self.lost = Some(error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Opened { job, workers, waits } => {
                if workers == 0 {
                    self.silence.ask_soon();
                }
                if waits && !self.is_quiet {
                    self.silence.wait_for_window(job);
                }
            }
            Event::Window { job } => self.silence.has_window(job),
            Event::Results(results) => {
                self.silence.end();
                let unseen = self.reorder.resolve(results.iter());
                if let Some(resender) = &mut self.resender {
                    resender.give(unseen);
                }
            }
            Event::Death { tag, losses } => {
                if let Some(tag) = tag {
                    self.reorder.explain(tag, &losses_text(&losses));
                }
            }
            Event::Advanced { tag, bytes } => {
                self.silence.end();
                if let Some(tag) = tag {
                    self.reorder.advance_by(tag, bytes);
                }
            }
            Event::Suspect { worker, items } => {
                self.is_suspect = true;
                say(format_args!(
                    "worker {worker} gave a wrong digest: {items} others of this run that it gave were \
                     not checked and may be wrong; run it again"
                ));
            }
            Event::Finished { .. } | Event::Cancelled { .. } => {}
        }
    }

    fn print_ready(&mut self, printer: &mut impl Printer) -> Result<(), Broken> {
        while let Some(complete) = self.reorder.take() {
            for item in complete.items() {
                self.printed += 1;
                self.marks += u64::from(matches!(item.verdict, Verdict::Mark(_)));
                printer.print(&item, &mut self.out).map_err(Broken::Stdout)?;
            }
            self.reorder.release(&complete);
        }
        self.out.flush().map_err(Broken::Stdout)
    }

    /// Ends the jobs, prints what is complete, and says what is missing.
    fn give_up(&mut self, broken: &Broken, config: &Config, printer: &mut impl Printer) -> Exit {
        match broken {
            Broken::Stdout(error) => {
                self.cancel();
                say(format_args!("{}: {}", config.output, io_text(error)));
                Exit::Failure
            }
            Broken::Interrupted => {
                self.cancel();
                // Standard output may be what the signal was for.
                let _ = self.print_ready(printer);
                say(format_args!("interrupted"));
                Exit::Interrupted
            }
            Broken::Silence(limit) => {
                self.cancel();
                say(format_args!("no result for {} s", limit.as_secs()));
                self.say_missing(config, printer, "gave up on");
                Exit::Unreachable
            }
            Broken::Sending(text) => {
                self.cancel();
                say(format_args!("{text}"));
                self.say_missing(config, printer, "gave up on");
                Exit::Failure
            }
            Broken::Controller(ClientError::Rejected { text }) => {
                self.cancel();
                say(format_args!("the controller rejected the job: {text}"));
                self.say_missing(config, printer, "gave up on");
                Exit::Unreachable
            }
            Broken::Controller(ClientError::Receive(ReceiveError::Closed)) => {
                self.say_missing(config, printer, "lost");
                Exit::Unreachable
            }
            Broken::Controller(error) => {
                say(format_args!("{error}"));
                self.say_missing(config, printer, "lost");
                Exit::Unreachable
            }
        }
    }

    fn say_missing(&mut self, config: &Config, printer: &mut impl Printer, what: &str) {
        // Without standard output there is only more missing.
        let _ = self.print_ready(printer);
        let listed = self.reorder.listed();
        say(format_args!(
            "{what} the controller at {}; {} of {} files have no digest",
            config.endpoint_text(),
            listed - self.printed,
            listed - self.marks,
        ));
    }

    /// Cancels the jobs, and waits a little for the controller to say so.
    fn cancel(&mut self) {
        cancel_aside(self.submitter.clone());
        let deadline = Instant::now() + CANCEL_TIMEOUT;
        while self.submitter.jobs_len() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(timeout) = PollTimeout::try_from(left) else { return };
            if left.is_zero() {
                return;
            }
            match self.replies.next_ready() {
                Ok(Some(event)) => self.take(event),
                Ok(None) if self.wait(timeout).is_ok() => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Cancels the jobs without waiting: the producer may be stuck in sending. The connection's end
/// cancels as well.
fn cancel_aside(submitter: Submitter) {
    // Without a thread the connection's end has to do.
    drop(thread::Builder::new().spawn(move || submitter.cancel()));
}

fn internal(what: &str, errno: nix::errno::Errno) -> Exit {
    say(format_args!("{what}: {}", errno.desc()));
    Exit::Failure
}

/// Descriptors on their way count against the soft limit, and a deep tree needs one per level. The
/// table is as large as it gets before threads share it.
///
/// # Errors
/// The limit is too low for a run.
fn raise_open_files() -> io::Result<()> {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    if let Ok((_, hard)) = limits
        && hard < OPEN_FILES_MIN
    {
        return Err(io::Error::other(format!(
            "the limit of open files is {hard}, and hashctl needs {OPEN_FILES_MIN}; raise it with ulimit -n"
        )));
    }
    if let Ok((soft, hard)) = limits
        && soft < hard
    {
        // Without it we are only slower.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let _ = ipc_socket::reserve_descriptor_table();
    Ok(())
}
