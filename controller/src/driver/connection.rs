//! The life of one connection: handshake, messages, end.

use super::account::{BASE_LEN, Charge, Turn};
use super::admission::{Admitted, Newcomer, Side, check_role, connect, refuse};
use super::hub::Hub;
use super::log::{self, LOG};
use super::outbox::{CHOKE_LEN, Flushed};
use super::port::Port;
use crate::core::{ClientId, Event, Principal, Rights, WorkerId};
use ipc_proto::handshake::{self, Accepted, Refusal};
use ipc_proto::limits::{FRAME_TIMEOUT, HELLO_TIMEOUT};
use ipc_proto::message::{
    ClientRequest, HelloReply, Planes, RefuseReason, Role, Welcome, WorkerReply,
};
use ipc_socket::{Inbox, InboxError, RECEIVE_LEN, Socket};
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use std::future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Sleep;

/// Work that a connection does in one turn: messages, of which some count as several.
const TURN_COST_MAX: usize = 64;

/// Items that count as one message.
const ITEMS_PER_COST: usize = 16;

/// Cancelling a job counts as this many messages: it has items and leases.
const CANCEL_COST: usize = 8;

/// Pause before a connection looks again for room to receive.
const ROOM_PAUSE: Duration = Duration::from_millis(10);

/// Pause before descriptors are sent again that the kernel had no room for.
const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(5);

/// Role of a connection after its handshake.
#[derive(Clone, Copy, Debug)]
enum Identity {
    /// A foreign one is another user than the controller, and not root.
    Client {
        client: ClientId,
        is_foreign: bool,
    },
    Worker(WorkerId),
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The peer closed it, or the core did.
    Closed,
    /// The peer closed it inside a frame.
    Cut,
    /// A frame was not whole in time.
    Stalled,
    /// The peer broke the protocol.
    Fault(InboxError),
    /// The peer used a plane that it was not offered.
    NotOffered,
    /// The peer passed a directory.
    Directory,
    /// The system's error.
    Io(io::Error),
}

/// Serves one peer until its connection ends.
pub(super) async fn serve(hub: Rc<Hub>, socket: Socket, newcomer: Newcomer, side: Side) {
    let Newcomer { pid, local, mut charge, wait } = newcomer;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let port = match Port::new(socket) {
        Ok(port) => Rc::new(port),
        Err(error) => {
            let principal = charge.principal;
            return LOG.log(&log::Event::NoConnection { principal, error: &error });
        }
    };
    let mut inbox = Inbox::for_hello();
    inbox.set_owner(charge.owner());
    let hello = hello(&hub, &port, &mut inbox, side, local, &mut charge);
    match tokio::time::timeout(HELLO_TIMEOUT, hello).await {
        Ok(Ok(known)) => talk(&hub, &port, inbox, known, charge, pid).await,
        Ok(Err(Some(refusal))) => refuse_port(&hub, &port, refusal),
        Ok(Err(None)) => {}
        Err(_) => refuse_port(&hub, &port, Refusal::new(RefuseReason::Timeout, "no hello in time")),
    }
}

fn refuse_port(hub: &Hub, port: &Port, refusal: Refusal) {
    refuse(hub, port.socket(), refusal);
}

/// A peer whose hello was accepted.
struct Known {
    role: Role,
    principal: Principal,
    rights: Rc<Rights>,
}

