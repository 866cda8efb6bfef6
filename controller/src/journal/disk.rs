//! A storage in one redb file.
//!
//! After a failure redb refuses everything until the database is opened again. A commit for which there was no space
//! is therefore followed by opening it again, which is a recovery as after a crash; while that cannot be, and
//! after a failure for good, the file is read through an [`Overlay`].
//!
//! Invariants:
//! - after a failed sync nothing is written any more, whatever later calls return;
//! - bytes of rows are counted: all of them once, when the file is opened, and then what each commit adds and takes away;
//! - a new database has its format in it, so that an empty or foreign one is never taken for a journal.

use super::device::{Device, Overlay, Watched};
use super::{Rows, Snapshot, Storage, StorageError, TableId, Write, check, take_rows};
use redb::{
    Builder, CompactionError, Database, Durability, ReadTransaction, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, TableDefinition, TableError, TransactionError,
};
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// Memory for pages of the file.
const CACHE_LEN: usize = 16 << 20;

/// The layout of tables and keys that this program writes.
pub const FORMAT: u32 = 2;

/// The changes that make a journal of the format before it one of the format with this number: all that happened
/// since format 1.
const MIGRATIONS: [(u32, Migrate); 1] = [
    // Results are packed in rows of their own form; rows of the form before are still read.
    (2, |_| Ok(Vec::new())),
];

type Migrate = fn(&dyn Snapshot) -> Result<Vec<Write>, StorageError>;

/// The key of the format in [`TableId::Meta`].
pub(super) const FORMAT_KEY: &[u8] = b"hashcluster-journal-format";

type OpenTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;
type KeyBound<'k> = Bound<&'k [u8]>;
type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: TableId) -> Definition {
    TableDefinition::new(table.name())
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It is no journal: not a database, or one of another program.
    #[error("it is not a journal of a controller ({0})")]
    Foreign(String),
    /// A newer program wrote it.
    #[error("a newer controller wrote it (format {found}, this one knows up to {FORMAT})")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It cannot be read, or recovered.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A journal in a file.
#[derive(Debug)]
pub struct DiskStorage {
    device: Arc<dyn Device>,
    open: Arc<RwLock<Opened>>,
    /// The failure after which nothing is written.
    failed: Mutex<Option<String>>,
    rows_len: AtomicU64,
}

/// An open database.
#[derive(Debug)]
struct Opened {
    database: Option<Database>,
    watched: Watched,
    /// Writes reach the file.
    writes: bool,
    /// Differs each time that a database is opened.
    number: u64,
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

impl Opened {
    fn open(device: Arc<dyn Device>, writes: bool) -> Result<Self, StorageError> {
        let watched = Watched::new(device);
        // What was closed properly is checked, too: a read of a damaged page would end this process otherwise.
        let database = Builder::new()
            .set_cache_size(CACHE_LEN)
            .set_check_integrity_on_open(writes)
            .create_with_backend(watched.clone())
            // Errors of the device are known; what is left is about the contents.
            .map_err(|error| {
                watched.failure().unwrap_or_else(|| StorageError::Corrupt(error.to_string()))
            })?;
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(Self { database: Some(database), watched, writes, number })
    }

    /// The meaning of `error`, by what happened to the file.
    fn cause(&self, error: redb::Error) -> StorageError {
        self.watched.failure().unwrap_or_else(|| unread(error))
    }
}

impl DiskStorage {
    /// Makes an empty journal on an empty device.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn create(device: Arc<dyn Device>) -> Result<Self, StorageError> {
        let storage = Self::on(device)?;
        storage.commit(&[put_format(FORMAT)])?;
        Ok(storage)
    }

    /// Opens a journal, after a crash as well; one of an earlier format becomes one of [`FORMAT`].
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn open(device: Arc<dyn Device>) -> Result<Self, FormatError> {
        let is_empty = device.is_empty().map_err(StorageError::failed)?;
        if is_empty {
            return Err(FormatError::Foreign("it is empty".to_owned()));
        }
        let storage = Self::on(device).map_err(|error| {
            if let StorageError::Corrupt(text) = error {
                return FormatError::Foreign(text);
            }
            FormatError::Storage(error)
        })?;
        let found = storage.snapshot()?.get(TableId::Meta, FORMAT_KEY)?;
        match found.map(|bytes| <[u8; 4]>::try_from(&bytes[..]).map(u32::from_be_bytes)) {
            Some(Ok(found)) if found > FORMAT => Err(FormatError::Newer { found }),
            Some(Ok(found)) if found > 0 => {
                // A crash in between leaves it at one of the formats.
                for (format, migrate) in MIGRATIONS.into_iter().filter(|(to, _)| *to > found) {
                    let mut writes = migrate(&*storage.snapshot()?)?;
                    writes.push(put_format(format));
                    storage.commit(&writes)?;
                }
                Ok(storage)
            }
            _ => Err(FormatError::Foreign("it has no format".to_owned())),
        }
    }

    /// Moves what is stored to the front of the file, and gives the rest of it back to the file system; a crash in the
    /// middle loses nothing. Returns the length of the file before and after, in bytes.
    ///
    /// # Errors
    /// [`StorageError`]; also while there is a snapshot.
    pub fn compact(&self) -> Result<(u64, u64), StorageError> {
        self.check_failed()?;
        let len = || self.device.len().map_err(StorageError::failed);
        let before = len()?;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let mut database = open.database.take().ok_or_else(not_open)?;
        let done = database.compact();
        open.database = Some(database);
        let error = match done {
            Ok(_) => return Ok((before, len()?)),
            Err(CompactionError::Storage(error)) => open.cause(error.into()),
            // Nothing was done, and nothing is wrong.
            Err(error) => return Err(StorageError::failed(io::Error::other(error))),
        };
        drop(open);
        self.reopen(&error);
        Err(error)
    }

    fn on(device: Arc<dyn Device>) -> Result<Self, StorageError> {
        let open = Opened::open(Arc::clone(&device), true)?;
        let rows_len = open.database.as_ref().map(count_rows).transpose();
        let rows_len = AtomicU64::new(rows_len.map_err(|error| open.cause(error))?.unwrap_or(0));
        Ok(Self { device, open: Arc::new(RwLock::new(open)), failed: Mutex::default(), rows_len })
    }

    /// Opens the database again after `error`: what is committed can still be read, and written to if the
    /// error was about space.
    fn reopen(&self, error: &StorageError) {
        let is_for_good = !matches!(error, StorageError::Full(_) | StorageError::ReadOnly(_));
        if is_for_good {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| cause_of(error));
        } else if self.revive().is_ok() {
            return;
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.database = None;
        let overlay = Overlay::new(Arc::clone(&self.device)).map_err(StorageError::failed);
        if let Ok(fresh) = overlay.and_then(|overlay| Opened::open(Arc::new(overlay), false)) {
            *open = fresh;
        }
    }

    /// Opens the database for writing, unless it is so.
    fn revive(&self) -> Result<(), StorageError> {
        let is_open = |open: &Opened| open.writes && open.watched.failure().is_none();
        if is_open(&self.open.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // The old one has to be gone before the new one reads the file.
        open.database = None;
        open.writes = false;
        *open = Opened::open(Arc::clone(&self.device), true)?;
        Ok(())
    }

    /// The failure after which nothing is written, if there was one.
    fn check_failed(&self) -> Result<(), StorageError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed
            .as_ref()
            .map_or(Ok(()), |text| Err(StorageError::failed(io::Error::other(text.clone()))))
    }
}

fn put_format(format: u32) -> Write {
    let (key, value) = (FORMAT_KEY.to_vec(), format.to_be_bytes().to_vec());
    Write::Put { table: TableId::Meta, key, value }
}

/// An error with what caused it, for people.
fn cause_of(error: &StorageError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

impl Storage for DiskStorage {
    fn commit(&self, writes: &[Write]) -> Result<(), StorageError> {
        check(writes)?;
        self.check_failed()?;
        if let Err(error) = self.revive() {
            self.reopen(&error);
            return Err(error);
        }
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &open.database else { return Err(not_open()) };
        let result = transact(database, writes).map_err(|error| open.cause(error));
        drop(open);
        match result {
            Ok((added, removed)) => {
                let rows_len = self.rows_len.load(Ordering::Relaxed);
                self.rows_len.store((rows_len + added).saturating_sub(removed), Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.reopen(&error);
                Err(error)
            }
        }
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let database = open.database.as_ref().ok_or_else(not_open)?;
        let transaction =
            database.begin_read().map_err(|error| open.cause(TransactionError::into(error)))?;
        let number = open.number;
        Ok(Box::new(DiskSnapshot { transaction, open: Arc::clone(&self.open), number }))
    }

    fn rows_len(&self) -> u64 {
        self.rows_len.load(Ordering::Relaxed)
    }
}

fn not_open() -> StorageError {
    StorageError::failed(io::Error::other("it could not be opened again after a failure"))
}

/// Bytes of the keys and values of all rows.
fn count_rows(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_read()?;
    let mut rows_len = 0;
    for table in TableId::ALL {
        match transaction.open_table(definition(table)) {
            Ok(table) => rows_len += table.stats()?.stored_bytes(),
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rows_len)
}

/// Carries out `writes` in one durable transaction; the bytes of rows that it added and removed.
fn transact(database: &Database, writes: &[Write]) -> Result<(u64, u64), redb::Error> {
    let (mut added, mut removed) = (0, 0);
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
    // Names and digests come from others, and a checksum is no proof against who chooses the data.
    transaction.set_two_phase_commit(true);
    for table in TableId::ALL {
        let mut of_table = writes.iter().filter(|write| write.table() == table).peekable();
        if of_table.peek().is_none() {
            continue;
        }
        let mut opened = transaction.open_table(definition(table))?;
        for write in of_table {
            match write {
                Write::Put { key, value, .. } => {
                    added += (key.len() + value.len()) as u64;
                    let old = opened.insert(&key[..], &value[..])?;
                    removed += old.map_or(0, |old| (key.len() + old.value().len()) as u64);
                }
                Write::Delete { key, .. } => {
                    let old = opened.remove(&key[..])?;
                    removed += old.map_or(0, |old| (key.len() + old.value().len()) as u64);
                }
                Write::DeleteRange { from, to, .. } => {
                    if let Some(range) = bounds(from, to) {
                        opened.retain_in::<&[u8], _>(range, |key, value| {
                            removed += (key.len() + value.len()) as u64;
                            false
                        })?;
                    }
                }
            }
        }
    }
    transaction.commit()?;
    Ok((added, removed))
}

/// The range from `from` to `to`, as of [`Snapshot::range`]; `None` if it is empty.
fn bounds<'k>(from: &'k [u8], to: &'k [u8]) -> Option<(KeyBound<'k>, KeyBound<'k>)> {
    if to.is_empty() {
        return Some((Bound::Included(from), Bound::Unbounded));
    }
    (from < to).then_some((Bound::Included(from), Bound::Excluded(to)))
}

/// The contents of a file at one time.
///
/// A database that is opened again knows nothing of the snapshots of the one before, and writes over what only they
/// have: they end with it.
struct DiskSnapshot {
    transaction: ReadTransaction,
    open: Arc<RwLock<Opened>>,
    /// That of the database it is of.
    number: u64,
}

fn unread(error: impl Into<redb::Error>) -> StorageError {
    let error = error.into();
    if let redb::Error::Corrupted(text) = error {
        return StorageError::Corrupt(text);
    }
    StorageError::failed(io::Error::other(error))
}

impl DiskSnapshot {
    /// Keeps the database from being opened again while something is read.
    fn reading(&self) -> Result<RwLockReadGuard<'_, Opened>, StorageError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if open.number == self.number {
            return Ok(open);
        }
        let text = "it was opened again after a failure, which ended what was being read";
        Err(StorageError::failed(io::Error::other(text)))
    }

    /// The table, unless nothing was ever written to it.
    fn table(&self, table: TableId) -> Result<Option<OpenTable>, StorageError> {
        match self.transaction.open_table(definition(table)) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(unread(error)),
        }
    }
}

impl Snapshot for DiskSnapshot {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let _open = self.reading()?;
        let Some(table) = self.table(table)? else { return Ok(None) };
        let value = table.get(key).map_err(unread)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn range(
        &self,
        table: TableId,
        from: &[u8],
        to: &[u8],
        bytes_max: usize,
    ) -> Result<Rows, StorageError> {
        let _open = self.reading()?;
        let (Some(table), Some(range)) = (self.table(table)?, bounds(from, to)) else {
            return Ok(Rows::default());
        };
        let rows = ReadableTable::range::<&[u8]>(&table, range).map_err(unread)?;
        let rows = rows.map(|row| {
            row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(unread)
        });
        take_rows(rows, bytes_max)
    }
}
