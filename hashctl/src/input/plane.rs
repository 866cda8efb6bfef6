//! Data planes: the way of each file's bytes to the workers.

use super::datasets::{Datasets, Folder, Name};
use clap::ValueEnum;
use ipc_proto::message::Planes;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Which of them may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// As open descriptors where they can go, else by name, else as bytes
    #[default]
    Auto,
    /// As open descriptors only
    Descriptors,
    /// Only by name, in the directories that both ends share
    Dataset,
    /// Only as bytes inside messages
    Inline,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plane {
    /// As an open descriptor.
    Descriptor,
    /// As a name in a dataset.
    Name(Name),
    /// Inside messages.
    Inline,
}

/// No way that may be used is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoPlane(Choice);

impl fmt::Display for NoPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Choice::Auto => "the controller takes neither descriptors nor names nor inline bytes",
            Choice::Descriptors => "the controller takes no descriptors",
            Choice::Dataset => "this host and the controller have no dataset in common",
            Choice::Inline => "the controller takes no inline bytes",
        })
    }
}

/// The ways that are there and may be used.
#[derive(Debug)]
pub(crate) struct Route {
    descriptors: bool,
    datasets: Datasets,
    inline: bool,
}

impl Route {
    /// To a controller that offers `planes`; datasets are looked for in `dir`.
    pub(crate) fn new(
        choice: Choice,
        planes: &Planes,
        dir: Option<&Path>,
    ) -> Result<Self, NoPlane> {
        let may = |which| choice == Choice::Auto || choice == which;
        let descriptors = planes.descriptors && may(Choice::Descriptors);
        let datasets = match dir {
            Some(dir) if !descriptors && may(Choice::Dataset) => {
                Datasets::load(dir, &planes.datasets)
            }
            _ => Datasets::default(),
        };
        let inline = planes.inline && may(Choice::Inline);
        let has_any = descriptors || inline || !datasets.names().is_empty();
        has_any.then_some(Self { descriptors, datasets, inline }).ok_or(NoPlane(choice))
    }

    /// True if files go as open descriptors.
    pub(crate) fn takes_descriptors(&self) -> bool {
        self.descriptors
    }

    /// The name of `dir`, if the files in it go by name.
    pub(crate) fn folder(&self, dir: BorrowedFd<'_>) -> Option<Folder> {
        self.datasets.folder(dir)
    }

    /// The best way for `file`.
    pub(crate) fn plane_of(&self, file: &OwnedFd) -> Option<Plane> {
        if self.descriptors {
            return Some(Plane::Descriptor);
        }
        let name = self.datasets.find(file).map(Plane::Name);
        name.or(self.inline.then_some(Plane::Inline))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.datasets.names();
        match (self.descriptors, self.inline) {
            (true, _) => f.write_str("as open descriptors"),
            (false, true) if names.is_empty() => f.write_str("inline, as bytes"),
            (false, true) => write!(f, "by name in dataset {}, or inline", names.join(", ")),
            (false, false) => write!(f, "by name in dataset {}", names.join(", ")),
        }
    }
}

/// Number of files per plane.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) descriptors: u64,
    names: BTreeMap<Arc<str>, u64>,
    pub(crate) inline: u64,
}

impl Served {
    /// Counts files that go by a name in `dataset`.
    pub(crate) fn count_names(&mut self, dataset: &Arc<str>, count: u64) {
        match self.names.get_mut(dataset) {
            Some(known) => *known += count,
            None => drop(self.names.insert(Arc::clone(dataset), count)),
        }
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut add = |count: u64, how: fmt::Arguments<'_>| match count {
            0 => Ok(()),
            count => {
                let comma = if text.is_empty() { "" } else { ", " };
                let files = if count == 1 { "file" } else { "files" };
                write!(text, "{comma}{count} {files} {how}")
            }
        };
        add(self.descriptors, format_args!("as open descriptors"))?;
        for (dataset, &count) in &self.names {
            add(count, format_args!("by name in dataset {dataset}"))?;
        }
        add(self.inline, format_args!("inline"))?;
        f.write_str(if text.is_empty() { "no files" } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn uses_the_best_available_and_allowed_plane() {
        let host = tempfile::tempdir().unwrap();
        let root = host.path().canonicalize().unwrap();
        fs::create_dir(root.join("datasets")).unwrap();
        fs::create_dir(root.join("data")).unwrap();
        fs::write(root.join("data/in"), "").unwrap();
        fs::write(root.join("out"), "").unwrap();
        symlink(root.join("data"), root.join("datasets/d")).unwrap();
        let planes = |descriptors, inline, datasets: &[&str]| Planes {
            descriptors,
            inline,
            datasets: datasets.iter().map(|&name| name.to_owned()).collect(),
        };
        let all = planes(true, true, &["d"]);
        let vm = planes(false, true, &["d"]);
        for (choice, planes, want) in [
            (Choice::Auto, &all, "fd fd"),
            (Choice::Auto, &vm, "name inline"),
            (Choice::Auto, &planes(false, true, &["e"]), "inline inline"),
            (Choice::Auto, &planes(false, false, &["d"]), "name none"),
            (Choice::Auto, &planes(false, false, &["e"]), "refused"),
            (Choice::Descriptors, &all, "fd fd"),
            (Choice::Descriptors, &vm, "refused"),
            (Choice::Dataset, &all, "name none"),
            (Choice::Dataset, &planes(true, true, &[]), "refused"),
            (Choice::Inline, &all, "inline inline"),
            (Choice::Inline, &planes(true, false, &["d"]), "refused"),
        ] {
            let dir = root.join("datasets");
            let got = match Route::new(choice, planes, Some(&dir)) {
                Err(NoPlane(refused)) => {
                    assert_eq!(refused, choice);
                    "refused".to_owned()
                }
                Ok(route) => {
                    let plane = |file: &str| match route
                        .plane_of(&File::open(root.join(file)).unwrap().into())
                    {
                        Some(Plane::Descriptor) => "fd",
                        Some(Plane::Name(_)) => "name",
                        Some(Plane::Inline) => "inline",
                        None => "none",
                    };
                    format!("{} {}", plane("data/in"), plane("out"))
                }
            };
            assert_eq!(got, want, "{choice:?} of {planes:?}");
        }
    }

    #[test]
    fn reports_files_per_plane_in_one_line() {
        let mut served = Served::default();
        assert_eq!(served.to_string(), "no files");
        served.count_names(&"b".into(), 2);
        served.count_names(&"a".into(), 1);
        served.inline = 1;
        let want = "1 file by name in dataset a, 2 files by name in dataset b, 1 file inline";
        assert_eq!(served.to_string(), want);
    }
}
