//! A blocking client of the controller, for programs that need no event loop.
//!
//! [`Client`] asks for the status or waits for workers. For jobs it is split: a [`Submitter`] opens
//! jobs and each [`Job`] sends items, waiting where its window is full; [`Replies`] takes what the
//! controller answers. They may live in different threads; a program with one thread alternates
//! and must not send more than the window holds.
//!
//! Every item carries a tag of the caller's choice, and its result comes with that tag: nobody
//! else counts item indexes.
//!
//! Invariants: never more is unresolved than the window allows; a result that the controller gives
//! twice, or for an item that was not sent, is an error and not a result.

mod book;
mod job;
mod replies;

pub use job::{Job, Submitter, Ticket};
pub use replies::{Event, Replies, Results};

use book::Book;
use ipc_proto::Blob;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::{
    ClientIntro, ClientReply, ClientRequest, ReleaseOutcome, Role, Status, Welcome,
};
use ipc_socket::{ConnectError, Connection, ReceiveError, Receiver, Sender};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How much longer than asked the controller may take to answer [`Client::wait_ready`].
const READY_GRACE: Duration = Duration::from_secs(5);

/// Why a request has no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The connection ended, or what came is not the protocol.
    Receive(ReceiveError),
    /// Sending failed.
    Send(io::Error),
    /// The controller did not carry out the request.
    Rejected {
        /// Why, in its words.
        text: String,
    },
    /// The controller answered something that makes no sense here.
    Nonsense(&'static str),
    /// One item is larger than the job's whole window.
    WindowTooSmall,
    /// The jobs were cancelled, or the connection ended meanwhile.
    Stopped,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receive(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::Rejected { text } => write!(f, "rejected: {text}"),
            Self::Nonsense(what) => write!(f, "the controller's answer makes no sense: {what}"),
            Self::WindowTooSmall => f.write_str("the job's window is too small for one item"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for ClientError {}

/// The answer to [`Client::wait_ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Workers that are ready.
    pub workers: u32,
    /// Whether they are as many as were asked for.
    pub enough: bool,
}

/// A connection without jobs.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    receiver: Receiver,
    welcome: Welcome,
}

impl Client {
    /// Connects to the controller whose clients' socket is `endpoint`; `token` may be empty where
    /// the kernel says who we are.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(endpoint: &Endpoint, token: Blob) -> Result<Self, ConnectError> {
        let software = env!("CARGO_PKG_VERSION").to_owned();
        let role = Role::Client(ClientIntro { software, token });
        let Connection { sender, receiver, welcome } = Connection::open(endpoint, role)?;
        Ok(Self { sender, receiver, welcome })
    }

    /// What the controller said of itself.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// What the controller sees.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.send(&ClientRequest::Status)?;
        let ClientReply::Status(status) = self.receive()? else {
            return Err(ClientError::Nonsense("no status where one was asked for"));
        };
        Ok(*status)
    }

    /// Waits until so many workers are ready, or the time is over.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn wait_ready(
        &mut self,
        workers: u32,
        timeout: Duration,
    ) -> Result<Readiness, ClientError> {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        self.send(&ClientRequest::WaitReady { workers, timeout_ms })?;
        let limit = Duration::from_millis(timeout_ms.into()) + READY_GRACE;
        self.receiver.set_timeout(Some(limit)).map_err(ClientError::Send)?;
        let reply = self.receive()?;
        self.receiver.set_timeout(None).map_err(ClientError::Send)?;
        let ClientReply::Ready { workers, enough } = reply else {
            return Err(ClientError::Nonsense("no readiness where it was asked for"));
        };
        Ok(Readiness { workers, enough })
    }

    /// Has a worker in quarantine given work again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn release(&mut self, worker: &str) -> Result<ReleaseOutcome, ClientError> {
        self.send(&ClientRequest::Release { worker: worker.to_owned() })?;
        let ClientReply::Released { outcome, .. } = self.receive()? else {
            return Err(ClientError::Nonsense("nothing of a release where it was asked for"));
        };
        Ok(outcome)
    }

    /// The halves for jobs.
    #[must_use]
    pub fn split(self) -> (Submitter, Replies) {
        let book = Arc::new(Book::default());
        let submitter = Submitter::new(Arc::clone(&book), Arc::new(Mutex::new(self.sender)));
        (submitter, Replies::new(book, self.receiver))
    }

    fn send(&mut self, request: &ClientRequest) -> Result<(), ClientError> {
        self.sender.send(request, &[]).map_err(ClientError::Send)
    }

    fn receive(&mut self) -> Result<ClientReply, ClientError> {
        self.receiver.receive().map(|(reply, _)| reply).map_err(ClientError::Receive)
    }
}
