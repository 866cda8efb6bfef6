//! Items of durable jobs whose workers are lost: the journal keeps the reasons until they have another result.

use hashcluster_controller::core::{BookRequest, Principal, Rights};
use hashcluster_controller::jobs::{Book, BookAction, BookEvent, Caller, Instants};
use hashcluster_controller::journal::{MemoryStorage, Storage};
use ipc_proto::message::{
    ClientReply, DeadItem, Failure, Failures, Items, JobAct, JobId, JobKind, JobSource, JobSpec,
    LossCause, NameShare, Run, ServiceReply, ServiceRequest, Window, WorkerLoss,
};
use ipc_proto::{Algorithm, Blob};
use std::collections::VecDeque;
use std::rc::Rc;

const DIGEST_LEN: usize = 32;

/// A book with its journal, and a core that is played.
struct Played {
    book: Book,
    storage: MemoryStorage,
    replies: Vec<ServiceReply>,
    /// The job of the core, and the items that it has.
    core: JobId,
    handed: u64,
}

impl Played {
    fn new() -> Self {
        let core = JobId { epoch: 0, number: 0 };
        let storage = MemoryStorage::default();
        let book = Book::new(1_800_000_000, Vec::new());
        let mut played = Self { book, storage, replies: Vec::new(), core, handed: 0 };
        played.tell(BookEvent::Tick);
        played
    }

    /// The controller dies, and another one starts on its journal.
    fn restart(&mut self) {
        self.book = Book::new(1_800_000_001, Vec::new());
        self.tell(BookEvent::Tick);
    }

    fn tell(&mut self, event: BookEvent) {
        let mut todo = VecDeque::from([event]);
        while let Some(event) = todo.pop_front() {
            for action in self.book.step(Instants::default(), event) {
                todo.extend(self.carry_out(action));
            }
        }
    }

