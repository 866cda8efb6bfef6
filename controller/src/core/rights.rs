//! Rights of a client.

use super::Quota;
use std::collections::BTreeSet;

/// The rights of a client. What it is not granted is refused with a reason, or, of others' jobs and of
/// datasets, looks as if it did not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// It may open jobs.
    pub submit: bool,
    /// Its status has the jobs of others, too.
    pub see_jobs: bool,
    /// It may change the durable jobs of others.
    pub manage_jobs: bool,
    /// It may release workers from quarantine.
    pub release: bool,
    /// It may drain workers, and undrain them.
    pub drain: bool,
    /// It may read backups of the journal, which has the jobs and schedules of all users.
    pub backup: bool,
    /// The datasets in which it may name files. A worker may read files there that the client itself
    /// may not read, and a digest tells something of a file.
    pub datasets: DatasetRights,
    /// The bounds on what its principal may hold, if its share allows that much.
    pub quota: Quota,
}

/// A choice of datasets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatasetRights {
    /// All that the controller knows.
    All,
    /// These.
    Named(BTreeSet<String>),
}

impl Default for DatasetRights {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Rights {
    /// All that there is.
    pub const ALL: Self = Self {
        submit: true,
        see_jobs: true,
        manage_jobs: true,
        release: true,
        drain: true,
        backup: true,
        datasets: DatasetRights::All,
        quota: Quota::MAX,
    };

    /// Jobs of descriptors and bytes: what costs nothing but a share of the workers.
    #[must_use]
    pub fn jobs() -> Self {
        Self { submit: true, see_jobs: true, ..Self::default() }
    }
}

impl DatasetRights {
    /// Returns true if files may be named in the dataset `name`.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}
