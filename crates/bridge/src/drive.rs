//! Drives a role: takes events from the broker and from work, performs the actions, waits for timers.

use crate::clock::DriverClock;
use crate::config::BridgeConfig;
use crate::ledger::{LedgerError, ShardLedger};
use crate::local;
use crate::metrics::Observer;
use crate::program::say;
use crate::serve::{ServeAction, ServeCounts, ServeEvent, ServeRole};
use crate::shard::{Shard, ShardAnswer, ShardDigest, ShardKey, ShardOutcome};
use crate::submit::{LedgerRecord, SubmitAction, SubmitEvent, SubmitRole};
use crate::transport::{BrokerEvent, BrokerSurvey, Transport};
use client::Address;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Longest wait without a timer.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Interval of the lines about a job's progress.
const PROGRESS_LINE_INTERVAL: Duration = Duration::from_secs(10);

/// An event for a driver.
#[derive(Debug)]
pub enum Input {
    /// The broker says something.
    Broker(BrokerEvent),
    /// The work at a shard has ended, or why it could not be done.
    Worked(ShardKey, Result<ShardOutcome, String>),
    /// The connection to the broker is there, or lost.
    Connected(bool),
    /// A look at the broker.
    Surveyed(BrokerSurvey),
    /// A line for the person who runs this.
    Say(String),
    /// A signal asks for the end.
    Leave,
}

/// Waits for an input until `timer`. `None` when the time has come, or nobody sends any more.
fn wait(inputs: &Receiver<Input>, now: Duration, timer: Option<Duration>) -> Option<Input> {
    let wait = timer.map_or(WAIT_MAX, |at| at.saturating_sub(now));
    match inputs.recv_timeout(wait) {
        Ok(input) => Some(input),
        Err(RecvTimeoutError::Timeout) => None,
        // The driver has a sender of its own.
        Err(RecvTimeoutError::Disconnected) => Some(Input::Leave),
    }
}

/// Runs a job until it is done; false if it was interrupted.
///
/// # Errors
/// See [`LedgerError`].
pub(crate) fn submit(
    mut role: SubmitRole,
    ledger: &mut ShardLedger,
    transport: &mut impl Transport,
    inputs: &Receiver<Input>,
    observer: &mut Observer,
    local: &LocalHashing<'_>,
) -> Result<bool, LedgerError> {
    let clock = DriverClock::start();
    let (mut event, mut line_at) = (SubmitEvent::Tick, PROGRESS_LINE_INTERVAL);
    loop {
        let now = clock.now();
        let actions = role.step(now, event);
        observer.submitting(now, &role, transport);
        // All of them first: with one fsync, and more than the role asks for.
        let is_record = |action: &SubmitAction| match action {
            SubmitAction::Record(record) => Some(record.clone()),
            SubmitAction::Send(_)
            | SubmitAction::Publish(_)
            | SubmitAction::Audit(_)
            | SubmitAction::Finish => None,
        };
        let records: Vec<LedgerRecord> = actions.iter().filter_map(is_record).collect();
        if !records.is_empty() {
            ledger.append(&records)?;
        }
        for action in actions {
            match action {
                SubmitAction::Record(line) => {
                    if let LedgerRecord::Distrust(host) = &line {
                        say(&format!("host {host} gave a wrong digest: its results do not count"));
                    }
                }
                SubmitAction::Audit(key) => {
                    local.start(role.plan().shard(key, ledger.files(key.shard)?));
                }
                SubmitAction::Publish(key) => {
                    transport.send(role.publication(key, ledger.files(key.shard)?));
                }
                SubmitAction::Send(command) => transport.send(command),
                SubmitAction::Finish => {
                    observer.leave(transport);
                    return Ok(true);
                }
            }
        }
        if now >= line_at {
            line_at = now + PROGRESS_LINE_INTERVAL;
            say(&format!("{} of {} shards have a result", role.counts().done, role.len()));
        }
        event = match wait(inputs, now, observer.timer(role.next_timer())) {
            Some(Input::Broker(event)) => SubmitEvent::Broker(event),
            Some(Input::Leave) => {
                observer.leave(transport);
                return Ok(false);
            }
            Some(Input::Connected(connected)) => {
                observer.connected(connected);
                SubmitEvent::Tick
            }
            Some(Input::Surveyed(survey)) => {
                observer.surveyed(survey);
                SubmitEvent::Tick
            }
            Some(Input::Say(line)) => {
                say(&format!("broker: {line}"));
                SubmitEvent::Tick
            }
            Some(Input::Worked(key, outcome)) => {
                let shard = key.shard;
                let local = match outcome.ok().map(|outcome| local.answer(key, outcome)) {
                    Some(ours) if role.record().answers.contains_key(&shard) => {
                        let agrees = role.agree(&ours, &ledger.answer(shard)?);
                        Some((ours, agrees))
                    }
                    ours => ours.map(|ours| (ours, true)),
                };
                SubmitEvent::Audited { shard, local }
            }
            None => SubmitEvent::Tick,
        };
    }
}

