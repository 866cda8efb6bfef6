//! Accounts of principals: what their connections hold before the core knows of it, and how often they have
//! their turn.
//!
//! Memory and descriptors are charged before they are held: a connection receives no more than its principal
//! has room for. One that has begun a frame may finish it when it is its turn, so that principals whose
//! room is used up go on slowly, and nobody else notices.
//!
//! Some connections are kept for the controller's own user and root: its operator is served whatever others hold.
//!
//! Invariants: descriptors count from their arrival until they are closed, except while the core counts
//! them as items; per principal one connection at a time hands messages to the core.

use crate::core::share::Shares;
use crate::core::{Principal, Quota};
use ipc_proto::limits::{FRAME_DESCRIPTORS_MAX, HELLO_LEN_MAX};
use ipc_socket::{Inbox, PassedBy, unclosed};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that every connection may hold, whatever else its principal holds: a hello with its prefix.
pub(super) const BASE_LEN: usize = HELLO_LEN_MAX + 4;

/// Unsent bytes from which on a peer is not read from when its principal has no room left.
const CHOKE_LEN_MIN: usize = 64 << 10;

/// Most connections that are kept for the controller's own user and root, and the part of all that they are at most.
const KEPT_MAX: u64 = 16;
const KEPT_PART: u64 = 8;

/// The accounts of one side.
#[derive(Debug)]
pub(super) struct Accounts {
    connections: RefCell<Shares>,
    /// Connections that are kept and not used.
    kept: Cell<u64>,
    bytes: RefCell<Shares>,
    descriptors: RefCell<Shares>,
    open: RefCell<BTreeMap<Principal, Rc<Account>>>,
    next_owner: Cell<u64>,
    next_connection: Cell<u64>,
}

#[derive(Debug)]
struct Account {
    owner: PassedBy,
    /// Held by the connection that hands messages to the core.
    turn: Semaphore,
    turns_waiting: Cell<u32>,
    connections: Cell<u32>,
    /// Descriptors that connections received and the core did not take.
    pending_descriptors: Cell<u64>,
    /// Connections with a frame that is not whole, oldest first.
    unfinished: RefCell<BTreeSet<u64>>,
}

impl Accounts {
    /// Accounts that share this many connections, bytes and descriptors; `first_owner` and those after it
    /// name them.
    pub(super) fn new(connections: u64, bytes: u64, descriptors: u64, first_owner: u64) -> Self {
        let kept = KEPT_MAX.min(connections / KEPT_PART);
        Self {
            connections: RefCell::new(Shares::new(connections - kept)),
            kept: Cell::new(kept),
            bytes: RefCell::new(Shares::new(bytes)),
            descriptors: RefCell::new(Shares::new(descriptors)),
            open: RefCell::default(),
            next_owner: Cell::new(first_owner),
            next_connection: Cell::default(),
        }
    }

    /// Opens a connection of `principal`, the controller's own user or root if `is_own`; the number that it has, if
    /// that is all it may have.
    pub(super) fn connect(
        self: &Rc<Self>,
        principal: Principal,
        quota: Quota,
        is_own: bool,
    ) -> Result<Charge, u64> {
        let mut connections = self.connections.borrow_mut();
        let is_kept = connections.room(principal, quota.clients) == 0;
        match self.kept.get() {
            _ if !is_kept => connections.take(principal, 1),
            kept if is_own && kept > 0 => self.kept.set(kept - 1),
            _ => return Err(connections.held(principal)),
        }
        let mut open = self.open.borrow_mut();
        let account = open.entry(principal).or_insert_with(|| {
            let owner = self.next_owner.get();
            // Those of the other side are between.
            self.next_owner.set(owner + 2);
            Rc::new(Account {
                owner: PassedBy(owner),
                turn: Semaphore::new(1),
                turns_waiting: Cell::default(),
                connections: Cell::default(),
                pending_descriptors: Cell::default(),
                unfinished: RefCell::default(),
            })
        });
        account.connections.set(account.connections.get() + 1);
        let number = self.next_connection.get();
        self.next_connection.set(number + 1);
        let (accounts, account) = (Rc::clone(self), Rc::clone(account));
        Ok(Charge { accounts, account, principal, number, is_kept, bytes: 0, descriptors: 0 })
    }

    /// Brings the charges for descriptors in line with what is closed by now, and forgets principals that
    /// hold nothing.
    pub(super) fn refresh(&self) {
        self.open.borrow_mut().retain(|&principal, account| {
            let held = self.charge_descriptors(principal, account);
            account.connections.get() > 0 || held > 0
        });
    }

    fn charge_descriptors(&self, principal: Principal, account: &Account) -> u64 {
        let held = account.pending_descriptors.get() + unclosed(account.owner) as u64;
        let mut descriptors = self.descriptors.borrow_mut();
        let before = descriptors.held(principal);
        descriptors.give_back(principal, before);
        descriptors.take(principal, held);
        held
    }
}

