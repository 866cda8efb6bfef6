//! Datasets on the host, and the ways in which a VM sees them.

use std::path::PathBuf;

/// A dataset of a cluster that is about to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) name: String,
    pub(crate) root: Root,
    /// Threads of a worker that may read from it at once; all if none.
    pub(crate) io_threads: Option<u16>,
}

/// Where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// A directory, live.
    Directory(PathBuf),
    /// Files and directories from several places, live, named by their numbers.
    Members(Vec<PathBuf>),
    /// A directory as it is when the cluster starts.
    Snapshot(PathBuf),
}

impl Share {
    /// The tag or serial number by which a VM knows share number `index`.
    pub(super) fn id(index: usize) -> String {
        format!("ds{index}")
    }

    /// True if a VM reads the files of the host, not a copy.
    pub(super) const fn is_live(&self) -> bool {
        match self.root {
            Root::Directory(_) | Root::Members(_) => true,
            Root::Snapshot(_) => false,
        }
    }

    /// The guest's word for how it is mounted.
    pub(super) const fn kind(&self) -> &'static str {
        if self.is_live() { "virtiofs" } else { "erofs" }
    }
}
