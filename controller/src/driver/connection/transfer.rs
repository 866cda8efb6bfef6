//! Bytes in and out of one connection, while it has nothing to hand to the core.

use super::End;
use crate::driver::account::Charge;
use crate::driver::hub::Hub;
use crate::driver::outbox::{CHOKE_LEN, Flushed};
use crate::driver::port::Port;
use ipc_proto::limits::FRAME_TIMEOUT;
use ipc_socket::{Inbox, RECEIVE_LEN};
use std::future;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Sleep;

/// Pause before a connection looks again for room to receive.
pub(super) const ROOM_PAUSE: Duration = Duration::from_millis(10);

/// Pause before descriptors are sent again that the kernel had no room for.
const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(5);
/// Waits until there is more to hand out, sending meanwhile what waits to be sent.
pub(super) async fn wait(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    charge: &mut Charge,
    timer: &mut FrameTimer,
) -> Result<(), End> {
    let is_choked = port.is_choked(charge.choke_len(CHOKE_LEN));
    let len_max = charge.receive_len(inbox, RECEIVE_LEN).filter(|_| !is_choked);
    // While nothing is read, a frame that is not whole is not the peer's fault.
    timer.watch(inbox.incomplete_frame().filter(|_| len_max.is_some()));
    tokio::select! {
        biased;
        () = port.changed.notified() => {}
        received = receive(hub, port, inbox, charge, len_max.unwrap_or(0)), if len_max.is_some() => {
            return received;
        }
        // There may be room by then.
        () = tokio::time::sleep(ROOM_PAUSE), if len_max.is_none() && !is_choked => {
            if port.is_abandoned() {
                return Err(if inbox.is_cut() { End::Cut } else { End::Closed });
            }
        }
        sent = send(port), if port.has_unsent() => return sent,
        () = timer.expired() => return Err(End::Stalled),
    }
    if port.is_closed() { Err(End::Closed) } else { Ok(()) }
}

/// The time limit of a frame, from its first byte to its last.
#[derive(Debug, Default)]
pub(super) struct FrameTimer(Option<(u64, Pin<Box<Sleep>>)>);

impl FrameTimer {
    /// Runs for the frame that starts at `start` of the stream: continues, restarts, or stops.
    fn watch(&mut self, start: Option<u64>) {
        if self.0.as_ref().map(|(of, _)| *of) != start {
            self.0 = start.map(|start| (start, Box::pin(tokio::time::sleep(FRAME_TIMEOUT))));
        }
    }

    async fn expired(&mut self) {
        match &mut self.0 {
            Some((_, sleep)) => sleep.await,
            None => future::pending().await,
        }
    }
}

/// Receives once, at most `len_max` bytes.
pub(super) async fn receive(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    charge: &mut Charge,
    len_max: usize,
) -> Result<(), End> {
    let received = port.receive(|socket| {
        let scratch = &mut *hub.scratch.borrow_mut();
        let received = inbox.receive_up_to(len_max, socket, scratch)?;
        charge.update(inbox, port.unsent_len());
        // A short read emptied the socket, unless descriptors ended it early.
        let is_all = received.bytes_len < len_max && received.descriptors_len == 0;
        Ok((received.bytes_len, is_all))
    });
    match received.await {
        Ok(0) if inbox.is_cut() => Err(End::Cut),
        Ok(0) => Err(End::Closed),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(End::Closed),
        Err(error) => Err(End::Io(error)),
    }
}

/// Sends what waits to be sent, once the socket takes more.
async fn send(port: &Port) -> Result<(), End> {
    match port.flush() {
        Ok(Flushed::Empty) => {}
        Ok(Flushed::Full) => port.writable().await.map_err(End::Io)?,
        Ok(Flushed::Later) => tokio::time::sleep(DESCRIPTORS_PAUSE).await,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(End::Closed),
        Err(error) => return Err(End::Io(error)),
    }
    Ok(())
}
