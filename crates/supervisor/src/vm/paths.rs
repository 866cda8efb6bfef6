//! Which paths a `hashctl` command line is about, so that the VMs can be shown them.
//!
//! It need not be exact: what is missed goes to the workers as bytes. But it errs on the side of
//! less, as a manifest may come from elsewhere: directories are shown if the command line names
//! them, or if they are part of a relative name, never on the word of an absolute one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// More members than this go to the workers as bytes.
const MEMBERS_MAX: usize = 256;

/// Lines of a manifest that are looked at.
const LINES_MAX: usize = 1 << 20;

/// The regular files and directories that `command` names, canonical, none inside another.
pub(crate) fn of(command: &[OsString]) -> Vec<PathBuf> {
    let mut words = command.iter().skip(1).skip_while(|word| word.as_bytes().starts_with(b"-"));
    let Some(name) = words.next() else { return Vec::new() };
    let paths = words.filter(|word| !word.as_bytes().starts_with(b"-")).map(PathBuf::from);
    let found = match name.to_str() {
        Some("sum") => paths.collect(),
        Some("check") => paths.flat_map(|manifest| roots(&manifest)).collect(),
        _ => BTreeSet::new(),
    };
    let canonical: BTreeSet<PathBuf> = found
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .filter(|p| is_data(p))
        .collect();
    let mut members: Vec<PathBuf> = Vec::new();
    for path in canonical {
        // Sorted: what contains a path comes before it.
        if !members.iter().any(|member| path.starts_with(member)) {
            members.push(path);
        }
    }
    members.truncate(MEMBERS_MAX);
    members
}

fn is_data(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
}

/// Where the files of a manifest are: the first part of relative names, absolute ones themselves.
fn roots(manifest: &Path) -> BTreeSet<PathBuf> {
    let Ok(file) = File::open(manifest) else { return BTreeSet::new() };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return BTreeSet::new();
    }
    let mut roots = BTreeSet::new();
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok).take(LINES_MAX) {
        if let Some(name) = name_of(&line) {
            roots.extend(root_of(Path::new(std::ffi::OsStr::from_bytes(name))));
        }
    }
    roots
}

/// The name in a line of the usual form, or of the BSD one.
fn name_of(line: &[u8]) -> Option<&[u8]> {
    if let Some(at) = line.windows(4).rposition(|window| window == b") = ") {
        let start = line.iter().position(|&byte| byte == b'(')? + 1;
        return line.get(start..at);
    }
    let at = line.iter().position(|&byte| byte == b' ')?;
    line.get(at + 2..).filter(|name| !name.is_empty())
}

fn root_of(name: &Path) -> Option<PathBuf> {
    if name.is_absolute() {
        return Some(name.to_owned());
    }
    let mut components = name.components().filter(|part| *part != Component::CurDir);
    let first = components.next()?;
    if first == Component::ParentDir {
        // Its directory may hold much else; the file alone is enough.
        return Some(name.to_owned());
    }
    Some(PathBuf::from(first.as_os_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_leads_to_the_places_of_its_files() {
        let root =
            |line: &[u8]| root_of(Path::new(std::ffi::OsStr::from_bytes(name_of(line).unwrap())));
        assert_eq!(root(b"abc  ./tree/a"), Some("tree".into()));
        assert_eq!(root(b"abc *tree/b c"), Some("tree".into()));
        assert_eq!(root(b"SHA256 (x/y) = abc"), Some("x".into()));
        assert_eq!(root(b"abc  /a/b/c"), Some("/a/b/c".into()));
        assert_eq!(name_of(b"rubbish"), None);
        assert_eq!(name_of(b"a "), None);
    }

    #[test]
    fn options_and_what_is_not_there_are_left_out() {
        let command =
            ["hashctl", "sum", "-r", "/proc/self/status-not", "-", "/"].map(OsString::from);
        assert_eq!(of(&command), [PathBuf::from("/")]);
        assert!(of(&["hashctl".into(), "status".into(), "/".into()]).is_empty());
    }
}
