//! A storage that fails as asked: it crashes at a write boundary, has no space, or lies about what is durable.

use hashcluster_controller::journal::{MemoryTables, Snapshot, Storage, StorageError, Write};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use test_kit::Random;

/// Why commits fail for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    Full,
    ReadOnly,
    /// A sync failed: all later commits fail, too.
    Broken,
}

/// Faults of a [`FaultyStorage`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Decides what a crash leaves of what is in doubt.
    pub(crate) seed: u64,
    /// The commit, counted from 0, in which the process crashes: its transaction is there afterwards, or it is
    /// not, and no answer is given in either case.
    pub(crate) crash_at: Option<u64>,
    /// Commits return before they are durable: a crash loses the last ones, and of the first lost one a part
    /// can be there.
    pub(crate) lies: bool,
}

#[derive(Debug)]
struct FaultyState {
    faults: Faults,
    outage: Option<Outage>,
    commits: u64,
    is_down: bool,
    /// Contents that a crash cannot take away.
    durable: MemoryTables,
    /// Transactions that are said to be durable.
    in_doubt: Vec<Vec<Write>>,
    /// Contents that the process sees.
    current: MemoryTables,
    random: Random,
}

/// A storage in memory with faults. A clone is the same storage.
#[derive(Clone, Debug)]
pub(crate) struct FaultyStorage(Arc<Mutex<FaultyState>>);

impl FaultyStorage {
    /// A storage with these contents.
    pub(crate) fn new(contents: MemoryTables, faults: Faults) -> Self {
        let random = Random::new(faults.seed);
        let (durable, current) = (contents.clone(), contents);
        Self(Arc::new(Mutex::new(FaultyState {
            faults,
            outage: None,
            commits: 0,
            is_down: false,
            durable,
            in_doubt: Vec::new(),
            current,
            random,
        })))
    }

    /// Begins or ends an outage.
    pub(crate) fn set_outage(&self, outage: Option<Outage>) {
        self.lock().outage = outage;
    }

    /// Commits that were tried so far.
    pub(crate) fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// True after the crash.
    pub(crate) fn is_down(&self) -> bool {
        self.lock().is_down
    }

    /// The contents that a start after a crash finds; whatever still uses this storage fails from now on.
    pub(crate) fn crash(&self) -> MemoryTables {
        let mut state = self.lock();
        let FaultyState { durable, in_doubt, random, is_down, .. } = &mut *state;
        *is_down = true;
        let kept = random.index(in_doubt.len() + 1);
        let mut left = durable.clone();
        for writes in &in_doubt[..kept] {
            left.apply(writes);
        }
        if let Some(torn) = in_doubt.get(kept) {
            left.apply(&torn[..random.index(torn.len() + 1)]);
        }
        in_doubt.clear();
        *durable = left.clone();
        left
    }

    fn lock(&self) -> MutexGuard<'_, FaultyState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn error(kind: io::ErrorKind) -> Arc<io::Error> {
    Arc::new(kind.into())
}

impl Storage for FaultyStorage {
    fn commit(&self, writes: &[Write]) -> Result<(), StorageError> {
        let mut state = self.lock();
        let down = || StorageError::failed(io::Error::other("the process crashed"));
        if state.is_down {
            return Err(down());
        }
        match state.outage {
            None => {}
            Some(Outage::Full) => {
                return Err(StorageError::Full(error(io::ErrorKind::StorageFull)));
            }
            Some(Outage::ReadOnly) => {
                return Err(StorageError::ReadOnly(error(io::ErrorKind::ReadOnlyFilesystem)));
            }
            Some(Outage::Broken) => return Err(StorageError::failed(io::Error::other("EIO"))),
        }
        let crashes = state.faults.crash_at == Some(state.commits);
        state.commits += 1;
        if crashes {
            state.is_down = true;
            if state.random.below(2) == 0 {
                return Err(down());
            }
        }
        state.current.apply(writes);
        if state.faults.lies {
            state.in_doubt.push(writes.to_vec());
        } else {
            state.durable.apply(writes);
        }
        if crashes { Err(down()) } else { Ok(()) }
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        let state = self.lock();
        if state.is_down {
            return Err(StorageError::failed(io::Error::other("the process crashed")));
        }
        Ok(Box::new(state.current.clone()))
    }

    fn rows_len(&self) -> u64 {
        self.lock().current.rows_len()
    }
}
