//! The commands.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod drain;
pub(crate) mod dups;
pub(crate) mod get;
pub(crate) mod jobs;
pub(crate) mod release;
pub(crate) mod schedule;
pub(crate) mod status;
pub(crate) mod sum;
pub(crate) mod top;
pub(crate) mod update;
