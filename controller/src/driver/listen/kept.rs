//! Listening sockets that outlive this process: a service manager keeps them while the controller is restarted,
//! or made them itself. Peers that connect meanwhile wait, instead of being refused.

use ipc_socket::{InheritedSocket, ServiceManager};
use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Begin of the names by which ours are stored.
const NAME_START: &str = "hashcluster-";

/// Sockets from the manager, and for it.
#[derive(Debug, Default)]
pub struct KeptSockets {
    is_managed: bool,
    inherited: Vec<InheritedSocket>,
    /// Those that this process made, until they are stored.
    fresh: Vec<(String, UnixListener)>,
}

/// A socket that is listened on already.
#[derive(Debug)]
pub(super) struct KeptSocket {
    pub(super) listener: UnixListener,
    /// It is one of ours, and not one that the manager made with the mode that it was told.
    pub(super) is_ours: bool,
}

impl KeptSockets {
    /// `inherited` sockets, and whether there is a manager that keeps new ones.
    #[must_use]
    pub fn new(is_managed: bool, inherited: Vec<InheritedSocket>) -> Self {
        Self { is_managed, inherited, fresh: Vec::new() }
    }

    /// True if the manager removes sockets when the service ends for good, and not this process.
    pub(super) fn is_managed(&self) -> bool {
        self.is_managed
    }

    /// The socket that listens at `path`, whose file is described by `found`.
    pub(super) fn take(&mut self, path: &Path, found: &Metadata) -> Option<KeptSocket> {
        let name = name_of(found);
        let at = self.inherited.iter().position(|socket| {
            let address = socket.listener.local_addr();
            let is_here = address.is_ok_and(|address| address.as_pathname() == Some(path));
            // Another process may have listened there since one of ours was stored.
            is_here && (socket.name == name || !is_ours(&socket.name))
        })?;
        let InheritedSocket { name, listener } = self.inherited.swap_remove(at);
        Some(KeptSocket { listener, is_ours: is_ours(&name) })
    }

    /// Notes a new socket for the manager.
    pub(super) fn add(&mut self, found: &Metadata, listener: &UnixListener) {
        if self.is_managed
            && let Ok(copy) = listener.try_clone()
        {
            self.fresh.push((name_of(found), copy));
        }
    }

    /// Has `manager` keep the new sockets, and close those of ours that nobody listens on any more. Names of
    /// sockets that it made for nothing.
    pub fn hand_over(self, manager: Option<&ServiceManager>) -> Vec<String> {
        let (ours, foreign): (Vec<_>, Vec<_>) =
            self.inherited.into_iter().map(|socket| socket.name).partition(|name| is_ours(name));
        if let Some(manager) = manager {
            ours.iter().for_each(|name| {
                manager.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
            });
            self.fresh.iter().for_each(|(name, socket)| manager.store(name, socket.as_fd()));
        }
        foreign
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with(NAME_START)
}

/// Tells a socket from another one that was bound to the same path later.
fn name_of(found: &Metadata) -> String {
    format!("{NAME_START}{:x}-{:x}", found.dev(), found.ino())
}
