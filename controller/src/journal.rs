//! Durable storage of the controller: ordered tables of byte strings, written in transactions.
//!
//! [`Storage`] is what the durable jobs need of a database: an atomic commit that is durable when it returns, and
//! consistent reads. Two of its implementations are [`MemoryStorage`], for tests and simulations, and the
//! redb file of a state directory.
//!
//! Not here: what the rows mean, which is up to the modules that write them.

mod backup;
mod device;
mod disk;
mod memory;
mod state_dir;
mod threads;

pub use backup::{BackupError, back_up, back_up_to, compact, restore, restore_from};
pub use device::Device;
pub use disk::{DiskStorage, FORMAT, FormatError};
pub use memory::{MemoryStorage, MemoryTables};
pub use state_dir::{JOURNAL_FILE, StateDir, StateDirError};
pub use threads::{COMMITS_LEN_MAX, Journal, JournalAnswer, JournalHealth, Query, REQUESTS_MAX};

use std::io;
use std::sync::Arc;
use thiserror::Error;

/// A table, whose keys and values are byte strings; keys are ordered as bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableId {
    /// Single values: the format, counters.
    Meta,
    /// One record per durable job.
    Jobs,
    /// Idempotency keys of principals, with the job that each made.
    Keys,
    /// Chunks of items that a client gave to a job.
    Items,
    /// Chunks of results, in the order of a job's items.
    Results,
    /// Items that failed for good, with the reasons of all their attempts.
    Deaths,
    /// One record per schedule.
    Schedules,
    /// One record per run of a schedule's task.
    Runs,
    /// The audit trail.
    Events,
    /// Notices of runs that are not delivered yet.
    Notices,
    /// Workers that are drained or in quarantine, by name.
    Workers,
    /// Findings of audits, in the order of the walk.
    Findings,
    /// Claims of the manifests of audits, in the order of the walk.
    Claims,
}

impl TableId {
    /// All tables.
    pub const ALL: [Self; 13] = [
        Self::Meta,
        Self::Jobs,
        Self::Keys,
        Self::Items,
        Self::Results,
        Self::Deaths,
        Self::Schedules,
        Self::Runs,
        Self::Events,
        Self::Notices,
        Self::Workers,
        Self::Findings,
        Self::Claims,
    ];

    /// Its name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Jobs => "jobs",
            Self::Keys => "keys",
            Self::Items => "items",
            Self::Results => "results",
            Self::Deaths => "deaths",
            Self::Schedules => "schedules",
            Self::Runs => "runs",
            Self::Events => "events",
            Self::Notices => "notices",
            Self::Workers => "workers",
            Self::Findings => "findings",
            Self::Claims => "claims",
        }
    }

    /// Its number in backups, which stays the same when tables are added.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Longest key, in bytes.
pub const KEY_LEN_MAX: usize = 4 << 10;

/// Longest value, in bytes.
pub const VALUE_LEN_MAX: usize = 4 << 20;

/// One change of a transaction. Later ones see what earlier ones did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the value of a key.
    Put {
        /// The table.
        table: TableId,
        /// The key, of at most [`KEY_LEN_MAX`] bytes.
        key: Vec<u8>,
        /// The value, of at most [`VALUE_LEN_MAX`] bytes.
        value: Vec<u8>,
    },
    /// Removes a key, which need not be there.
    Delete {
        /// The table.
        table: TableId,
        /// The key.
        key: Vec<u8>,
    },
    /// Removes all keys from `from` on up to but without `to`.
    DeleteRange {
        /// The table.
        table: TableId,
        /// The first key.
        from: Vec<u8>,
        /// The key after the last; empty stands for the end of the table.
        to: Vec<u8>,
    },
}

impl Write {
    /// The table that it changes.
    #[must_use]
    pub const fn table(&self) -> TableId {
        match self {
            Self::Put { table, .. }
            | Self::Delete { table, .. }
            | Self::DeleteRange { table, .. } => *table,
        }
    }

    /// Bytes of its keys and value.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
            Self::DeleteRange { from, to, .. } => from.len() + to.len(),
        }
    }
}

/// Rows of one table in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Keys with their values.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// True if the range has rows after these.
    pub more: bool,
}

/// Why a storage did not do something.
#[derive(Clone, Debug, Error)]
pub enum StorageError {
    /// No space; the transaction is undone, and one that is tried later can succeed.
    #[error("no space left for the journal")]
    Full(#[source] Arc<io::Error>),
    /// The file system is read-only; the transaction is undone.
    #[error("the journal cannot be written to")]
    ReadOnly(#[source] Arc<io::Error>),
    /// A write or a sync failed: what is durable is unknown, and nothing is written any more.
    #[error("the journal failed")]
    Failed(#[source] Arc<io::Error>),
    /// The contents contradict themselves.
    #[error("the journal is damaged: {0}")]
    Corrupt(String),
    /// A key or value of a write is too long, of that many bytes.
    #[error("a key or value of {0} bytes is too long for the journal")]
    TooLong(usize),
}

impl StorageError {
    /// A failure after which nothing is written any more.
    #[must_use]
    pub fn failed(error: io::Error) -> Self {
        Self::Failed(Arc::new(error))
    }
}

/// A database of the tables in [`TableId`]. One thread commits; any may read.
pub trait Storage: Send + Sync {
    /// Carries out `writes` in their order: all of them, or none. They are durable when this returns.
    ///
    /// # Errors
    /// [`StorageError`]; after [`StorageError::Failed`] every later commit fails, too.
    fn commit(&self, writes: &[Write]) -> Result<(), StorageError>;

    /// The contents as they are now, which later commits do not change.
    ///
    /// # Errors
    /// [`StorageError`].
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError>;

    /// Bytes of the keys and values of all rows.
    fn rows_len(&self) -> u64;
}

/// The contents of a storage at one time.
pub trait Snapshot: Send {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StorageError`].
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Rows from the key `from` on up to but without `to` (empty: to the end of the table), of which it ends
    /// early when they have `bytes_max` bytes; there is at least one, if the range has any.
    ///
    /// # Errors
    /// [`StorageError`].
    fn range(
        &self,
        table: TableId,
        from: &[u8],
        to: &[u8],
        bytes_max: usize,
    ) -> Result<Rows, StorageError>;
}

/// Refuses what no storage takes.
fn check(writes: &[Write]) -> Result<(), StorageError> {
    for write in writes {
        let (keys, value_len) = match write {
            Write::Put { key, value, .. } => ([key.len(), 0], value.len()),
            Write::Delete { key, .. } => ([key.len(), 0], 0),
            Write::DeleteRange { from, to, .. } => ([from.len(), to.len()], 0),
        };
        if let Some(&len) = keys.iter().find(|&&len| len > KEY_LEN_MAX) {
            return Err(StorageError::TooLong(len));
        }
        if value_len > VALUE_LEN_MAX {
            return Err(StorageError::TooLong(value_len));
        }
    }
    Ok(())
}

/// Takes rows until they have `bytes_max` bytes.
fn take_rows<E>(
    rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
    bytes_max: usize,
) -> Result<Rows, E> {
    let mut taken = Rows::default();
    let mut bytes_len = 0;
    for row in rows {
        let (key, value) = row?;
        bytes_len += key.len() + value.len();
        if bytes_len > bytes_max && !taken.rows.is_empty() {
            taken.more = true;
            break;
        }
        taken.rows.push((key, value));
    }
    Ok(taken)
}
