//! Bodies of the fuzz targets `core` and `policy`, as plain functions: `fuzz/` wraps them for
//! libFuzzer, the tests `fuzz` give them seeded inputs. They panic when an event breaks an invariant of
//! the core, or a policy gives rights to somebody whom it does not name.

use hashcluster_controller::core::{
    Action, ClientId, Core, Event, Limits, ListTag, PageWanted, Principal, Rights, WorkerId,
};
use hashcluster_controller::driver::policy::AccessPolicy;
use hashcluster_controller::driver::token::Token;
use ipc_proto::limits::PROGRESS_LEN_MAX;
use ipc_proto::message::{
    Backend, ClientReply, ClientRequest, Counters, DirEntry, EntryKind, Failure, FileItem,
    FileSource, Items, JobId, LeaseId, ListOutcome, ListWork, Message, Planes, SandboxLayers,
    Stamp, Work, WorkerIntro, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Algorithms, Blob};
use ipc_socket::Peer;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const EPOCH: u32 = 7;
/// The controller's own user, and one that a flag lets in.
const OWN_UID: u32 = 1000;
const EARLIER_ID: u32 = 12;
/// The core knows the first; workers claim both.
const DATASETS: [&str; 2] = ["known", "unknown"];

/// Events, one per operation byte and the bytes it takes as parameters: peers come and go, and send
/// messages that decode, true or false. The invariants hold after each.
pub(crate) fn core(input: &[u8]) -> Counters {
    let limits = Limits { items_max: 2048, bytes_max: 2 << 20, jobs_max: 16, ..Limits::default() };
    let mut play = Play {
        input,
        core: Core::new(limits, vec![DATASETS[0].to_owned()], EPOCH),
        now: Duration::ZERO,
        next_peer: 0,
        clients: BTreeSet::new(),
        jobs: BTreeMap::new(),
        workers: BTreeSet::new(),
        leases: Vec::new(),
        pages: BTreeSet::new(),
    };
    let cross_check = u32::from(play.byte() % 3);
    play.core.cross_check(cross_check, 1);
    while !play.input.is_empty() {
        play.operate();
    }
    // Whatever is left goes with its peers.
    for client in play.clients.clone() {
        play.step(Event::ClientLeft(client));
    }
    let status = play.core.status(play.now, 0);
    assert_eq!((status.limits.items, status.limits.bytes), (0, 0), "nothing outlives the clients");
    status.counters
}

struct Play<'a> {
    input: &'a [u8],
    core: Core<()>,
    now: Duration,
    next_peer: u64,
    clients: BTreeSet<ClientId>,
    /// Client and number of sent items of each job.
    jobs: BTreeMap<JobId, (ClientId, u64)>,
    workers: BTreeSet<WorkerId>,
    /// Leases, held or not: the worker, the lease, its attempt, and its items and the bytes
    /// of an output.
    leases: Vec<(WorkerId, LeaseId, u32, usize, usize)>,
    /// Pages that are wanted.
    pages: BTreeSet<ListTag>,
}

