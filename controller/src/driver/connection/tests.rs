use super::turn::{TURN_COST_MAX, is_directory};
use super::*;
use crate::driver::Settings;
use crate::driver::admission::meet;
use crate::driver::budget::Budget;
use crate::driver::clock::Clock;
use crate::driver::live::{Live, LiveFiles};
use crate::driver::policy::AccessPolicy;
use crate::driver::token::{Token, WorkerTokens};
use ipc_proto::codec::{decode, encode_frame};
use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::{
    ClientIntro, ClientReply, ClientRequest, FileItem, FileSource, Hello, Items, JobId, Message,
    ReleaseOutcome, SandboxLayers, WorkerIntro, WorkerReply,
};
use ipc_proto::{Algorithm, Blob};
use sandbox::Enforcement;
use std::fs::File;
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use test_kit::{HungFile, worker_role};
use tokio::task::LocalSet;

const EPOCH: u32 = 1_800_000_000;

fn settings(socket: Endpoint) -> Settings {
    let mut policy = own();
    policy.trust(Token::parse(b"secret").unwrap());
    Settings {
        http: None,
        has_status_page: false,
        state_dir: None,
        journal_max: None,
        notify: notifier::Permissions::default(),
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
    let mut live = Live::open(LiveFiles::default(), vec!["a".to_owned(), "b".to_owned()]).unwrap();
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
            let budget = Budget::of_process(0).unwrap();
            let hub = Rc::new(Hub::new(&budget, Clock::at(EPOCH), settings, SandboxLayers::FULL));
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
    let budget = Budget::of_process(0).unwrap();
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
            for ((peer, inbox), missing) in peers[1..].iter().zip(&mut inboxes).zip(&mut missing) {
                let _ = inbox.receive(peer.as_fd(), &mut hub.scratch.borrow_mut());
                *missing -= u32::from(inbox.next_body().unwrap().is_some());
            }
        }
        hub.core.borrow().status(Duration::ZERO, 0).counters.jobs
    });
    let turns_max = 8;
    assert!(opened <= turns_max * TURN_COST_MAX as u64, "{opened} jobs were opened before");
}
