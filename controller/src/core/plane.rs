//! Planes, the ways of bytes to a worker: what each batch needs and each worker has.
//!
//! Invariant: there are at most 2 + [`DATASETS_MAX`] planes, so that what is done for each of them
//! is done a bounded number of times.
//!
//! [`DATASETS_MAX`]: ipc_proto::limits::DATASETS_MAX

use ipc_proto::limits::DATASETS_MAX;
use ipc_proto::message::Planes;

/// One way. In the order in which they are served where nothing else decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Plane {
    /// In the message itself.
    Inline,
    /// In open files that ride on the message.
    Descriptors,
    /// In files that the worker finds by name.
    Dataset(DatasetId),
}

/// A dataset that the controller was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DatasetId(usize);

/// All of them.
#[derive(Debug)]
pub(super) struct Datasets {
    names: Vec<String>,
}

impl Datasets {
    pub(super) fn new(names: Vec<String>) -> Self {
        assert!(names.len() <= DATASETS_MAX, "the command line was checked");
        Self { names }
    }

    pub(super) fn find(&self, name: &str) -> Option<DatasetId> {
        self.names.iter().position(|known| known == name).map(DatasetId)
    }

    pub(super) fn name(&self, id: DatasetId) -> &str {
        &self.names[id.0]
    }

    /// The known planes of a peer with `planes`; unknown datasets are ignored.
    pub(super) fn planes_of(&self, planes: &Planes) -> Vec<Plane> {
        let plain = [(planes.inline, Plane::Inline), (planes.descriptors, Plane::Descriptors)];
        let plain = plain.into_iter().filter_map(|(has, plane)| has.then_some(plane));
        let named = planes.datasets.iter().filter_map(|name| self.find(name)).map(Plane::Dataset);
        plain.chain(named).collect()
    }
}
