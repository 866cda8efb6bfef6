//! The job of a submitting host.

use crate::shard::{Base64Bytes, DatasetKey, JobKey, Shard, ShardFile, ShardKey, files_len};
use ipc_proto::Algorithm;

/// A job: what to hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPlan {
    /// The job.
    pub job: JobKey,
    /// Where the files are.
    pub dataset: DatasetKey,
    /// Starts of the walk that found the files, relative to the dataset's root; none for all of it.
    pub starts: Vec<Base64Bytes>,
    /// The digest of each file.
    pub algorithm: Algorithm,
    /// Its shards, whose files are in the ledger.
    pub shards: Vec<ShardSize>,
}

/// Size of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSize {
    /// Number of its files.
    pub files_len: u32,
    /// Bytes of its files.
    pub bytes: u64,
}

impl ShardSize {
    /// That of a shard with these files.
    #[must_use]
    pub fn of(files: &[ShardFile]) -> Self {
        let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
        Self { files_len: count, bytes: files_len(files) }
    }
}

impl JobPlan {
    /// The shard of an attempt, which has these files.
    #[must_use]
    pub fn shard(&self, key: ShardKey, files: Vec<ShardFile>) -> Shard {
        Shard { key, dataset: self.dataset.clone(), algorithm: self.algorithm, files }
    }

    /// Files of a shard; none of one that the job does not have.
    #[must_use]
    pub fn files_len(&self, shard: u32) -> usize {
        self.shards.get(shard as usize).map_or(0, |size| size.files_len as usize)
    }
}
