//! A storage in memory: what is committed is gone with the process.

use super::{Rows, Snapshot, Storage, StorageError, TableId, Write, check, take_rows};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tables in memory. A clone is the same storage.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    tables: Arc<Mutex<MemoryTables>>,
}

/// The contents of a [`MemoryStorage`] at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryTables([Arc<Map>; TableId::ALL.len()]);

impl MemoryTables {
    /// Carries out `writes`.
    pub fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put { table, key, value } => {
                    self.map_mut(*table).insert(key.clone(), value.clone());
                }
                Write::Delete { table, key } => {
                    self.map_mut(*table).remove(key);
                }
                Write::DeleteRange { table, from, to } => {
                    let map = self.map_mut(*table);
                    let keys: Vec<_> = between(map, from, to).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        map.remove(&key);
                    }
                }
            }
        }
    }

    /// Bytes of the keys and values of all rows.
    #[must_use]
    pub fn rows_len(&self) -> u64 {
        let rows = self.0.iter().flat_map(|map| map.iter());
        rows.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn map_mut(&mut self, table: TableId) -> &mut Map {
        Arc::make_mut(&mut self.0[table.index()])
    }
}

/// Rows from `from` on up to `to`, or to the end if that is empty.
fn between<'m>(
    map: &'m Map,
    from: &[u8],
    to: &[u8],
) -> impl Iterator<Item = (&'m Vec<u8>, &'m Vec<u8>)> {
    // A range whose end is before its start is empty, and not a panic.
    let is_empty = !to.is_empty() && to <= from;
    let end = if to.is_empty() || is_empty { Bound::Unbounded } else { Bound::Excluded(to) };
    let rows = map.range::<[u8], _>((Bound::Included(from), end));
    rows.take_while(move |_| !is_empty)
}

impl MemoryStorage {
    /// The contents now.
    #[must_use]
    pub fn tables(&self) -> MemoryTables {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, MemoryTables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<MemoryTables> for MemoryStorage {
    fn from(tables: MemoryTables) -> Self {
        Self { tables: Arc::new(Mutex::new(tables)) }
    }
}

impl Storage for MemoryStorage {
    fn commit(&self, writes: &[Write]) -> Result<(), StorageError> {
        check(writes)?;
        self.lock().apply(writes);
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        Ok(Box::new(self.tables()))
    }

    fn rows_len(&self) -> u64 {
        self.lock().rows_len()
    }
}

impl Snapshot for MemoryTables {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0[table.index()].get(key).cloned())
    }

    fn range(
        &self,
        table: TableId,
        from: &[u8],
        to: &[u8],
        bytes_max: usize,
    ) -> Result<Rows, StorageError> {
        let rows = between(&self.0[table.index()], from, to);
        let rows = rows.map(|(key, value)| Ok::<_, Infallible>((key.clone(), value.clone())));
        let Ok(taken) = take_rows(rows, bytes_max);
        Ok(taken)
    }
}
