//! Admission: which peers are served, as whom, and what those are told that are not.
//!
//! Not here: receiving a peer's hello and answering it (`connection`).

use super::account::Charge;
use super::hub::Hub;
use super::log::{self, LOG};
use crate::core::tally::PeerRole;
use crate::core::{Principal, Quota, Rights};
use ipc_proto::handshake::Refusal;
use ipc_proto::message::{ClientIntro, RefuseReason, Role, WorkerIntro};
use ipc_socket::{Peer, Socket};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// Whoever is charged for a peer over vsock until its hello says more.
const STRANGER: Principal = Principal::Token(u16::MAX);

/// Which socket a peer came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Worker,
}

impl Side {
    pub(super) const fn role(self) -> PeerRole {
        match self {
            Self::Client => PeerRole::Client,
            Self::Worker => PeerRole::Worker,
        }
    }
}

/// A peer that connected and may say its hello.
pub(super) struct Newcomer {
    pub(super) pid: u32,
    /// Effective group; 0 over vsock.
    pub(super) gid: u32,
    pub(super) local: Option<Admitted>,
    pub(super) charge: Charge,
    /// Time that it has to wait, as too many came before.
    pub(super) wait: Duration,
}

/// Looks at a peer that just connected; `None` if it is refused, and told why.
pub(super) fn meet(hub: &Hub, socket: &mut Socket, side: Side) -> Option<Newcomer> {
    // Over vsock there are no credentials: its sockets are guarded by tokens.
    let peer = match socket.is_local().then(|| ipc_socket::peer(socket.as_fd())).transpose() {
        Ok(peer) => peer,
        Err(error) => {
            LOG.log(&log::Event::NoCredentials { error: &error });
            return None;
        }
    };
    let principal = peer.map_or(STRANGER, |peer| Principal::Uid(peer.uid));
    let mut newcomer = || {
        let Some(wait) = hub.wait_of(principal, peer.map(|peer| peer.pid)) else {
            let text = format!("{principal} connects too often");
            return Err(Refusal::new(RefuseReason::Busy, text));
        };
        let client = peer.filter(|_| side == Side::Client);
        let quota = client.and_then(|peer| hub.settings.policy.client(peer));
        let quota = quota.map_or(Quota::MAX, |rights| rights.quota);
        let charge = connect(hub, side, principal, quota)?;
        socket.set_owner(charge.owner());
        let local = peer.map(|peer| admit(hub, peer, side)).transpose()?;
        let (pid, gid) = peer.map_or((0, 0), |peer| (peer.pid, peer.gid));
        Ok(Newcomer { pid, gid, local, charge, wait })
    };
    let newcomer = newcomer();
    newcomer.map_err(|refusal| refuse(hub, socket, side, refusal)).ok()
}

pub(super) fn connect(
    hub: &Hub,
    side: Side,
    principal: Principal,
    quota: Quota,
) -> Result<Charge, Refusal> {
    let is_own = hub.settings.policy.is_own(principal);
    hub.accounts(side).connect(principal, quota, is_own).map_err(|len| {
        let text = format!("{principal} has its most connections, {len}");
        Refusal::new(RefuseReason::Busy, text)
    })
}

/// Whoever is charged for what a peer does, and its rights as a client.
pub(super) type Admitted = (Principal, Rc<Rights>);

/// Admits a peer of this host.
fn admit(hub: &Hub, peer: Peer, side: Side) -> Result<Admitted, Refusal> {
    let policy = &hub.settings.policy;
    let (rights, text) = match side {
        Side::Client => {
            (policy.client(peer), "is not allowed; see --allow-uid, --allow-gid and --policy")
        }
        Side::Worker => {
            let rights = policy.admits_worker(peer).then(Rc::default);
            (rights, "may not connect as a worker; see --policy")
        }
    };
    let uid = peer.uid;
    match rights {
        Some(rights) => Ok((Principal::Uid(uid), rights)),
        None => Err(Refusal::new(RefuseReason::Forbidden, format!("uid {uid} {text}"))),
    }
}

/// Tells a peer why it is refused.
pub(super) fn refuse(hub: &Hub, socket: &Socket, side: Side, refusal: Refusal) {
    hub.core.borrow_mut().count_refused(side.role(), refusal.reason);
    LOG.log(&log::Event::Refused { refusal: &refusal });
    let mut frame = Vec::new();
    ipc_proto::codec::encode_frame(&refusal.into_reply(), &mut frame).expect("a refusal is short");
    // A peer that does not read its refusal only misses the reason.
    let _ = ipc_socket::send(socket.as_fd(), &frame, &[]);
}

/// Checks that a peer came by the socket of its role, and that it proves itself where its host does
/// not say who it is.
pub(super) fn check_role(
    hub: &Hub,
    role: &Role,
    side: Side,
    local: Option<Admitted>,
) -> Result<Admitted, Refusal> {
    match (role, side) {
        (Role::Client(intro), Side::Client) => local
            .or_else(|| hub.settings.policy.token_holder(&intro.token))
            .ok_or_else(|| wrong_token(intro)),
        (Role::Worker(WorkerIntro { name, token, .. }), Side::Worker) => {
            let live = hub.live.borrow();
            let tokens = live.worker_tokens.as_ref().filter(|_| local.is_none());
            if tokens.is_some_and(|tokens| !tokens.admit(name, token)) {
                return Err(wrong_worker_token(name, token));
            }
            if hub.core.borrow().is_name_taken(name) {
                let text = format!("a worker named {name} is connected already");
                return Err(Refusal::new(RefuseReason::NameTaken, text));
            }
            Ok(local.unwrap_or_else(|| (Principal::Token(0), Rc::default())))
        }
        (Role::Client(_), Side::Worker) => {
            Err(Refusal::new(RefuseReason::WrongSocket, "this is the workers' socket"))
        }
        (Role::Worker(_), Side::Client) => {
            Err(Refusal::new(RefuseReason::WrongSocket, "this is the clients' socket"))
        }
    }
}

fn wrong_worker_token(name: &str, token: &[u8]) -> Refusal {
    let text = if token.is_empty() {
        format!(
            "this controller wants a token of worker {name}; see hashcluster-worker --token-file"
        )
    } else {
        format!("the token is not that of a worker named {name}")
    };
    Refusal::new(RefuseReason::Forbidden, text)
}

fn wrong_token(intro: &ClientIntro) -> Refusal {
    let text = if intro.token.is_empty() {
        "this controller wants a token; see hashctl --token-file"
    } else {
        "the token is not this controller's"
    };
    Refusal::new(RefuseReason::Forbidden, text)
}
