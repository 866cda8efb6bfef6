//! This build, and another one that it is held against.

use std::env;
use std::path::PathBuf;
use test_kit::{Cluster, Options};

/// Directory of the other build's programs, if there is one.
const OTHER_VARIABLE: &str = "HASHCLUSTER_OTHER_BIN_DIR";

/// The other build's directory of programs.
pub(crate) fn other_dir() -> Option<PathBuf> {
    env::var_os(OTHER_VARIABLE).map(PathBuf::from)
}

/// The same of both builds.
#[derive(Debug)]
pub(crate) struct Sides<T> {
    pub(crate) ours: T,
    pub(crate) other: Option<T>,
}

impl<T> Sides<T> {
    /// Ours first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.ours).chain(&self.other)
    }
}

impl Sides<Cluster> {
    /// A cluster of each build, of its own programs only: builds may speak different versions.
    pub(crate) fn start(options: &Options) -> Self {
        let start = |bin_dir| {
            let cluster = Cluster::start(Options { bin_dir, ..options.clone() });
            if !options.datasets.is_empty() {
                cluster.link_datasets();
            }
            cluster
        };
        Self { ours: start(None), other: other_dir().map(|dir| start(Some(dir))) }
    }
}
