//! Backups: all rows of a journal at one time as one stream, and the way back (`docs/backup.md`).
//!
//! Invariants:
//! - a stream that is cut off or changed anywhere is refused as a whole;
//! - a journal that is restored to has either all of the backup, or what it had before.

use super::disk::FORMAT_KEY;
use super::{
    FORMAT, KEY_LEN_MAX, Rows, Snapshot, Storage, StorageError, TableId, VALUE_LEN_MAX, Write,
};
use super::{StateDir, StateDirError};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use thiserror::Error;

/// The first bytes of a backup.
const MAGIC: &[u8; 16] = b"hashcluster-bkp\n";

/// The version of this form.
const VERSION: u32 = 1;

/// The number in the place of a table's that ends the rows.
const END: u8 = 0xff;

/// Bytes of rows that are read at a time.
const PAGE_LEN: usize = 1 << 20;

/// Why there is no backup, or why it is not restored.
#[derive(Debug, Error)]
pub enum BackupError {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It is no backup.
    #[error("it is not a backup of a controller")]
    Foreign,
    /// A newer controller made it.
    #[error("a newer controller made it (version {version} of a journal of format {format})")]
    Newer {
        /// Its form.
        version: u32,
        /// Its journal's format.
        format: u32,
    },
    /// It was changed or cut off.
    #[error("it is damaged or incomplete: {0}")]
    Damaged(&'static str),
    /// There are jobs or schedules that it would replace.
    #[error("the journal has jobs or schedules; --replace removes them")]
    NotEmpty,
}

/// FNV-1a of 64 bits (Fowler, Noll and Vo), against accidents: whoever can write a backup can write a journal.
#[derive(Clone, Copy, Debug)]
struct Checksum(u64);

impl Checksum {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A backup that is made piece by piece, of contents that do not change.
#[derive(Debug)]
pub(super) struct BackupPieces {
    /// Bytes that are made and not taken.
    made: Vec<u8>,
    checksum: Checksum,
    /// The table and the key to go on with; `None` after the end of the rows.
    next: Option<(usize, Vec<u8>)>,
    count: u64,
}

impl BackupPieces {
    pub(super) fn new() -> Self {
        let (made, checksum) = (Vec::new(), Checksum::new());
        let mut pieces = Self { made, checksum, next: Some((0, Vec::new())), count: 0 };
        pieces.put(MAGIC);
        pieces.put(&VERSION.to_be_bytes());
        pieces.put(&FORMAT.to_be_bytes());
        pieces
    }

    /// The next bytes, at most `len_max`, and true if they are the last.
    pub(super) fn take(
        &mut self,
        contents: &dyn Snapshot,
        len_max: usize,
    ) -> Result<(Vec<u8>, bool), StorageError> {
        while self.made.len() <= len_max
            && let Some((table, from)) = self.next.take()
        {
            self.next = self.make(contents, table, &from)?;
            if self.next.is_none() {
                self.put(&[END]);
                self.put(&self.count.to_be_bytes());
                let Checksum(sum) = self.checksum;
                self.put(&sum.to_be_bytes());
            }
        }
        let rest = self.made.split_off(len_max.min(self.made.len()));
        let piece = std::mem::replace(&mut self.made, rest);
        Ok((piece, self.made.is_empty() && self.next.is_none()))
    }

    /// Makes some rows of a table; where to go on.
    fn make(
        &mut self,
        contents: &dyn Snapshot,
        number: usize,
        from: &[u8],
    ) -> Result<Option<(usize, Vec<u8>)>, StorageError> {
        let table = TableId::ALL[number];
        let Rows { rows, more } = contents.range(table, from, b"", PAGE_LEN)?;
        // The format is that of the journal which has it, and stands in the head.
        let is_content = |key: &[u8]| table != TableId::Meta || key != FORMAT_KEY;
        for (key, value) in rows.iter().filter(|(key, _)| is_content(key)) {
            self.put(&[table.number()]);
            self.put_len(key);
            self.put_len(value);
            self.count += 1;
        }
        Ok(match rows.last() {
            Some((last, _)) if more => Some((number, [last, &[0][..]].concat())),
            _ => Some((number + 1, Vec::new())).filter(|(next, _)| *next < TableId::ALL.len()),
        })
    }

    fn put(&mut self, bytes: &[u8]) {
        self.checksum.add(bytes);
        self.made.extend_from_slice(bytes);
    }

