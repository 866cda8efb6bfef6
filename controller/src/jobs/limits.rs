//! The bounds of durable jobs. Those on single messages are in `ipc_proto::limits`.

use std::time::Duration;

/// Most durable jobs.
pub const JOBS_MAX: usize = 8192;

/// Most durable jobs of one principal.
pub const PRINCIPAL_JOBS_MAX: u64 = 4096;

/// Most items that the durable jobs of one principal hold together: stored, found, or with a result.
pub const PRINCIPAL_ITEMS_MAX: u64 = 100_000_000;

/// Most bytes of items that the durable jobs of one principal hold together in the journal.
pub const PRINCIPAL_BYTES_MAX: u64 = 4 << 30;

/// Most bytes of specs of one principal, which are kept in memory.
pub const PRINCIPAL_SPECS_MAX: u64 = 16 << 20;

/// Most jobs that run at a time; the others wait for their turn.
pub(super) const RUNNING_MAX: usize = 32;

/// Most jobs of one principal that run at a time.
pub(super) const PRINCIPAL_RUNNING_MAX: usize = 16;

/// Results that are written together. Earlier versions wrote 128.
pub(super) const CHUNK_ITEMS: u64 = 256;

/// Most bytes of such results: longest paths, and the longest digests.
pub(super) const CHUNK_LEN_MAX: usize = 2 << 20;

/// Items of a running job that are in memory: handed out, or with a result that waits for one before it.
pub(super) const PENDING_MAX: usize = 8192;

/// Bytes of these items from which on no more are read.
pub(super) const PENDING_LEN_MAX: usize = 8 << 20;

/// Bytes that one read of the journal brings.
pub(super) const READ_LEN: usize = 512 << 10;

/// Bytes of rows in one reply from which on no more are added: with one more it fits a frame.
pub(super) const REPLY_LEN: usize = 700 << 10;

/// Most requests of one caller that wait for something to happen.
pub(super) const WAITS_MAX: usize = 64;

/// Most requests that wait for the end of a recovery.
pub(super) const HELD_MAX: usize = 1024;

/// Time between two attempts to write to a journal that is full.
pub(super) const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Pause before a job is opened again for which its principal had no room.
pub(super) const OPEN_PAUSE: Duration = Duration::from_secs(1);

/// Time between two looks for jobs that need not be kept.
pub(super) const RETENTION_PAUSE: Duration = Duration::from_secs(60);

/// Time for which an ended job is kept, in seconds, if its spec does not say.
pub const KEEP_S: u64 = 30 * 24 * 3600;

/// Time for which a job must have been too old before it is removed: a clock that was set forward by
/// mistake is set right meanwhile.
pub(super) const EXPIRY_DELAY: Duration = Duration::from_secs(600);

/// Most ended jobs of one principal that are kept; the oldest go first.
pub const KEEP_JOBS_MAX: usize = 2048;
