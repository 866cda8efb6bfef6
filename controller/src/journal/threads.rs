//! The journal beside an event loop: a thread that writes and one that reads, so that no disk stops the loop.
//!
//! Drive it so: [`Journal::start`] gives a journal and the receiver of its answers. [`Journal::commit`] and
//! [`Journal::read`] queue a request and return at once; each request is answered once. Commits are answered in
//! their order, when they are durable; those that queue while one is carried out become one transaction.
//!
//! Invariants:
//! - what is queued is bounded by [`COMMITS_LEN_MAX`] and [`REQUESTS_MAX`];
//! - after a commit failed for good, none succeeds;
//! - the storage is closed by the thread that writes, which ends last.

use super::backup::BackupPieces;
use super::{Rows, Snapshot, Storage, StorageError, TableId, Write, check};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Most bytes of queued commits; a single one may be larger.
pub const COMMITS_LEN_MAX: usize = 32 << 20;

/// Most queued requests of either kind.
pub const REQUESTS_MAX: usize = 1024;

/// Most bytes that become one transaction; a single commit may be larger.
const TRANSACTION_LEN_MAX: usize = 8 << 20;

/// Time between looks whether a full disk has space again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that are written to see if there is space.
const PROBE_LEN: usize = 64 << 10;

/// The key of [`TableId::Meta`] under which they are written.
const PROBE_KEY: &[u8] = b"probe";

/// A page of rows that is asked for, as of [`super::Snapshot::range`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The table.
    pub table: TableId,
    /// The first key.
    pub from: Vec<u8>,
    /// The key after the last; empty: the end of the table.
    pub to: Vec<u8>,
    /// Bytes of rows after which it ends.
    pub bytes_max: usize,
}

/// A request to the thread that reads.
#[derive(Debug)]
enum ReadTask {
    Rows(Query),
    /// The next piece of a backup of at most this many bytes; with `true`, the first one of a new backup.
    Backup(usize, bool),
    /// There is no need for the rest of the backup.
    EndBackup,
}

/// The journal's ability to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JournalHealth {
    /// It writes.
    #[default]
    Writes,
    /// There is no space, for this reason; it writes again when there is.
    Full(String),
    /// It is read-only, for this reason; it writes again when it can.
    ReadOnly(String),
    /// It failed for this reason, and writes no more.
    Failed(String),
}

impl JournalHealth {
    /// All names.
    pub const NAMES: [&'static str; 4] = ["ok", "full", "read-only", "failed"];

    fn after(error: &StorageError) -> Option<Self> {
        let reason = || match std::error::Error::source(error) {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        };
        match error {
            StorageError::Full(_) => Some(Self::Full(reason())),
            StorageError::ReadOnly(_) => Some(Self::ReadOnly(reason())),
            StorageError::Failed(_) | StorageError::Corrupt(_) => Some(Self::Failed(reason())),
            StorageError::TooLong(_) => None,
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Self::Writes => 0,
            Self::Full(_) => 1,
            Self::ReadOnly(_) => 2,
            Self::Failed(_) => 3,
        }]
    }

    /// The reason why nothing is written.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Writes => None,
            Self::Full(reason) | Self::ReadOnly(reason) | Self::Failed(reason) => Some(reason),
        }
    }
}

/// An answer of a [`Journal`].
#[derive(Clone, Debug)]
pub enum JournalAnswer {
    /// The commit of that sequence is durable.
    Committed(u64),
    /// Nothing of that commit was written.
    NotCommitted(u64, StorageError),
    /// The rows that the query of that tag found.
    Found(u64, Result<Rows, StorageError>),
    /// The piece of a backup that was asked for by that tag, and true if it is the last one.
    BackedUp(u64, Result<(Vec<u8>, bool), StorageError>),
    /// The journal's ability to write changed.
    Health(JournalHealth),
}

#[derive(Debug)]
struct QueuedCommit {
    sequence: u64,
    writes: Vec<Write>,
    bytes_len: usize,
}

