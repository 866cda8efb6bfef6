//! State that the threads of one connection share: its sending half and its leases.
//!
//! Any thread may answer; whoever cannot send shuts the socket down, which wakes the link thread.
//! Invariant: an answer is on its way before its lease counts as settled.

use crate::link::hang::HangDetector;
use crate::link::leases::{Dropped, Leases};
use crate::link::shutdown::LEAVE_WITHIN_MS;
use crate::metrics::instruments;
use crate::pool::{IdleProbe, Pool};
use engine::clock::Stopwatch;
use engine::exec::checkpointed::{self, Checkpoint, LeaseSource, Task};
use engine::exec::order::{Order, Output, Scratch};
use engine::exec::run;
use engine::input::dataset::Datasets;
use ipc_proto::message::{LeaseId, ListOutcome, Work, WorkerReply};
use ipc_proto::{Blob, Family};
use ipc_socket::{Sender, Socket};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

pub use crate::link::leases::Violation;

/// An open connection, as far as sending goes.
pub struct Session {
    sender: Mutex<Sender>,
    socket: Socket,
    leases: Mutex<Leases>,
    datasets: Arc<Datasets>,
    idle_probe: IdleProbe,
    hang_detector: HangDetector,
}

impl Session {
    /// A session that sends through `sender` and closes by `socket`, a second handle of the same
    /// socket. It grants `credit` and runs leases in `pool`; `datasets` were announced already.
    #[must_use]
    pub fn new(
        sender: Sender,
        socket: Socket,
        credit: u16,
        datasets: Arc<Datasets>,
        pool: &Pool,
        hang_detector: HangDetector,
    ) -> Self {
        let (leases, sender) = (Mutex::new(Leases::new(credit)), Mutex::new(sender));
        Self { sender, socket, leases, datasets, idle_probe: pool.idle_probe(), hang_detector }
    }

    /// Takes a lease into the books.
    ///
    /// # Errors
    /// The controller's fault.
    pub fn assign(&self, lease: LeaseId, attempt: u32, order: Order) -> Result<(), Violation> {
        self.leases().assign(lease, attempt, order)
    }

    /// Works on an assigned lease, if it was not revoked meanwhile, and answers.
    pub fn run(&self, lease: LeaseId, scratch: &mut Scratch) {
        let Some(started) = self.leases().start(lease) else { return };
        if checkpointed::family_of(&started.order).is_some() {
            return checkpointed::run(Task { lease, started }, &self.datasets, scratch, self);
        }
        if let Work::List(work) = &started.order.work {
            let outcome = self.datasets.list(work, &started.revoked);
            return self.listed(lease, started.attempt, outcome);
        }
        let stopwatch = Stopwatch::start();
        let output = run::run(&started.order, &self.datasets, scratch, &started.revoked);
        if output.failures.is_empty() {
            // All are files, and closing one waits for no more than reading it does.
            ipc_socket::close_here(started.order.descriptors);
        } else {
            ipc_socket::close_all(started.order.descriptors);
        }
        self.done(lease, started.attempt, stopwatch.elapsed_us(), output);
    }

    fn listed(&self, lease: LeaseId, attempt: u32, outcome: ListOutcome) {
        let finished = self.leases().finish(lease);
        let credit = finished.credit;
        if finished.revoked {
            self.give(credit);
        } else {
            self.send(&WorkerReply::Listed { lease, attempt, credit, outcome });
        }
        self.settle(1);
    }

    /// Drops leases that no thread works on, and lets those that are worked on end unanswered.
    pub fn revoke(&self, leases: &[LeaseId]) {
        instruments().into_iter().for_each(|instruments| instruments.revoked(leases.len()));
        let Dropped { orders, credit, running } = self.leases().revoke(leases);
        self.hang_detector.watch(running);
        let orders_len = orders.len();
        ipc_socket::close_all(orders.into_iter().flat_map(|order| order.descriptors));
        self.give(credit);
        self.settle(orders_len);
    }

    pub(crate) fn leases_len(&self) -> usize {
        self.leases().held_len()
    }

    /// Gives no more credit, and asks the controller to take the leases away that are not answered within
    /// [`LEAVE_WITHIN_MS`]. The connection ends when the controller says that none is left.
    pub fn drain(&self) {
        self.leases().drain();
        self.send(&WorkerReply::Leaving { within_ms: LEAVE_WITHIN_MS });
    }

    /// The controller has no lease of this worker any more, and gives it none.
    pub(crate) fn leave(&self) {
        if self.leases().leave() {
            self.close();
        }
    }

    /// Returns true once a drain has ended: the connection is then closed.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.leases().is_drained()
    }

    /// Sends a message; a connection that does not take it is closed.
    pub fn send(&self, message: &WorkerReply) {
        let mut sender = self.sender.lock().expect("nothing panics while it sends");
        if sender.send(message, &[]).is_err() {
            self.close();
        }
    }

    /// Ends the connection in both directions and everything that is done for it.
    pub fn abandon(&self) {
        self.close();
        let Dropped { orders, running, .. } = self.leases().abandon();
        self.hang_detector.watch(running);
        ipc_socket::close_all(orders.into_iter().flat_map(|order| order.descriptors));
    }

    fn give(&self, batches: u16) {
        if batches > 0 {
            self.send(&WorkerReply::Credit { batches });
        }
    }

    fn settle(&self, leases_len: usize) {
        self.leases().settle(leases_len);
    }

    pub(crate) fn close(&self) {
        self.socket.close();
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().expect("nothing panics while it holds the leases")
    }
}

impl LeaseSource for Session {
    fn next(&self, family: Family) -> Option<Task> {
        if !self.idle_probe.is_busy() {
            return None;
        }
        self.leases().start_long(family).map(|(lease, started)| Task { lease, started })
    }

    fn advanced(&self, checkpoint: Checkpoint) {
        let Checkpoint { lease, attempt, file, offset, state } = checkpoint;
        self.send(&WorkerReply::Progress { lease, attempt, file, offset, state: Blob(state) });
    }

    fn done(&self, lease: LeaseId, attempt: u32, busy_us: u64, output: Output) {
        let finished = self.leases().finish(lease);
        let credit = finished.credit;
        if finished.revoked {
            self.give(credit);
        } else {
            let (outputs, failures) = (Blob(output.outputs), output.failures);
            for (instruments, content) in instruments().into_iter().zip(&finished.content) {
                instruments.answered(content, &failures, busy_us);
            }
            self.send(&WorkerReply::Done { lease, attempt, credit, busy_us, outputs, failures });
        }
        self.settle(1);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("leases", &self.leases).finish_non_exhaustive()
    }
}
