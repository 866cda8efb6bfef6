//! Data planes: the way of each file's bytes to the workers.

use super::datasets::{Datasets, Folder, Name};
use clap::ValueEnum;
use ipc_proto::message::Planes;
use overview::bytes;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Files of a live dataset go as bytes up to this length: the way of a name to the file server and back
/// costs a VM more than the bytes. Measured with 2,000 files of 4 KiB (0.47 ms more per file by name) and
/// one of 256 MiB (35 ns more per byte as bytes), they meet at 17 KiB.
const LIVE_BYTES_MAX: u64 = 16 << 10;

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

    /// The best way for `file` of `size` bytes.
    pub(crate) fn plane_of(&self, file: &OwnedFd, size: u64) -> Option<Plane> {
        if self.descriptors {
            return Some(Plane::Descriptor);
        }
        let name = self.datasets.find(file);
        let name = name.filter(|name| !self.prefers_bytes(&name.dataset, size));
        name.map(Plane::Name).or(self.inline.then_some(Plane::Inline))
    }

    /// True if a file of `dataset` goes faster as bytes.
    pub(crate) fn prefers_bytes(&self, dataset: &str, size: u64) -> bool {
        self.inline && size <= LIVE_BYTES_MAX && self.datasets.is_live(dataset)
    }

    /// True if files may go as bytes.
    pub(crate) fn takes_bytes(&self) -> bool {
        self.inline
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.datasets.names();
        let (live, copied): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|name| self.inline && self.datasets.is_live(name));
        match (self.descriptors, self.inline) {
            (true, _) => return f.write_str("as open descriptors"),
            (false, true) if names.is_empty() => return f.write_str("inline, as bytes"),
            (false, _) => f.write_str("by name in dataset ")?,
        }
        f.write_str(&copied.join(", "))?;
        if !live.is_empty() {
            let comma = if copied.is_empty() { "" } else { ", " };
            let limit = bytes(LIVE_BYTES_MAX);
            write!(f, "{comma}{} (live: from {limit} on)", live.join(", "))?;
        }
        f.write_str(if self.inline { ", or inline" } else { "" })
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
                        .plane_of(&File::open(root.join(file)).unwrap().into(), 0)
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
    fn small_files_of_a_live_dataset_go_as_bytes_unless_names_are_asked_for() {
        let host = tempfile::tempdir().unwrap();
        let root = host.path().canonicalize().unwrap();
        fs::create_dir(root.join("datasets")).unwrap();
        for name in ["copy", "live"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("f"), "").unwrap();
            symlink(root.join(name), root.join("datasets").join(name)).unwrap();
        }
        fs::write(root.join("datasets/.live"), "live\n").unwrap();
        let datasets = vec!["copy".to_owned(), "live".to_owned()];
        let planes = Planes { descriptors: false, inline: true, datasets };
        let no_bytes = Planes { inline: false, ..planes.clone() };
        let small = LIVE_BYTES_MAX;
        for (choice, planes, name, size, is_name) in [
            (Choice::Auto, &planes, "live", small, false),
            (Choice::Auto, &planes, "live", small + 1, true),
            (Choice::Auto, &planes, "copy", small, true),
            (Choice::Auto, &no_bytes, "live", small, true),
            (Choice::Dataset, &planes, "live", small, true),
            (Choice::Inline, &planes, "live", small + 1, false),
        ] {
            let route = Route::new(choice, planes, Some(&root.join("datasets"))).unwrap();
            let file = OwnedFd::from(File::open(root.join(name).join("f")).unwrap());
            let plane = route.plane_of(&file, size);
            let what = format!("{choice:?} {name} {size}: {plane:?}");
            assert_eq!(matches!(plane, Some(Plane::Name(_))), is_name, "{what}");
        }
        let route = Route::new(Choice::Auto, &planes, Some(&root.join("datasets"))).unwrap();
        let want = "by name in dataset copy, live (live: from 16.0 KiB on), or inline";
        assert_eq!(route.to_string(), want);
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
