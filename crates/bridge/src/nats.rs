//! NATS JetStream as a [`Transport`]: five streams per deployment, a durable consumer per queue.
//!
//! A thread of its own has the connection, which reconnects by itself. Commands of one role are bounded by the
//! role's limits, so their channel needs none. What fails is reported as the contract of [`crate::transport`] says.

pub mod look;

use crate::clock::DriverClock;
use crate::config::{BrokerSettings, Credentials};
use crate::drive::Input;
use crate::registry::{HostReport, HostState, host_token};
use crate::transport::{
    ACK_WAIT, BODY_LEN_MAX, BrokerCommand, BrokerEvent, BrokerQueue, BrokerSurvey, DeliveryTag,
    Transport,
};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::{Acker, PublishMessage};
use async_nats::jetstream::stream::{self, RetentionPolicy};
use async_nats::jetstream::{AckKind, Context};
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event};
use futures_util::StreamExt;
use ipc_socket::Trust;
use nkeys::KeyPair;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs::File;
use std::future;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

/// Time for the first connection, and for an answer of the broker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of the connection's signs of life: a server that does not answer two in a row is left.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A pull without messages ends after this time.
const PULL_WAIT: Duration = Duration::from_secs(2);

/// The broker drops a second message of one id for so long.
const ID_MEMORY: Duration = Duration::from_secs(120);

/// Messages that nobody takes are dropped after this time.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A host that is away for longer is not listed any more.
const REPORT_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Most dead letters that are kept for people, and most reasons.
const DEAD_KEPT: i64 = 10_000;

/// Most deliveries of one queue that hosts hold together.
const HELD_MAX: i64 = 16_384;

/// Deliveries that can be acknowledged; older ones were delivered again long ago.
const ACKERS_MAX: usize = 8192;

