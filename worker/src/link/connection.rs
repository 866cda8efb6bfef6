//! One connection to the controller, from `Hello` to its end.
//!
//! The thread that calls [`serve`] receives. A batch that is done sooner than a thread is woken is
//! done right there; the rest goes to the pool, whose threads answer themselves. Heartbeats have a
//! thread of their own, which sleeps; that the controller is silent is seen by the time limit of
//! the receiving socket, so that nothing here reads a clock.
//!
//! Not here: connecting again (`reconnect`).

use crate::host;
use crate::link::hang::HangDetector;
use crate::link::session::{Session, Violation};
use crate::link::shutdown::Shutdown;
use crate::metrics::{WorkerInstruments, instruments};
use crate::pool::{Full, Pool};
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use engine::exec::order::{Order, Scratch};
use engine::hash::{Choice, Midstate};
use engine::input::dataset::Datasets;
use engine::input::reader::Reading;
use ipc_proto::limits::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, INTERLEAVE_MAX, NAME_LEN_MAX};
use ipc_proto::message::{
    self, LeaseId, Planes, SandboxLayers, WorkerIntro, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};
use ipc_socket::{Connection, Passed, ReceiveError, Socket};
use std::fmt;
use std::io;
use std::process;
use std::sync::Arc;
use std::thread;

/// Most bytes that the link thread hashes itself while others could; longer batches always go to
/// the pool. Hashing them takes about a tenth of a millisecond.
const HERE_LEN_MAX: usize = 64 << 10;

/// Outcome of a connection.
#[derive(Debug)]
pub enum Ended {
    /// Shutdown was requested, and every lease is answered.
    Left,
    /// The connection was lost.
    Lost {
        /// Cause of the end.
        reason: Lost,
        /// A message had arrived after the handshake.
        proven: bool,
    },
}

