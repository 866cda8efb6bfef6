//! Threads that tell the view what happens: the controller's answers, keys, signals.

use super::view::TopChange;
use crate::config::Config;
use crate::input::is_ignored;
use crate::say::io_text;
use client::{Address, Client, ClientError, ConnectError};
use crossterm::event::{self, Event, KeyEvent};
use ipc_proto::message::{JobAct, JobId, ReleaseOutcome, ServiceReply, ServiceRequest, Status};
use nix::sys::signal::{SigSet, Signal};
use overview::one_line;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for an answer; then the connection counts as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Pause between two attempts to connect, if the interval is shorter.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Something happened.
#[derive(Debug)]
pub(super) enum News {
    Answer(Box<Status>),
    Lost(String),
    /// Outcome of a change.
    Changed(String),
    Key(KeyEvent),
    Resized,
    Signal(Signal),
    /// Nothing more comes from the terminal.
    Hangup,
}

/// Asks for the status once per `interval`, and in between makes the changes that come through `wanted`. Goes on
/// without a controller, until nobody listens.
pub(super) fn poll(
    config: &Config,
    mut client: Option<Client>,
    interval: Duration,
    wanted: &Receiver<TopChange>,
    news: &Sender<News>,
) {
    loop {
        let asked = Instant::now();
        let (report, pause) = match answer(config, &mut client, |client| client.status()) {
            Ok(status) => (News::Answer(Box::new(status)), interval),
            Err(reason) => (News::Lost(reason), interval.max(RECONNECT_PAUSE)),
        };
        if news.send(report).is_err() {
            return;
        }
        let due = asked + pause;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            let change = match wanted.recv_timeout(left) {
                Ok(change) => change,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let text = match change {
                TopChange::Release(worker) => release(config, &mut client, &worker),
                TopChange::Cancel(job) => cancel(config, &mut client, job),
            };
            if news.send(News::Changed(text)).is_err() {
                return;
            }
        }
    }
}

/// Releases a worker, and says what became of it.
fn release(config: &Config, client: &mut Option<Client>, worker: &str) -> String {
    match answer(config, client, |client| client.release(worker)) {
        Ok(ReleaseOutcome::Released) => format!("{worker} is released"),
        Ok(ReleaseOutcome::NotQuarantined) => format!("{worker} is not in quarantine"),
        Ok(ReleaseOutcome::Forbidden) => {
            format!("you may not release {worker}; see the controller's --policy")
        }
        Err(reason) => format!("{worker} is not released: {reason}"),
    }
}

/// Cancels a durable job, and says what became of it.
fn cancel(config: &Config, client: &mut Option<Client>, job: JobId) -> String {
    let request = ServiceRequest::Act { job, act: JobAct::Cancel };
    match answer(config, client, |client| client.service(request)) {
        Ok(ServiceReply::Refused { text, .. }) => format!("job {job} is not cancelled: {text}"),
        Ok(ServiceReply::Job(row)) => format!("job {job}: {}", row.state.name()),
        Ok(_) => format!("job {job}: the controller answers something else"),
        Err(reason) => format!("job {job} is not cancelled: {reason}"),
    }
}

/// The answer to one question, on the connection that stands or a new one.
fn answer<T>(
    config: &Config,
    kept: &mut Option<Client>,
    question: impl FnOnce(&mut Client) -> Result<T, ClientError>,
) -> Result<T, String> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => connect(config)?,
    };
    let text = |error: ClientError| one_line(&error.to_string());
    client.set_timeout(Some(ANSWER_LIMIT)).map_err(text)?;
    let answer = question(&mut client).map_err(text)?;
    *kept = Some(client);
    Ok(answer)
}

fn connect(config: &Config) -> Result<Client, String> {
    // A cluster that was started again may be elsewhere, with another token.
    let found = match &config.rediscovered_in {
        Some(dir) => Some(Address::in_dir(dir).map_err(|error| error.to_string())?),
        None => None,
    };
    let address = found.as_ref().unwrap_or(&config.address);
    Client::connect(address).map_err(|error| match error {
        ConnectError::Io(error) => io_text(&error),
        error @ (ConnectError::Wire(_)
        | ConnectError::Refused { .. }
        | ConnectError::Protocol(_)) => one_line(&error.to_string()),
    })
}

/// Reports keys and changes of size.
pub(super) fn read_terminal(news: &Sender<News>) {
    loop {
        let report = match event::read() {
            Ok(Event::Key(key)) => News::Key(key),
            Ok(Event::Resize(..)) => News::Resized,
            Ok(_) => continue,
            Err(_) => News::Hangup,
        };
        let is_last = matches!(report, News::Hangup);
        if news.send(report).is_err() || is_last {
            return;
        }
    }
}

/// The signals that the view answers, blocked in this thread and in those it starts later.
pub(super) fn block_signals() -> nix::Result<SigSet> {
    use Signal::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
    let signals = [SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT].into_iter();
    let set: SigSet = signals.filter(|&signal| !is_ignored(signal)).collect();
    set.thread_block()?;
    Ok(set)
}

/// Reports signals.
pub(super) fn wait_for_signals(signals: &SigSet, news: &Sender<News>) {
    while let Ok(signal) = signals.wait() {
        if news.send(News::Signal(signal)).is_err() {
            return;
        }
    }
}

/// Starts a thread.
pub(super) fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(run).map(drop)
}
