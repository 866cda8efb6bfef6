//! Names on the command line and in manifests: neighbours are opened from their directory, which is
//! looked up once, and where they go to the workers by name they are only looked at.
//!
//! Invariant: at most one directory is kept open, and only from the second name in it on.

use crate::datasets::{Folder, Name};
use crate::feed::Feeder;
use crate::open::{Links, Opened, glance_at, open_at, open_start};
use ipc_proto::message::Stamp;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The directory of the last name.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// As it was written, with the slash at its end.
    prefix: Vec<u8>,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    dir: OwnedFd,
    /// If the files in it go by name.
    folder: Option<Folder>,
}

/// What is behind a name.
#[derive(Debug)]
pub(crate) enum Found {
    /// A regular file that workers find.
    Named(Name, Stamp),
    /// Anything else, opened.
    Opened(Opened),
}

impl Start {
    /// What is behind `path`, which may be a symbolic link; `feeder` knows how files go.
    ///
    /// # Errors
    /// As [`open_at`].
    pub(crate) fn find(&mut self, feeder: &Feeder, path: &CStr) -> Result<Found, Errno> {
        let Some((prefix, base)) = split(path) else { return open(AT_FDCWD, path) };
        if self.prefix != prefix {
            self.prefix.clear();
            self.prefix.extend_from_slice(prefix);
            self.kept = None;
            return open(AT_FDCWD, path);
        }
        if self.kept.is_none() {
            self.kept = Kept::open(feeder, prefix);
        }
        // What cannot be kept open may be opened all the same.
        let Some(Kept { dir, folder }) = &self.kept else { return open(AT_FDCWD, path) };
        if let Some(folder) = folder
            && let Some(stamp) = glance_at(dir.as_fd(), base)
            && let Some(name) = folder.name(base)
        {
            return Ok(Found::Named(name, stamp));
        }
        open(dir.as_fd(), base)
    }
}

impl Kept {
    fn open(feeder: &Feeder, prefix: &[u8]) -> Option<Self> {
        let path = if prefix.is_empty() { &b"."[..] } else { prefix };
        let path = CString::new(path).expect("a part of a path holds no zero byte");
        let dir = open_start(&path).ok()?;
        let folder = feeder.folder(dir.as_fd());
        Some(Self { dir, folder })
    }
}

fn open(dir: BorrowedFd<'_>, path: &CStr) -> Result<Found, Errno> {
    open_at(dir, path, Links::Follow).map(Found::Opened)
}

/// The directory of `path` and the plain name in it, if it ends with one.
fn split(path: &CStr) -> Option<(&[u8], &CStr)> {
    let bytes = path.to_bytes_with_nul();
    let at = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (prefix, base) = bytes.split_at(at);
    let base = CStr::from_bytes_with_nul(base).expect("the end of a string is one");
    let is_plain = !matches!(base.to_bytes(), b"" | b"." | b"..");
    is_plain.then_some((prefix, base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_its_directory_and_a_plain_name() {
        let split = |path| split(path).map(|(prefix, base)| (prefix, base.to_bytes()));
        for (path, want) in [
            (c"a", Some((&b""[..], &b"a"[..]))),
            (c"/a", Some((b"/", b"a"))),
            (c"a//b/...", Some((b"a//b/", b"..."))),
            (c"", None),
            (c"/", None),
            (c"a/", None),
            (c"..", None),
            (c"a/.", None),
        ] {
            assert_eq!(split(path), want, "{path:?}");
        }
    }
}
