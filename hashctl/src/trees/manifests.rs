//! Opening manifests and their states, and finding out where the directory is.

use super::claims::{ClaimTable, id_of};
use super::found::{FileId, FoundTree};
use crate::input::selection::Selection;
use crate::lists::quote::quote;
use crate::say::{errno_text, io_text, say};
use ipc_proto::Algorithm;
use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Suffix of the state of a manifest.
const STATE_SUFFIX: &str = ".state";

/// The state of `manifest`, where no other is named.
pub(crate) fn state_path(manifest: &OsStr) -> PathBuf {
    let mut path = manifest.to_owned();
    path.push(STATE_SUFFIX);
    path.into()
}

/// Manifests with their states, as they were named.
#[derive(Debug)]
pub(crate) struct Manifests {
    pub(crate) paths: Vec<OsString>,
    /// The state of the only manifest, if it is named.
    state: Option<OsString>,
    /// It has to be there.
    needs_state: bool,
    states: Vec<Option<File>>,
    /// Manifests and states.
    pub(crate) ids: Vec<FileId>,
}

impl Manifests {
    /// Opens manifests and reads them into a table; says what is wrong with them.
    ///
    /// # Errors
    /// One cannot be read, which was said.
    pub(crate) fn read(
        paths: Vec<OsString>,
        state: Option<OsString>,
        asked: Option<Algorithm>,
        has_stdin: bool,
    ) -> Result<(Self, ClaimTable), Unusable> {
        let needs_state = state.is_some();
        Self { paths, state, needs_state, states: Vec::new(), ids: Vec::new() }
            .read_all(asked, has_stdin)
    }

    fn read_all(
        self,
        asked: Option<Algorithm>,
        has_stdin: bool,
    ) -> Result<(Self, ClaimTable), Unusable> {
        let mut claims = ClaimTable::default();
        let mut manifests = self;
        for at in 0..manifests.paths.len() {
            let path = manifests.paths[at].clone();
            let read = open(&path, has_stdin).and_then(|file| {
                manifests.ids.push(id_of(&file)?);
                claims.read(&file, asked, path.as_bytes())
            });
            read.map_err(|error| unusable(&path, &error))?;
            manifests.open_state(&path)?;
        }
        Ok((manifests, claims))
    }

    /// As [`Manifests::read`] for one manifest, which need not be there, nor its state.
    ///
    /// # Errors
    /// It is there and cannot be read, which was said.
    pub(crate) fn read_or_new(
        path: &OsStr,
        state: &OsStr,
        asked: Option<Algorithm>,
    ) -> Result<(Self, ClaimTable), Unusable> {
        let is_missing = |path: &OsStr| {
            fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let paths = if is_missing(path) { Vec::new() } else { vec![path.to_owned()] };
        let state = Some(state.to_owned());
        let manifests =
            Self { paths, state, needs_state: false, states: Vec::new(), ids: Vec::new() };
        let (mut manifests, claims) = manifests.read_all(asked, false)?;
        if manifests.paths.is_empty() {
            // An old state is replaced, and is no part of the tree.
            manifests.open_state(path)?;
        }
        Ok((manifests, claims))
    }

    fn open_state(&mut self, manifest: &OsStr) -> Result<(), Unusable> {
        let path = self.state.clone().unwrap_or_else(|| state_path(manifest).into_os_string());
        let state = match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.needs_state => None,
            Err(error) => return Err(unusable(&path, &error)),
        };
        if let Some(file) = &state {
            self.ids.push(id_of(file).map_err(|error| unusable(&path, &error))?);
        }
        self.states.push(state);
        Ok(())
    }

    /// Walks `dir`, makes names relative to it and adds the states. Also returns if every line of the
    /// manifests counts; those that do not were said.
    ///
    /// # Errors
    /// The directory or a state cannot be used, which was said.
    pub(crate) fn settle(
        &mut self,
        claims: &mut ClaimTable,
        dir: &[u8],
        selection: &Selection,
    ) -> Result<(FoundTree, bool), Unusable> {
        let tree = open_tree(dir, selection)?;
        claims.settle(dir, &roots(dir), |name| tree.has(name));
        for part in 0..self.paths.len() {
            if let Some(file) = self.states[part].take() {
                claims.add_state(part, file).map_err(|error| {
                    let default = state_path(&self.paths[part]).into_os_string();
                    let path = self.state.as_ref().unwrap_or(&default);
                    let cause = error.source().map(|cause| format!(": {cause}"));
                    let name = quote(path.as_bytes());
                    say(format_args!("{name}: {error}{}", cause.unwrap_or_default()));
                    Unusable
                })?;
            }
        }
        let is_sure = self.say_doubts(claims, dir);
        Ok((tree, is_sure))
    }

    /// True if a file of the tree is one of the manifests or states.
    pub(crate) fn are(&self, tree: &FoundTree, file: u32) -> bool {
        self.ids.contains(&tree.id(file))
    }

    /// Says which lines of manifests count for nothing; true if there are none.
    fn say_doubts(&self, claims: &ClaimTable, dir: &[u8]) -> bool {
        let mut is_ok = true;
        for (path, part) in self.paths.iter().zip(&claims.manifests) {
            let name = quote(path.as_bytes());
            if part.bad_lines > 0 {
                is_ok = false;
                let (count, first) = (part.bad_lines, part.first_bad);
                say(format_args!(
                    "{name}: {count} improperly formatted lines, the first is {first}"
                ));
            }
            if part.outside > 0 {
                is_ok = false;
                let (count, dir) = (part.outside, quote(dir));
                say(format_args!("{name}: {count} names are not below {dir}"));
            }
        }
        is_ok
    }
}

/// A file that a command needs cannot be used; why was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusable;

/// Walks a directory.
///
/// # Errors
/// It cannot be opened, which was said.
pub(crate) fn open_tree(dir: &[u8], selection: &Selection) -> Result<FoundTree, Unusable> {
    FoundTree::collect(dir, selection).map_err(|errno| {
        say(format_args!("{}: {}", quote(dir), errno_text(errno as i32)));
        Unusable
    })
}

/// Says which files of the tree are the manifests and their states.
pub(crate) fn say_left_out(tree: &FoundTree, files: &[u32]) {
    for &file in files {
        let name = quote(&tree.path(tree.names.get(file)));
        say(format_args!("{name}: left out: the manifest or its state"));
    }
}

fn unusable(path: &OsStr, error: &io::Error) -> Unusable {
    say(format_args!("{}: {}", quote(path.as_bytes()), io_text(error)));
    Unusable
}

fn open(path: &OsStr, has_stdin: bool) -> io::Result<File> {
    match path.as_bytes() {
        b"-" if has_stdin => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        b"-" => Err(io::Error::from_raw_os_error(libc::EBADF)),
        _ => File::open(path),
    }
}

/// Absolute paths of a directory: with links resolved, and as it was named. Without slash at the end.
fn roots(dir: &[u8]) -> Vec<Vec<u8>> {
    let dir = Path::new(OsStr::from_bytes(dir));
    let mut roots = Vec::new();
    if let Ok(path) = fs::canonicalize(dir) {
        roots.push(path);
    }
    if let Ok(current) = env::current_dir() {
        // Components without dots and double slashes.
        roots.push(current.join(dir).components().collect());
    }
    let bytes = roots.into_iter().map(|path| path.into_os_string().into_vec());
    let mut roots: Vec<Vec<u8>> =
        bytes.map(|root| root.strip_suffix(b"/").map(<[u8]>::to_vec).unwrap_or(root)).collect();
    roots.dedup();
    roots
}