/// Most bytes of a file of credentials.
const CREDENTIALS_LEN_MAX: u64 = 64 << 10;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum NatsError {
    /// The file of credentials cannot be used.
    #[error("{0}: {1}")]
    Credentials(String, #[source] io::Error),
    /// The broker cannot be reached, or refuses.
    #[error("{servers}: {source}")]
    Connect {
        /// Its servers.
        servers: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The thread of the connection does not start.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

type Fault = Box<dyn Error + Send + Sync>;

/// A request to the thread of the connection.
#[derive(Debug)]
enum Request {
    Carry(BrokerCommand),
    /// Store a report under this name, and look how the broker does.
    Report(&'static str, Vec<u8>),
}

/// A connection to NATS servers.
#[derive(Debug)]
pub struct NatsTransport {
    commands: Option<UnboundedSender<Request>>,
    thread: Option<JoinHandle<()>>,
    /// Under which reports are kept.
    role: &'static str,
}

impl NatsTransport {
    /// Connects, makes the streams that are missing, and says on `inputs` what happens, signals included.
    ///
    /// # Errors
    /// See [`NatsError`]. Later losses of the connection are mended.
    pub fn connect(settings: &BrokerSettings, inputs: Sender<Input>) -> Result<Self, NatsError> {
        // A fault of the file is a fault of the configuration, not of the broker.
        read_auth(&settings.credentials, b"")?;
        let (commands, receiver) = unbounded_channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let settings = settings.clone();
        let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Err(error) => drop(ready.send(Err(NatsError::Thread(error)))),
            Ok(runtime) => runtime.block_on(async {
                match connect(&settings, &inputs).await {
                    Err(source) => {
                        let servers = settings.servers.join(", ");
                        drop(ready.send(Err(NatsError::Connect { servers, source })));
                    }
                    Ok(broker) => {
                        drop(ready.send(Ok(())));
                        broker.run(receiver).await;
                    }
                }
            }),
        };
        let thread = thread::Builder::new().name("nats".to_owned()).spawn(run);
        let thread = thread.map_err(NatsError::Thread)?;
        let ended = || NatsError::Thread(io::Error::other("the thread of the broker ended"));
        is_ready.recv().map_err(|_| ended())??;
        Ok(Self { commands: Some(commands), thread: Some(thread), role: "serve" })
    }
}

impl Transport for NatsTransport {
    fn send(&mut self, command: BrokerCommand) {
        if let Some(commands) = &self.commands {
            // Without the thread there is no event any more, which whoever waits for one notices.
            let _ = commands.send(Request::Carry(command));
        }
    }

    fn report(&mut self, report: &HostReport) {
        let role = match report.state {
            HostState::Serving => "serve",
            HostState::Submitting => "submit",
            HostState::Leaving | HostState::Left => self.role,
        };
        self.role = role;
        if let Some(commands) = &self.commands {
            // As above.
            let _ = commands.send(Request::Report(role, report.encode()));
        }
    }
}

impl Drop for NatsTransport {
    /// Waits until everything has been sent, for a while.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// State that tasks share.
struct Shared {
    settings: BrokerSettings,
    jetstream: Context,
    inputs: Sender<Input>,
    consumers: Mutex<HashMap<BrokerQueue, PullConsumer>>,
    ackers: Mutex<(u64, BTreeMap<DeliveryTag, Arc<Acker>>)>,
}

struct NatsBroker {
    client: Client,
    shared: Arc<Shared>,
}

async fn connect(settings: &BrokerSettings, inputs: &Sender<Input>) -> Result<NatsBroker, Fault> {
    let credentials = settings.credentials.clone();
    let mut options = match credentials {
        Credentials::Nothing => ConnectOptions::new(),
        // Read at each connection, so that what was rotated is used without a restart.
        Credentials::File(_) | Credentials::Nkey(_) => {
            ConnectOptions::with_auth_callback(move |nonce| {
                let auth = read_auth(&credentials, &nonce);
                future::ready(auth.map_err(|error| AuthError::new(error.to_string())))
            })
        }
    };
    if let Some(ca) = &settings.ca {
        options = options.add_root_certificates(ca.clone());
    }
    let (events, said) = (inputs.clone(), Mutex::new(String::new()));
    options = options
        .name(format!("hashcluster-bridge {}", settings.host))
        .connection_timeout(ANSWER_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .event_callback(move |event| {
            // The driver may have ended.
            let _ = match &event {
                Event::Connected => events.send(Input::Connected(true)),
                Event::Disconnected | Event::Closed => events.send(Input::Connected(false)),
                Event::LameDuckMode
                | Event::Draining
                | Event::SlowConsumer(_)
                | Event::ServerError(_)
                | Event::ClientError(_) => Ok(()),
            };
            let (line, mut said) = (event.to_string(), said.lock().expect("no holder panics"));
            // Each attempt to connect fails with the same words.
            if *said != line {
                said.clone_from(&line);
                let _ = events.send(Input::Say(line));
            }
            future::ready(())
        });
    let client = options.connect(settings.servers.clone()).await?;
    let jetstream = ContextBuilder::new().timeout(ANSWER_TIMEOUT).build(client.clone());
    let shared = Shared {
        settings: settings.clone(),
        jetstream,
        inputs: inputs.clone(),
        consumers: Mutex::default(),
        ackers: Mutex::default(),
    };
    for kind in [Kind::Shards, Kind::Results, Kind::Dead, Kind::Reasons, Kind::Hosts] {
        shared.stream(kind).await?;
    }
    Ok(NatsBroker { client, shared: Arc::new(shared) })
}

/// The streams.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Shards,
    Results,
    Dead,
    Reasons,
    Hosts,
}

impl Kind {
    fn of(queue: &BrokerQueue) -> Self {
        match queue {
            BrokerQueue::Shards(_) => Self::Shards,
            BrokerQueue::Results(_) => Self::Results,
            BrokerQueue::Dead(_) => Self::Dead,
            BrokerQueue::Reasons(_) => Self::Reasons,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Shards => "shards",
            Self::Results => "results",
            Self::Dead => "dead",
            Self::Reasons => "reasons",
            Self::Hosts => "hosts",
        }
    }
}

/// Name of a consumer: a subject without its dots.
fn consumer_name(queue: &BrokerQueue) -> String {
    queue.to_string().replace('.', "-")
}

impl Shared {
    fn subject(&self, queue: &BrokerQueue) -> String {
        self.full_subject(&queue.to_string())
    }

    fn full_subject(&self, name: &str) -> String {
        format!("hashcluster.{}.{name}", self.settings.deployment)
    }

    fn stream_name(&self, kind: Kind) -> String {
        format!("hashcluster-{}-{}", self.settings.deployment, kind.word())
    }

    fn say(&self, event: BrokerEvent) {
        // The driver may have ended.
        let _ = self.inputs.send(Input::Broker(event));
    }

    async fn stream(&self, kind: Kind) -> Result<stream::Stream, Fault> {
        let (retention, max_messages) = match kind {
            Kind::Shards | Kind::Results => (RetentionPolicy::WorkQueue, -1),
            Kind::Dead | Kind::Reasons => (RetentionPolicy::Limits, DEAD_KEPT),
            Kind::Hosts => (RetentionPolicy::Limits, -1),
        };
        let (max_messages_per_subject, max_age) = match kind {
            Kind::Shards | Kind::Results | Kind::Dead | Kind::Reasons => (-1, AGE_MAX),
            Kind::Hosts => (1, REPORT_AGE_MAX),
        };
        let config = stream::Config {
            name: self.stream_name(kind),
            subjects: vec![format!("hashcluster.{}.{}.>", self.settings.deployment, kind.word())],
            retention,
            max_messages,
            max_messages_per_subject,
            max_age,
            duplicate_window: ID_MEMORY,
            num_replicas: self.settings.replicas,
            ..stream::Config::default()
        };
        Ok(self.jetstream.get_or_create_stream(config).await?)
    }

    async fn consumer(&self, queue: &BrokerQueue) -> Result<PullConsumer, Fault> {
        let known = self.consumers.lock().expect("no holder panics").get(queue).cloned();
        if let Some(consumer) = known {
            return Ok(consumer);
        }
        let name = consumer_name(queue);
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: self.subject(queue),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // The role counts deliveries: the broker would leave the message in the stream, as nobody's.
            max_deliver: -1,
            max_ack_pending: HELD_MAX,
            ..pull::Config::default()
        };
        let stream = self.stream(Kind::of(queue)).await?;
        let consumer = stream.get_or_create_consumer(&name, config).await?;
        self.consumers.lock().expect("no holder panics").insert(queue.clone(), consumer.clone());
        Ok(consumer)
    }

    async fn publish(&self, queue: &BrokerQueue, id: &str, body: Vec<u8>) -> Result<(), Fault> {
        if body.len() > BODY_LEN_MAX {
            return Err("a message beyond the limit".into());
        }
        let message = PublishMessage::build().message_id(id).payload(body.into());
        let published = async {
            self.jetstream.send_publish(self.subject(queue), message).await?.await?;
            Ok::<(), Fault>(())
        };
        let outcome = timeout(ANSWER_TIMEOUT, published).await.map_err(Fault::from).flatten();
        if outcome.is_err() {
            // A broker that lost its disk has no streams either.
            self.stream(Kind::of(queue)).await?;
        }
        outcome
    }

    async fn pull(&self, queue: &BrokerQueue, len: usize) -> Result<(), Fault> {
        let consumer = self.consumer(queue).await?;
        let mut batch = consumer.batch().max_messages(len).expires(PULL_WAIT).messages().await?;
        while let Some(message) = batch.next().await {
            let message = message?;
            let delivery = u64::try_from(message.info()?.delivered).unwrap_or(1);
            let (message, acker) = message.split();
            let tag = {
                let (next, ackers) = &mut *self.ackers.lock().expect("no holder panics");
                *next += 1;
                ackers.insert(DeliveryTag(*next), Arc::new(acker));
                if ackers.len() > ACKERS_MAX {
                    ackers.pop_first();
                }
                DeliveryTag(*next)
            };
            let (queue, body) = (queue.clone(), message.payload.to_vec());
            self.say(BrokerEvent::Delivered { queue, tag, delivery, body });
        }
        Ok(())
    }

    async fn acknowledge(&self, tag: DeliveryTag, kind: AckKind, is_last: bool) {
        let acker = {
            let (_, ackers) = &mut *self.ackers.lock().expect("no holder panics");
            if is_last { ackers.remove(&tag) } else { ackers.get(&tag).cloned() }
        };
        if let Some(acker) = acker {
            // If that is lost, it is delivered again.
            let _ = acker.ack_with(kind).await;
        }
    }

    async fn forget(&self, queue: &BrokerQueue) -> Result<(), Fault> {
        let stream = self.stream(Kind::of(queue)).await?;
        stream.purge().filter(self.subject(queue)).await?;
        stream.delete_consumer(&consumer_name(queue)).await?;
        Ok(())
    }

    /// Stores a report; what the broker shows meanwhile goes to the driver.
    async fn report(&self, role: &str, body: Vec<u8>) -> Result<(), Fault> {
        let name = format!("hosts.{}.{role}", host_token(&self.settings.host));
        let message = PublishMessage::build().payload(body.into());
        let clock = DriverClock::start();
        self.jetstream.send_publish(self.full_subject(&name), message).await?.await?;
        let mut survey = BrokerSurvey { delay: clock.now(), ..BrokerSurvey::default() };
        let consumers = self.consumers.lock().expect("no holder panics").clone();
        for (queue, consumer) in consumers {
            if let BrokerQueue::Shards(dataset) = queue {
                let pending = consumer.get_info().await?.num_pending;
                survey.backlog.insert(dataset.name().to_owned(), pending);
            }
        }
        // The driver may have ended.
        let _ = self.inputs.send(Input::Surveyed(survey));
        Ok(())
    }

    async fn carry_out(&self, command: BrokerCommand) {
        match command {
            BrokerCommand::Publish { queue, id, body } => {
                let outcome = self.publish(&queue, &id, body).await;
                self.say(BrokerEvent::Published { id, stored: outcome.is_ok() });
            }
            BrokerCommand::Pull { queue, len } => {
                let pulled = timeout(PULL_WAIT + ANSWER_TIMEOUT, self.pull(&queue, len)).await;
                if !matches!(pulled, Ok(Ok(()))) {
                    self.consumers.lock().expect("no holder panics").remove(&queue);
                    sleep(Duration::from_secs(1)).await;
                }
                self.say(BrokerEvent::Pulled { queue });
            }
            BrokerCommand::Ack(tag) => self.acknowledge(tag, AckKind::Ack, true).await,
            BrokerCommand::Progress(tag) => {
                self.acknowledge(tag, AckKind::Progress, false).await;
            }
            BrokerCommand::Return(tag, pause) => {
                let pause = Some(pause).filter(|pause| !pause.is_zero());
                self.acknowledge(tag, AckKind::Nak(pause), true).await;
            }
            BrokerCommand::Forget(queue) => {
                // What stays is dropped when it is old.
                let _ = timeout(ANSWER_TIMEOUT, self.forget(&queue)).await;
            }
        }
    }
}

impl NatsBroker {
    async fn run(self, mut commands: UnboundedReceiver<Request>) {
        let signals = tokio::spawn(signals(self.shared.inputs.clone()));
        let mut last = Vec::new();
        while let Some(command) = commands.recv().await {
            let is_last =
                matches!(command, Request::Carry(BrokerCommand::Forget(_)) | Request::Report(..));
            let shared = Arc::clone(&self.shared);
            let task = tokio::spawn(async move {
                match command {
                    Request::Carry(command) => shared.carry_out(command).await,
                    Request::Report(role, body) => {
                        let reported = timeout(ANSWER_TIMEOUT, shared.report(role, body)).await;
                        if !matches!(reported, Ok(Ok(()))) {
                            // A broker that lost its disk has no streams either.
                            let _ = timeout(ANSWER_TIMEOUT, shared.stream(Kind::Hosts)).await;
                        }
                    }
                }
            });
            if is_last {
                last.retain(|task: &tokio::task::JoinHandle<()>| !task.is_finished());
                last.push(task);
            }
        }
        signals.abort();
        for task in last {
            let _ = task.await;
        }
        // Acknowledgements that were just begun.
        tokio::task::yield_now().await;
        let _ = timeout(ANSWER_TIMEOUT, self.client.flush()).await;
    }
}

/// Says each time that a signal asks for the end.
async fn signals(inputs: Sender<Input>) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if inputs.send(Input::Leave).is_err() {
            // The driver has ended.
            return;
        }
    }
}

/// This host's proof of identity over the broker's `nonce`, from a file that nobody else may read.
fn read_auth(credentials: &Credentials, nonce: &[u8]) -> Result<Auth, NatsError> {
    let mut auth = Auth::new();
    let path = match credentials {
        Credentials::Nothing => return Ok(auth),
        Credentials::File(path) | Credentials::Nkey(path) => path,
    };
    let fail = |error| NatsError::Credentials(path.display().to_string(), error);
    let text = read_private(path).map_err(fail)?;
    let invalid = |what: &str| fail(io::Error::new(io::ErrorKind::InvalidData, what));
    let seed = match credentials {
        Credentials::Nkey(_) => text.trim(),
        Credentials::File(_) | Credentials::Nothing => {
            let jwt = block(&text, "NATS USER JWT").ok_or_else(|| invalid("no user JWT in it"))?;
            auth.jwt = Some(jwt.to_owned());
            block(&text, "USER NKEY SEED").ok_or_else(|| invalid("no user NKey seed in it"))?
        }
    };
    let pair = KeyPair::from_seed(seed).map_err(|_| invalid("no NKey seed in it"))?;
    if auth.jwt.is_none() {
        auth.nkey = Some(pair.public_key());
    }
    let signature = pair.sign(nonce).map_err(|_| invalid("the seed does not sign"))?;
    auth.signature = Some(signature);
    Ok(auth)
}

/// The public part of the NKey whose seed is in the file at `path`, which is made if it is not there.
///
/// # Errors
/// [`NatsError::Credentials`]: the file cannot be written or read, lets others read it, or holds no seed.
pub fn public_key(path: &Path) -> Result<String, NatsError> {
    let fail = |error| NatsError::Credentials(path.display().to_string(), error);
    let other = |error: nkeys::error::Error| fail(io::Error::other(error.to_string()));
    let create = File::options().write(true).create_new(true).mode(0o600).open(path);
    match create {
        Ok(mut file) => {
            let pair = KeyPair::new_user();
            let seed = pair.seed().map_err(other)?;
            let written = writeln!(file, "{seed}").and_then(|()| file.sync_all());
            written.map_err(fail)?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fail(error)),
    }
    let seed = read_private(path).map_err(fail)?;
    KeyPair::from_seed(seed.trim()).map(|pair| pair.public_key()).map_err(other)
}

fn read_private(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    Trust::Private.open(path)?.take(CREDENTIALS_LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The line after `-----BEGIN NAME-----`.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("BEGIN {name}");
    let mut lines = text.lines();
    lines.find(|line| line.starts_with("---") && line.contains(&begin))?;
    lines.next().map(str::trim)
}

#[cfg(test)]
mod tests;
