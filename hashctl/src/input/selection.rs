//! The part of a tree that is walked: by names, devices, times, and without the output itself.
//!
//! A pattern without a slash is matched against names, one with a slash against paths relative to
//! the directory that was named.

use super::open::{Kind, Links};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl From<&FileStat> for Identity {
    fn from(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A file that the command writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) identity: Identity,
    /// Temporary: nobody knows its name.
    pub(crate) is_hidden: bool,
}

/// Choice of the files of a tree. The default is all of them, without following links.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) follows_links: bool,
    pub(crate) one_file_system: bool,
    pub(crate) exclude: Vec<String>,
    /// Unless it is empty, files match one of them.
    pub(crate) include: Vec<String>,
    /// Files were modified after this time, in nanoseconds since 1970.
    pub(crate) newer_than_ns: Option<i128>,
    pub(crate) written: Vec<Written>,
}

/// Fate of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    Yes,
    /// As asked, without a word.
    No,
    /// It is the output.
    Output,
}

impl Selection {
    pub(crate) fn links(&self) -> Links {
        if self.follows_links { Links::Follow } else { Links::Refuse }
    }

    /// Decides about a file by its name alone, relative to the directory that was named: those that
    /// only [`Selection::select`] could leave out are in.
    pub(crate) fn has_name(&self, path: &[u8]) -> bool {
        let is_match = |pattern: &String, path: &[u8], kind| {
            let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
            is_match(pattern, path, name, kind)
        };
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let is_excluded = |path: &[u8], kind| self.exclude.iter().any(|p| is_match(p, path, kind));
        let is_below_excluded =
            || slashes.into_iter().any(|at| is_excluded(&path[..at], Kind::Directory));
        let is_included = || {
            self.include.is_empty() || self.include.iter().any(|p| is_match(p, path, Kind::File))
        };
        !is_excluded(path, Kind::File) && !is_below_excluded() && is_included()
    }

    /// Decides about an entry of `dir`. Its `path` is relative to the directory that was named; `inode`
    /// is the directory's word, which is not always right.
    pub(crate) fn select(
        &self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        name: &CStr,
        kind: Kind,
        inode: u64,
    ) -> Result<Selected, Errno> {
        let is_match = |pattern: &String| is_match(pattern, path, name.to_bytes(), kind);
        if self.exclude.iter().any(is_match) {
            return Ok(Selected::No);
        }
        if kind != Kind::File {
            return Ok(Selected::Yes);
        }
        if !self.include.is_empty() && !self.include.iter().any(is_match) {
            return Ok(Selected::No);
        }
        let is_suspect = self.written.iter().any(|written| written.identity.inode == inode);
        if !is_suspect && self.newer_than_ns.is_none() {
            return Ok(Selected::Yes);
        }
        let flags = match self.links() {
            Links::Follow => AtFlags::empty(),
            Links::Refuse => AtFlags::AT_SYMLINK_NOFOLLOW,
        };
        let stat = fstatat(dir, name, flags)?;
        let identity = Identity::from(&stat);
        if let Some(written) = self.written.iter().find(|written| written.identity == identity) {
            return Ok(if written.is_hidden { Selected::No } else { Selected::Output });
        }
        let modified_ns =
            i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        let is_new = self.newer_than_ns.is_none_or(|than_ns| modified_ns > than_ns);
        Ok(if is_new { Selected::Yes } else { Selected::No })
    }
}

/// A pattern, as an argument.
///
/// # Errors
/// It is none.
pub(crate) fn glob(text: &str) -> Result<String, String> {
    let is_valid = fast_glob::validate(text).is_ok();
    is_valid.then(|| text.to_owned()).ok_or_else(|| "not a pattern".to_owned())
}

fn is_match(pattern: &str, path: &[u8], name: &[u8], kind: Kind) -> bool {
    let (pattern, is_for_dirs) = match pattern.strip_suffix('/') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    if is_for_dirs && kind != Kind::Directory {
        return false;
    }
    match pattern.contains('/') {
        true => fast_glob::glob_match(pattern.strip_prefix('/').unwrap_or(pattern), path),
        false => fast_glob::glob_match(pattern, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_or_paths() {
        for (pattern, path, want) in [
            ("*.o", "a.o", true),
            ("*.o", "sub/a.o", true),
            ("*.o", "sub.o/a", false),
            ("sub/*.o", "sub/a.o", true),
            ("sub/*.o", "x/sub/a.o", false),
            ("**/sub/*.o", "x/sub/a.o", true),
            ("/a", "a", true),
            ("/a", "sub/a", false),
            ("{a,b}?", "sub/b1", true),
            ("a/", "a", false),
        ] {
            let name = path.rsplit('/').next().unwrap().as_bytes();
            let is_match = is_match(pattern, path.as_bytes(), name, Kind::File);
            assert_eq!(is_match, want, "{pattern} {path}");
        }
        let exclude = |pattern: &str, name: &str| {
            let exclude = vec![pattern.to_owned()];
            !Selection { exclude, ..Selection::default() }.has_name(name.as_bytes())
        };
        let include = |pattern: &str, name: &str| {
            let include = vec![pattern.to_owned()];
            Selection { include, ..Selection::default() }.has_name(name.as_bytes())
        };
        for (pattern, name, is_excluded, is_included) in [
            ("*.o", "a/b.o", true, true),
            ("a", "a/b", true, false),
            ("a/", "a/b", true, false),
            ("a/", "a", false, false),
            ("a/b", "a/b/c", true, false),
            ("b", "a/b/c/d", true, false),
            ("/b", "a/b", false, false),
            ("*", "\u{fffd}", true, true),
        ] {
            assert_eq!(exclude(pattern, name), is_excluded, "--exclude {pattern}: {name}");
            assert_eq!(include(pattern, name), is_included, "--include {pattern}: {name}");
        }
        assert!(is_match("a/", b"x/a", b"a", Kind::Directory));
        assert!(is_match("*", b"\xff", b"\xff", Kind::File));
    }
}
