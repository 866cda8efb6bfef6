//! The life of one connection: handshake, messages, end.

use super::hub::Hub;
use super::outbox::Flushed;
use super::port::Port;
use crate::core::{ClientId, Event, WorkerId};
use ipc_proto::handshake::{self, Accepted, Refusal};
use ipc_proto::limits::HELLO_TIMEOUT;
use ipc_proto::message::{
    ClientIntro, ClientRequest, HelloReply, Planes, RefuseReason, Role, Welcome, WorkerIntro,
    WorkerReply,
};
use ipc_socket::{Inbox, InboxError, Peer, Socket};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// Pause before descriptors are sent again that the kernel had no room for.
const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(5);

/// Which socket a peer came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Worker,
}

/// What a connection is once its handshake is done.
#[derive(Clone, Copy, Debug)]
enum Identity {
    Client(ClientId),
    Worker(WorkerId),
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The peer closed it, or the core did.
    Closed,
    /// The peer closed it inside a frame.
    Cut,
    /// The peer broke the protocol.
    Fault(InboxError),
    /// The peer used a plane that it was not offered.
    NotOffered,
    /// The system's error.
    Io(io::Error),
}

/// Serves one peer until its connection ends.
pub(super) async fn serve(hub: Rc<Hub>, socket: Socket, side: Side) {
    let peer = match peer(&hub, &socket) {
        Ok(peer) if hub.settings.access.allows(peer) => peer,
        Ok(peer) => {
            let text = format!("uid {} is not allowed; see --allow-uid and --allow-gid", peer.uid);
            return refuse(&hub, &socket, Refusal::new(RefuseReason::Forbidden, text));
        }
        Err(error) => return hub.log.line(&format!("peer without credentials: {error}")),
    };
    let port = match Port::new(socket) {
        Ok(port) => Rc::new(port),
        Err(error) => return hub.log.line(&format!("connection of uid {}: {error}", peer.uid)),
    };
    let mut inbox = Inbox::new();
    match tokio::time::timeout(HELLO_TIMEOUT, hello(&hub, &port, &mut inbox, side)).await {
        Ok(Ok(role)) => talk(&hub, &port, inbox, role, peer).await,
        Ok(Err(Some(refusal))) => refuse_port(&hub, &port, refusal),
        Ok(Err(None)) => {}
        Err(_) => refuse_port(&hub, &port, Refusal::new(RefuseReason::Timeout, "no hello in time")),
    }
}

/// Who is at the other end. Behind vsock that is not known, and counts as the own user.
fn peer(hub: &Hub, socket: &Socket) -> io::Result<Peer> {
    if socket.is_local() {
        return ipc_socket::peer(socket.as_fd());
    }
    Ok(Peer { uid: hub.settings.access.own_uid, gid: u32::MAX, pid: 0 })
}

/// Tells a peer why it is refused; it is closed when `socket` is dropped.
pub(super) fn refuse(hub: &Hub, socket: &Socket, refusal: Refusal) {
    hub.core.borrow_mut().count_refused();
    hub.log.line(&format!("peer refused: {refusal}"));
    let mut frame = Vec::new();
    ipc_proto::codec::encode_frame(&refusal.into_reply(), &mut frame).expect("a refusal is short");
    // A peer that does not read its refusal only misses the reason.
    let _ = ipc_socket::send(socket.as_fd(), &frame, &[]);
}

fn refuse_port(hub: &Hub, port: &Port, refusal: Refusal) {
    refuse(hub, port.socket(), refusal);
}

/// Waits for the peer's `Hello`. `Err(None)` means that it left without a word.
async fn hello(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    side: Side,
) -> Result<Role, Option<Refusal>> {
    let body = loop {
        let malformed =
            |error: InboxError| Some(Refusal::new(RefuseReason::NotOurs, error.to_string()));
        if let Some(body) = inbox.next_body().map_err(malformed)? {
            break body;
        }
        match receive(hub, port, inbox).await {
            Ok(()) => {}
            Err(End::Closed) => return Err(None),
            Err(End::Cut | End::Fault(_) | End::NotOffered | End::Io(_)) => {
                return Err(Some(Refusal::new(RefuseReason::NotOurs, "cut off in its hello")));
            }
        }
    };
    let Accepted { version, role } = handshake::accept(&body)?;
    check_role(hub, &role, side, port.socket().is_local())?;
    let welcome = HelloReply::Welcome(Welcome {
        version,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        image: hub.settings.image.clone(),
        planes: Planes { descriptors: hub.settings.offers_descriptors(), inline: true },
    });
    port.push(&welcome, Vec::new()).expect("a welcome is short");
    port.flush_or_wake();
    Ok(role)
}

