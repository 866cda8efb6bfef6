//! Files that a program relies on: nobody else may have written them, nor read what is secret in them.

use nix::unistd::geteuid;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Rights to a file that others may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Neither group nor others may write to it.
    Unwritten,
    /// Others may not read it either; its group may.
    Secret,
    /// Neither group nor others may do anything with it.
    Private,
}

/// A file that others may have written or read.
#[derive(Debug, Error)]
pub enum TrustError {
    /// It belongs to another user.
    #[error("it belongs to uid {owner}, neither to us nor to root; after a look inside: chown {us} {path}",
        path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's user.
        us: u32,
    },
    /// Its mode lets others in.
    #[error("its mode {mode:04o} lets others {what} it; after a look inside: chmod {fix} {path}",
        path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The right that they give to others.
        what: &'static str,
        /// The mode that mends it, as chmod(1) takes it.
        fix: &'static str,
    },
}

impl Trust {
    /// Checks the owner and mode of a file or directory; the caller sees to it that it is not a link. Pipes,
    /// devices and sockets hold nothing.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn check(self, path: &Path, metadata: &Metadata) -> Result<(), TrustError> {
        if !(metadata.is_file() || metadata.is_dir()) {
            return Ok(());
        }
        let (path, owner, us) = (path.to_owned(), metadata.uid(), geteuid().as_raw());
        if owner != us && owner != 0 {
            return Err(TrustError::Foreign { path, owner, us });
        }
        let mode = metadata.mode() & 0o7777;
        let (denied, fix) = match self {
            Self::Unwritten => (0o022, "go-w"),
            Self::Secret => (0o027, "g-w,o="),
            Self::Private => (0o077, "go="),
        };
        let what = if mode & 0o022 == 0 { "read" } else { "write to" };
        match mode & denied {
            0 => Ok(()),
            _ => Err(TrustError::Exposed { path, mode, what, fix }),
        }
    }

    /// Opens a file, which passes [`Trust::check`] if it is a regular one.
    ///
    /// # Errors
    /// As open(2) and fstat(2); of kind `PermissionDenied`, with a [`TrustError`], if others may have been at it.
    pub fn open(self, path: &Path) -> io::Result<File> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        // A directory is refused by what reads it.
        if metadata.is_file() {
            let checked = self.check(path, &metadata);
            checked.map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    /// The reason why a file of `mode` is refused.
    fn refused(trust: Trust, mode: u32) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        trust.open(&path).err().map(|error| error.to_string().replace(path.to_str().unwrap(), "f"))
    }

    #[test]
    fn who_may_write_or_read_a_file_decides_if_it_is_used() {
        for (trust, mode, want) in [
            (Trust::Unwritten, 0o644, None),
            (
                Trust::Unwritten,
                0o664,
                Some("0664 lets others write to it; after a look inside: chmod go-w f"),
            ),
            (
                Trust::Unwritten,
                0o602,
                Some("0602 lets others write to it; after a look inside: chmod go-w f"),
            ),
            (Trust::Secret, 0o640, None),
            (Trust::Secret, 0o600, None),
            (
                Trust::Secret,
                0o644,
                Some("0644 lets others read it; after a look inside: chmod g-w,o= f"),
            ),
            (
                Trust::Secret,
                0o660,
                Some("0660 lets others write to it; after a look inside: chmod g-w,o= f"),
            ),
            (Trust::Private, 0o400, None),
            (
                Trust::Private,
                0o640,
                Some("0640 lets others read it; after a look inside: chmod go= f"),
            ),
        ] {
            let want = want.map(|text| format!("its mode {text}"));
            assert_eq!(refused(trust, mode), want, "{trust:?} {mode:o}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_refused_and_a_device_is_not() {
        Trust::Secret.open(Path::new("/dev/null")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        // Only root can make one.
        if geteuid().is_root() {
            chown(&path, Some(60_001), None).unwrap();
            let error = Trust::Unwritten.open(&path).unwrap_err().to_string();
            assert!(
                error.contains("belongs to uid 60001") && error.contains("chown 0 "),
                "{error}"
            );
        }
    }
}
