//! One peer's socket with what waits to be sent on it.

use super::outbox::{Flushed, Outbox};
use ipc_proto::codec::CodecError;
use ipc_proto::message::Message;
use nix::sys::socket::{Shutdown, shutdown};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use tokio::net::UnixStream;
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Port {
    pub(super) socket: UnixStream,
    outbox: RefCell<Outbox>,
    /// Wakes the connection's task: there is something to send, or the connection is closed.
    pub(super) changed: Notify,
    closed: Cell<bool>,
}

impl Port {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            outbox: RefCell::default(),
            changed: Notify::new(),
            closed: Cell::new(false),
        }
    }

    pub(super) fn push<M: Message>(
        &self,
        message: &M,
        descriptors: Vec<Rc<OwnedFd>>,
    ) -> Result<(), CodecError> {
        self.outbox.borrow_mut().push(message, descriptors)
    }

    /// Sends what can be sent now, and leaves the rest to the connection's task.
    pub(super) fn flush_or_wake(&self) {
        if self.flush().is_ok_and(|flushed| flushed == Flushed::Empty) {
            return;
        }
        self.changed.notify_one();
    }

    pub(super) fn flush(&self) -> io::Result<Flushed> {
        self.outbox.borrow_mut().flush(self.socket.as_fd())
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.outbox.borrow().is_empty()
    }

    pub(super) fn is_choked(&self) -> bool {
        self.outbox.borrow().is_choked()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
        // The peer may have gone first; then there is nothing to shut down.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}
