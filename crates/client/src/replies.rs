//! The receiving half: what the controller answers about jobs, checked against what was sent.

use crate::ClientError;
use crate::in_flight::{InFlight, TICKET_BIT};
use ipc_proto::Blob;
use ipc_proto::message::{ClientReply, ClientRequest, Failure, Failures, JobId, Run, WorkerLoss};
use ipc_socket::{ReceiveError, Receiver, Sender};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Receives.
#[derive(Debug)]
pub struct Replies {
    in_flight: Arc<InFlight>,
    receiver: Receiver,
    /// For a job that is opened after it was cancelled.
    sender: Arc<Mutex<Sender>>,
}

/// An event of a job.
#[derive(Debug)]
pub enum Event {
    /// It is open.
    Opened {
        /// The job.
        job: JobId,
        /// Workers that are ready.
        workers: u32,
        /// True if nothing can be sent before [`Event::Window`].
        waits: bool,
    },
    /// Its window changed: items that waited for it can be sent.
    Window {
        /// The job.
        job: JobId,
    },
    /// Items are resolved.
    Results(Results),
    /// Reasons why an item fails, whose result follows.
    Death {
        /// The item's tag; `None` for a step of a streamed hash whose output the next one needs.
        tag: Option<u64>,
        /// Every lease of it that was lost, in order.
        losses: Vec<WorkerLoss>,
    },
    /// More of a long item is hashed.
    Advanced {
        /// The item's tag; `None` for a step of a streamed hash.
        tag: Option<u64>,
        /// Bytes since the last such event; what is hashed again counts again.
        bytes: u64,
    },
    /// Digests that a worker returned before may be wrong.
    Suspect {
        /// Its name.
        worker: String,
        /// Number of items with a result in this run.
        items: u64,
    },
    /// Every item is resolved.
    Finished {
        /// The job.
        job: JobId,
    },
    /// It was dropped.
    Cancelled {
        /// The job.
        job: JobId,
        /// Items without a result.
        unresolved: u64,
    },
}

/// Outcomes of a run of items.
#[derive(Debug)]
pub struct Results {
    tags: Vec<u64>,
    outputs: Blob,
    output_len: usize,
    failures: Failures,
}

impl Results {
    /// Each item's tag, and its output or why it has none.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Result<&[u8], Failure>)> {
        self.all().filter(|(tag, _)| tag & TICKET_BIT == 0)
    }

    fn all(&self) -> impl Iterator<Item = (u64, Result<&[u8], Failure>)> {
        let mut failures = self.failures.iter().peekable();
        let mut outputs = self.outputs.chunks_exact(self.output_len.max(1));
        self.tags.iter().zip(0_u32..).map(move |(&tag, position)| {
            match failures.next_if(|(failed, _)| *failed == position) {
                Some(&(_, failure)) => (tag, Err(failure)),
                None => (tag, Ok(outputs.next().expect("as many outputs as were checked"))),
            }
        })
    }
}

impl Replies {
    pub(crate) fn new(
        in_flight: Arc<InFlight>,
        receiver: Receiver,
        sender: Arc<Mutex<Sender>>,
    ) -> Self {
        Self { in_flight, receiver, sender }
    }

    /// Waits for what happens next; `None` when the time limit passed.
    ///
    /// # Errors
    /// See [`ClientError`]; nothing more comes after it.
    pub fn receive(&mut self) -> Result<Option<Event>, ClientError> {
        match self.receiver.receive() {
            Ok((reply, _)) => self.take(reply).map(Some),
            Err(ReceiveError::TimedOut) => Ok(None),
            Err(error) => Err(self.fail(ClientError::Receive(error))),
        }
    }

    /// Returns the next event if it has arrived already.
    ///
    /// # Errors
    /// See [`ClientError`]; nothing more comes after it.
    pub fn next_ready(&mut self) -> Result<Option<Event>, ClientError> {
        match self.receiver.next_ready() {
            Ok(Some((reply, _))) => self.take(reply).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(self.fail(ClientError::Receive(error))),
        }
    }