    fn carry_out(&mut self, action: BookAction) -> Option<BookEvent> {
        match action {
            BookAction::Persist(sequence, writes) => {
                self.storage.commit(&writes).expect("memory takes everything");
                Some(BookEvent::Persisted(sequence))
            }
            BookAction::Read(tag, query) => {
                let snapshot = self.storage.snapshot().expect("memory can be read");
                let (from, to) = (&query.from, &query.to);
                let rows = snapshot.range(query.table, from, to, query.bytes_max);
                let rows = rows.expect("memory can be read");
                Some(BookEvent::Read(tag, Ok(rows)))
            }
            BookAction::Core(BookRequest::Open { tag, .. }) => {
                self.core.number += 1;
                self.handed = 0;
                let window = Window { items: 100, bytes: 1 << 20 };
                let opened = ClientReply::Opened { tag, job: self.core, window, workers: 1 };
                Some(BookEvent::Core(opened))
            }
            BookAction::Core(BookRequest::Items { items, .. }) => {
                self.handed += items.items_len() as u64;
                None
            }
            BookAction::Core(BookRequest::Finish { .. } | BookRequest::Cancel { .. })
            | BookAction::List(_)
            | BookAction::Unlist(_)
            | BookAction::Ended(_) => None,
            BookAction::Reply(_, _, reply) => {
                self.replies.push(reply);
                None
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, request: ServiceRequest) -> ServiceReply {
        let (caller, principal) = (Caller(1), Principal::Uid(7));
        let rights = Rc::new(Rights::ALL);
        self.tell(BookEvent::Asked { caller, tag: 1, principal, rights, request });
        self.replies.pop().expect("an answer")
    }

    /// All items that the core has are resolved, with these failures.
    fn resolve(&mut self, failures: Failures) {
        let len = u32::try_from(self.handed).expect("a few");
        let outputs = Blob(vec![7; DIGEST_LEN * (len as usize - failures.len())]);
        let runs = vec![Run { first: 0, len }];
        let job = self.core;
        self.tell(BookEvent::Core(ClientReply::Results { job, runs, outputs, failures }));
        self.tell(BookEvent::Core(ClientReply::Finished { job, items: 0, failed: 0 }));
    }

    fn die(&mut self, index: u64) {
        let (job, losses) = (self.core, losses());
        self.tell(BookEvent::Core(ClientReply::Death { job, index, losses }));
    }

    #[track_caller]
    fn dead(&mut self, job: JobId, from: u64, limit: u16) -> (Vec<DeadItem>, bool) {
        let reply = self.ask(ServiceRequest::Deaths { job, from, limit });
        let ServiceReply::Deaths { rows, more } = reply else { panic!("{reply:?}") };
        (rows, more)
    }

    /// A job of three messages, all handed to the core.
    fn submit(&mut self) -> JobId {
        let spec = Box::new(JobSpec {
            kind: JobKind::Sum,
            algorithms: Algorithm::Sha256.into(),
            source: JobSource::Stored,
            cross_check: 0,
            strict_reads: false,
            labels: Vec::new(),
            priority: 0,
            keep_s: 0,
            rate: 0,
            share: NameShare::ALL,
        });
        let ServiceReply::Job(row) = self.ask(ServiceRequest::Submit { key: String::new(), spec })
        else {
            panic!("no job")
        };
        let names = [b"a", b"b", b"c"].map(|name| Blob::from(&name[..])).to_vec();
        let items = Items::Inline { lens: vec![1; 3], data: Blob(b"xyz".to_vec()) };
        let (job, expected) = (row.id, Vec::new());
        self.ask(ServiceRequest::Store { job, first: 0, names, expected, items });
        self.ask(ServiceRequest::Seal { job });
        assert_eq!(self.handed, 3);
        job
    }
}

fn losses() -> Vec<WorkerLoss> {
    let loss = |worker: &str, cause| WorkerLoss { worker: worker.to_owned(), cause };
    vec![
        loss("w1", LossCause::Disconnected),
        loss("w2", LossCause::Expired),
        loss("w3", LossCause::Silent),
    ]
}

fn dead(index: u64, name: &[u8]) -> DeadItem {
    DeadItem { index, name: name.into(), losses: losses() }
}

const LOST: Failure = Failure::WorkersLost { attempts: 3 };

#[test]
fn the_reasons_of_dead_items_outlive_the_controller_until_a_retry_finds_their_digest() {
    let mut played = Played::new();
    let job = played.submit();
    played.die(0);
    played.die(2);
    played.resolve(vec![(0, LOST), (2, LOST)]);
    let both = vec![dead(0, b"a"), dead(2, b"c")];
    assert_eq!(played.dead(job, 0, 9), (both.clone(), false));
    played.restart();
    assert_eq!(played.dead(job, 0, 9), (both, false));
    // Read in pages.
    assert_eq!(played.dead(job, 0, 1), (vec![dead(0, b"a")], true));
    assert_eq!(played.dead(job, 1, 1), (vec![dead(2, b"c")], false));
    // The first of the two has a digest now, the other one is dead again.
    played.ask(ServiceRequest::Act { job, act: JobAct::Retry });
    assert_eq!(played.handed, 2);
    played.die(1);
    played.resolve(vec![(1, LOST)]);
    assert_eq!(played.dead(job, 0, 9), (vec![dead(2, b"c")], false));
    // Another failure is no death.
    played.ask(ServiceRequest::Act { job, act: JobAct::Retry });
    played.resolve(vec![(0, Failure::Io { errno: 5 })]);
    assert_eq!(played.dead(job, 0, 9), (vec![], false));
}

#[test]
fn a_removed_job_leaves_no_reasons_behind() {
    let mut played = Played::new();
    let job = played.submit();
    played.die(0);
    played.resolve(vec![(0, LOST)]);
    played.ask(ServiceRequest::Act { job, act: JobAct::Remove });
    let table = hashcluster_controller::journal::TableId::Deaths;
    let rows = played.storage.snapshot().unwrap().range(table, &[], &[], 1 << 20).unwrap();
    assert_eq!(rows.rows, []);
    let ServiceReply::Refused { .. } =
        played.ask(ServiceRequest::Deaths { job, from: 0, limit: 1 })
    else {
        panic!("there is no such job")
    };
}
