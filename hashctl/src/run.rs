//! One run of a command that hashes: the producer thread feeds, this thread takes results and
//! prints them in order, and a signal ends both.

use crate::config::Config;
use crate::exit::Exit;
use crate::feed::{FeedError, Feeder};
use crate::handover::{End, Handover};
use crate::order::{Batch, Item, Order, Verdict};
use crate::output::Out;
use crate::plane::Route;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::say::{self, io_text, say};
use crate::signals::Signals;
use client::{Client, ClientError, ConnectError, Event, ReceiveError, Replies, Results, Submitter};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the controller may take to confirm that the jobs are cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a frame that has begun to arrive is waited for, before signals are looked at.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Prints what became of each entry.
pub(crate) trait Printer {
    /// One entry, in input order.
    ///
    /// # Errors
    /// As writing to standard output.
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()>;

    /// Whether everything printed so far was good.
    fn is_ok(&self) -> bool;
}

/// Why a run ends before everything is printed.
#[derive(Debug)]
enum Broken {
    Stdout(io::Error),
    Controller(ClientError),
    Producer(String),
    Interrupted,
}

impl From<ClientError> for Broken {
    fn from(error: ClientError) -> Self {
        Self::Controller(error)
    }
}

/// Connects, feeds what `produce` finds, and prints it.
pub(crate) fn run(
    config: &Config,
    printer: &mut impl Printer,
    produce: impl FnOnce(&mut Feeder) -> Result<(), FeedError> + Send + 'static,
) -> Exit {
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(errno) => return internal("signals", errno),
    };
    raise_open_files();
    let client = match connect(config) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let planes = &client.welcome().planes;
    let route = match Route::new(config.plane, planes, config.datasets.as_deref()) {
        Ok(route) => route,
        Err(error) => {
            say(format_args!("{error}"));
            return Exit::Unreachable;
        }
    };
    if config.verbose {
        let (software, endpoint) = (&client.welcome().software, config.endpoint_text());
        say(format_args!("controller {software} at {endpoint}; files go {route}"));
    }
    let handover = match Handover::new() {
        Ok(handover) => Arc::new(handover),
        Err(errno) => return internal("eventfd", errno),
    };
    let (submitter, replies) = client.split();
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let (flag, bell, canceller) =
        (Arc::clone(&is_interrupted), Arc::clone(&handover), submitter.clone());
    signals.watch(move || {
        flag.store(true, Ordering::Release);
        bell.ring();
        // Not left to the main thread, which may be stuck in writing.
        cancel_aside(canceller);
    });
    let (has_stdin, sample) = (config.stdio.has_stdin, config.sample);
    let feeder = Feeder::new(submitter.clone(), Arc::clone(&handover), route, has_stdin, sample);
    let producer_end = Arc::clone(&handover);
    let verbose = config.verbose;
    thread::spawn(move || producer_end.end(produce_all(feeder, produce, verbose)));
    let mut run = Run {
        submitter,
        replies,
        handover,
        is_interrupted,
        order: Order::default(),
        spent: Vec::new(),
        out: Out::new(config.stdio.has_stdout),
        printed: 0,
        marks: 0,
        said_waiting: false,
        is_produced: false,
        lost: None,
        is_suspect: false,
        progress: Progress::start(),
    };
    let result = run.all(printer);
    say::clear();
    run.handover.stop();
    match result {
        Ok(()) => Exit::from_ok(printer.is_ok() && !run.is_suspect),
        // Whatever else came of it.
        Err(_) if run.is_interrupted.load(Ordering::Acquire) => {
            run.give_up(&Broken::Interrupted, config, printer)
        }
        Err(broken) => run.give_up(&broken, config, printer),
    }
}

/// Connects to the controller, or says why that is impossible.
pub(crate) fn connect(config: &Config) -> Result<Client, Exit> {
    Client::connect(&config.address).map_err(|error| {
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
    })
}

fn produce_all(
    mut feeder: Feeder,
    produce: impl FnOnce(&mut Feeder) -> Result<(), FeedError>,
    verbose: bool,
) -> End {
    match produce(&mut feeder).and_then(|()| feeder.rest()) {
        Ok(()) => {
            if verbose {
                say(format_args!("sent {}", feeder.served()));
            }
            End::Done
        }
        Err(FeedError::Stopped) => End::Stopped,
        Err(FeedError::Failed(text)) => End::Failed(text),
    }
}

struct Run {
    submitter: Submitter,
    replies: Replies,
    handover: Arc<Handover>,
    is_interrupted: Arc<AtomicBool>,
    order: Order,
    spent: Vec<Batch>,
    out: Out,
    /// Entries that the printer got.
    printed: u64,
    /// Those of them that are no files.
    marks: u64,
    said_waiting: bool,
    /// Whether the producer is done.
    is_produced: bool,
    /// Why the connection ended, while nothing depended on it.
    lost: Option<ClientError>,
    /// Whether digests that were given may be wrong.
    is_suspect: bool,
    progress: Progress,
}

impl Run {
    fn all(&mut self, printer: &mut impl Printer) -> Result<(), Broken> {
        self.replies.set_timeout(Some(RECEIVE_TIMEOUT))?;
        loop {
            self.take_ready()?;
            self.print_ready(printer)?;
            let is_over = self.is_produced && self.submitter.jobs_len() == 0;
            if is_over && self.order.is_empty() {
                return Ok(());
            }
            if self.is_interrupted.load(Ordering::Acquire) {
                return Err(Broken::Interrupted);
            }
            if is_over {
                return Err(ClientError::Nonsense("the jobs ended before their items").into());
            }
            self.progress.show(self.order.tally(), self.is_produced);
            self.wait(self.progress.timeout())?;
        }
    }