    /// Bounds each wait of [`Self::receive`].
    ///
    /// # Errors
    /// [`ClientError::Send`], as setsockopt(2).
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.receiver.set_timeout(timeout).map_err(ClientError::Send)
    }

    pub(crate) fn replace(&mut self, receiver: Receiver) {
        self.receiver = receiver;
    }

    fn fail(&self, error: ClientError) -> ClientError {
        if !(self.in_flight.recovers() && error.is_loss()) {
            self.in_flight.stop();
        }
        error
    }

    fn take(&self, reply: ClientReply) -> Result<Event, ClientError> {
        self.enter(reply).map_err(|error| self.fail(error))
    }

    fn enter(&self, reply: ClientReply) -> Result<Event, ClientError> {
        match reply {
            ClientReply::Opened { tag, job, window, workers } => {
                if self.in_flight.opened(tag, job, window)? {
                    let mut sender = self.sender.lock().expect("no holder panics");
                    let cancel = ClientRequest::Cancel { job };
                    sender.send(&cancel, &[]).map_err(ClientError::Send)?;
                }
                Ok(Event::Opened { job, workers, waits: window.items == 0 })
            }
            ClientReply::Window { job, window } => {
                self.in_flight.set_window(job, window)?;
                Ok(Event::Window { job })
            }
            ClientReply::Results { job, runs, outputs, failures } => {
                self.results(job, &runs, outputs, failures).map(Event::Results)
            }
            ClientReply::Finished { job, .. } => {
                self.in_flight.remove_job(job)?;
                Ok(Event::Finished { job })
            }
            ClientReply::Cancelled { job, unresolved } => {
                self.in_flight.drop_job(job);
                Ok(Event::Cancelled { job, unresolved })
            }
            ClientReply::Suspect { worker, items, .. } => Ok(Event::Suspect { worker, items }),
            ClientReply::Death { job, index, losses } => {
                Ok(Event::Death { tag: self.item(job, index)?, losses })
            }
            ClientReply::Advanced { job, index, bytes } => {
                Ok(Event::Advanced { tag: self.item(job, index)?, bytes })
            }
            ClientReply::Rejected { text, .. } => Err(ClientError::Rejected { text }),
            ClientReply::Status(_)
            | ClientReply::Ready { .. }
            | ClientReply::Released { .. }
            | ClientReply::Drained { .. }
            | ClientReply::Service { .. } => Err(ClientError::Nonsense("an answer to no question")),
        }
    }

    /// The tag of an item without result, if it is not a step of a streamed hash.
    fn item(&self, job: JobId, index: u64) -> Result<Option<u64>, ClientError> {
        let tag = self.in_flight.tag_of_item(job, index)?;
        Ok(Some(tag).filter(|tag| tag & TICKET_BIT == 0))
    }

    fn results(
        &self,
        job: JobId,
        runs: &[Run],
        outputs: Blob,
        failures: Failures,
    ) -> Result<Results, ClientError> {
        let (tags, digest_len) = self.in_flight.resolve(job, runs)?;
        let outputs_len = tags.len() - failures.len();
        let output_len = outputs.len().checked_div(outputs_len).unwrap_or(0);
        if output_len * outputs_len != outputs.len() || (outputs_len > 0 && output_len == 0) {
            return Err(ClientError::Nonsense("outputs of no common length"));
        }
        let results = Results { tags, outputs, output_len, failures };
        for (tag, outcome) in results.all() {
            if tag & TICKET_BIT != 0 {
                self.in_flight.settle(tag, outcome.map(<[u8]>::to_vec));
            } else if outcome.is_ok_and(|digest| digest.len() != digest_len) {
                return Err(ClientError::Nonsense("a result that is no digest"));
            }
        }
        Ok(results)
    }
}

impl AsFd for Replies {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