    fn put_len(&mut self, bytes: &[u8]) {
        // Keys and values have limits far below that.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put(&len.to_be_bytes());
        self.put(bytes);
    }
}

/// Writes all rows of `contents`; returns their number.
///
/// # Errors
/// [`BackupError`].
pub fn back_up(contents: &dyn Snapshot, to: &mut dyn io::Write) -> Result<u64, BackupError> {
    let mut pieces = BackupPieces::new();
    loop {
        let (piece, is_last) = pieces.take(contents, PAGE_LEN)?;
        to.write_all(&piece)?;
        if is_last {
            to.flush()?;
            return Ok(pieces.count);
        }
    }
}

struct Stream<'r> {
    from: &'r mut dyn Read,
    checksum: Checksum,
}

impl Stream<'_> {
    fn take<const LEN: usize>(&mut self) -> Result<[u8; LEN], BackupError> {
        let mut bytes = [0; LEN];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.from.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return BackupError::Damaged("it ends early");
            }
            BackupError::Io(error)
        })?;
        self.checksum.add(bytes);
        Ok(())
    }

    fn take_len(&mut self, len_max: usize) -> Result<Vec<u8>, BackupError> {
        let len = usize::try_from(u32::from_be_bytes(self.take()?)).unwrap_or(usize::MAX);
        if len > len_max {
            return Err(BackupError::Damaged("a key or value is too long"));
        }
        let mut bytes = vec![0; len];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// Replaces the contents of `storage` by those of a backup, in one transaction; returns the number of rows.
///
/// # Errors
/// [`BackupError`]; the contents are as before then.
pub fn restore(
    from: &mut dyn Read,
    storage: &dyn Storage,
    replaces: bool,
) -> Result<u64, BackupError> {
    let now = storage.snapshot()?;
    for table in [TableId::Jobs, TableId::Schedules] {
        if !replaces && !now.range(table, b"", b"", 1)?.rows.is_empty() {
            return Err(BackupError::NotEmpty);
        }
    }
    drop(now);
    let mut stream = Stream { from, checksum: Checksum::new() };
    match stream.take::<16>() {
        Ok(magic) if magic == *MAGIC => {}
        Ok(_) | Err(BackupError::Damaged(_)) => return Err(BackupError::Foreign),
        Err(error) => return Err(error),
    }
    let version = u32::from_be_bytes(stream.take()?);
    let format = u32::from_be_bytes(stream.take()?);
    if version > VERSION || format > FORMAT {
        return Err(BackupError::Newer { version, format });
    }
    let mut writes = Vec::new();
    for table in TableId::ALL {
        let mut from = Vec::new();
        if table == TableId::Meta {
            writes.push(Write::DeleteRange { table, from, to: FORMAT_KEY.to_vec() });
            from = [FORMAT_KEY, &[0]].concat();
        }
        writes.push(Write::DeleteRange { table, from, to: Vec::new() });
    }
    let mut count: u64 = 0;
    loop {
        let [number] = stream.take()?;
        if number == END {
            break;
        }
        let table = TableId::ALL.into_iter().find(|table| table.number() == number);
        let table = table.ok_or(BackupError::Damaged("a table is unknown"))?;
        let key = stream.take_len(KEY_LEN_MAX)?;
        let value = stream.take_len(VALUE_LEN_MAX)?;
        writes.push(Write::Put { table, key, value });
        count += 1;
    }
    if u64::from_be_bytes(stream.take()?) != count {
        return Err(BackupError::Damaged("rows are missing"));
    }
    let Checksum(sum) = stream.checksum;
    if u64::from_be_bytes(stream.take()?) != sum {
        return Err(BackupError::Damaged("its checksum differs"));
    }
    if stream.from.read(&mut [0])? > 0 {
        return Err(BackupError::Damaged("it goes on after its end"));
    }
    storage.commit(&writes)?;
    Ok(count)
}

/// Writes a backup of the journal in the state directory `dir`, which no controller uses, to the new file `path`;
/// returns the number of rows.
///
/// # Errors
/// [`BackupError`].
pub fn back_up_to(dir: &Path, path: &Path) -> Result<u64, BackupError> {
    let journal = StateDir::open(dir)?.journal()?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut to = BufWriter::new(&file);
    let rows = back_up(&*journal.snapshot()?, &mut to);
    drop(to);
    let rows = rows.and_then(|rows| file.sync_all().map(|()| rows).map_err(BackupError::from));
    if rows.is_err() {
        // Half a backup is none; the reason is the other error.
        let _ = std::fs::remove_file(path);
    }
    rows
}

/// Restores the journal in the state directory `dir`, which no controller uses, from the backup `path`; returns
/// the number of rows.
///
/// # Errors
/// [`BackupError`].
pub fn restore_from(dir: &Path, path: &Path, replaces: bool) -> Result<u64, BackupError> {
    let mut file = BufReader::new(File::open(path)?);
    restore(&mut file, &StateDir::open(dir)?.journal()?, replaces)
}

/// Compacts the journal in the state directory `dir`, which no controller uses; returns the length of its file before
/// and after, in bytes.
///
/// # Errors
/// [`BackupError`].
pub fn compact(dir: &Path) -> Result<(u64, u64), BackupError> {
    Ok(StateDir::open(dir)?.journal()?.compact()?)
}
