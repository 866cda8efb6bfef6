//! The life of one connection: handshake, messages, end.

use super::hub::Hub;
use super::outbox::Flushed;
use super::port::Port;
use crate::core::{ClientId, Event, WorkerId};
use ipc_proto::handshake::{self, Accepted, Refusal};
use ipc_proto::limits::HELLO_TIMEOUT;
use ipc_proto::message::{
    ClientRequest, HelloReply, Planes, RefuseReason, Role, Welcome, WorkerIntro, WorkerReply,
};
use ipc_socket::{Inbox, InboxError, Peer};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixStream;

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
    /// The system's error.
    Io(io::Error),
}

/// Serves one peer until its connection ends.
pub(super) async fn serve(hub: Rc<Hub>, stream: UnixStream, side: Side) {
    let peer = match ipc_socket::peer(stream.as_fd()) {
        Ok(peer) if hub.access.allows(peer) => peer,
        Ok(peer) => {
            let text = format!("uid {} is not allowed; see --allow-uid and --allow-gid", peer.uid);
            return refuse(&hub, &stream, Refusal::new(RefuseReason::Forbidden, text));
        }
        Err(error) => return hub.log.line(&format!("peer without credentials: {error}")),
    };
    let port = match Port::new(stream) {
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

/// Tells a peer why it is refused; it is closed when `stream` is dropped.
pub(super) fn refuse(hub: &Hub, stream: &impl AsFd, refusal: Refusal) {
    hub.core.borrow_mut().count_refused();
    hub.log.line(&format!("peer refused: {refusal}"));
    let mut frame = Vec::new();
    ipc_proto::codec::encode_frame(&refusal.into_reply(), &mut frame).expect("a refusal is short");
    // A peer that does not read its refusal only misses the reason.
    let _ = ipc_socket::send(stream.as_fd(), &frame, &[]);
}

fn refuse_port(hub: &Hub, port: &Port, refusal: Refusal) {
    refuse(hub, port.stream(), refusal);
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
            Err(End::Cut | End::Fault(_) | End::Io(_)) => {
                return Err(Some(Refusal::new(RefuseReason::NotOurs, "cut off in its hello")));
            }
        }
    };
    let Accepted { version, role } = handshake::accept(&body)?;
    check_role(hub, &role, side)?;
    let welcome = HelloReply::Welcome(Welcome {
        version,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        image: String::new(),
        planes: Planes { descriptors: true, inline: true, datasets: hub.datasets.clone() },
    });
    port.push(&welcome, Vec::new()).expect("a welcome is short");
    port.flush_or_wake();
    Ok(role)
}

fn check_role(hub: &Hub, role: &Role, side: Side) -> Result<(), Refusal> {
    match (role, side) {
        (Role::Client(_), Side::Client) => Ok(()),
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

async fn talk(hub: &Hub, port: &Rc<Port>, mut inbox: Inbox, role: Role, peer: Peer) {
    let (identity, name) = match role {
        Role::Client(_) => {
            let client = hub.add_client(port, peer.uid, peer.pid);
            (Identity::Client(client), format!("client of uid {}, pid {}", peer.uid, peer.pid))
        }
        Role::Worker(intro) => {
            let name = format!("worker {}", intro.name);
            hub.log.line(&format!("{name} is here, with {} threads", intro.threads));
            for dataset in intro.planes.datasets.iter().filter(|d| !hub.datasets.contains(d)) {
                hub.log.line(&format!("{name} has dataset {dataset}, which no --dataset names"));
            }
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
        End::Io(error) => hub.log.line(&format!("{name} lost: {error}")),
    }
    if matches!(end, End::Fault(_) | End::Cut) {
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
