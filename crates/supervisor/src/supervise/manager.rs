//! Reports of a cluster to the service manager that started us (sd_notify(3)), if one did.

use ipc_socket::ServiceManager;
use nix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::time::Instant;

/// The service manager, and what it was told last.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    socket: Option<ServiceManager>,
    status: RefCell<String>,
    /// When it is to be told again that we do not hang.
    pinged: Cell<Option<Instant>>,
}

impl Manager {
    /// The manager that the environment names. The error says why it cannot be told anything.
    pub(crate) fn from_env() -> (Self, Option<std::io::Error>) {
        match ServiceManager::from_env() {
            Ok(socket) => (Self { socket, ..Self::default() }, None),
            Err(error) => (Self::default(), Some(error)),
        }
    }

    /// Says that the files are read again; [`Self::ready`] says that what they describe runs. The time is
    /// for `Type=notify-reload`, which systemd has from 253 on; with `Type=notify` a reload of an older one
    /// waits, too.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is such a clock");
        let us = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// Says that the cluster is ready.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Says that the cluster stops.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Passes on the state of the cluster, which `describe` says in one line, if it has changed.
    pub(crate) fn status(&self, describe: impl FnOnce() -> String) {
        if self.socket.is_none() {
            return;
        }
        let text = describe();
        if *self.status.borrow() != text {
            self.tell(&format!("STATUS={text}"));
            *self.status.borrow_mut() = text;
        }
    }

    /// Says that we do not hang, if that is due, and when it will be due again.
    pub(super) fn ping(&self) -> Option<Instant> {
        let interval = self.socket.as_ref()?.watchdog()? / 3;
        let now = Instant::now();
        let due = self.pinged.get().is_none_or(|at| at + interval <= now);
        if due {
            self.tell("WATCHDOG=1");
            self.pinged.set(Some(now));
        }
        self.pinged.get().map(|at| at + interval)
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket {
            socket.tell(state);
        }
    }
}