/// A journal with its threads. Dropping it carries out what is queued.
#[derive(Debug)]
pub struct Journal {
    commits: Option<SyncSender<QueuedCommit>>,
    queries: Option<SyncSender<(u64, ReadTask)>>,
    queued_len: Arc<AtomicUsize>,
    rows_len: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the threads, each of which calls `prepare` first.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        storage: impl Storage + 'static,
        prepare: impl Fn() -> io::Result<()> + Clone + Send + 'static,
    ) -> io::Result<(Self, UnboundedReceiver<JournalAnswer>)> {
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let (answers, receiver) = unbounded_channel();
        let (commits, queued_commits) = sync_channel(REQUESTS_MAX);
        let (queries, queued_tasks) = sync_channel(REQUESTS_MAX);
        let queued_len = Arc::<AtomicUsize>::default();
        let rows_len = Arc::new(AtomicU64::new(storage.rows_len()));
        let writer = Writer {
            storage: Arc::clone(&storage),
            answers: answers.clone(),
            queued_len: Arc::clone(&queued_len),
            rows_len: Arc::clone(&rows_len),
            health: JournalHealth::default(),
        };
        let start = |name: &str, run: Box<dyn FnOnce() -> io::Result<()> + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                // A thread without its filter writes nothing: all requests go unanswered, which is a failure.
                drop(run());
            })
        };
        let also_prepare = prepare.clone();
        let writer = start(
            "journal-write",
            Box::new(move || also_prepare().map(|()| writer.run(&queued_commits))),
        )?;
        let reader = start(
            "journal-read",
            Box::new(move || prepare().map(|()| read(&*storage, &queued_tasks, &answers))),
        )?;
        let journal = Self {
            commits: Some(commits),
            queries: Some(queries),
            queued_len,
            rows_len,
            reader: Some(reader),
            writer: Some(writer),
        };
        Ok((journal, receiver))
    }

    /// Queues a transaction, which [`JournalAnswer`]s with this sequence answer.
    ///
    /// # Errors
    /// The writes, if too much is queued: they are to be tried again after the next answer.
    pub fn commit(&self, sequence: u64, writes: Vec<Write>) -> Result<(), Vec<Write>> {
        let bytes_len = writes.iter().map(Write::bytes_len).sum();
        let queued_len = self.queued_len.load(Ordering::Relaxed);
        if queued_len > 0 && queued_len.saturating_add(bytes_len) > COMMITS_LEN_MAX {
            return Err(writes);
        }
        let Some(commits) = &self.commits else { return Err(writes) };
        self.queued_len.fetch_add(bytes_len, Ordering::Relaxed);
        commits.try_send(QueuedCommit { sequence, writes, bytes_len }).map_err(|error| {
            self.queued_len.fetch_sub(bytes_len, Ordering::Relaxed);
            let (std::sync::mpsc::TrySendError::Full(commit)
            | std::sync::mpsc::TrySendError::Disconnected(commit)) = error;
            commit.writes
        })
    }

    /// Queues a query, which an answer with this tag answers.
    ///
    /// # Errors
    /// The query, if too many are queued: it is to be tried again after the next answer.
    pub fn read(&self, tag: u64, query: Query) -> Result<(), Query> {
        let Some(queries) = &self.queries else { return Err(query) };
        queries.try_send((tag, ReadTask::Rows(query.clone()))).map_err(|_| query)
    }

    /// Queues a piece of a backup, the first one of a new backup if `begins`, which an answer with this tag answers.
    /// There is one backup at a time. Returns false if there is no room.
    #[must_use]
    pub fn back_up(&self, tag: u64, len_max: usize, begins: bool) -> bool {
        self.queue(tag, ReadTask::Backup(len_max, begins))
    }

    /// Gives up the backup, so that the space of what is deleted meanwhile can be used again. Returns false if there is
    /// no room for the request.
    #[must_use]
    pub fn end_backup(&self) -> bool {
        self.queue(0, ReadTask::EndBackup)
    }

    /// Bytes of the keys and values of all rows, with every commit that was answered.
    #[must_use]
    pub fn rows_len(&self) -> u64 {
        self.rows_len.load(Ordering::Relaxed)
    }

    fn queue(&self, tag: u64, task: ReadTask) -> bool {
        self.queries.as_ref().is_some_and(|queries| queries.try_send((tag, task)).is_ok())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // The writer closes the storage, so that it has to be its last holder.
        drop(self.queries.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        drop(self.commits.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Writer {
    storage: Arc<dyn Storage>,
    answers: UnboundedSender<JournalAnswer>,
    queued_len: Arc<AtomicUsize>,
    rows_len: Arc<AtomicU64>,
    health: JournalHealth,
}

impl Writer {
    fn run(mut self, queue: &Receiver<QueuedCommit>) {
        // Shows that there is space before anything depends on it.
        self.probe();
        let mut waiting = None;
        loop {
            let first = match waiting.take() {
                Some(commit) => commit,
                None => match self.next(queue) {
                    Ok(Some(commit)) => commit,
                    Ok(None) => continue,
                    Err(_) => return,
                },
            };
            let mut group = vec![first];
            let mut group_len = group[0].bytes_len;
            for commit in queue.try_iter().take(REQUESTS_MAX) {
                group_len += commit.bytes_len;
                if group_len > TRANSACTION_LEN_MAX {
                    waiting = Some(commit);
                    break;
                }
                group.push(commit);
            }
            self.commit(group);
        }
    }

    /// The next commit; `None` after an interval in which there was none to carry out.
    fn next(&mut self, queue: &Receiver<QueuedCommit>) -> Result<Option<QueuedCommit>, ()> {
        if matches!(self.health, JournalHealth::Writes | JournalHealth::Failed(_)) {
            return queue.recv().map(Some).map_err(drop);
        }
        match queue.recv_timeout(PROBE_INTERVAL) {
            Ok(commit) => Ok(Some(commit)),
            Err(RecvTimeoutError::Disconnected) => Err(()),
            Err(RecvTimeoutError::Timeout) => {
                self.probe();
                Ok(None)
            }
        }
    }

    /// Carries out commits as one transaction.
    fn commit(&mut self, group: Vec<QueuedCommit>) {
        let mut writes = Vec::new();
        let mut done = Vec::new();
        for QueuedCommit { sequence, writes: mut own, bytes_len } in group {
            self.queued_len.fetch_sub(bytes_len, Ordering::Relaxed);
            // Nobody else's commit fails for this one.
            match check(&own) {
                Ok(()) => {
                    writes.append(&mut own);
                    done.push((sequence, Ok(())));
                }
                Err(error) => done.push((sequence, Err(error))),
            }
        }
        let result = self.storage.commit(&writes);
        self.rows_len.store(self.storage.rows_len(), Ordering::Relaxed);
        for (sequence, own) in done {
            self.answer(match own.and(result.clone()) {
                Ok(()) => JournalAnswer::Committed(sequence),
                Err(error) => JournalAnswer::NotCommitted(sequence, error),
            });
        }
        self.note(&result);
    }

    /// Writes something, and removes it again.
    fn probe(&mut self) {
        let (table, key) = (TableId::Meta, PROBE_KEY.to_vec());
        let put = Write::Put { table, key: key.clone(), value: vec![0; PROBE_LEN] };
        let delete = Write::Delete { table, key };
        let result = self.storage.commit(&[put]).and_then(|()| self.storage.commit(&[delete]));
        self.note(&result);
    }

    fn note(&mut self, result: &Result<(), StorageError>) {
        let health = match result {
            Ok(()) => JournalHealth::Writes,
            Err(error) => match JournalHealth::after(error) {
                Some(health) => health,
                None => return,
            },
        };
        if health != self.health {
            self.health = health.clone();
            self.answer(JournalAnswer::Health(health));
        }
    }

    fn answer(&self, answer: JournalAnswer) {
        // The receiver is gone at the end of the process only.
        let _ = self.answers.send(answer);
    }
}

/// Answers queries, and makes backups.
fn read(
    storage: &dyn Storage,
    queue: &Receiver<(u64, ReadTask)>,
    answers: &UnboundedSender<JournalAnswer>,
) {
    let mut backup = None;
    for (tag, task) in queue {
        let answer = match task {
            ReadTask::Rows(query) => {
                let mut found = find(storage, &query);
                if found.is_err() {
                    // The storage may have been opened again in between.
                    found = find(storage, &query);
                }
                JournalAnswer::Found(tag, found)
            }
            ReadTask::Backup(len_max, begins) => {
                if begins {
                    // The old one is gone before there is a new one.
                    backup = None;
                }
                let piece = next_piece(storage, &mut backup, len_max, begins);
                if !matches!(piece, Ok((_, false))) {
                    backup = None;
                }
                JournalAnswer::BackedUp(tag, piece)
            }
            ReadTask::EndBackup => {
                backup = None;
                continue;
            }
        };
        let _ = answers.send(answer);
    }
}

/// A backup that is being made, with the contents as they were when it began.
type Backup = (Box<dyn Snapshot>, BackupPieces);

fn next_piece(
    storage: &dyn Storage,
    backup: &mut Option<Backup>,
    len_max: usize,
    begins: bool,
) -> Result<(Vec<u8>, bool), StorageError> {
    if begins {
        *backup = Some((storage.snapshot()?, BackupPieces::new()));
    }
    let ended = || StorageError::failed(io::Error::other("the backup was ended"));
    let (contents, pieces) = backup.as_mut().ok_or_else(ended)?;
    pieces.take(&**contents, len_max)
}

fn find(storage: &dyn Storage, query: &Query) -> Result<Rows, StorageError> {
    let Query { table, from, to, bytes_max } = query;
    storage.snapshot()?.range(*table, from, to, *bytes_max)
}