/// The submitting host's own controller, for audits.
#[derive(Debug)]
pub(crate) struct LocalHashing<'a> {
    pub(crate) address: Address,
    pub(crate) config: &'a Arc<BridgeConfig>,
    pub(crate) own: Sender<Input>,
}

impl LocalHashing<'_> {
    fn start(&self, shard: Shard) {
        work(shard, self.address.clone(), self.config, self.own.clone());
    }

    fn answer(&self, key: ShardKey, outcome: ShardOutcome) -> ShardAnswer {
        let host = self.config.broker.host.clone();
        ShardAnswer { key, of: ShardDigest::default(), host, outcome }
    }
}

/// Serves until a signal asks for the end: the first lets it finish what it holds, for a while, the second does not.
pub(crate) fn serve(
    mut role: ServeRole,
    address: &Address,
    config: &Arc<BridgeConfig>,
    transport: &mut impl Transport,
    inputs: &Receiver<Input>,
    own: &Sender<Input>,
    observer: &mut Observer,
) -> ServeCounts {
    let clock = DriverClock::start();
    let (mut event, mut stop_at) = (ServeEvent::Tick, None);
    loop {
        let now = clock.now();
        if stop_at.is_some_and(|at| at <= now || role.held_len() == 0) {
            event = ServeEvent::Leave;
        }
        let leaves = matches!(event, ServeEvent::Leave);
        let actions = role.step(now, event);
        observer.serving(now, &role, transport);
        for action in actions {
            match action {
                ServeAction::Send(command) => transport.send(command),
                ServeAction::Work(shard) => work(shard, address.clone(), config, own.clone()),
            }
        }
        if leaves {
            observer.leave(transport);
            return role.counts();
        }
        let timer = role.next_timer().into_iter().chain(stop_at).min();
        event = match wait(inputs, now, observer.timer(timer)) {
            Some(Input::Broker(event)) => ServeEvent::Broker(event),
            Some(Input::Connected(connected)) => {
                observer.connected(connected);
                ServeEvent::Tick
            }
            Some(Input::Surveyed(survey)) => {
                observer.surveyed(survey);
                ServeEvent::Tick
            }
            Some(Input::Worked(key, outcome)) => ServeEvent::Worked(key, outcome),
            Some(Input::Leave) if stop_at.is_none() && role.held_len() > 0 => {
                let (held, stop) = (role.held_len(), config.stop);
                stop_at = Some(now + stop);
                observer.drain();
                say(&format!(
                    "finishing {held} shards, for {stop:?} at most; another signal gives them back"
                ));
                ServeEvent::Drain
            }
            Some(Input::Leave) => ServeEvent::Leave,
            Some(Input::Say(line)) => {
                say(&format!("broker: {line}"));
                ServeEvent::Tick
            }
            None => ServeEvent::Tick,
        };
    }
}

/// Hashes a shard on a thread of its own, of which there are as many as the role holds shards, and a few that
/// still work for deliveries that were given back.
fn work(shard: Shard, address: Address, config: &Arc<BridgeConfig>, own: Sender<Input>) {
    let key = shard.key;
    let root = config.datasets.get(shard.dataset.name()).cloned().unwrap_or_default();
    let failed = own.clone();
    let run = move || {
        let outcome = match local::hash(&address, &root, &shard) {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                // The driver may have ended.
                let _ = own.send(Input::Say(format!("shard {key} cannot be hashed here: {error}")));
                Err(error.to_string())
            }
        };
        let _ = own.send(Input::Worked(key, outcome));
    };
    if let Err(error) = thread::Builder::new().name("shard".to_owned()).spawn(run) {
        let _ = failed.send(Input::Worked(key, Err(format!("no thread: {error}"))));
    }
}
