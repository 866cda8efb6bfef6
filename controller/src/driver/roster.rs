//! Facts about workers that are kept by name, between the core and the journal. Whoever is told of a change is told once
//! it is durable, or cannot be made so for now.

use super::hub::Hub;
use super::journal::JournalUser;
use super::log::{Event, LOG};
use crate::core::{ClientId, Standing};
use crate::journal::JournalHealth;
use crate::roster::Roster;
use ipc_proto::message::{ClientReply, DrainOutcome, ReleaseOutcome};
use std::cell::RefCell;
use std::collections::VecDeque;

/// Most replies that wait for the journal; others do not wait.
const HELD_MAX: usize = 1024;

/// Changes, and the replies that tell of them.
#[derive(Debug, Default)]
pub(super) struct RosterPort {
    roster: RefCell<Roster>,
    /// With the number of the commit that each waits for.
    held: RefCell<VecDeque<(u64, ClientId, ClientReply)>>,
}

impl Hub {
    /// Gives the core what the controller before this one kept.
    pub(super) fn restore_workers(&self, kept: &[(String, Standing)]) {
        let mut core = self.core.borrow_mut();
        for (worker, standing) in kept {
            core.restore(worker, *standing);
        }
    }

    /// Keeps what holds of a worker's name, if there is a journal.
    pub(super) fn keep(&self, worker: &str, standing: &Standing) {
        if self.journal.is_there() {
            self.roster.roster.borrow_mut().set(self.wall_s(), worker, standing);
            self.commit_roster();
        }
    }

    fn commit_roster(&self) {
        let commit = self.roster.roster.borrow_mut().commit();
        let Some((number, writes)) = commit else { return };
        let sequence = JournalUser::Roster.number(number);
        let taken = self.journal.with(|journal| journal.commit(sequence, writes));
        if taken.is_none_or(|taken| taken.is_err()) {
            self.roster_persisted(number, false);
        }
    }

    /// Takes the end of a commit of the roster.
    pub(super) fn roster_persisted(&self, number: u64, is_durable: bool) {
        for worker in self.roster.roster.borrow_mut().persisted(is_durable) {
            LOG.log(&Event::NotKept { worker: &worker });
        }
        let is_over = |held: &(u64, ClientId, ClientReply)| held.0 <= number;
        while let Some((_, client, reply)) = {
            let mut held = self.roster.held.borrow_mut();
            held.pop_front_if(|held| is_over(held))
        } {
            let Some(port) = self.port_of(client) else { continue };
            port.push(&reply, Vec::new()).expect("replies fit a frame");
            port.flush_or_wake();
        }
        if is_durable {
            self.commit_roster();
        }
    }

    /// Tries again what could not be written.
    pub(super) fn tick_roster(&self) {
        if self.journal.health() == JournalHealth::Writes {
            self.commit_roster();
        }
    }

    /// Takes a reply that tells of a change which is not durable yet, to send it when that is; returns all others.
    pub(super) fn hold(&self, client: ClientId, reply: ClientReply) -> Option<ClientReply> {
        let tells = matches!(
            &reply,
            ClientReply::Released { outcome: ReleaseOutcome::Released, .. }
                | ClientReply::Drained {
                    outcome: DrainOutcome::Drained { .. } | DrainOutcome::Undrained,
                    ..
                }
        );
        let awaited = self.roster.roster.borrow().awaited().filter(|_| tells);
        let mut held = self.roster.held.borrow_mut();
        match awaited {
            Some(number) if held.len() < HELD_MAX => {
                held.push_back((number, client, reply));
                None
            }
            Some(_) | None => Some(reply),
        }
    }
}