/// Waits for the `Hello` of a peer, which is `local` if it is of this host. `Err(None)` means that it
/// left without a word.
async fn hello(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    side: Side,
    local: Option<Admitted>,
    charge: &mut Charge,
) -> Result<Known, Option<Refusal>> {
    let body = loop {
        let malformed =
            |error: InboxError| Some(Refusal::new(RefuseReason::NotOurs, error.to_string()));
        if let Some(body) = inbox.next_body().map_err(malformed)? {
            break body;
        }
        let Some(len_max) = charge.receive_len(inbox, BASE_LEN) else {
            tokio::time::sleep(ROOM_PAUSE).await;
            continue;
        };
        match receive(hub, port, inbox, charge, len_max).await {
            Ok(()) => {}
            Err(End::Closed) => return Err(None),
            Err(
                End::Cut
                | End::Stalled
                | End::Fault(_)
                | End::NotOffered
                | End::Directory
                | End::Io(_),
            ) => {
                return Err(Some(Refusal::new(RefuseReason::NotOurs, "cut off in its hello")));
            }
        }
    };
    let Accepted { version, role } = handshake::accept(&body)?;
    let (principal, rights) = check_role(hub, &role, side, local)?;
    if principal != charge.principal {
        // Only the hello says whose token a peer over vsock knows.
        *charge = connect(hub, side, principal, rights.quota)?;
    }
    inbox.accept_hello();
    let welcome = HelloReply::Welcome(Welcome {
        version,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        image: hub.settings.image.clone(),
        planes: Planes {
            descriptors: hub.settings.offers_descriptors(),
            inline: true,
            datasets: match &role {
                Role::Client(_) => {
                    let live = hub.live.borrow();
                    let granted = live.datasets.iter();
                    granted.filter(|name| rights.datasets.includes(name)).cloned().collect()
                }
                Role::Worker(_) => hub.live.borrow().datasets.clone(),
            },
        },
    });
    port.push(&welcome, Vec::new()).expect("a welcome is short");
    port.flush_or_wake();
    Ok(Known { role, principal, rights })
}

async fn talk(
    hub: &Hub,
    port: &Rc<Port>,
    mut inbox: Inbox,
    known: Known,
    mut charge: Charge,
    pid: u32,
) {
    let Known { role, principal, rights } = known;
    let (identity, name) = match role {
        Role::Client(_) => {
            let client = hub.add_client(port, (principal, pid), rights);
            let is_foreign = !hub.settings.policy.is_own(principal);
            (Identity::Client { client, is_foreign }, format!("client of {principal}, pid {pid}"))
        }
        Role::Worker(intro) => {
            let name = format!("worker {}", intro.name);
            LOG.log(&log::Event::Joined { peer: &name, threads: intro.threads });
            let known = hub.live.borrow().datasets.clone();
            for dataset in intro.planes.datasets.iter().filter(|d| !known.contains(d)) {
                LOG.log(&log::Event::UnknownDataset { peer: &name, dataset });
            }
            (Identity::Worker(hub.add_worker(port, intro)), name)
        }
    };
    let mut timer = FrameTimer::default();
    let end = loop {
        match take_turn(hub, port, &mut inbox, identity, &mut charge).await {
            Err(end) => break end,
            Ok(true) => continue,
            Ok(false) => {}
        }
        if let Err(end) = wait(hub, port, &mut inbox, &mut charge, &mut timer).await {
            break end;
        }
    };
    let closed = |cause| LOG.log(&log::Event::Closed { peer: &name, cause });
    match &end {
        End::Closed => {}
        End::Cut => closed(&"cut off inside a frame"),
        End::Stalled => {
            closed(&format_args!("a frame was not whole after {} s", FRAME_TIMEOUT.as_secs()));
        }
        End::Fault(error) => closed(error),
        End::NotOffered => {
            closed(&"sent descriptors on a connection that does not accept them");
        }
        End::Directory => closed(&"sent a directory"),
        End::Io(error) => LOG.log(&log::Event::Lost { peer: &name, error }),
    }
    if !matches!(end, End::Closed | End::Io(_)) {
        hub.core.borrow_mut().count_faulty();
    }
    match identity {
        Identity::Client { client, .. } => hub.remove_client(client),
        Identity::Worker(worker) => {
            LOG.log(&log::Event::Left { peer: &name });
            hub.remove_worker(worker);
        }
    }
}