/// The charges of one connection, which end with it.
#[derive(Debug)]
pub(super) struct Charge {
    accounts: Rc<Accounts>,
    account: Rc<Account>,
    pub(super) principal: Principal,
    number: u64,
    /// It is one of those that are kept.
    is_kept: bool,
    bytes: u64,
    descriptors: u64,
}

impl Charge {
    pub(super) fn owner(&self) -> PassedBy {
        self.account.owner
    }

    /// Bytes that may be received at once into `inbox`; `None` if it has to wait.
    pub(super) fn receive_len(&self, inbox: &Inbox, len_max: usize) -> Option<usize> {
        let held = self.accounts.charge_descriptors(self.principal, &self.account);
        let frame_max = FRAME_DESCRIPTORS_MAX as u64;
        let room = self.accounts.descriptors.borrow().room(self.principal, u64::MAX);
        if room < frame_max && held > 0 {
            return None;
        }
        let room = self.accounts.bytes.borrow().room(self.principal, u64::MAX);
        let held = inbox.capacity().max(BASE_LEN);
        let more = inbox.capacity_for(len_max).saturating_sub(held);
        if more as u64 <= room {
            return Some(len_max);
        }
        let is_first = self.account.unfinished.borrow().first() == Some(&self.number);
        match (inbox.pending_len(), inbox.missing_len()) {
            (0, _) => Some(BASE_LEN),
            (pending, missing) if is_first || pending + missing <= BASE_LEN => Some(missing.max(1)),
            _ => None,
        }
    }

    /// Charges what the connection holds now: `inbox`, and bytes that were not sent.
    pub(super) fn update(&mut self, inbox: &mut Inbox, unsent_len: usize) {
        let mut bytes = self.accounts.bytes.borrow_mut();
        let limit = bytes.limit(self.principal, u64::MAX);
        if inbox.pending_len() == 0 && bytes.held(self.principal) > limit / 2 {
            inbox.shrink();
        }
        bytes.give_back(self.principal, self.bytes);
        let held = inbox.capacity().saturating_sub(BASE_LEN) + unsent_len.saturating_sub(BASE_LEN);
        self.bytes = (held as u64).min(bytes.room(self.principal, u64::MAX));
        bytes.take(self.principal, self.bytes);
        drop(bytes);
        self.charge_descriptors(inbox.descriptors_len() as u64);
        let mut unfinished = self.account.unfinished.borrow_mut();
        if inbox.is_cut() {
            unfinished.insert(self.number);
        } else {
            unfinished.remove(&self.number);
        }
    }

    fn charge_descriptors(&mut self, len: u64) {
        let pending = self.account.pending_descriptors.get() - self.descriptors;
        self.account.pending_descriptors.set(pending + len);
        self.descriptors = len;
    }

    /// Unsent bytes from which on the peer is not read from.
    pub(super) fn choke_len(&self, most: usize) -> usize {
        let has_room = self.accounts.bytes.borrow().room(self.principal, u64::MAX) > 0;
        if has_room { most } else { CHOKE_LEN_MIN }
    }

    /// Waits for the turn of this connection among those of its principal.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let waiting = &self.account.turns_waiting;
        waiting.set(waiting.get() + 1);
        let permit = self.account.turn.acquire().await;
        waiting.set(waiting.get() - 1);
        Turn { waiting, _permit: permit.expect("the semaphore is never closed") }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.accounts.bytes.borrow_mut().give_back(self.principal, self.bytes);
        if self.is_kept {
            self.accounts.kept.set(self.accounts.kept.get() + 1);
        } else {
            self.accounts.connections.borrow_mut().give_back(self.principal, 1);
        }
        self.charge_descriptors(0);
        self.account.unfinished.borrow_mut().remove(&self.number);
        self.account.connections.set(self.account.connections.get() - 1);
    }
}

/// The turn of a connection.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    waiting: &'a Cell<u32>,
    _permit: SemaphorePermit<'a>,
}

