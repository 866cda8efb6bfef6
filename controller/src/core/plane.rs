//! Planes, the ways of bytes to a worker: what each batch needs and each worker has.
//!
//! Invariant: there are at most 2 + [`DATASETS_MAX`] planes with new work, so that what is done for each
//! of them is done a bounded number of times.
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

/// Datasets by name. A name keeps its number for as long as the controller runs, so that a number
/// never stands for another dataset.
#[derive(Debug)]
pub(super) struct Datasets {
    names: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    text: String,
    /// False once it is removed.
    is_known: bool,
}

impl Datasets {
    pub(super) fn new(names: Vec<String>) -> Self {
        let mut datasets = Self { names: Vec::new() };
        datasets.set(names);
        datasets
    }

    /// Makes `names` the known ones.
    pub(super) fn set(&mut self, names: Vec<String>) {
        assert!(names.len() <= DATASETS_MAX, "whoever names them checks their number");
        for name in &mut self.names {
            name.is_known = names.contains(&name.text);
        }
        for text in names {
            if !self.names.iter().any(|name| name.text == text) {
                self.names.push(Name { text, is_known: true });
            }
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<DatasetId> {
        self.names.iter().position(|known| known.is_known && known.text == name).map(DatasetId)
    }

    /// True for a dataset that is removed.
    pub(super) fn is_removed(&self, id: DatasetId) -> bool {
        !self.names[id.0].is_known
    }

    pub(super) fn name(&self, id: DatasetId) -> &str {
        &self.names[id.0].text
    }

    /// The known planes of a peer with `planes`; unknown datasets are ignored.
    pub(super) fn planes_of(&self, planes: &Planes) -> Vec<Plane> {
        let plain = [(planes.inline, Plane::Inline), (planes.descriptors, Plane::Descriptors)];
        let plain = plain.into_iter().filter_map(|(has, plane)| has.then_some(plane));
        let named = planes.datasets.iter().filter_map(|name| self.find(name)).map(Plane::Dataset);
        plain.chain(named).collect()
    }
}
