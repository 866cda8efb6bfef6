//! Files found below directories, entries of manifests, and how the two fit together.
//!
//! All tables are flat: a million entries are a few allocations, names are found by binary search,
//! and no step is quadratic in the number of entries.

pub(crate) mod claims;
pub(crate) mod finding;
pub(crate) mod format;
pub(crate) mod found;
pub(crate) mod judge;
pub(crate) mod manifests;
pub(crate) mod prefix;
pub(crate) mod report;
pub(crate) mod table;
pub(crate) mod votes;
