//! Directories of this host that are datasets, and the names of files in them.
//!
//! `datasets/NAME` in the runtime directory is a symbolic link to the dataset's root, or a directory
//! of symbolic links `MEMBER -> PATH` to what is in it, each a file or a directory. `datasets/.live` names
//! those that the workers read from this host, one per line.
//!
//! Invariant: a name is given only for a file that is, at that moment, what stands under it: same
//! device and inode, and no symbolic link. Of the files in a [`Folder`] it is the directory that was
//! seen so, when it was opened; they are looked at in it.

use ipc_proto::limits::PATH_LEN_MAX;
use nix::fcntl::{AT_FDCWD, AtFlags, readlink};
use nix::sys::stat::{fstat, fstatat};
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

/// Most links in the directory of one dataset; files behind others are not found.
const MEMBERS_MAX: usize = 4096;

/// Names the live ones, in their directory.
const LIVE_FILE: &str = ".live";

/// The datasets that this host and the controller know.
#[derive(Debug, Default)]
pub(crate) struct Datasets {
    names: Vec<Arc<str>>,
    /// Each file that a worker opens in one of them costs a way to this host and back.
    live: Vec<String>,
    /// Shared files and directories, by their path without symbolic links.
    shared: HashMap<Vec<u8>, Vec<Share>>,
}

#[derive(Debug)]
struct Share {
    dataset: Arc<str>,
    /// Its name in the dataset; empty for the root.
    member: Vec<u8>,
}

/// A file in a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// The dataset.
    pub(crate) dataset: Arc<str>,
    /// Its path in it.
    pub(crate) path: Vec<u8>,
}

/// An open directory of a dataset: what is in it has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) dataset: Arc<str>,
    /// Its path in the dataset, with a slash at the end; empty for the root.
    prefix: Vec<u8>,
}

impl Folder {
    /// Its path in the dataset; empty for the root.
    pub(crate) fn path(&self) -> &[u8] {
        self.prefix.strip_suffix(b"/").unwrap_or(&self.prefix)
    }

    /// The name of the file `base` in it.
    pub(crate) fn name(&self, base: &CStr) -> Option<Name> {
        let base = base.to_bytes();
        let mut path = Vec::with_capacity(self.prefix.len() + base.len());
        path.extend_from_slice(&self.prefix);
        path.extend_from_slice(base);
        let fits = path.len() <= PATH_LEN_MAX;
        fits.then(|| Name { dataset: Arc::clone(&self.dataset), path })
    }
}

impl Datasets {
    /// Those in `dir` that the controller knows, as `known` says.
    pub(crate) fn load(dir: &Path, known: &[String]) -> Self {
        let live = fs::read_to_string(dir.join(LIVE_FILE)).unwrap_or_default();
        let live = live.lines().map(str::to_owned).collect();
        let mut datasets = Self { live, ..Self::default() };
        for name in known {
            let (name, path) = (Arc::<str>::from(name.as_str()), dir.join(name));
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                for member in members(&path) {
                    datasets.add(&name, &path.join(OsStr::from_bytes(&member)), member);
                }
            } else if metadata.is_symlink() && path.is_dir() {
                datasets.add(&name, &path, Vec::new());
            }
        }
        datasets
    }

    fn add(&mut self, dataset: &Arc<str>, link: &Path, member: Vec<u8>) {
        let Ok(path) = link.canonicalize() else { return };
        if !self.names.contains(dataset) {
            self.names.push(Arc::clone(dataset));
        }
        let shares = self.shared.entry(path.into_os_string().into_vec()).or_default();
        shares.push(Share { dataset: Arc::clone(dataset), member });
    }

    /// Their names, in the controller's order.
    pub(crate) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// True if workers read `dataset` from this host, by a file server.
    pub(crate) fn is_live(&self, dataset: &str) -> bool {
        self.live.iter().any(|live| live == dataset)
    }

    /// The name of `file`, if it is in one of them.
    pub(crate) fn find(&self, file: &OwnedFd) -> Option<Name> {
        self.place(file.as_fd()).filter(|name| !name.path.is_empty())
    }

    /// The name of `dir`, if it is in one of them or the root of one.
    pub(crate) fn folder(&self, dir: BorrowedFd<'_>) -> Option<Folder> {
        let Name { dataset, path: mut prefix } = self.place(dir)?;
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        Some(Folder { dataset, prefix })
    }

    /// True if something at or below `dir` may be in one of them.
    pub(crate) fn may_hold(&self, dir: BorrowedFd<'_>) -> bool {
        let path = format!("/proc/thread-self/fd/{}", dir.as_raw_fd());
        let Ok(path) = readlink(path.as_str()) else { return true };
        let above = [path.as_bytes().strip_suffix(b"/").unwrap_or(path.as_bytes()), b"/"].concat();
        self.name_of(path.as_bytes()).is_some()
            || self.shared.keys().any(|shared| shared.starts_with(&above))
    }

    fn place(&self, file: BorrowedFd<'_>) -> Option<Name> {
        if self.shared.is_empty() {
            return None;
        }
        // Threads that open files have descriptor tables of their own.
        let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
        let path = readlink(path.as_str()).ok()?;
        let name = self.name_of(path.as_bytes())?;
        let seen = fstatat(AT_FDCWD, path.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let ours = fstat(file).ok()?;
        ((seen.st_dev, seen.st_ino) == (ours.st_dev, ours.st_ino)).then_some(name)
    }

    /// The name of `path`, by the longest part of it that is shared.
    fn name_of(&self, path: &[u8]) -> Option<Name> {
        let mut ends = vec![path.len()];
        ends.extend((0..path.len()).rev().filter(|&at| path[at] == b'/'));
        ends.into_iter().find_map(|end| {
            let (above, rest) = path.split_at(end);
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            let above = if above.is_empty() { b"/" } else { above };
            let Share { dataset, member } = self.shared.get(above)?.first()?;
            let parts = [&member[..], rest].into_iter().filter(|part| !part.is_empty());
            let path = parts.collect::<Vec<_>>().join(&b'/');
            let fits = path.len() <= PATH_LEN_MAX;
            fits.then(|| Name { dataset: Arc::clone(dataset), path })
        })
    }
}

