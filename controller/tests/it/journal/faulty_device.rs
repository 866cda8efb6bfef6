//! A file in memory that fails as asked: it crashes at an operation, and loses or tears what was not synced.

use hashcluster_controller::journal::Device;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use test_kit::Random;

/// Bytes that a disk writes as a whole.
const SECTOR_LEN: usize = 512;

/// Bytes that are allocated as a whole.
const BLOCK_LEN: u64 = 4096;

/// Faults of a [`FaultyDevice`].
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceFaults {
    pub(crate) seed: u64,
    /// The operation that changes something, counted from 0, from which on everything fails.
    pub(crate) crash_at: Option<u64>,
    /// Syncs return without having done anything.
    pub(crate) lies: bool,
    /// Blocks that can be allocated.
    pub(crate) blocks_max: Option<u64>,
    pub(crate) read_only: bool,
    /// Syncs fail, and forget what they were to write.
    pub(crate) broken_sync: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

#[derive(Debug)]
struct DeviceState {
    faults: DeviceFaults,
    changes: u64,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    current: Vec<u8>,
    allocated: BTreeSet<u64>,
    random: Random,
}

/// A device with faults. A clone is the same device.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDevice(Arc<Mutex<DeviceState>>);

fn to_usize(len: u64) -> usize {
    usize::try_from(len).expect("a test's file is in memory")
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Len(len) => bytes.resize(to_usize(*len), 0),
        Change::Write(offset, written) => {
            let end = to_usize(*offset) + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[to_usize(*offset)..end].copy_from_slice(written);
        }
    }
}

impl FaultyDevice {
    pub(crate) fn new(bytes: Vec<u8>, faults: DeviceFaults) -> Self {
        let random = Random::new(faults.seed);
        let allocated = (0..(bytes.len() as u64).div_ceil(BLOCK_LEN)).collect();
        let (durable, current) = (bytes.clone(), bytes);
        let (changes, unsynced) = (0, Vec::new());
        let state = DeviceState { faults, changes, durable, unsynced, current, allocated, random };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut DeviceFaults)) {
        change(&mut self.lock().faults);
    }

    /// Operations so far that changed something.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Blocks that hold something.
    pub(crate) fn blocks(&self) -> u64 {
        self.lock().allocated.len() as u64
    }

    /// The bytes that a start after a crash finds: of what was not synced, some sectors are there and some are not,
    /// in no order.
    pub(crate) fn crash(&self) -> Vec<u8> {
        let mut state = self.lock();
        let DeviceState { durable, unsynced, random, .. } = &mut *state;
        let mut left = durable.clone();
        let all_or_some = random.below(4);
        for change in std::mem::take(unsynced) {
            let mut survives = || match all_or_some {
                0 => true,
                1 => false,
                _ => random.below(2) == 0,
            };
            match change {
                Change::Len(_) if survives() => apply(&mut left, &change),
                Change::Len(_) => {}
                Change::Write(offset, bytes) => {
                    for (i, sector) in bytes.chunks(SECTOR_LEN).enumerate() {
                        if survives() {
                            let offset = offset + (i * SECTOR_LEN) as u64;
                            apply(&mut left, &Change::Write(offset, sector.to_vec()));
                        }
                    }
                }
            }
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, DeviceState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeviceState {
    /// Counts an operation that changes something, which may be the one after which nothing works.
    fn begin(&mut self) -> io::Result<()> {
        let at = self.changes;
        self.changes += 1;
        if self.faults.crash_at.is_some_and(|crash_at| at >= crash_at) {
            return Err(io::Error::other("the machine crashed"));
        }
        if self.faults.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.current, &change);
        self.unsynced.push(change);
    }
}

impl Device for FaultyDevice {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().current.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        let bytes = state.current.get(to_usize(offset)..to_usize(offset) + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        let blocks = offset / BLOCK_LEN..(offset + bytes.len() as u64).div_ceil(BLOCK_LEN);
        let fresh: Vec<u64> = blocks.filter(|block| !state.allocated.contains(block)).collect();
        let needed = (state.allocated.len() + fresh.len()) as u64;
        if !fresh.is_empty() && state.faults.blocks_max.is_some_and(|max| needed > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.allocated.extend(fresh);
        state.change(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        state.allocated.retain(|block| block * BLOCK_LEN < len);
        state.change(Change::Len(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        let DeviceState { faults, durable, unsynced, .. } = &mut *state;
        if faults.broken_sync {
            unsynced.clear();
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        if !faults.lies {
            unsynced.drain(..).for_each(|change| apply(durable, &change));
        }
        Ok(())
    }
}
