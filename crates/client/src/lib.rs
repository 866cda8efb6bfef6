//! The client side of the protocol as a library: blocking calls, no event loop, any number of
//! threads.
//!
//! [`Address`] says where a controller is: [`Address::unix`] for a socket, [`Address::in_dir`] for
//! whatever a runtime directory leads to, with its token. [`Client::connect`] makes a connection.
//! From there:
//!
//! - questions: [`Client::status`], [`Client::wait_ready`], [`Client::release`], [`Client::drain`],
//!   [`Client::service`], each answered before the next one. [`Client::set_timeout`] bounds each wait for bytes.
//! - jobs: [`Client::split`] gives a [`Submitter`] and [`Replies`]. The submitter opens a [`Job`];
//!   the job sends items as descriptors ([`Job::send_files`]), as names in a dataset
//!   ([`Job::send_names`]), as whole messages ([`Job::send_messages`]) or as steps of a stream
//!   ([`Job::send_piece`]), and ends with [`Job::finish`]. Sending waits while the job's window is
//!   full, so another thread must call [`Replies::receive`]; a program with one thread alternates,
//!   and sends no more than [`Job::window`] holds.
//!
//! A connection that is lost ends its jobs. A program that can send items again calls [`Submitter::recover`]
//! before, and [`Submitter::reconnect`] with another connection after that; the thread that sends notices nothing.
//!
//! Every item carries a tag of the caller's choice, and its result comes with that tag, as soon as
//! the controller has it. Results in the order of sending are the caller's: it knows its tags.
//!
//! ```no_run
//! use client::{Address, Client, Event, JobOptions};
//! use ipc_proto::Algorithm;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let address = Address::in_dir("/run/hashcluster".as_ref())?;
//! let (submitter, mut replies) = Client::connect(&address)?.split();
//! let mut job = submitter.open(Algorithm::Sha256, JobOptions::default())?;
//! while !matches!(replies.receive()?, Some(Event::Opened { .. })) {}
//! job.send_messages(vec![3, 3], b"onetwo".to_vec(), &[1, 2])?;
//! job.finish()?;
//! loop {
//!     match replies.receive()? {
//!         Some(Event::Results(results)) => {
//!             for (tag, outcome) in results.iter() {
//!                 println!("item {tag}: {outcome:?}");
//!             }
//!         }
//!         Some(Event::Finished { .. }) => break,
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: never more is unresolved than the window allows; a result that the controller gives
//! twice, or for an item that was not sent, is an error and not a result.

mod address;
mod in_flight;
mod job;
mod replies;
mod runtime_dir;

pub use address::{Address, AddressError, read_token};
pub use ipc_socket::{ConnectError, HandoverReceiver, ReceiveError};
pub use job::{Job, JobOptions, Submitter, Ticket, enter_table};
pub use replies::{Event, Replies, Results};
pub use runtime_dir::{client_runtime_dir, user_runtime_dir};

use in_flight::InFlight;
use ipc_proto::message::{
    ClientIntro, ClientReply, ClientRequest, DrainOutcome, ReleaseOutcome, Role, ServiceReply,
    ServiceRequest, Status, Welcome,
};
use ipc_socket::{Connection, Receiver, Sender};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thiserror::Error;

/// Time beyond its timeout that the answer to [`Client::wait_ready`] may take.
const READY_GRACE: Duration = Duration::from_secs(5);

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection ended, or the peer does not speak the protocol.
    #[error("{0}")]
    Receive(#[source] ReceiveError),
    /// Sending failed.
    #[error("{0}")]
    Send(#[source] io::Error),
    /// The controller did not carry out the request.
    #[error("rejected: {text}")]
    Rejected {
        /// Why, in its words.
        text: String,
    },
    /// The controller's answer makes no sense here.
    #[error("the controller's answer makes no sense: {0}")]
    Nonsense(&'static str),
    /// One item is larger than the job's whole window.
    #[error("the job's window is too small for one item")]
    WindowTooSmall,
    /// The jobs were cancelled, or the connection ended meanwhile.
    #[error("stopped")]
    Stopped,
}

impl ClientError {
    /// True if the connection ended, for whatever reason: another one may do.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Receive(ReceiveError::Closed | ReceiveError::Io(_)))
    }
}

/// The answer to [`Client::wait_ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Workers that are ready.
    pub workers: u32,
    /// At least as many are ready as were asked for.
    pub enough: bool,
}

/// A connection without jobs.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    receiver: Receiver,
    welcome: Welcome,
    next_tag: u32,
}

