//! The socket between a controller and the process that delivers for it: one JSON object per packet.

use crate::{BODY_LEN_MAX, Delivery, DeliveryReport, PACKET_LEN_MAX, Permissions};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The controller's end. It does not wait: whoever has it watches its descriptor.
#[derive(Debug)]
pub struct NotifierLink(OwnedFd);

impl NotifierLink {
    /// Starts this program again with `args` and the options of `permissions`, to call [`serve()`](crate::serve()).
    /// It ends when this link is closed.
    ///
    /// # Errors
    /// No socket or no process can be had.
    pub fn start(permissions: &Permissions, args: &[&str]) -> io::Result<Self> {
        let (ours, theirs) = pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("hashcluster-notifier").args(args);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
        let options = [
            ("--notify-commands", &permissions.commands),
            ("--notify-secrets", &permissions.secrets),
        ];
        for (option, dir) in options {
            if let Some(dir) = dir {
                command.arg(option).arg(dir);
            }
        }
        command.spawn()?;
        Ok(Self(ours))
    }

    /// Sends a delivery.
    ///
    /// # Errors
    /// As send(2): `WouldBlock` while the process has enough to do. `InvalidInput` if it is too long.
    pub fn send(&self, delivery: &Delivery) -> io::Result<()> {
        if delivery.body.len() > BODY_LEN_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        write(self.0.as_fd(), delivery)
    }

    /// Receives a report; `None` if the process has ended.
    ///
    /// # Errors
    /// As recv(2): `WouldBlock` if there is none yet. `InvalidData` if it is no report.
    pub fn receive(&self) -> io::Result<Option<DeliveryReport>> {
        read(self.0.as_fd())
    }
}

impl AsFd for NotifierLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for NotifierLink {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

pub(crate) fn write<T: Serialize>(socket: BorrowedFd<'_>, message: &T) -> io::Result<()> {
    let packet = serde_json::to_vec(message)?;
    if packet.len() > PACKET_LEN_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    send(socket.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

pub(crate) fn read<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<T>> {
    let mut packet = vec![0; PACKET_LEN_MAX];
    let len = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty())?;
    if len == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&packet[..len]);
    Ok(Some(message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeliveryTarget;

    #[test]
    fn the_longest_body_fits_a_packet() {
        let (ours, theirs) = pair().unwrap();
        let delivery = |len| Delivery {
            number: 7,
            id: "nightly/1".to_owned(),
            to: DeliveryTarget::Command { name: "mail".to_owned(), args: Vec::new() },
            // Six bytes each in JSON.
            body: "\u{1}".repeat(len),
        };
        let link = NotifierLink(ours);
        link.send(&delivery(BODY_LEN_MAX)).unwrap();
        assert_eq!(read(theirs.as_fd()).unwrap(), Some(delivery(BODY_LEN_MAX)));
        let error = link.send(&delivery(BODY_LEN_MAX + 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        write(theirs.as_fd(), &DeliveryReport { number: 7, failure: None }).unwrap();
        assert_eq!(link.receive().unwrap(), Some(DeliveryReport { number: 7, failure: None }));
        assert_eq!(link.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        // A test that starts a process has a copy of it for a moment.
        let end = loop {
            match link.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                end => break end.unwrap(),
            }
        };
        assert_eq!(end, None);
    }
}
