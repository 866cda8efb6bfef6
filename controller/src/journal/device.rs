//! The file below a database, as the few operations that it needs, and what became of them.
//!
//! redb does not say which operation failed, and does nothing more after a failure. [`Device`] is where tests inject
//! faults; [`Watched`] keeps the first failure, by which a full disk is told from a broken one; [`Overlay`]
//! keeps writes in memory, so that what cannot be written to can still be read.

use super::StorageError;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file, or what a test takes for one.
pub trait Device: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;

    /// True if it has no bytes.
    ///
    /// # Errors
    /// The system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// The system's, and if it ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes it shorter, or longer by zeros.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes durable what was written, and the length.
    ///
    /// # Errors
    /// The system's: what was written since the last call may be lost, and a second call does not change that.
    fn sync(&self) -> io::Result<()>;
}

impl Device for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The first failure of a device.
#[derive(Debug)]
struct DeviceFault {
    kind: io::ErrorKind,
    error: String,
    in_sync: bool,
}

/// Errors for want of space.
const FULL: [io::ErrorKind; 3] =
    [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];

/// A device under a database, which keeps its first failure.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    device: Arc<dyn Device>,
    fault: Arc<Mutex<Option<DeviceFault>>>,
}

impl Watched {
    pub(super) fn new(device: Arc<dyn Device>) -> Self {
        Self { device, fault: Arc::default() }
    }

    /// The meaning of the first failure for the database, if there was one.
    pub(super) fn failure(&self) -> Option<StorageError> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let DeviceFault { kind, error, in_sync } = fault.as_ref()?;
        let error = Arc::new(io::Error::new(*kind, error.clone()));
        // After a failed sync the kernel may have dropped what it could not write, and does not say so again.
        if *in_sync {
            return Some(StorageError::Failed(error));
        }
        let is_any = |kinds: &[io::ErrorKind]| kinds.contains(kind);
        Some(if is_any(&FULL) {
            StorageError::Full(error)
        } else if is_any(&[io::ErrorKind::ReadOnlyFilesystem]) {
            StorageError::ReadOnly(error)
        } else {
            StorageError::Failed(error)
        })
    }

    fn noted<T>(&self, in_sync: bool, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            fault.get_or_insert_with(|| DeviceFault {
                kind: error.kind(),
                error: error.to_string(),
                in_sync,
            });
        })
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.noted(false, self.device.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(false, self.device.read_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(false, self.device.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.noted(true, self.device.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(false, self.device.write_at(offset, data))
    }
}

/// Bytes that an [`Overlay`] keeps as one.
const BLOCK_LEN: u64 = 4096;

/// A device that is read and never written to: what is written stays in memory.
#[derive(Debug)]
pub(super) struct Overlay {
    below: Arc<dyn Device>,
    written: Mutex<OverlayState>,
}

#[derive(Debug)]
struct OverlayState {
    len: u64,
    /// The device counts up to here; what is beyond was cut off, or is new.
    below_len: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn new(below: Arc<dyn Device>) -> io::Result<Self> {
        let len = below.len()?;
        let state = OverlayState { len, below_len: len, blocks: BTreeMap::new() };
        Ok(Self { below, written: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, OverlayState> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block `number` of the device.
    fn block_below(&self, number: u64, below_len: u64) -> io::Result<Box<[u8]>> {
        let mut block = vec![0; to_usize(BLOCK_LEN)].into_boxed_slice();
        let start = number * BLOCK_LEN;
        let len = below_len.saturating_sub(start).min(BLOCK_LEN);
        self.below.read_at(start, &mut block[..to_usize(len)])?;
        Ok(block)
    }
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// Parts of `len` bytes from `offset` on by block: its number, the place in it, and the place in the whole.
fn parts(
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = to_usize(at % BLOCK_LEN);
        let part_len = (to_usize(BLOCK_LEN) - start).min(len - done);
        let part = (at / BLOCK_LEN, start..start + part_len, done..done + part_len);
        done += part_len;
        (part_len > 0).then_some(part)
    })
}

impl Device for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, of_buffer) in parts(offset, buffer.len()) {
            let below;
            let block = if let Some(block) = state.blocks.get(&number) {
                block
            } else {
                below = self.block_below(number, state.below_len)?;
                &below
            };
            buffer[of_buffer].copy_from_slice(&block[within]);
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        for (number, within, of_bytes) in parts(offset, bytes.len()) {
            if !state.blocks.contains_key(&number) {
                let block = self.block_below(number, state.below_len)?;
                state.blocks.insert(number, block);
            }
            if let Some(block) = state.blocks.get_mut(&number) {
                block[within].copy_from_slice(&bytes[of_bytes]);
            }
        }
        state.len = state.len.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        if len < state.len {
            state.below_len = state.below_len.min(len);
            state.blocks.retain(|number, _| number * BLOCK_LEN < len);
            if let Some(block) = state.blocks.get_mut(&(len / BLOCK_LEN)) {
                block[to_usize(len % BLOCK_LEN)..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_overlay_reads_as_a_file_that_was_written_to_and_leaves_it_as_it_is() {
        let (mut below, same) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let before: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        below.write_all(&before).unwrap();
        (&same).write_all(&before).unwrap();
        let below = Arc::new(below);
        let overlay = Overlay::new(Arc::<File>::clone(&below)).unwrap();
        type Change<'c> = &'c dyn Fn(&dyn Device) -> io::Result<()>;
        let changes: [Change<'_>; 7] = [
            &|device| device.write_at(4090, &[1; 20]),
            &|device| device.set_len(20_000),
            &|device| device.write_at(19_999, &[2]),
            &|device| device.set_len(5000),
            &|device| device.set_len(12_000),
            &|device| device.write_at(12_000, &[3; 9000]),
            &|device| device.set_len(0),
        ];
        for (i, change) in changes.iter().enumerate() {
            change(&overlay).unwrap();
            change(&same).unwrap();
            let len = Device::len(&same).unwrap();
            assert_eq!(Device::len(&overlay).unwrap(), len, "change {i}");
            let read = |device: &dyn Device| {
                let mut bytes = vec![9; to_usize(len)];
                device.read_at(0, &mut bytes).map(|()| bytes)
            };
            assert!(read(&overlay).unwrap() == read(&same).unwrap(), "change {i}");
        }
        assert!(overlay.read_at(0, &mut [0]).is_err());
        let mut after = vec![0; before.len()];
        Device::read_at(&*below, 0, &mut after).unwrap();
        assert!(after == before && Device::len(&*below).unwrap() == 10_000);
    }
}
