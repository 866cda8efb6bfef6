//! One peer's socket with what waits to be sent on it.
//!
//! The event loop watches the socket for reading only. Watching for writing as well would wake the
//! controller whenever a peer takes what was sent to it, which doubles the wake-ups of a task on
//! its way; so that is done through a second descriptor, and only while a socket is full.

use super::book::OWED_MAX;
use super::files::File;
use super::outbox::{Flushed, Outbox};
use ipc_proto::codec::CodecError;
use ipc_proto::message::Message;
use ipc_socket::Socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Port {
    socket: AsyncFd<Socket>,
    outbox: RefCell<Outbox>,
    /// Wakes the connection's task: there is something to send, or the connection is closed.
    pub(super) changed: Notify,
    closed: Cell<bool>,
    /// Requests whose reply comes later.
    owed: Cell<usize>,
}

/// Delay before retrying a full socket that could not be watched for writing.
const WRITE_PAUSE: Duration = Duration::from_millis(5);

impl Port {
    /// Takes a socket that does not wait.
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        let socket = watch(socket, Interest::READABLE)?;
        let closed = Cell::new(false);
        let owed = Cell::new(0);
        Ok(Self { socket, outbox: RefCell::default(), changed: Notify::new(), closed, owed })
    }

    pub(super) fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    /// Calls `receive` once there is something to receive; it gives `true` if that was all there
    /// was.
    pub(super) async fn receive<T>(
        &self,
        mut receive: impl FnMut(BorrowedFd<'_>) -> io::Result<(T, bool)>,
    ) -> io::Result<T> {
        loop {
            let mut guard = self.socket.readable().await?;
            match receive(self.socket().as_fd()) {
                Ok((received, is_all)) => {
                    if is_all {
                        guard.clear_ready();
                    }
                    return Ok(received);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the socket takes more.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self.socket().try_clone().and_then(|twin| watch(twin, Interest::WRITABLE)) {
            Ok(twin) => twin.writable().await.map(drop),
            // No descriptor to spare: look again soon.
            Err(_) => {
                tokio::time::sleep(WRITE_PAUSE).await;
                Ok(())
            }
        }
    }

    pub(super) fn push<M: Message>(
        &self,
        message: &M,
        descriptors: Vec<File>,
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
        self.outbox.borrow_mut().flush(self.socket().as_fd())
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.outbox.borrow().is_empty()
    }

    pub(super) fn unsent_len(&self) -> usize {
        self.outbox.borrow().unsent_len()
    }

    /// True if the peer has closed its socket: nobody waits for answers to what it sent.
    pub(super) fn is_abandoned(&self) -> bool {
        let mut asked = [PollFd::new(self.socket().as_fd(), PollFlags::empty())];
        let is_gone =
            |events: PollFlags| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
        poll(&mut asked, PollTimeout::ZERO).is_ok() && asked[0].revents().is_some_and(is_gone)
    }

    /// Counts a request whose reply comes later.
    pub(super) fn owe(&self) {
        self.owed.set(self.owed.get() + 1);
    }

    /// A reply is there that was owed; the connection may be read from again.
    pub(super) fn repay(&self) {
        let owed = self.owed.get();
        self.owed.set(owed.saturating_sub(1));
        if owed == OWED_MAX {
            self.changed.notify_one();
        }
    }

    /// True if the peer must take replies before it is read from.
    pub(super) fn is_choked(&self, choke_len: usize) -> bool {
        self.unsent_len() >= choke_len || self.owed.get() >= OWED_MAX
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
        self.socket().close();
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is an unsafe function, whose condition every owner of one socket meets"
)]
pub(super) fn watch<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}