impl Turn<'_> {
    /// True if another connection of the principal waits for its turn.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Principal::Uid;
    use ipc_socket::Scratch;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    const LEN: usize = 256 << 10;

    fn accounts() -> Rc<Accounts> {
        // One of them is kept.
        Rc::new(Accounts::new(13, 4 << 20, 4096, 1))
    }

    /// A connection that has received the start of a frame of 1 MiB.
    fn unfinished(accounts: &Rc<Accounts>, uid: u32) -> (Charge, Inbox, Option<usize>) {
        let mut charge = accounts.connect(Uid(uid), Quota::MAX, false).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::new();
        let start = [&(1_u32 << 20).to_le_bytes()[..], &[7; 60_000]].concat();
        let mut rest = &start[..];
        while !rest.is_empty() {
            let Some(len) = charge.receive_len(&inbox, LEN) else { break };
            let sent_len = rest.len().min(len);
            ipc_socket::send(theirs.as_fd(), &rest[..sent_len], &[]).unwrap();
            inbox.receive_up_to(len, ours.as_fd(), &mut Scratch::default()).unwrap();
            rest = &rest[sent_len..];
            charge.update(&mut inbox, 0);
        }
        let len = charge.receive_len(&inbox, LEN);
        (charge, inbox, len)
    }

    #[test]
    fn unfinished_frames_take_up_the_room_of_their_own_principal_and_the_first_can_be_finished() {
        let accounts = Rc::new(Accounts::new(1000, 4 << 20, 4096, 1));
        let mut hostile: Vec<_> = (0..100).map(|_| unfinished(&accounts, 7)).collect();
        assert!(accounts.bytes.borrow().total() <= 2 << 20);
        let held: usize = hostile.iter().map(|(_, inbox, _)| inbox.capacity()).sum();
        assert!(held <= (2 << 20) + 100 * BASE_LEN, "{held} bytes are held");
        assert_eq!(hostile[99].2, None, "the last one has to wait");
        let (charge, inbox, _) = &hostile[0];
        assert!(charge.receive_len(inbox, LEN).is_some(), "the first one goes on");
        assert_eq!(unfinished(&accounts, 8).2, Some(LEN), "and so does another principal");
        hostile.clear();
        assert_eq!(unfinished(&accounts, 7).2, Some(LEN));
        assert_eq!(accounts.bytes.borrow().total(), 0);
    }

    #[test]
    fn a_principal_has_its_share_of_connections() {
        let accounts = accounts();
        let quota = Quota { clients: 2, ..Quota::MAX };
        let connect = |uid, quota| accounts.connect(Uid(uid), quota, false);
        let mine: Vec<_> = (0..6).map(|_| connect(7, Quota::MAX).unwrap()).collect();
        assert_eq!(connect(7, Quota::MAX).map(drop), Err(6));
        let other = [connect(8, quota).unwrap(), connect(8, quota).unwrap()];
        assert_eq!(connect(8, quota).map(drop), Err(2));
        drop((mine, other));
        accounts.refresh();
        assert!(accounts.open.borrow().is_empty());
    }

    #[test]
    fn the_operator_is_served_however_many_users_took_their_share() {
        let accounts = Rc::new(Accounts::new(128, 4 << 20, 4096, 1));
        let connect = |uid, is_own| accounts.connect(Uid(uid), Quota::MAX, is_own);
        let held: Vec<_> = (100..1000)
            .flat_map(|uid| std::iter::from_fn(move || Some(uid)).take(100))
            .filter_map(|uid| connect(uid, false).ok())
            .collect();
        assert!(held.len() > 90 && connect(1, false).is_err(), "{} are held", held.len());
        let own: Vec<_> = (0..16).map(|_| connect(0, true).unwrap()).collect();
        assert!(connect(0, true).is_err());
        drop(own);
        assert!(connect(0, true).is_ok());
    }

    #[test]
    fn descriptors_of_unfinished_frames_leave_others_room_to_receive() {
        let accounts = accounts();
        let mut hostile: Vec<_> =
            (0..5).map(|_| accounts.connect(Uid(7), Quota::MAX, false).unwrap()).collect();
        let mut received = 0;
        for charge in &mut hostile {
            while charge.receive_len(&Inbox::new(), LEN).is_some() && charge.descriptors < 506 {
                charge.charge_descriptors(charge.descriptors + 253);
                received += 253;
            }
        }
        assert_eq!(received, 8 * 253, "half of all and no more");
        let other = accounts.connect(Uid(8), Quota::MAX, false).unwrap();
        assert_eq!(other.receive_len(&Inbox::new(), LEN), Some(LEN));
        drop(hostile.pop());
        assert_eq!(
            hostile[0].receive_len(&Inbox::new(), LEN),
            None,
            "the last one had received none"
        );
        drop(hostile.pop());
        assert!(hostile[0].receive_len(&Inbox::new(), LEN).is_some());
    }

    #[test]
    fn connections_of_a_principal_take_turns_and_others_do_not_wait_for_them() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let accounts = accounts();
        let [first, second, other] =
            [7, 7, 8].map(|uid| accounts.connect(Uid(uid), Quota::MAX, false).unwrap());
        runtime.block_on(async {
            let turn = first.turn().await;
            assert!(!other.turn().await.is_awaited());
            let mut next = std::pin::pin!(second.turn());
            tokio::select! {
                biased;
                _ = &mut next => panic!("the first one has its turn"),
                () = tokio::task::yield_now() => {}
            }
            assert!(turn.is_awaited());
            drop(turn);
            assert!(!next.await.is_awaited());
        });
    }
}
