//! Turns: how much a connection may hand to the core before others go first.

use super::{End, Identity};
use crate::core::Event;
use crate::driver::account::{Charge, Turn};
use crate::driver::hub::Hub;
use crate::driver::outbox::CHOKE_LEN;
use crate::driver::port::Port;
use ipc_proto::message::{ClientRequest, ScheduleRequest, ServiceRequest, WorkerReply};
use ipc_socket::Inbox;
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use std::os::fd::{AsFd, BorrowedFd};

/// Work that a connection does in one turn: messages, of which some count as several.
pub(super) const TURN_COST_MAX: usize = 64;

/// Items that count as one message.
const ITEMS_PER_COST: usize = 16;

/// A page of jobs or results counts as this many messages.
const LIST_COST: usize = 8;

/// Cancelling a job counts as this many messages: it has items and leases.
const CANCEL_COST: usize = 8;
/// Hands whole messages to the core, once it is the turn of this connection. Returns true if some may be
/// left: others go first.
pub(super) async fn take_turn(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    identity: Identity,
    charge: &mut Charge,
) -> Result<bool, End> {
    let turn = match identity {
        Identity::Client { .. } => Some(charge.turn().await),
        Identity::Worker(_) => None,
    };
    let choke_len = charge.choke_len(CHOKE_LEN);
    let is_cut_short = hand_out(hub, port, inbox, identity, choke_len)?;
    if is_cut_short || turn.as_ref().is_some_and(Turn::is_awaited) {
        tokio::task::yield_now().await;
    }
    drop(turn);
    charge.update(inbox, port.unsent_len());
    Ok(is_cut_short)
}

/// Hands whole messages to the core, as many as a turn has room for and as long as the peer takes what
/// is sent to it. Returns true if it was the turn that ended.
fn hand_out(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    identity: Identity,
    choke_len: usize,
) -> Result<bool, End> {
    let mut cost = 0;
    while !port.is_choked(choke_len) {
        if port.is_closed() {
            return Err(End::Closed);
        }
        if cost >= TURN_COST_MAX {
            return Ok(true);
        }
        match identity {
            Identity::Client { client, gid, is_foreign } => {
                let message = inbox.next_message::<ClientRequest>().map_err(End::Fault)?;
                let Some((request, descriptors)) = message else { break };
                if !descriptors.is_empty() && !hub.settings.offers_descriptors() {
                    return Err(End::NotOffered);
                }
                if is_foreign && descriptors.iter().any(|fd| is_directory(fd.as_fd())) {
                    return Err(End::Directory);
                }
                cost += cost_of(&request);
                if let ClientRequest::Service { tag, request } = request {
                    // Descriptors of a durable job are refused, and closed like any others.
                    let owner = inbox.owner();
                    descriptors.into_iter().for_each(|fd| drop(hub.files.hold(owner, fd)));
                    // The core says that there is no journal.
                    if let Some(request) = hub.serve((client, gid), tag, request) {
                        let request = ClientRequest::Service { tag, request };
                        hub.step(Event::ClientSaid(client, request, Vec::new()));
                    }
                    continue;
                }
                let owner = inbox.owner();
                let files = descriptors.into_iter().map(|fd| hub.files.hold(owner, fd)).collect();
                hub.step(Event::ClientSaid(client, request, files));
            }
            Identity::Worker(worker) => {
                let message = inbox.next_message::<WorkerReply>().map_err(End::Fault)?;
                let Some((reply, _)) = message else { break };
                cost += 1;
                hub.step(Event::WorkerSaid(worker, reply));
            }
        }
    }
    Ok(false)
}

/// Share of a turn that a request takes up.
fn cost_of(request: &ClientRequest) -> usize {
    match request {
        ClientRequest::Items { items, .. } => 1 + items.items_len() / ITEMS_PER_COST,
        ClientRequest::Cancel { .. } => CANCEL_COST,
        ClientRequest::Status => TURN_COST_MAX,
        ClientRequest::Open { .. }
        | ClientRequest::Piece { .. }
        | ClientRequest::Finish { .. }
        | ClientRequest::WaitReady { .. }
        | ClientRequest::Release { .. }
        | ClientRequest::Drain { .. }
        | ClientRequest::Undrain { .. } => 1,
        ClientRequest::Service { request, .. } => match request {
            ServiceRequest::Store { items, .. } => 1 + items.items_len() / ITEMS_PER_COST,
            ServiceRequest::Jobs { .. }
            | ServiceRequest::Results { .. }
            | ServiceRequest::Findings { .. }
            | ServiceRequest::Events { .. }
            | ServiceRequest::Rules
            | ServiceRequest::Backup { .. } => LIST_COST,
            ServiceRequest::Submit { .. }
            | ServiceRequest::Seal { .. }
            | ServiceRequest::Job { .. }
            | ServiceRequest::Wait { .. }
            | ServiceRequest::Act { .. }
            | ServiceRequest::Deaths { .. } => 1,
            ServiceRequest::Schedule(request) => match request {
                ScheduleRequest::Apply { .. } => TURN_COST_MAX,
                ScheduleRequest::List { .. }
                | ScheduleRequest::Runs { .. }
                | ScheduleRequest::Run { .. }
                | ScheduleRequest::Differences { .. } => LIST_COST,
                ScheduleRequest::Show { .. } | ScheduleRequest::Act { .. } => 1,
            },
        },
    }
}

/// True if a worker could open files relative to what was passed: those that its user can open, who is the
/// controller's. Its file system is not asked, as one that is dead would never answer.
pub(super) fn is_directory(descriptor: BorrowedFd<'_>) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(descriptor, c"", flags, StatxFlags::TYPE)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory)
}
