//! Which datasets there are: those of `cluster.toml` and those of the command line, which replace
//! those of the same name.

use super::cluster_toml::DatasetEntry;
use super::fault::{Faults, bad_dataset_name};
use super::kind::Kind;
use super::shown::Shown;
use ipc_proto::limits::DATASETS_MAX;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A dataset before its directory is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) name: String,
    /// Relative to our own directory; none if it has a fault.
    pub(super) dir: Option<PathBuf>,
    pub(super) snapshot: bool,
    pub(super) io_threads: Option<u16>,
    pub(super) origin: Origin,
}

/// Where a dataset is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of `cluster.toml`.
    Config(usize),
    CommandLine,
}

/// Every dataset, in the order of their names. `base` is the directory of `cluster.toml`.
pub(super) fn gather(
    entries: Vec<DatasetEntry>,
    base: &Path,
    args: &[OsString],
    snapshot: bool,
    faults: &mut Faults,
) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for arg in args {
        let Some((name, dir)) = split(arg) else {
            faults.whole(format!("{} is no NAME=DIR", Shown::quoted(arg.as_bytes())));
            continue;
        };
        let Some(name) = str::from_utf8(name).ok().and_then(|name| Kind::DatasetName.text(name))
        else {
            faults.whole(bad_dataset_name(name));
            continue;
        };
        if offers.iter().any(|offer| offer.name == name) {
            faults.whole(format!("dataset {name} is given twice"));
            continue;
        }
        let dir = Some(PathBuf::from(OsStr::from_bytes(dir)));
        let origin = Origin::CommandLine;
        offers.push(Offer { name: name.to_owned(), dir, snapshot, io_threads: None, origin });
    }
    for DatasetEntry { line, name, dir, snapshot, io_threads } in entries {
        if !offers.iter().any(|offer| offer.name == name) {
            let dir = dir.map(|dir| base.join(dir));
            let origin = Origin::Config(line);
            offers.push(Offer { name, dir, snapshot, io_threads, origin });
        }
    }
    if offers.len() > DATASETS_MAX {
        let len = offers.len();
        let text = format!(
            "{len} datasets, with those of cluster.toml; at most {DATASETS_MAX} are possible"
        );
        faults.whole(text);
    }
    offers.sort_by(|a, b| a.name.cmp(&b.name));
    offers
}

/// `NAME=DIR`.
fn split(arg: &OsStr) -> Option<(&[u8], &[u8])> {
    let arg = arg.as_bytes();
    let at = arg.iter().position(|&byte| byte == b'=')?;
    let (name, dir) = (&arg[..at], &arg[at + 1..]);
    (!dir.is_empty()).then_some((name, dir))
}

#[cfg(test)]
mod tests {
    use super::super::fault::LoadErrors;
    use super::*;

    fn entry(line: usize, name: &str, dir: &str) -> DatasetEntry {
        DatasetEntry {
            line,
            name: name.into(),
            dir: Some(dir.into()),
            snapshot: true,
            io_threads: None,
        }
    }

    #[track_caller]
    fn check(entries: Vec<DatasetEntry>, args: &[&[u8]], want: &Result<Vec<&str>, &str>) {
        let mut faults = Faults::of("--dataset");
        let args: Vec<OsString> = args.iter().map(|arg| OsStr::from_bytes(arg).into()).collect();
        let offers = gather(entries, Path::new("etc"), &args, false, &mut faults);
        let told = |offer: &Offer| {
            let Offer { name, dir, snapshot, origin, .. } = offer;
            format!("{name} {} {snapshot} {origin:?}", dir.as_ref().unwrap().display())
        };
        let found = LoadErrors::unless(offers.iter().map(told).collect::<Vec<_>>(), [faults]);
        match (found, want) {
            (Ok(found), Ok(want)) => assert_eq!(found, *want),
            (Err(errors), Err(want)) => assert_eq!(errors.to_string(), *want),
            (found, want) => panic!("{found:?}, not {want:?}"),
        }
    }

    #[test]
    fn the_command_line_replaces_what_the_file_gives() {
        check(
            vec![entry(3, "b", "x"), entry(1, "a", "/y")],
            &[b"b=z=1"],
            &Ok(vec!["a /y true Config(1)", "b z=1 false CommandLine"]),
        );
        check(vec![entry(3, "b", "x")], &[], &Ok(vec!["b etc/x true Config(3)"]));
    }

    #[test]
    fn what_is_no_dataset_is_refused() {
        check(
            Vec::new(),
            &[b"a", b"b=", b"=x", b"A=x", b"\xff=x", b"c=x", b"c=y"],
            &Err("--dataset: \"a\" is no NAME=DIR\n\
             --dataset: \"b=\" is no NAME=DIR\n\
             --dataset: \"\" is no name of a dataset; use 1 to 32 of a-z, 0-9, _ and -\n\
             --dataset: \"A\" is no name of a dataset; use 1 to 32 of a-z, 0-9, _ and -\n\
             --dataset: \"\\xff\" is no name of a dataset; use 1 to 32 of a-z, 0-9, _ and -\n\
             --dataset: dataset c is given twice"),
        );
    }

    #[test]
    fn there_is_a_limit() {
        let entries = |n: usize| (1..=n).map(|n| entry(n, &format!("d{n}"), "/")).collect();
        let count = |n| {
            let mut faults = Faults::of("x");
            gather(entries(n), Path::new(""), &["a=/".into()], false, &mut faults);
            LoadErrors::unless((), [faults]).is_ok()
        };
        assert!(count(15));
        assert!(!count(16));
    }
}
