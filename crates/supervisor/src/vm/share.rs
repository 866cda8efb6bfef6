//! Datasets on the host, and the ways in which a VM sees them.

use crate::deployment::Dataset;
use std::path::{Path, PathBuf};

/// A dataset of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) name: String,
    pub(crate) root: Root,
    /// Threads of a worker that may read from it at once; all if none.
    pub(crate) io_threads: Option<u16>,
    /// Its number in tags and file names: no other share's for as long as a VM has it.
    pub(crate) number: usize,
}

/// The shares of a cluster that is about to start.
pub(crate) fn all(datasets: &[Dataset]) -> Vec<Share> {
    let share = |(number, dataset): (usize, &Dataset)| Share {
        name: dataset.name.clone(),
        root: match dataset.snapshot {
            true => Root::Snapshot(dataset.dir.clone()),
            false => Root::Directory(dataset.dir.clone()),
        },
        io_threads: dataset.io_threads,
        number,
    };
    datasets.iter().enumerate().map(share).collect()
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

impl Root {
    /// The directory, if it is one.
    pub(crate) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Directory(dir) | Self::Snapshot(dir) => Some(dir),
            Self::Members(_) => None,
        }
    }
}

impl Share {
    /// The tag or serial number by which a VM knows it.
    pub(super) fn id(&self) -> String {
        Self::id_of(self.number)
    }

    pub(super) fn id_of(number: usize) -> String {
        format!("ds{number}")
    }

    /// True if VMs that have `other` need not restart to have this one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let Self { name, root, io_threads, number: _ } = self;
        *name == other.name && *root == other.root && *io_threads == other.io_threads
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
