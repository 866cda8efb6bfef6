//! Every bound on what a peer may send, in one place. `docs/protocol.md` repeats them for people.

use std::time::Duration;

/// Longest body of a frame, in bytes.
pub const BODY_LEN_MAX: usize = 1 << 20;

/// Longest body of a `Hello`, in bytes. A controller takes no longer one before it knows its peer.
pub const HELLO_LEN_MAX: usize = 4 << 10;

/// Most memory that decoding one body may claim, in bytes: integers count in full here, though
/// small ones travel as one byte.
pub const DECODE_CLAIM_MAX: usize = 4 * BODY_LEN_MAX;

/// Most descriptors that ride on one frame: Linux' `SCM_MAX_FD`.
pub const FRAME_DESCRIPTORS_MAX: usize = 253;

/// Most inline messages in one frame.
pub const FRAME_MESSAGES_MAX: usize = 8192;

/// Most inline bytes in one frame; leaves room for their lengths.
pub const INLINE_LEN_MAX: usize = 512 << 10;

/// Most datasets that a peer names.
pub const DATASETS_MAX: usize = 16;

/// Longest name of a dataset, in bytes.
pub const DATASET_LEN_MAX: usize = 32;

/// Most files of a dataset in one frame.
pub const FRAME_NAMES_MAX: usize = 512;

/// Most bytes of paths in one frame; leaves room for the files' stamps and ranges.
pub const NAMES_LEN_MAX: usize = 512 << 10;

/// Most entries in one page of a directory.
pub const LIST_ENTRIES_MAX: usize = 4096;

/// Most claims in one page of a manifest.
pub const CLAIMS_MAX: usize = 2048;

/// Most bytes of what is known of a manifest's format.
pub const CLAIMS_STATE_LEN_MAX: usize = 8 << 10;

/// Longest path in a dataset, in bytes: Linux' `PATH_MAX` without its zero byte.
pub const PATH_LEN_MAX: usize = 4095;

/// Most chaining values in one merge, and so most parts of one file.
pub const MERGE_VALUES_MAX: usize = 8192;

/// Length of a BLAKE3 chaining value in bytes (BLAKE3 paper, section 2.4).
pub const CHAINING_VALUE_LEN: usize = 32;

/// Length of a BLAKE3 chunk in bytes (BLAKE3 paper, section 2.1).
pub const CHUNK_LEN: u64 = 1024;

/// Longest saved state of a hash in the middle of a stream, in bytes.
pub const STATE_LEN_MAX: usize = 512;

/// A stream's segment, unless it is the last, is a multiple of this many bytes: the longest block
/// of SHA-2 (SHA-512, FIPS 180-4 section 1).
pub const SEGMENT_ALIGN: usize = 128;

/// A worker sends a checkpoint of a SHA-2 file at least every this many bytes: what is read again at
/// most if it is lost.
pub const PROGRESS_LEN_MAX: u64 = 4 << 30;

/// A lease of this many bytes is long: a worker whose threads all have one begins a shorter lease at once. A
/// file that grew by more than this since its client saw it has changed.
pub const LONG_LEN: u64 = 64 << 20;

/// Longest name of a worker, backend, version or image, in bytes.
pub const NAME_LEN_MAX: usize = 64;

/// Longest token of a client or worker, in bytes.
pub const TOKEN_LEN_MAX: usize = 64;

/// Most algorithms, and so most chosen backends, that a worker names.
pub const BACKENDS_MAX: usize = 32;

/// Most long messages that a worker's thread may claim to interleave.
pub const INTERLEAVE_MAX: u8 = 64;

/// Longest sentence of a refusal, in bytes.
pub const REASON_LEN_MAX: usize = 512;

/// Most jobs that one client connection may have open.
pub const CLIENT_JOBS_MAX: usize = 64;

/// Most algorithms of one job.
pub const ITEM_ALGORITHMS_MAX: usize = 4;

/// Most threads that a worker may report.
pub const WORKER_THREADS_MAX: u16 = 4096;

/// Most batches that a worker may be ready for at once.
pub const CREDIT_MAX: u16 = 4096;

/// Most workers, jobs and names out of service that one status reply lists; the reply counts the rest.
pub const STATUS_ROWS_MAX: usize = 2048;

/// Longest key of a durable job, in bytes.
pub const JOB_KEY_LEN_MAX: usize = 128;

/// Most labels of a durable job.
pub const JOB_LABELS_MAX: usize = 8;

/// Highest priority of a durable job.
pub const JOB_PRIORITY_MAX: u8 = 9;

/// Most directories that a durable job names.
pub const JOB_ROOTS_MAX: usize = 256;

/// Most bytes of their paths and names together.
pub const JOB_ROOTS_LEN_MAX: usize = 64 << 10;

/// Most durable jobs in one reply.
pub const JOB_ROWS_MAX: usize = 512;

/// Most losses of one item that are reported.
pub const LOSSES_MAX: usize = 16;

/// Longest piece of a backup, in bytes.
pub const BACKUP_PIECE_LEN_MAX: usize = 512 << 10;

/// Most events of the audit trail in one reply.
pub const EVENT_ROWS_MAX: usize = 512;

/// Longest text of an event of the audit trail, in bytes.
pub const EVENT_TEXT_LEN_MAX: usize = 512;

/// Most rules of a policy.
pub const RULES_MAX: usize = 512;

/// Most users, groups, rights or datasets of one rule.
pub const RULE_WORDS_MAX: usize = 16 << 10;

/// Longest text of a schedule in its normal form, in bytes.
pub const SCHEDULE_TEXT_LEN_MAX: usize = 960 << 10;

/// Most schedules, runs or tasks of a run in one reply.
pub const SCHEDULE_ROWS_MAX: usize = 512;

/// Longest name of a task with those of all its groups, in bytes.
pub const STEP_NAME_LEN_MAX: usize = 4 * NAME_LEN_MAX;

/// Longest output of one item, in bytes: all of its digests.
pub const OUTPUTS_LEN_MAX: usize = ITEM_ALGORITHMS_MAX * 64;

/// Time limit for a connection over vsock, first lines included.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit for a peer's `Hello`; the connection is closed when it expires.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// A frame that is not whole by then after its first byte costs its sender the connection.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of a worker's heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A worker that has been silent for this long loses its leases.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);