fn check_role(hub: &Hub, role: &Role, side: Side, is_local: bool) -> Result<(), Refusal> {
    match (role, side) {
        (Role::Client(intro), Side::Client) => match &hub.settings.client_token {
            Some(token) if !is_local && !token.is(&intro.token) => Err(wrong_token(intro)),
            _ => Ok(()),
        },
        (Role::Worker(WorkerIntro { name, .. }), Side::Worker) => {
            if hub.core.borrow().is_name_taken(name) {
                let text = format!("a worker named {name} is connected already");
                return Err(Refusal::new(RefuseReason::NameTaken, text));
            }
            Ok(())
        }
        (Role::Client(_), Side::Worker) => {
            Err(Refusal::new(RefuseReason::WrongSocket, "this is the workers' socket"))
        }
        (Role::Worker(_), Side::Client) => {
            Err(Refusal::new(RefuseReason::WrongSocket, "this is the clients' socket"))
        }
    }
}

fn wrong_token(intro: &ClientIntro) -> Refusal {
    let text = if intro.token.is_empty() {
        "this controller wants a token; see hashctl --token-file"
    } else {
        "the token is not this controller's"
    };
    Refusal::new(RefuseReason::Forbidden, text)
}

async fn talk(hub: &Hub, port: &Rc<Port>, mut inbox: Inbox, role: Role, peer: Peer) {
    let (identity, name) = match role {
        Role::Client(_) => {
            let client = hub.add_client(port, peer.uid, peer.pid);
            (Identity::Client(client), format!("client of uid {}, pid {}", peer.uid, peer.pid))
        }
        Role::Worker(intro) => {
            let name = format!("worker {}", intro.name);
            hub.log.line(&format!("{name} is here, with {} threads", intro.threads));
            (Identity::Worker(hub.add_worker(port, intro)), name)
        }
    };
    let end = loop {
        if let Err(end) = hand_out(hub, port, &mut inbox, identity) {
            break end;
        }
        if let Err(end) = wait(hub, port, &mut inbox).await {
            break end;
        }
    };
    match &end {
        End::Closed => {}
        End::Cut => hub.log.line(&format!("{name} closed: cut off inside a frame")),
        End::Fault(error) => hub.log.line(&format!("{name} closed: {error}")),
        End::NotOffered => hub.log.line(&format!("{name} closed: passed files, as nobody offered")),
        End::Io(error) => hub.log.line(&format!("{name} lost: {error}")),
    }
    if matches!(end, End::Fault(_) | End::NotOffered | End::Cut) {
        hub.core.borrow_mut().count_faulty();
    }
    match identity {
        Identity::Client(client) => hub.remove_client(client),
        Identity::Worker(worker) => {
            hub.log.line(&format!("{name} has left"));
            hub.remove_worker(worker);
        }
    }
}

/// Hands whole messages to the core, for as long as the peer takes what is sent to it.
fn hand_out(hub: &Hub, port: &Port, inbox: &mut Inbox, identity: Identity) -> Result<(), End> {
    while !port.is_choked() {
        if port.is_closed() {
            return Err(End::Closed);
        }
        match identity {
            Identity::Client(client) => {
                let message = inbox.next_message::<ClientRequest>().map_err(End::Fault)?;
                let Some((request, descriptors)) = message else { break };
                if !descriptors.is_empty() && !hub.settings.offers_descriptors() {
                    return Err(End::NotOffered);
                }
                let files = descriptors.into_iter().map(|fd| hub.hold(fd)).collect();
                hub.step(Event::ClientSaid(client, request, files));
            }
            Identity::Worker(worker) => {
                let message = inbox.next_message::<WorkerReply>().map_err(End::Fault)?;
                let Some((reply, _)) = message else { break };
                hub.step(Event::WorkerSaid(worker, reply));
            }
        }
    }
    Ok(())
}

/// Waits until there is more to hand out, sending meanwhile what waits to be sent.
async fn wait(hub: &Hub, port: &Port, inbox: &mut Inbox) -> Result<(), End> {
    tokio::select! {
        biased;
        () = port.changed.notified() => {}
        received = receive(hub, port, inbox), if !port.is_choked() => return received,
        sent = send(port), if port.has_unsent() => return sent,
    }
    if port.is_closed() { Err(End::Closed) } else { Ok(()) }
}

/// Receives once.
async fn receive(hub: &Hub, port: &Port, inbox: &mut Inbox) -> Result<(), End> {
    let received = port.receive(|socket| {
        let scratch = &mut *hub.scratch.borrow_mut();
        let received = inbox.receive(socket, scratch)?;
        // A short read emptied the socket, unless descriptors ended it early.
        let is_all = received.bytes_len < scratch.len() && received.descriptors_len == 0;
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