/// Hands whole messages to the core, once it is the turn of this connection. Returns true if some may be
/// left: others go first.
async fn take_turn(
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
    while port.unsent_len() < choke_len {
        if port.is_closed() {
            return Err(End::Closed);
        }
        if cost >= TURN_COST_MAX {
            return Ok(true);
        }
        match identity {
            Identity::Client { client, is_foreign } => {
                let message = inbox.next_message::<ClientRequest>().map_err(End::Fault)?;
                let Some((request, descriptors)) = message else { break };
                if !descriptors.is_empty() && !hub.settings.offers_descriptors() {
                    return Err(End::NotOffered);
                }
                if is_foreign && descriptors.iter().any(|fd| is_directory(fd.as_fd())) {
                    return Err(End::Directory);
                }
                cost += cost_of(&request);
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
        | ClientRequest::Release { .. } => 1,
    }
}

/// True if a worker could open files relative to what was passed: those that its user can open, who is the
/// controller's. Its file system is not asked, as one that is dead would never answer.
fn is_directory(descriptor: BorrowedFd<'_>) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(descriptor, c"", flags, StatxFlags::TYPE)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory)
}

/// Waits until there is more to hand out, sending meanwhile what waits to be sent.
async fn wait(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    charge: &mut Charge,
    timer: &mut FrameTimer,
) -> Result<(), End> {
    let is_choked = port.unsent_len() >= charge.choke_len(CHOKE_LEN);
    let len_max = charge.receive_len(inbox, RECEIVE_LEN).filter(|_| !is_choked);
    // While nothing is read, a frame that is not whole is not the peer's fault.
    timer.watch(inbox.incomplete_frame().filter(|_| len_max.is_some()));
    tokio::select! {
        biased;
        () = port.changed.notified() => {}
        received = receive(hub, port, inbox, charge, len_max.unwrap_or(0)), if len_max.is_some() => {
            return received;
        }
        // There may be room by then.
        () = tokio::time::sleep(ROOM_PAUSE), if len_max.is_none() && !is_choked => {
            if port.is_abandoned() {
                return Err(if inbox.is_cut() { End::Cut } else { End::Closed });
            }
        }
        sent = send(port), if port.has_unsent() => return sent,
        () = timer.expired() => return Err(End::Stalled),
    }
    if port.is_closed() { Err(End::Closed) } else { Ok(()) }
}

/// The time limit of a frame, from its first byte to its last.
#[derive(Debug, Default)]
struct FrameTimer(Option<(u64, Pin<Box<Sleep>>)>);

impl FrameTimer {
    /// Runs for the frame that starts at `start` of the stream: continues, restarts, or stops.
    fn watch(&mut self, start: Option<u64>) {
        if self.0.as_ref().map(|(of, _)| *of) != start {
            self.0 = start.map(|start| (start, Box::pin(tokio::time::sleep(FRAME_TIMEOUT))));
        }
    }

    async fn expired(&mut self) {
        match &mut self.0 {
            Some((_, sleep)) => sleep.await,
            None => future::pending().await,
        }
    }
}

/// Receives once, at most `len_max` bytes.
async fn receive(
    hub: &Hub,
    port: &Port,
    inbox: &mut Inbox,
    charge: &mut Charge,
    len_max: usize,
) -> Result<(), End> {
    let received = port.receive(|socket| {
        let scratch = &mut *hub.scratch.borrow_mut();
        let received = inbox.receive_up_to(len_max, socket, scratch)?;
        charge.update(inbox, port.unsent_len());
        // A short read emptied the socket, unless descriptors ended it early.
        let is_all = received.bytes_len < len_max && received.descriptors_len == 0;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Settings;
    use crate::driver::admission::meet;
    use crate::driver::budget::Budget;
    use crate::driver::clock::Clock;
    use crate::driver::live::Live;
    use crate::driver::policy::AccessPolicy;
    use crate::driver::token::{Token, WorkerTokens};
    use ipc_proto::codec::{decode, encode_frame};
    use ipc_proto::endpoint::Endpoint;
    use ipc_proto::message::{
        ClientIntro, ClientReply, FileItem, FileSource, Hello, Items, JobId, Message,
        ReleaseOutcome, SandboxLayers, WorkerIntro,
    };
    use ipc_proto::{Algorithm, Blob};
    use sandbox::Enforcement;
    use std::fs::File;
    use std::io::Read;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;
    use test_kit::{HungFile, worker_role};
    use tokio::task::LocalSet;

    const EPOCH: u32 = 1_800_000_000;

    fn settings(socket: Endpoint) -> Settings {
        let mut policy = own();
        policy.trust(Token::parse(b"secret").unwrap());
        Settings {
            sandbox: Enforcement::Off,
            policy,
            live: live(Some(b"w1 secret\nw2 other\n")),
            cross_check: None,
            client_socket: socket.clone(),
            worker_socket: socket,
            image: "sha256:00".to_owned(),
        }
    }

    fn live(tokens: Option<&[u8]>) -> Live {
        let mut live = Live::open(None, None, vec!["a".to_owned(), "b".to_owned()]).unwrap();
        live.worker_tokens = tokens.map(|tokens| WorkerTokens::parse(tokens).unwrap());
        live
    }

    fn own() -> AccessPolicy {
        AccessPolicy::own(nix::unistd::geteuid().as_raw())
    }

    fn vsock() -> Settings {
        settings(Endpoint::Vsock { cid: None, port: 5001 })
    }

    fn unix() -> Settings {
        settings(Endpoint::Unix("/x".into()))
    }

    /// Descriptors cannot reach the workers.
    fn mixed() -> Settings {
        Settings { worker_socket: vsock().worker_socket, ..unix() }
    }

    fn frame(message: &impl Message) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_frame(message, &mut frame).unwrap();
        frame
    }

    fn client(token: &[u8]) -> Vec<u8> {
        let (software, token) = ("test".to_owned(), Blob::from(token));
        frame(&Hello::new(Role::Client(ClientIntro { software, token })))
    }

    fn worker(name: &str, token: &[u8]) -> Vec<u8> {
        let Role::Worker(intro) = worker_role(name) else { unreachable!("it is a worker's") };
        frame(&Hello::new(Role::Worker(WorkerIntro { token: token.into(), ..intro })))
    }

    /// A peer, and the answers that it gets.
    struct Case<'a> {
        settings: Settings,
        side: Side,
        /// Frames with their files; the first is the hello.
        sends: Vec<(Vec<u8>, &'a [BorrowedFd<'a>])>,
        /// It leaves; otherwise it stays silent while the time runs.
        leaves: bool,
        /// Its user, if that is another one than the controller's.
        uid: Option<u32>,
    }

    impl Case<'_> {
        /// A peer that says `hello` and leaves. Vsock is what the settings say.
        fn new(settings: Settings, side: Side, hello: Vec<u8>) -> Self {
            Self { settings, side, sends: vec![(hello, &[])], leaves: true, uid: None }
        }

        /// The answer to the hello, the number of peers that broke the protocol, and the bytes
        /// behind the answer.
        fn serve(self) -> (HelloReply, u64, Vec<u8>) {
            let Self { settings, side, sends, leaves, uid } = self;
            let become_user = |uid| {
                let id = rustix::process::Uid::from_raw;
                rustix::thread::set_thread_res_uid(None, Some(id(uid)), None).unwrap();
            };
            uid.into_iter().for_each(become_user);
            let (mut peer, ours) = UnixStream::pair().unwrap();
            uid.map(|_| 0).into_iter().for_each(become_user);
            for (frame, files) in sends {
                ipc_socket::send(peer.as_fd(), &frame, files).unwrap();
            }
            if leaves {
                peer.shutdown(Shutdown::Write).unwrap();
            }
            ours.set_nonblocking(true).unwrap();
            let is_local = settings.client_socket.carries_descriptors();
            let socket = if is_local { Socket::from(ours) } else { Socket::far(ours) };
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(!leaves).build().unwrap();
            let faulty = LocalSet::new().block_on(&runtime, async {
                let budget = Budget::of_process().unwrap();
                let hub =
                    Rc::new(Hub::new(&budget, Clock::at(EPOCH), settings, SandboxLayers::FULL));
                let mut socket = socket;
                if let Some(newcomer) = meet(&hub, &mut socket, side) {
                    serve(Rc::clone(&hub), socket, newcomer, side).await;
                } else {
                    socket.hang_up();
                }
                hub.core.borrow().status(Duration::ZERO, 0).counters.peers_faulty
            });
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).unwrap();
            let len = usize::try_from(u32::from_le_bytes(answer[..4].try_into().unwrap())).unwrap();
            (decode(&answer[4..4 + len]).unwrap(), faulty, answer.split_off(4 + len))
        }

        /// The words of the refusal; empty for a welcome.
        #[track_caller]
        fn refusal(self, want: RefuseReason) -> String {
            match self.serve().0 {
                HelloReply::Welcome(_) => String::new(),
                HelloReply::Refused { reason, text, .. } => {
                    assert_eq!(reason, want, "{text}");
                    text
                }
            }
        }
    }

    #[test]
    fn the_server_of_a_passed_file_is_not_asked_what_it_is() {
        let hung = HungFile::new();
        let file = File::open(hung.path()).unwrap();
        hung.die();
        let (answer, answered) = mpsc::channel();
        thread::spawn(move || answer.send(is_directory(file.as_fd())));
        assert_eq!(answered.recv_timeout(Duration::from_secs(20)), Ok(false));
        let dir = File::open(std::env::temp_dir()).unwrap();
        assert!(is_directory(dir.as_fd()));
    }

    #[test]
    fn behind_vsock_only_who_knows_the_token_gets_in() {
        let open = Settings { policy: own(), ..vsock() };
        let (asks, wrong) = ("wants a token; see hashctl --token-file", "not this controller's");
        for (settings, token, want) in [
            (vsock(), &b"secret"[..], ""),
            (vsock(), b"", asks),
            (vsock(), b"s", wrong),
            (vsock(), b"secres", wrong),
            (vsock(), b"secret\n", wrong),
            (vsock(), b"secret\0", wrong),
            (open.clone(), b"", ""),
            (open, b"anything", ""),
            (unix(), b"", ""),
            (unix(), b"anything", ""),
        ] {
            let case = Case::new(settings, Side::Client, client(token));
            let text = case.refusal(RefuseReason::Forbidden);
            assert!(text.contains(want) && text.is_empty() == want.is_empty(), "{text}");
        }
    }

    #[test]
    fn behind_vsock_a_worker_proves_its_name_by_its_token() {
        let open = Settings { live: live(None), ..vsock() };
        let asks = "wants a token of worker w1; see hashcluster-worker --token-file";
        for (settings, name, token, want) in [
            (vsock(), "w1", &b"secret"[..], ""),
            (open, "w1", b"", ""),
            (unix(), "w1", b"", ""),
            (vsock(), "w1", b"", asks),
            (vsock(), "w1", b"other", "is not that of a worker named w1"),
            (vsock(), "w1", b"secre", "is not that of a worker named w1"),
            (vsock(), "w3", b"secret", "is not that of a worker named w3"),
        ] {
            let case = Case::new(settings, Side::Worker, worker(name, token));
            let text = case.refusal(RefuseReason::Forbidden);
            assert!(text.contains(want) && text.is_empty() == want.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_in_time_closes_the_connection() {
        let status = frame(&ClientRequest::Status);
        for cut in 1..status.len() {
            let mut case = Case::new(unix(), Side::Client, client(b""));
            case.sends.push((status[..cut].to_vec(), &[]));
            case.leaves = false;
            let (reply, faulty, _) = case.serve();
            assert!(matches!(reply, HelloReply::Welcome(_)), "{reply:?}");
            assert_eq!(faulty, 1, "{cut} bytes");
        }
    }

    #[test]
    fn a_hello_beyond_its_limit_is_refused_before_it_has_arrived() {
        let mut case = Case::new(unix(), Side::Client, 4097_u32.to_le_bytes().to_vec());
        case.leaves = false;
        let want = "frame of 4097 bytes, at most 4096 are taken";
        assert_eq!(case.refusal(RefuseReason::NotOurs), want);
    }

    #[test]
    fn behind_vsock_only_a_token_makes_an_administrator() {
        let open = Settings { policy: own(), ..vsock() };
        let own = Settings { policy: own(), ..unix() };
        for (settings, want) in [
            (own, ReleaseOutcome::NotQuarantined),
            (vsock(), ReleaseOutcome::NotQuarantined),
            (open, ReleaseOutcome::Forbidden),
        ] {
            let release = frame(&ClientRequest::Release { worker: "w".to_owned() });
            let mut case = Case::new(settings, Side::Client, client(b"secret"));
            case.sends.push((release, &[]));
            let (_, _, rest) = case.serve();
            let reply: ClientReply = decode(&rest[4..]).unwrap();
            assert_eq!(reply, ClientReply::Released { worker: "w".to_owned(), outcome: want });
        }
    }

    #[test]
    fn a_uid_that_is_not_allowed_is_refused_whatever_it_knows() {
        let mut settings = unix();
        settings.policy = AccessPolicy::own(u32::MAX - 1);
        // Root is always allowed.
        let is_root = nix::unistd::geteuid().is_root();
        for (side, hello, want) in [
            (Side::Client, client(b"secret"), "is not allowed"),
            (Side::Worker, worker("w1", b"secret"), "may not connect as a worker"),
        ] {
            let case = Case::new(settings.clone(), side, hello);
            let text = case.refusal(RefuseReason::Forbidden);
            assert!(if is_root { text.is_empty() } else { text.contains(want) }, "{text}");
        }
    }

    #[test]
    fn descriptors_are_offered_only_where_they_reach_the_workers() {
        for (settings, want) in [(unix(), true), (vsock(), false), (mixed(), false)] {
            let reply = Case::new(settings, Side::Client, client(b"secret")).serve().0;
            let HelloReply::Welcome(welcome) = reply else { panic!("{reply:?}") };
            assert_eq!((welcome.planes.descriptors, welcome.planes.inline), (want, true));
            assert_eq!(welcome.image, "sha256:00");
        }
    }

    /// A digest tells something of a file, which the worker may read and the client may not.
    #[test]
    fn only_the_datasets_of_its_rule_are_offered_to_a_client() {
        let open = Settings { policy: own(), ..vsock() };
        let mut some = own();
        let rule = br#"rule = [{ token_file = "t", may = ["submit"], datasets = ["b"] }]"#;
        let known = vsock().live.datasets;
        some.extend(rule, &known, |_| Ok(Token::parse(b"secret").unwrap())).unwrap();
        let some = Settings { policy: some, ..vsock() };
        for (settings, want) in
            [(unix(), &["a", "b"][..]), (vsock(), &["a", "b"]), (open, &[]), (some, &["b"])]
        {
            let reply = Case::new(settings, Side::Client, client(b"secret")).serve().0;
            let HelloReply::Welcome(welcome) = reply else { panic!("{reply:?}") };
            assert_eq!(welcome.planes.datasets, want);
        }
    }

    #[test]
    fn files_that_nobody_offered_to_take_close_the_connection() {
        let algorithms = Algorithm::Sha256.into();
        let open = ClientRequest::Open { tag: 0, algorithms, cross_check: 0, strict_reads: false };
        let (source, files) = (FileSource::Descriptors, vec![FileItem::default()]);
        let job = JobId { epoch: EPOCH, number: 0 };
        let items = ClientRequest::Items { job, first: 0, items: Items::Files { source, files } };
        let file = File::open("/dev/null").unwrap();
        for (settings, want) in [(mixed(), 1), (unix(), 0)] {
            let mut case = Case::new(settings, Side::Client, client(b""));
            let passed = [file.as_fd()];
            case.sends.extend([(frame(&open), &[][..]), (frame(&items), &passed[..])]);
            assert_eq!(case.serve().1, want);
        }
        // From a directory a worker that was taken over could reach what this user may read. Its owner
        // and root may anyhow; only root can be somebody else.
        let mut cases = vec![(None, "/", 0)];
        if nix::unistd::geteuid().is_root() {
            cases.extend([(Some(54001), "/dev/null", 0), (Some(54001), "/", 1)]);
        }
        for (uid, path, want) in cases {
            let mut case = Case::new(unix(), Side::Client, client(b""));
            let rule = b"rule = [{ uids = [54001], may = ['submit'] }]";
            case.settings.policy.extend(rule, &[], |_| unreachable!("no token")).unwrap();
            case.uid = uid;
            let file = File::open(path).unwrap();
            let passed = [file.as_fd()];
            case.sends.extend([(frame(&open), &[][..]), (frame(&items), &passed[..])]);
            assert_eq!(case.serve().1, want, "{uid:?} {path}");
        }
    }

    #[test]
    fn a_flood_of_requests_leaves_a_worker_its_heartbeats_and_a_client_its_status() {
        const REQUESTS: u64 = 4000;
        let open = ClientRequest::Open {
            tag: 0,
            algorithms: Algorithm::Sha256.into(),
            cross_check: 0,
            strict_reads: false,
        };
        let mut flood = client(b"");
        for number in 0..REQUESTS {
            let cancel = ClientRequest::Cancel { job: JobId { epoch: EPOCH, number } };
            flood.extend([frame(&open), frame(&cancel)].concat());
        }
        let beat = [worker("w1", b""), frame(&WorkerReply::Heartbeat)].concat();
        let status = [client(b""), frame(&ClientRequest::Status)].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let budget = Budget::of_process().unwrap();
        let opened = LocalSet::new().block_on(&runtime, async {
            let hub = Rc::new(Hub::new(&budget, Clock::at(EPOCH), unix(), SandboxLayers::FULL));
            let peers = [(flood, Side::Client), (beat, Side::Worker), (status, Side::Client)];
            let peers = peers.map(|(bytes, side)| {
                let (peer, ours) = UnixStream::pair().unwrap();
                let sent_len = ipc_socket::send(peer.as_fd(), &bytes, &[]).unwrap();
                assert_eq!(sent_len, bytes.len(), "it fits the socket's buffer");
                for socket in [&peer, &ours] {
                    socket.set_nonblocking(true).unwrap();
                }
                let mut socket = Socket::from(ours);
                let newcomer = meet(&hub, &mut socket, side).unwrap();
                tokio::task::spawn_local(serve(Rc::clone(&hub), socket, newcomer, side));
                peer
            });
            // A welcome and an answer each.
            let mut missing = [2, 2];
            let mut inboxes = [Inbox::new(), Inbox::new()];
            while missing != [0, 0] {
                tokio::task::yield_now().await;
                for ((peer, inbox), missing) in
                    peers[1..].iter().zip(&mut inboxes).zip(&mut missing)
                {
                    let _ = inbox.receive(peer.as_fd(), &mut hub.scratch.borrow_mut());
                    *missing -= u32::from(inbox.next_body().unwrap().is_some());
                }
            }
            hub.core.borrow().status(Duration::ZERO, 0).counters.jobs
        });
        let turns_max = 8;
        assert!(opened <= turns_max * TURN_COST_MAX as u64, "{opened} jobs were opened before");
    }
}