    /// Takes in everything that is there.
    fn take_ready(&mut self) -> Result<(), Broken> {
        self.absorb()?;
        while let Some(event) = self.replies.next_ready()? {
            self.take(event)?;
        }
        Ok(())
    }

    fn absorb(&mut self) -> Result<(), Broken> {
        match self.handover.absorb(&mut self.order) {
            Some(End::Done) => self.is_produced = true,
            Some(End::Failed(text)) => return Err(Broken::Producer(text)),
            // It needed the connection after all.
            Some(End::Stopped) => return self.lost.take().map_or(Ok(()), |lost| Err(lost.into())),
            // Otherwise why it was stopped comes from the connection, or from a signal.
            None => {}
        }
        Ok(())
    }

    /// Waits for the controller, the producer or a signal, and receives if it was the first.
    fn wait(&mut self, timeout: PollTimeout) -> Result<(), Broken> {
        let mut fds = [
            PollFd::new(self.handover.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.replies.as_fd(), PollFlags::POLLIN),
        ];
        let fds_len = if self.lost.is_some() { 1 } else { 2 };
        // It fails when a signal comes, or memory is short: look again.
        let _ = poll(&mut fds[..fds_len], timeout);
        let [is_rung, has_replies] = fds.map(|fd| fd.any() == Some(true));
        if is_rung {
            self.handover.quiet();
        }
        if !has_replies {
            return Ok(());
        }
        match self.replies.receive() {
            Ok(Some(event)) => self.take(event),
            Ok(None) => Ok(()),
            // The controller may leave before the producer said that it is done.
            Err(error) if self.submitter.jobs_len() == 0 => {
                self.lost = Some(error);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Opened { workers: 0, .. } if !self.said_waiting => {
                self.said_waiting = true;
                say(format_args!("no worker is connected; waiting"));
                Ok(())
            }
            Event::Results(results) => self.resolve(&results),
            Event::Suspect { worker, items } => {
                self.is_suspect = true;
                say(format_args!(
                    "worker {worker} gave a wrong digest: {items} others of this run that it gave were \
                     not checked and may be wrong; run it again"
                ));
                Ok(())
            }
            Event::Opened { .. }
            | Event::Window
            | Event::Finished { .. }
            | Event::Cancelled { .. } => Ok(()),
        }
    }

    fn resolve(&mut self, results: &Results) -> Result<(), Broken> {
        self.absorb()?;
        for (number, outcome) in results.iter() {
            if !self.order.resolve(number, outcome.map_err(Problem::Failure)) {
                return Err(ClientError::Nonsense("a result that is no digest").into());
            }
        }
        Ok(())
    }

    fn print_ready(&mut self, printer: &mut impl Printer) -> Result<(), Broken> {
        let (out, printed, marks) = (&mut self.out, &mut self.printed, &mut self.marks);
        let drained = self.order.drain(&mut self.spent, |item| {
            *printed += 1;
            *marks += u64::from(matches!(item.verdict, Verdict::Mark(_)));
            printer.print(item, out)
        });
        self.handover.release(&mut self.spent);
        drained.and_then(|()| self.out.flush()).map_err(Broken::Stdout)
    }

    /// Ends the jobs, prints what is complete, and says what is missing.
    fn give_up(&mut self, broken: &Broken, config: &Config, printer: &mut impl Printer) -> Exit {
        match broken {
            Broken::Stdout(error) => {
                self.cancel();
                say(format_args!("standard output: {}", io_text(error)));
                Exit::Failure
            }
            Broken::Interrupted => {
                self.cancel();
                let _ = self.absorb();
                // Standard output may be what the signal was for.
                let _ = self.print_ready(printer);
                say(format_args!("interrupted"));
                Exit::Interrupted
            }
            Broken::Producer(text) => {
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
        let _ = self.absorb();
        // Without standard output there is only more missing.
        let _ = self.print_ready(printer);
        let pushed = self.order.pushed();
        say(format_args!(
            "{what} the controller at {}; {} of {} files have no digest",
            config.endpoint_text(),
            pushed - self.printed,
            pushed - self.marks,
        ));
    }

    /// Cancels the jobs, and waits a little for the controller to say so.
    fn cancel(&mut self) {
        cancel_aside(self.submitter.clone());
        let deadline = Instant::now() + CANCEL_TIMEOUT;
        while self.submitter.jobs_len() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(timeout) = PollTimeout::try_from(left) else { return };
            if left.is_zero() || self.absorb().is_err() {
                return;
            }
            let taken = match self.replies.next_ready() {
                Ok(Some(event)) => self.take(event),
                Ok(None) => self.wait(timeout),
                Err(_) => return,
            };
            if taken.is_err() {
                return;
            }
        }
    }
}

/// Cancels the jobs without waiting: the producer may be stuck in sending. The connection's end
/// cancels as well.
fn cancel_aside(submitter: Submitter) {
    thread::spawn(move || submitter.cancel());
}

fn internal(what: &str, errno: nix::errno::Errno) -> Exit {
    say(format_args!("{what}: {}", errno.desc()));
    Exit::Failure
}

/// Descriptors on their way count against the soft limit, and a deep tree needs one a level.
fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Without it we are only slower.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