impl Play<'_> {
    /// The next byte; 0 from the end on.
    fn byte(&mut self) -> u8 {
        self.input.split_off_first().copied().unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, of: impl ExactSizeIterator<Item = T>) -> Option<T> {
        let (len, at) = (of.len(), usize::from(self.byte()));
        let mut of = of;
        of.nth(at % len.max(1))
    }

    fn operate(&mut self) {
        match self.byte() % 19 {
            0 => self.join_client(),
            1 | 2 => self.join_worker(),
            3 | 4 => self.open(),
            5 | 6 => self.send_files(),
            7 => self.send_messages(),
            8..=10 => self.answer(),
            11 => self.progress(),
            12 => self.wait(),
            13 => self.leave(),
            14 => self.ask(),
            16 => self.want_page(),
            17 => self.answer_page(),
            18 => self.shut_down(),
            _ => self.credit(),
        }
    }

    fn peer(&mut self) -> u64 {
        self.next_peer += 1;
        self.next_peer
    }

    fn join_client(&mut self) {
        let (client, uid) = (ClientId(self.peer()), u32::from(self.byte() % 3));
        self.clients.insert(client);
        let principal = if uid == 2 { Principal::Token(0) } else { Principal::Uid(uid) };
        self.step(Event::ClientJoined { client, principal, pid: 1, rights: Rc::new(Rights::ALL) });
    }

    fn join_worker(&mut self) {
        let (name, flags, skills) = (self.byte() % 4, self.byte(), self.byte());
        let name = format!("w{name}");
        if self.core.is_name_taken(&name) {
            return;
        }
        let backend =
            |algorithm| Backend { algorithm, backend: "model".to_owned(), interleave_max: 2 };
        let has = |algorithm: &Algorithm| skills & 1 << (*algorithm as u8 % 8) == 0;
        let intro = WorkerIntro {
            name,
            software: String::new(),
            image: String::new(),
            pid: 1,
            threads: 1 + u16::from(flags % 3),
            memory_bytes: 0,
            backends: Algorithm::ALL.into_iter().filter(has).map(backend).collect(),
            planes: Planes {
                descriptors: flags & 4 == 0,
                inline: flags & 8 == 0,
                datasets: DATASETS.iter().filter(|_| flags & 16 == 0).map(|&d| d.into()).collect(),
            },
            reading: String::new(),
            sandbox: SandboxLayers::default(),
            token: Blob::default(),
            host: String::new(),
            cpu: String::new(),
        };
        let worker = WorkerId(self.peer());
        self.workers.insert(worker);
        self.step(Event::WorkerJoined(worker, intro));
        self.step(Event::WorkerSaid(worker, WorkerReply::Credit { batches: 2 }));
    }

    fn open(&mut self) {
        let Some(client) = self.pick(self.clients.clone().into_iter()) else { return };
        let (first, flags) = (usize::from(self.byte()), self.byte());
        let len = if flags & 1 == 0 { 1 } else { 2 };
        let of = |i| Algorithm::ALL[(first + i) % Algorithm::ALL.len()];
        let algorithms = Algorithms::new(&(0..len).map(of).collect::<Vec<_>>()).expect("distinct");
        let (cross_check, strict_reads) = (u32::from(flags >> 1 & 1), false);
        let open = ClientRequest::Open { tag: 0, algorithms, cross_check, strict_reads };
        self.say(client, open, 0);
    }

    fn job(&mut self) -> Option<(JobId, ClientId, u64)> {
        let (job, (client, sent)) = self.pick(self.jobs.clone().into_iter())?;
        Some((job, client, sent))
    }

    fn send_files(&mut self) {
        let Some((job, client, first)) = self.job() else { return };
        let (len, source) = (1 + self.byte() % 8, self.byte());
        let files: Vec<FileItem> = (0..len)
            .map(|_| {
                // Small ones, large ones, and those that are split.
                let size = u64::from(self.byte()).pow(4);
                Stamp { size, mtime_ns: 1, ctime_ns: 1 }.into()
            })
            .collect();
        let (source, descriptors_len) = match source % 4 {
            at @ 0..=1 => {
                let paths = (0..len).map(|i| Blob(vec![b'a' + i; 3])).collect();
                let name = DATASETS[usize::from(at)].to_owned();
                (FileSource::Dataset { name, paths }, 0)
            }
            _ => (FileSource::Descriptors, files.len()),
        };
        self.sent(job, files.len());
        let items = Items::Files { source, files };
        self.say(client, ClientRequest::Items { job, first, items }, descriptors_len);
    }

    fn send_messages(&mut self) {
        let Some((job, client, first)) = self.job() else { return };
        let lens: Vec<u32> = (0..=self.byte() % 8).map(|_| u32::from(self.byte())).collect();
        let data = Blob(vec![0; lens.iter().sum::<u32>() as usize]);
        self.sent(job, lens.len());
        let items = Items::Inline { lens, data };
        self.say(client, ClientRequest::Items { job, first, items }, 0);
    }

    fn sent(&mut self, job: JobId, items_len: usize) {
        self.jobs.get_mut(&job).expect("picked").1 += items_len as u64;
    }

    fn lease(&mut self) -> Option<(WorkerId, LeaseId, u32, usize, usize)> {
        // The latest ones are those that are held.
        let leases = self.leases.clone();
        let found = self.pick(leases.into_iter().rev());
        found.filter(|lease| self.workers.contains(&lease.0))
    }

    /// An answer, once more or not, right in form or not.
    fn answer(&mut self) {
        let Some((worker, lease, attempt, items_len, output_len)) = self.lease() else { return };
        let flags = self.byte();
        let (failures, digests_len) = match flags & 3 {
            0 => (vec![(0, Failure::Io { errno: 5 })], items_len - 1),
            1 => (vec![(0, Failure::Invalid)], items_len - 1),
            _ => (Vec::new(), items_len),
        };
        let outputs_len = digests_len * output_len + usize::from(flags >= 0xf0);
        let outputs = Blob(vec![flags >> 2 & 1; outputs_len]);
        let credit = u16::from(flags >> 3 & 1);
        let busy_us = u64::from(flags).pow(3);
        let reply = WorkerReply::Done { lease, attempt, credit, busy_us, outputs, failures };
        self.hear(worker, reply);
    }

    fn progress(&mut self) {
        let Some((worker, lease, attempt, ..)) = self.lease() else { return };
        let (size, part) = (u64::from(self.byte()).pow(4), u64::from(self.byte()));
        let offset = (size / 256 * part).min(PROGRESS_LEN_MAX) / 128 * 128;
        let file = Stamp { size, mtime_ns: 1, ctime_ns: 1 };
        let state = Blob(vec![0; 40]);
        self.hear(worker, WorkerReply::Progress { lease, attempt, file, offset, state });
    }

    fn wait(&mut self) {
        let pause = Duration::from_millis(u64::from(self.byte()).pow(2));
        self.now += pause;
        self.step(Event::Tick);
    }

    fn leave(&mut self) {
        if self.byte().is_multiple_of(4) {
            let Some(client) = self.pick(self.clients.clone().into_iter()) else { return };
            self.step(Event::ClientLeft(client));
        } else {
            let Some(worker) = self.pick(self.workers.clone().into_iter()) else { return };
            self.workers.remove(&worker);
            self.step(Event::WorkerLeft(worker));
        }
    }

    /// Wants a page, or drops one that is wanted.
    fn want_page(&mut self) {
        let (tag, flags) = (ListTag(u64::from(self.byte() % 4)), self.byte());
        if self.pages.remove(&tag) {
            return self.step(Event::Unlist(tag));
        }
        self.pages.insert(tag);
        let work = ListWork {
            dataset: DATASETS[usize::from(flags & 1)].to_owned(),
            dir: if flags & 2 == 0 { Blob::default() } else { Blob(b"dir/../".to_vec()) },
            after: Blob(b"b".to_vec()),
            entries_max: 3,
            claims: None,
        };
        let (principal, algorithms) = (Principal::Uid(1), Algorithm::Sha256.into());
        self.step(Event::List(PageWanted { tag, principal, algorithms, work }));
    }

    /// A page, right or wrong, as an answer to any lease.
    fn answer_page(&mut self) {
        let Some((worker, lease, attempt, ..)) = self.lease() else { return };
        let (name, flags) = (self.byte(), self.byte());
        let (stamp, inode, device) = (Stamp::default(), 1, 1);
        let entry = |name| DirEntry { name, kind: EntryKind::File, stamp, inode, device };
        let entries = (0..flags % 5).map(|i| entry(Blob(vec![name, i]))).collect();
        let outcome = match flags & 0x80 {
            0 => ListOutcome::Page { entries, more: flags & 0x40 != 0 },
            _ => ListOutcome::Failed { failure: Failure::Io { errno: flags.into() } },
        };
        let credit = u16::from(flags & 1);
        self.hear(worker, WorkerReply::Listed { lease, attempt, credit, outcome });
    }

    /// A worker wants no more work.
    fn shut_down(&mut self) {
        let Some(worker) = self.pick(self.workers.clone().into_iter()) else { return };
        let within_ms = u32::from(self.byte()) << 4;
        self.hear(worker, WorkerReply::Leaving { within_ms });
    }

    /// A request about a job or about the cluster.
    fn ask(&mut self) {
        let Some(client) = self.pick(self.clients.clone().into_iter()) else { return };
        let of_job = self.byte();
        let request = match (of_job % 8, self.job()) {
            (0, _) => ClientRequest::Status,
            (1, _) => ClientRequest::Release { worker: format!("w{}", of_job % 4) },
            (2, _) => ClientRequest::WaitReady { workers: 3, timeout_ms: u32::from(of_job) << 4 },
            (6, _) => {
                let worker = format!("w{}", of_job % 4);
                let deadline_ms = u32::from(of_job) << 4;
                ClientRequest::Drain { worker, deadline_ms, lasts: of_job > 127 }
            }
            (7, _) => ClientRequest::Undrain { worker: format!("w{}", of_job % 4) },
            (_, None) => return,
            (3, Some((job, ..))) => ClientRequest::Cancel { job },
            (_, Some((job, client, _))) => {
                return self.say(client, ClientRequest::Finish { job }, 0);
            }
        };
        self.say(client, request, 0);
    }

    fn credit(&mut self) {
        let Some(worker) = self.pick(self.workers.clone().into_iter()) else { return };
        let batches = match self.byte() {
            0xff => u16::MAX,
            batches => u16::from(batches % 4),
        };
        self.hear(worker, WorkerReply::Credit { batches });
    }

    fn say(&mut self, client: ClientId, request: ClientRequest, descriptors_len: usize) {
        // What does not decode does not reach the core.
        if request.check().is_ok() {
            self.step(Event::ClientSaid(client, request, vec![(); descriptors_len]));
        }
    }

    fn hear(&mut self, worker: WorkerId, reply: WorkerReply) {
        if reply.check().is_ok() {
            self.step(Event::WorkerSaid(worker, reply));
        }
    }

    fn step(&mut self, event: Event<()>) {
        if let Event::ClientLeft(client) = event {
            self.forget(client);
        }
        for action in self.core.step(self.now, event) {
            self.take(action);
        }
        self.core.check_invariants();
    }

    fn forget(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.jobs.retain(|_, (of, _)| *of != client);
    }

    fn take(&mut self, action: Action<()>) {
        match action {
            Action::ToClient(client, reply) => {
                reply.check().expect("what is sent fits the protocol");
                if let ClientReply::Opened { job, .. } = reply {
                    self.jobs.insert(job, (client, 0));
                } else if let ClientReply::Finished { job, .. }
                | ClientReply::Cancelled { job, .. } = reply
                {
                    self.jobs.remove(&job);
                }
            }
            Action::ToWorker(worker, request, descriptors) => {
                request.check().expect("what is sent fits the protocol");
                assert_eq!(request.descriptors_len(), descriptors.len());
                if let WorkerRequest::Assign { lease, attempt, algorithms, work, .. } = request {
                    let (items_len, output_len) = shape(&work, algorithms);
                    self.leases.push((worker, lease, attempt, items_len, output_len));
                }
            }
            Action::CloseClient(client, _) => self.forget(client),
            Action::CloseWorker(worker, _) => _ = self.workers.remove(&worker),
            Action::Listed(tag, _) => {
                assert!(self.pages.remove(&tag), "{tag:?} was not wanted");
            }
            Action::ToBook(_)
            | Action::Quarantined(..)
            | Action::Doubted(_)
            | Action::Keep(..)
            | Action::BackInQuarantine { .. }
            | Action::DrainAsked { .. }
            | Action::Drained(_)
            | Action::UndrainAsked { .. }
            | Action::ReleaseAsked { .. } => {}
        }
    }
}