/// Cause of a lost connection.
#[derive(Debug)]
pub enum Lost {
    /// Nothing, or nothing good, came from the controller.
    Receive(ReceiveError),
    /// The controller broke the rules of leases.
    Violation(Violation),
    /// More jobs wait than the pool takes: its threads hang.
    Full,
    /// The system's error.
    Io(io::Error),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receive(ReceiveError::TimedOut) => {
                write!(f, "no sign of life in {} seconds", HEARTBEAT_TIMEOUT.as_secs())
            }
            Self::Receive(error) => error.fmt(f),
            Self::Violation(violation) => write!(f, "it sent {violation}"),
            Self::Full => f.write_str("the hashing threads hang and their queue is full"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Lost {}

impl From<Violation> for Lost {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Full> for Lost {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// Maximum number of batches that a thread interleaves.
#[must_use]
pub fn interleave_max() -> u16 {
    Algorithm::ALL
        .map(|algorithm| u16::from(interleave_max_of(algorithm)))
        .into_iter()
        .max()
        .unwrap_or(1)
}

fn interleave_max_of(algorithm: Algorithm) -> u8 {
    u8::try_from(Midstate::interleave_max(algorithm))
        .unwrap_or(INTERLEAVE_MAX)
        .clamp(1, INTERLEAVE_MAX)
}

/// Introduction of this worker for its `Hello`: `image` is the image that it runs from,
/// `descriptors` is true if open files can reach it.
#[must_use]
pub fn intro(
    name: String,
    image: String,
    threads: u16,
    descriptors: bool,
    datasets: &Datasets,
    reading: &Reading,
) -> WorkerIntro {
    let backends = Algorithm::ALL.map(|algorithm| {
        let backend = Choice::of(algorithm).to_string();
        message::Backend { algorithm, backend, interleave_max: interleave_max_of(algorithm) }
    });
    WorkerIntro {
        name,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        image,
        pid: process::id(),
        threads,
        memory_bytes: host::memory_bytes(),
        backends: backends.into(),
        planes: Planes { descriptors, inline: true, datasets: datasets.names() },
        reading: reading.name().to_owned(),
        // It is entered later.
        sandbox: SandboxLayers::default(),
        token: Blob::default(),
        host: short(telemetry::hardware::host_name()),
        cpu: short(telemetry::hardware::cpu_name()),
    }
}

/// `text`, as much of it as a name may have.
fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(NAME_LEN_MAX));
    text
}

/// Works for the controller at the other end until the connection ends or `shutdown` drains it.
/// `credit` is how many batches the controller may assign before the first is answered.
#[must_use]
pub fn serve(
    connection: Connection,
    pool: &Pool,
    credit: u16,
    datasets: &Arc<Datasets>,
    shutdown: &Shutdown,
    hang_detector: &HangDetector,
) -> Ended {
    let Connection { sender, receiver, .. } = connection;
    let mut link = match prepare(&receiver) {
        Ok(socket) => {
            let (datasets, detector) = (Arc::clone(datasets), hang_detector.clone());
            let session = Arc::new(Session::new(sender, socket, credit, datasets, pool, detector));
            let scratch = Scratch::default();
            Link { session, receiver, pool, scratch, proven: false }
        }
        Err(error) => return Ended::Lost { reason: Lost::Io(error), proven: false },
    };
    let session = Arc::clone(&link.session);
    instruments().into_iter().for_each(WorkerInstruments::connected);
    session.send(&WorkerReply::Credit { batches: credit });
    shutdown.attach(&session);
    let (end, ended) = bounded::<()>(0);
    let reason = thread::scope(|scope| {
        let beats = thread::Builder::new().spawn_scoped(scope, || beat(&session, &ended));
        let reason = match beats {
            Ok(_) => {
                let Err(reason) = link.receive_all();
                reason
            }
            Err(error) => Lost::Io(error),
        };
        session.abandon();
        drop(end);
        reason
    });
    instruments().into_iter().for_each(WorkerInstruments::disconnected);
    if session.is_drained() {
        return Ended::Left;
    }
    Ended::Lost { reason, proven: link.proven }
}

/// Sets the socket's read and write timeouts, and returns a second handle of it.
fn prepare(receiver: &ipc_socket::Receiver) -> io::Result<Socket> {
    let socket = receiver.socket().try_clone()?;
    socket.set_read_timeout(Some(HEARTBEAT_TIMEOUT))?;
    socket.set_write_timeout(Some(HEARTBEAT_TIMEOUT))?;
    Ok(socket)
}

fn beat(session: &Session, ended: &Receiver<()>) {
    while ended.recv_timeout(HEARTBEAT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        session.send(&WorkerReply::Heartbeat);
    }
}

type Arrived = (WorkerRequest, Vec<Passed>);

/// The receiving side of a connection.
struct Link<'a> {
    session: Arc<Session>,
    receiver: ipc_socket::Receiver,
    pool: &'a Pool,
    scratch: Scratch,
    proven: bool,
}

/// Uninhabited: receiving ends only with a reason.
enum Never {}

impl Link<'_> {
    fn receive_all(&mut self) -> Result<Never, Lost> {
        let mut ahead: Option<Arrived> = None;
        loop {
            let arrived = match ahead.take() {
                Some(arrived) => arrived,
                None => self.receiver.receive().map_err(Lost::Receive)?,
            };
            self.proven = true;
            ahead = self.receiver.next_ready().map_err(Lost::Receive)?;
            self.handle(arrived, ahead.is_some())?;
        }
    }

    fn handle(&mut self, arrived: Arrived, more_waits: bool) -> Result<(), Lost> {
        let (request, descriptors) = arrived;
        match request {
            WorkerRequest::Assign { lease, attempt, algorithms, work, check, strict_reads } => {
                let descriptors = descriptors.into_iter().map(Passed::into_inner).collect();
                let order = Order { algorithms, work, descriptors, check, strict_reads };
                let here = self.is_done_here(&order, more_waits);
                let is_long = order.is_long();
                self.session.assign(lease, attempt, order)?;
                if here {
                    self.session.run(lease, &mut self.scratch);
                    Ok(())
                } else {
                    self.submit(lease, is_long)
                }
            }
            WorkerRequest::Revoke { leases } => {
                self.session.revoke(&leases);
                Ok(())
            }
            WorkerRequest::Leave => {
                self.session.leave();
                Ok(())
            }
            WorkerRequest::Heartbeat => Ok(()),
        }
    }

    /// A short batch is done here unless the next message would wait for it although a thread
    /// could take the batch.
    fn is_done_here(&self, order: &Order, more_waits: bool) -> bool {
        let is_short = order.cost_len().is_some_and(|len| len <= HERE_LEN_MAX);
        is_short && (!more_waits || self.pool.threads() == 1 || self.pool.idle() == 0)
    }

    fn submit(&self, lease: LeaseId, is_long: bool) -> Result<(), Lost> {
        let session = Arc::clone(&self.session);
        let job = Box::new(move |scratch: &mut Scratch| session.run(lease, scratch));
        let submitted = if is_long { self.pool.submit_long(job) } else { self.pool.submit(job) };
        Ok(submitted?)
    }
}