/// The names of the links in `dir`, sorted.
fn members(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let mut names: Vec<_> = links.map(|entry| entry.file_name().into_vec()).collect();
    names.sort();
    names.truncate(MEMBERS_MAX);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// `data/{a,b/c}` and `other/x`, beside `datasets/`.
    fn host() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["data/b", "other", "datasets"] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        for file in ["data/a", "data/b/c", "other/x"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        dir
    }

    fn load(host: &TempDir, known: &[&str]) -> Datasets {
        let known: Vec<String> = known.iter().map(|&name| name.to_owned()).collect();
        Datasets::load(&host.path().join("datasets"), &known)
    }

    fn find(datasets: &Datasets, host: &TempDir, file: &str) -> Option<String> {
        let file = File::open(host.path().join(file)).unwrap();
        let name = datasets.find(&file.into())?;
        Some(format!("{}:{}", name.dataset, String::from_utf8(name.path).unwrap()))
    }

    #[test]
    fn a_linked_root_gives_every_file_below_it_a_name() {
        let host = host();
        symlink(host.path().join("data"), host.path().join("datasets/d")).unwrap();
        symlink(host.path().join("data/b/c"), host.path().join("other/link")).unwrap();
        let datasets = load(&host, &["e", "d"]);
        assert_eq!(datasets.names(), [Arc::from("d")]);
        assert_eq!(find(&datasets, &host, "data/a").as_deref(), Some("d:a"));
        assert_eq!(find(&datasets, &host, "data/b/../b/c").as_deref(), Some("d:b/c"));
        assert_eq!(find(&datasets, &host, "other/link").as_deref(), Some("d:b/c"));
        assert_eq!(find(&datasets, &host, "other/x"), None);
        assert_eq!(find(&load(&host, &["e"]), &host, "data/a"), None, "the controller knows no d");
    }

    #[test]
    fn members_are_found_by_the_longest_path() {
        let host = host();
        let members = host.path().join("datasets/d");
        fs::create_dir(&members).unwrap();
        symlink(host.path().join("data"), members.join("all")).unwrap();
        symlink(host.path().join("data/b"), members.join("inner")).unwrap();
        symlink(host.path().join("other/x"), members.join("one")).unwrap();
        symlink(host.path().join("missing"), members.join("gone")).unwrap();
        fs::write(members.join("no link"), "").unwrap();
        let datasets = load(&host, &["d"]);
        assert_eq!(find(&datasets, &host, "data/a").as_deref(), Some("d:all/a"));
        assert_eq!(find(&datasets, &host, "data/b/c").as_deref(), Some("d:inner/c"));
        assert_eq!(find(&datasets, &host, "other/x").as_deref(), Some("d:one"));
        assert_eq!(find(&datasets, &host, "datasets/d/no link"), None);
    }

    #[test]
    fn everything_has_a_name_below_the_root_of_the_host() {
        let host = host();
        symlink("/", host.path().join("datasets/all")).unwrap();
        let datasets = load(&host, &["all"]);
        let path = host.path().canonicalize().unwrap();
        let want = format!("all:{}/data/a", path.to_str().unwrap().trim_start_matches('/'));
        assert_eq!(find(&datasets, &host, "data/a"), Some(want));
    }

    #[test]
    fn a_file_that_differs_from_the_one_under_its_name_has_no_name() {
        let host = host();
        symlink(host.path().join("data"), host.path().join("datasets/d")).unwrap();
        let datasets = load(&host, &["d"]);
        let replaced = OwnedFd::from(File::open(host.path().join("data/a")).unwrap());
        assert!(datasets.find(&replaced).is_some());
        fs::remove_file(host.path().join("data/a")).unwrap();
        assert_eq!(datasets.find(&replaced), None, "removed");
        fs::write(host.path().join("data/a (deleted)"), "another").unwrap();
        assert_eq!(datasets.find(&replaced), None, "another that is called as the system says");
        let pipe = std::io::pipe().unwrap().0;
        assert_eq!(datasets.find(&pipe.into()), None);
    }

    #[test]
    fn a_root_that_is_not_a_directory_is_ignored() {
        let host = host();
        symlink(host.path().join("data/a"), host.path().join("datasets/file")).unwrap();
        symlink("nowhere", host.path().join("datasets/dangling")).unwrap();
        fs::write(host.path().join("datasets/plain"), "").unwrap();
        let datasets = load(&host, &["file", "dangling", "plain", "absent"]);
        assert!(datasets.names().is_empty());
        assert_eq!(find(&datasets, &host, "data/a"), None);
    }
}
