//! The process that delivers.

use crate::link::{read, write};
use crate::{
    Delivery, DeliveryFailure, DeliveryReport, DeliveryTarget, Permissions, command, http, sign,
};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::LocalSet;

/// Tries every delivery that comes over `socket` once, all at the same time, until its other end is closed.
///
/// # Errors
/// The socket is not that of a [`NotifierLink`](crate::NotifierLink), or there is no event loop.
pub fn serve(socket: OwnedFd, permissions: Permissions) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let permissions = Rc::new(permissions);
    let ended = LocalSet::new().block_on(&runtime, async {
        let socket = Rc::new(watch(socket)?);
        loop {
            let mut guard = socket.readable().await?;
            match read::<Delivery>(socket.as_fd()) {
                Ok(None) => return Ok(()),
                Ok(Some(delivery)) => {
                    let (socket, permissions) = (Rc::clone(&socket), Rc::clone(&permissions));
                    tokio::task::spawn_local(async move {
                        let number = delivery.number;
                        let failure = deliver(delivery, &permissions).await.err();
                        // A report is short, and there are few: one that finds no room has no reader.
                        let _ = write(socket.as_fd(), &DeliveryReport { number, failure });
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    });
    // A look-up of a name may still block one of its threads.
    runtime.shutdown_background();
    ended
}

#[expect(
    deprecated,
    reason = "what replaces it is an unsafe function, whose condition the owner of a socket meets"
)]
fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

async fn deliver(delivery: Delivery, permissions: &Permissions) -> Result<(), DeliveryFailure> {
    let Delivery { id, to, body, .. } = delivery;
    match to {
        DeliveryTarget::Command { name, args } => {
            command::run(permissions.commands.as_deref(), &name, &args, &body).await
        }
        DeliveryTarget::Url { url, secret } => {
            let time_s = now_s();
            let mut headers =
                vec![("webhook-id", id.clone()), ("webhook-timestamp", time_s.to_string())];
            if let Some(name) = secret {
                let secret = sign::secret(permissions.secrets.as_deref(), &name)?;
                headers.push(("webhook-signature", sign::signature(&secret, &id, time_s, &body)));
            }
            http::post(&url, &headers, body).await
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
