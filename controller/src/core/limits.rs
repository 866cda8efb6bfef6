//! The bounds and the tuning of the core. What a peer may send is in `ipc_proto::limits`.

use ipc_proto::limits::INLINE_LEN_MAX;
use std::time::Duration;

/// Cost of opening, checking and closing a file, in bytes hashed in the same time.
pub(super) const FILE_COST: u64 = 16 << 10;

/// Fixed cost of a message, in bytes hashed in the same time.
pub(super) const MESSAGE_COST: u64 = 256;

/// Cost of an entry of a directory's page, in bytes hashed in the same time.
pub(super) const LIST_ENTRY_COST: u64 = 1 << 10;

/// Most pages of directories that may be asked for at once.
pub const LISTS_MAX: usize = 1024;

/// Maximum cost of one file: a client may claim any length, and the sum over all queues must not
/// overflow.
pub(super) const FILE_COST_MAX: u64 = 1 << 44;

/// A file from this length on is dispatched alone, largest first; shorter ones are batched in
/// their order. Of SHA-2, a thread that has one may be given others: it interleaves them,
/// in little more time than one. In bytes.
pub(super) const LARGE_LEN: u64 = 4 << 20;

/// A BLAKE3 file from this length on is split into parts. In bytes.
pub(super) const SPLIT_LEN: u64 = 8 << 20;

/// Shortest part, in bytes: a power of two.
pub(super) const PART_LEN_MIN: u64 = 4 << 20;

/// Parts that a large file has for each thread of the fleet, so that the last ones to finish
/// finish together.
pub(super) const PARTS_PER_THREAD: u64 = 8;

/// Target time of a batch on one thread.
pub(super) const BATCH_TIME: Duration = Duration::from_millis(100);

/// Minimum time of a batch when the queue is shared out.
pub(super) const BATCH_TIME_MIN: Duration = Duration::from_millis(4);

/// Work that a thread may have queued behind the batch in progress.
pub(super) const PREFETCH_TIME: Duration = Duration::from_millis(25);

/// Speed of a thread that has not been measured, in bytes per second.
pub(super) const SPEED_GUESS: u64 = 500_000_000;

/// After being lost on so many distinct workers an item fails.
pub(super) const LOST_WORKERS_MAX: usize = 3;

/// A lease lasts this long, and longer for its bytes.
pub(super) const LEASE_TIME: Duration = Duration::from_secs(60);

/// A lease of a page lasts this long: a directory of many millions of entries is read as a whole.
pub(super) const LIST_TIME: Duration = Duration::from_secs(300);

/// The slowest reading that a lease allows for, in bytes per second.
pub(super) const LEASE_SPEED_MIN: u64 = 4_000_000;

/// A worker that has leases and answers nothing for this long gets none to queue behind them, and those
/// that queue go to others: a file may not answer.
pub(super) const STALL_TIME: Duration = Duration::from_secs(2);

/// Leases that a worker may lose to their deadline, none done between, before it is quarantined.
pub(super) const OVERDUE_MAX: u32 = 3;

/// Leases of an item that may expire without an advance before it fails: more than one worker is
/// suspended for, so that it does not fail for that worker's sake.
pub(super) const EXPIRED_MAX: u32 = OVERDUE_MAX + 1;

/// Jobs that are looked at for work that a ready worker can do, before the rest have to wait for
/// the next event.
pub(super) const JOBS_SKIPPED_MAX: usize = 64;

/// Large files per queue that are looked at for the one that has waited longest, when somebody asks.
pub(super) const LARGE_LOOKED_AT_MAX: usize = 1024;

/// Checks that are looked at for one that a worker may do.
pub(super) const CHECKS_SKIPPED_MAX: usize = 32;

/// Workers that are looked at for a spare thread.
pub(super) const SPARE_SKIPPED_MAX: usize = 32;

/// The worker names whose losses are remembered after they have left.
pub(super) const NAMES_MAX: usize = 8192;

/// The names of workers that are kept because they gave a wrong answer.
pub(super) const QUARANTINED_MAX: usize = 1024;

/// The names of workers that may be drained at once.
pub(super) const DRAINED_MAX: usize = 1024;

/// Idle jobs whose windows take up all items. With few items each still has one.
pub(super) const IDLE_JOBS_MAX: u64 = 256;

/// Largest window of an idle job: about one full frame.
pub(super) const JOB_ITEMS_MIN_MAX: u32 = 256;

/// Largest window of one job.
pub(super) const JOB_ITEMS_MAX: u32 = 4096;

/// Largest window of one job in inline bytes.
pub(super) const JOB_BYTES_MAX: u64 = 8 << 20;

/// Window of an idle job in inline bytes: one full frame. A job waits until it can have it.
pub(super) const JOB_BYTES_MIN: u64 = INLINE_LEN_MAX as u64;

/// Most that one principal may hold, if its share allows that much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Client connections.
    pub clients: u64,
    /// Open jobs.
    pub jobs: u64,
    /// Unresolved items, and so descriptors.
    pub items: u64,
    /// Unresolved inline bytes.
    pub bytes: u64,
    /// Durable jobs, ended or not.
    pub durable_jobs: u64,
    /// Items of durable jobs.
    pub durable_items: u64,
    /// Highest priority of a durable job.
    pub priority: u64,
}

impl Quota {
    /// No bound but the share.
    pub const MAX: Self = Self {
        clients: u64::MAX,
        jobs: u64::MAX,
        items: u64::MAX,
        bytes: u64::MAX,
        durable_jobs: u64::MAX,
        durable_items: u64::MAX,
        priority: u64::MAX,
    };
}

impl Default for Quota {
    fn default() -> Self {
        Self::MAX
    }
}

/// Limits on what all peers together may hold, of which each principal has a share. Reaching one slows
/// the sender.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Client connections.
    pub clients_max: u32,
    /// Worker connections.
    pub workers_max: u32,
    /// Open jobs.
    pub jobs_max: u32,
    /// Unresolved items, and so descriptors.
    pub items_max: u64,
    /// Unresolved inline bytes.
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: 1024,
            workers_max: 4096,
            jobs_max: 4096,
            items_max: 65_536,
            bytes_max: 128 << 20,
        }
    }
}