/// Items of this work, and the length of each output in bytes.
fn shape(work: &Work, algorithms: Algorithms) -> (usize, usize) {
    match work {
        Work::Files { files, .. } => (files.len(), algorithms.digests_len()),
        Work::Inline { lens, .. } => (lens.len(), algorithms.digests_len()),
        Work::Subtree { .. } => (1, 32),
        Work::Resume { .. } | Work::Piece(_) => (1, algorithms.digests_len()),
        Work::List(_) => (1, 0),
    }
}

/// A policy file: whatever it says, only peers that it names get rights, and those that were named
/// before keep theirs.
pub(crate) fn policy(input: &[u8]) {
    let datasets = DATASETS.map(str::to_owned);
    let token =
        |path: &Path| Token::parse(path.as_os_str().as_bytes()).map_err(|error| error.to_string());
    let mut policy = AccessPolicy::own(OWN_UID);
    policy.allow(vec![EARLIER_ID], Vec::new());
    let result = policy.extend(input, &datasets, token);
    if let Err(error) = result {
        assert!(!error.to_string().is_empty());
        return;
    }
    let text = str::from_utf8(input).expect("a policy is text");
    // TOML writes a number in these bases, perhaps with underscores.
    let plain = text.replace('_', "").to_lowercase();
    let has_other_base = ["0x", "0o", "0b"].iter().any(|base| plain.contains(base));
    let is_named = |id: u32| has_other_base || plain.contains(&id.to_string());
    for uid in [0, OWN_UID, EARLIER_ID, 1, 7, 50, 4711, u32::MAX] {
        for gid in [0, 1, 7, 50, u32::MAX] {
            let peer = Peer { uid, gid, pid: 1 };
            let (rights, works) = (policy.client(peer), policy.admits_worker(peer));
            if uid == 0 || uid == OWN_UID {
                assert!(rights.as_deref() == Some(&Rights::ALL) && works, "{peer:?}");
            } else if uid == EARLIER_ID {
                assert!(rights.as_deref() == Some(&Rights::jobs()) && !works, "{peer:?}");
            } else if !is_named(uid) && !is_named(gid) {
                assert!(rights.is_none() && !works, "{peer:?} is not named: {text:?}");
            }
            assert!(!works || uid == 0 || uid == OWN_UID || !policy.is_private_for_workers());
            assert!(uid != 1 || rights.is_none() || !policy.is_private_for_clients());
        }
    }
    let holder = policy.token_holder(b"a guess that no file has");
    assert_eq!(holder.is_some(), !policy.has_tokens(), "a token is known, or nobody needs one");
}
