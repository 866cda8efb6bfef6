//! A backup of the journal for a client, a piece per request.
//!
//! The thread that reads the journal keeps the contents as they were at the first request, and with them the space of
//! all that is deleted meanwhile. So there is one backup at a time, and one that nobody asks about ends.

use super::hub::Hub;
use super::journal::JournalUser;
use crate::core::{Principal, Rights};
use crate::events::TrailKind;
use crate::jobs::{Caller, cut};
use ipc_proto::Blob;
use ipc_proto::limits::{BACKUP_PIECE_LEN_MAX, REASON_LEN_MAX};
use ipc_proto::message::{ServiceRefusal, ServiceReply};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Time without a request after which a backup ends.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The backup that is being made, if one is.
#[derive(Debug, Default)]
pub(super) struct BackupPort {
    current: RefCell<Option<BackupTransfer>>,
    next_number: Cell<u64>,
    /// The journal has not heard yet that its backup has ended.
    has_ended: Cell<bool>,
}

#[derive(Debug)]
struct BackupTransfer {
    number: u64,
    caller: Caller,
    principal: Principal,
    /// Bytes of the pieces so far.
    len: u64,
    /// The request that waits for its piece.
    asked: Option<u32>,
    /// Time of the last request or piece.
    at: Duration,
}

impl Hub {
    /// Answers a request for a piece of a backup, once the journal has read it.
    pub(super) fn back_up(
        &self,
        (caller, tag): (Caller, u32),
        client: (Principal, &Rights),
        from: u64,
    ) {
        if let Err((reason, text)) = self.ask_for_piece((caller, tag), client, from) {
            self.send_reply(caller, tag, ServiceReply::Refused { reason, text: text.to_owned() });
        }
    }

    fn ask_for_piece(
        &self,
        (caller, tag): (Caller, u32),
        (principal, rights): (Principal, &Rights),
        from: u64,
    ) -> Result<(), (ServiceRefusal, &'static str)> {
        if !rights.backup {
            let text = "this client may not make backups; see may = [\"backup\"] in the policy";
            return Err((ServiceRefusal::Forbidden, text));
        }
        let mut current = self.backup.current.borrow_mut();
        let begins = from == 0;
        let is_another = |transfer: &BackupTransfer| transfer.caller != caller;
        let is_in_the_way =
            |transfer: &BackupTransfer| is_another(transfer) || transfer.asked.is_some();
        if begins && current.as_ref().is_some_and(is_in_the_way) {
            return Err((ServiceRefusal::TooMuch, "another backup is being made"));
        }
        let goes_on = |transfer: &BackupTransfer| {
            transfer.caller == caller && transfer.len == from && transfer.asked.is_none()
        };
        let number = match &*current {
            _ if begins => self.backup.next_number.get(),
            Some(transfer) if goes_on(transfer) => transfer.number,
            Some(_) | None => {
                let text = "the backup of which this is a piece has ended; begin again";
                return Err((ServiceRefusal::WrongState, text));
            }
        };
        let asks = |journal: &crate::journal::Journal| {
            journal.back_up(JournalUser::Backup.number(number), BACKUP_PIECE_LEN_MAX, begins)
        };
        if self.journal.with(asks) != Some(true) {
            return Err((ServiceRefusal::JournalFailed, "the journal is busy; try again"));
        }
        self.backup.next_number.set(self.backup.next_number.get().max(number + 1));
        self.backup.has_ended.set(false);
        let at = self.now();
        let asked = Some(tag);
        *current = Some(BackupTransfer { number, caller, principal, len: from, asked, at });
        Ok(())
    }

    /// Takes a piece, and hands it to the client that asked, if it is still there.
    pub(super) fn backed_up(&self, number: u64, piece: Result<(Vec<u8>, bool), String>) {
        let mut current = self.backup.current.borrow_mut();
        let Some(transfer) = current.as_mut().filter(|transfer| transfer.number == number) else {
            return;
        };
        let Some(tag) = transfer.asked.take() else { return };
        let (caller, from) = (transfer.caller, transfer.len);
        let reply = match piece {
            Ok((bytes, is_last)) => {
                transfer.len += bytes.len() as u64;
                transfer.at = self.now();
                if is_last {
                    let text = format_args!("{} bytes", transfer.len);
                    self.note(TrailKind::BackupMade, "", Some(transfer.principal), text);
                    *current = None;
                }
                ServiceReply::Backup { from, bytes: Blob(bytes), is_last }
            }
            Err(text) => {
                *current = None;
                let text = cut(text, REASON_LEN_MAX);
                ServiceReply::Refused { reason: ServiceRefusal::JournalFailed, text }
            }
        };
        drop(current);
        self.send_reply(caller, tag, reply);
    }

    /// Ends the backup of a client that has left.
    pub(super) fn end_backup_of(&self, caller: Caller) {
        let is_its = |transfer: &mut BackupTransfer| transfer.caller == caller;
        if self.backup.current.borrow_mut().take_if(is_its).is_some() {
            self.backup.has_ended.set(true);
            self.end_idle_backup();
        }
    }

    /// Ends a backup that nobody asks about.
    pub(super) fn end_idle_backup(&self) {
        let now = self.now();
        let is_idle = |transfer: &mut BackupTransfer| {
            transfer.asked.is_none() && transfer.at + IDLE_MAX <= now
        };
        if self.backup.current.borrow_mut().take_if(is_idle).is_some() {
            self.backup.has_ended.set(true);
        }
        // Again at the next tick, if the journal has no room.
        if self.backup.has_ended.get() {
            let has_heard = self.journal.with(crate::journal::Journal::end_backup);
            self.backup.has_ended.set(has_heard == Some(false));
        }
    }
}