impl Client {
    /// Connects to the controller at `address`.
    pub fn connect(address: &Address) -> Result<Self, ConnectError> {
        let software = env!("CARGO_PKG_VERSION").to_owned();
        let role = Role::Client(ClientIntro { software, token: address.token.clone() });
        let opened = match Connection::open(&address.endpoint, role.clone()) {
            // It ended between accepting and answering: another one may be there already.
            Err(ConnectError::Io(error)) if job::is_lost(&error) => {
                Connection::open(&address.endpoint, role)
            }
            opened => opened,
        };
        let Connection { sender, receiver, welcome } = opened?;
        Ok(Self { sender, receiver, welcome, next_tag: 0 })
    }

    /// The controller's part of the handshake: its version, image and data planes.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Bounds each wait for bytes from now on; `None` waits for ever.
    ///
    /// # Errors
    /// [`ClientError::Send`], as setsockopt(2).
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.receiver.set_timeout(timeout).map_err(ClientError::Send)
    }

    /// The controller's status.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.send(&ClientRequest::Status)?;
        let ClientReply::Status(status) = self.receive()? else {
            return Err(ClientError::Nonsense("no status where one was asked for"));
        };
        Ok(*status)
    }

    /// Waits until `workers` workers are ready, or the timeout expires.
    pub fn wait_ready(
        &mut self,
        workers: u32,
        timeout: Duration,
    ) -> Result<Readiness, ClientError> {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        self.send(&ClientRequest::WaitReady { workers, timeout_ms })?;
        self.set_timeout(Some(timeout.saturating_add(READY_GRACE)))?;
        let ClientReply::Ready { workers, enough } = self.receive()? else {
            return Err(ClientError::Nonsense("no readiness where it was asked for"));
        };
        self.set_timeout(None)?;
        Ok(Readiness { workers, enough })
    }

    /// Ends a worker's quarantine.
    pub fn release(&mut self, worker: &str) -> Result<ReleaseOutcome, ClientError> {
        self.send(&ClientRequest::Release { worker: worker.to_owned() })?;
        let ClientReply::Released { outcome, .. } = self.receive()? else {
            return Err(ClientError::Nonsense("no release where one was asked for"));
        };
        Ok(outcome)
    }

    /// Gives a worker no more work; what it has goes to others after `deadline`. Returns once it holds no lease.
    /// It stays drained until the controller ends, or longer if it `lasts`.
    pub fn drain(
        &mut self,
        worker: &str,
        deadline: Duration,
        lasts: bool,
    ) -> Result<DrainOutcome, ClientError> {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.send(&ClientRequest::Drain { worker: worker.to_owned(), deadline_ms, lasts })?;
        self.set_timeout(Some(deadline.saturating_add(READY_GRACE)))?;
        let outcome = self.drained()?;
        self.set_timeout(None)?;
        Ok(outcome)
    }

    /// Gives a worker work again that was drained.
    pub fn undrain(&mut self, worker: &str) -> Result<DrainOutcome, ClientError> {
        self.send(&ClientRequest::Undrain { worker: worker.to_owned() })?;
        self.drained()
    }

    fn drained(&mut self) -> Result<DrainOutcome, ClientError> {
        let ClientReply::Drained { outcome, .. } = self.receive()? else {
            return Err(ClientError::Nonsense("no drain where one was asked for"));
        };
        Ok(outcome)
    }

    /// The controller's answer to a request about durable jobs, without descriptors. What it says of a
    /// change is durable.
    ///
    /// # Errors
    /// See [`ClientError`]. A refusal is an answer.
    pub fn service(&mut self, request: ServiceRequest) -> Result<ServiceReply, ClientError> {
        let tag = self.next_tag;
        self.next_tag = tag.wrapping_add(1);
        self.send(&ClientRequest::Service { tag, request })?;
        let nonsense = "no answer about durable jobs where one was asked for";
        let ClientReply::Service { tag: of, reply } = self.receive()? else {
            return Err(ClientError::Nonsense(nonsense));
        };
        if of == tag { Ok(reply) } else { Err(ClientError::Nonsense(nonsense)) }
    }

    /// The halves for jobs: one sends, one receives.
    #[must_use]
    pub fn split(self) -> (Submitter, Replies) {
        let in_flight = Arc::new(InFlight::default());
        let sender = Arc::new(Mutex::new(self.sender));
        let submitter = Submitter::new(Arc::clone(&in_flight), Arc::clone(&sender));
        (submitter, Replies::new(in_flight, self.receiver, sender))
    }

    fn send(&mut self, request: &ClientRequest) -> Result<(), ClientError> {
        self.sender.send(request, &[]).map_err(ClientError::Send)
    }

    fn receive(&mut self) -> Result<ClientReply, ClientError> {
        self.receiver.receive().map(|(reply, _)| reply).map_err(ClientError::Receive)
    }
}
