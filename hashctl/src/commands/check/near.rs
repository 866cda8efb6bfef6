//! A file whose name differs from one in a list as names do between systems: in blanks at its end,
//! in the slash, in the form of its Unicode, or in case.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{read_dir, symlink_metadata};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// Most entries of a directory that are compared.
const ENTRIES_MAX: usize = 100_000;

/// The kinds of differences between two names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    backslash: bool,
    blanks: bool,
    normal_form: bool,
    case: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.backslash, "/ for \\"),
            (self.blanks, "blanks at the end"),
            (self.normal_form, "another Unicode normal form"),
            (self.case, "upper and lower case"),
        ];
        let kinds: Vec<&str> =
            kinds.iter().filter(|(is_so, _)| *is_so).map(|kind| kind.1).collect();
        f.write_str(&kinds.join(", "))
    }
}

/// The one file that `name` may mean, component by component.
pub(super) fn find(name: &[u8]) -> Option<(Vec<u8>, Difference)> {
    find_in(Path::new(""), name)
}

fn find_in(dir: &Path, name: &[u8]) -> Option<(Vec<u8>, Difference)> {
    let mut difference = Difference::default();
    let mut path = dir.to_owned();
    let mut found = if name.starts_with(b"/") { PathBuf::from("/") } else { PathBuf::new() };
    for component in name.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
        for part in parts(&path.join(&found), component, &mut difference) {
            let part = entry(&path.join(&found), part, &mut difference)?;
            found.push(OsStr::from_bytes(&part));
        }
    }
    path.push(&found);
    let is_file = symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_dir());
    let is_other = difference != Difference::default();
    (is_file && is_other).then(|| (found.as_os_str().as_bytes().to_vec(), difference))
}

/// A component, in parts if it has backslashes for slashes.
fn parts<'a>(dir: &Path, component: &'a [u8], difference: &mut Difference) -> Vec<&'a [u8]> {
    let is_there = symlink_metadata(dir.join(OsStr::from_bytes(component))).is_ok();
    if is_there || !component.contains(&b'\\') {
        return vec![component];
    }
    difference.backslash = true;
    component.split(|&byte| byte == b'\\').filter(|part| !part.is_empty()).collect()
}

/// The name of the entry of `dir` that `name` means: itself, or the only similar one.
fn entry(dir: &Path, name: &[u8], difference: &mut Difference) -> Option<Vec<u8>> {
    if symlink_metadata(dir.join(OsStr::from_bytes(name))).is_ok() {
        return Some(name.to_vec());
    }
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = read_dir(dir).ok()?.take(ENTRIES_MAX).filter_map(Result::ok);
    let mut similar = entries
        .map(|entry| entry.file_name())
        .filter(|entry| similarity(entry.as_bytes(), name).is_some());
    let (only, None) = (similar.next()?, similar.next()) else { return None };
    let only = only.as_bytes().to_vec();
    let found = similarity(&only, name)?;
    difference.blanks |= found.blanks;
    difference.normal_form |= found.normal_form;
    difference.case |= found.case;
    Some(only)
}

/// The differences of two names, if they are similar.
fn similarity(a: &[u8], b: &[u8]) -> Option<Difference> {
    let (Ok(a), Ok(b)) = (std::str::from_utf8(a), std::str::from_utf8(b)) else { return None };
    let (trimmed_a, trimmed_b) = (a.trim_end(), b.trim_end());
    let normal = |text: &str| text.nfc().collect::<String>();
    let (normal_a, normal_b) = (normal(trimmed_a), normal(trimmed_b));
    let is_similar = normal_a == normal_b || normal_a.to_lowercase() == normal_b.to_lowercase();
    let is_normal = |text: &str, normal: &str| text == normal;
    is_similar.then(|| Difference {
        backslash: false,
        blanks: a[trimmed_a.len()..] != b[trimmed_b.len()..],
        normal_form: is_normal(trimmed_a, &normal_a) != is_normal(trimmed_b, &normal_b),
        case: normal_a != normal_b,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::quote::quote;
    use std::fs::{create_dir, write};
    use tempfile::tempdir;

    #[test]
    fn finds_the_only_similar_name() {
        let dir = tempdir().unwrap();
        create_dir(dir.path().join("Sub")).unwrap();
        for name in ["plain", "blank ", "caf\u{e9}", "Sub/File.TXT", "two", "TWO", "b\\c"] {
            write(dir.path().join(name), "").unwrap();
        }
        for (name, want) in [
            ("plain ", Some(("plain", "blanks at the end"))),
            ("blank", Some(("blank ", "blanks at the end"))),
            ("cafe\u{301}", Some(("caf\u{e9}", "another Unicode normal form"))),
            ("sub\\file.txt", Some(("Sub/File.TXT", "/ for \\, upper and lower case"))),
            ("Sub/file.txt", Some(("Sub/File.TXT", "upper and lower case"))),
            ("Two", None),
            ("sub", None),
            ("other", None),
            ("plain", None),
            ("no/plain", None),
        ] {
            let found = find_in(dir.path(), name.as_bytes());
            let found = found.map(|(found, why)| (quote(&found), why.to_string()));
            let want = want.map(|(found, why)| (quote(found.as_bytes()), why.to_owned()));
            assert_eq!(found, want, "{name}");
        }
    }
}
