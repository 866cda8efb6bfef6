//! Replacing a file as a whole: at every moment its name leads to the old content or the new one,
//! also after a crash.
//!
//! Where the file system permits it, the new file has no name until it is complete (`O_TMPFILE`), so that
//! nothing is left of a run that is killed. A file without a name cannot replace another: it gets a
//! temporary name at the end, for the moment until it is renamed.

use crate::say::io_text;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, access, linkat};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

/// Bytes that are written at once.
const BUFFER_LEN: usize = 128 << 10;

/// Names that are tried for a temporary file.
const ATTEMPTS_MAX: u32 = 100;

/// Permissions of a new file, before the umask.
const NEW_MODE: u32 = 0o666;

/// A file that is written beside the one that it will replace. Write to it, then
/// [`commit`](Replacement::commit); without that it is removed again.
#[derive(Debug)]
pub(crate) struct Replacement {
    /// The file that is replaced, links followed.
    target: PathBuf,
    /// Name of the new file, if it has one.
    temporary: Option<PathBuf>,
    file: Option<BufWriter<File>>,
}

impl Replacement {
    /// Creates a temporary file in the directory of `path`, with the permissions of the file there.
    ///
    /// # Errors
    /// The system's; and that `path` is something else than a regular file.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        // A link stays a link.
        let target = match fs::canonicalize(path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let old = match fs::metadata(&target) {
            Ok(metadata) if metadata.is_file() => Some(metadata.permissions()),
            Ok(_) => return Err(io::Error::other("not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (temporary, file) = match create_unnamed(&target) {
            Some(file) => (None, file),
            None => create_beside(&target).map(|(path, file)| (Some(path), file))?,
        };
        let replacement =
            Self { target, temporary, file: Some(BufWriter::with_capacity(BUFFER_LEN, file)) };
        if let (Some(old), Some(file)) = (old, &replacement.file) {
            file.get_ref().set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
        }
        Ok(replacement)
    }

    /// The new file.
    pub(crate) fn file(&self) -> &File {
        self.file.as_ref().expect("not committed yet").get_ref()
    }

    /// Puts the new file in the place of the old one, once it is safe on disk.
    ///
    /// # Errors
    /// The system's. The old file is untouched unless only the last step failed, which makes the new
    /// name last.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        let file = self.file.take().expect("a replacement is committed once");
        let result = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all().map(|()| file))
            .and_then(|file| {
                let temporary = match self.temporary.take() {
                    Some(temporary) => temporary,
                    None => name_beside(&self.target, &file)?,
                };
                fs::rename(self.temporary.insert(temporary), &self.target)
            });
        if result.is_ok() {
            self.temporary = None;
        }
        result?;
        File::open(directory(&self.target))?.sync_all()
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().expect("not committed yet").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().expect("not committed yet").flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // A leftover does no harm.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A new file without a name in the directory of `target`; `None` where that is impossible.
fn create_unnamed(target: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(NEW_MODE).custom_flags(libc::O_TMPFILE);
    let file = options.open(directory(target)).ok()?;
    // It gets its name by this path.
    descriptor_path(&file).exists().then_some(file)
}

fn descriptor_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn create_beside(target: &Path) -> io::Result<(PathBuf, File)> {
    let create =
        |path: &Path| OpenOptions::new().write(true).create_new(true).mode(NEW_MODE).open(path);
    with_free_name(target, create)
}

/// Gives a file without a name a temporary one.
fn name_beside(target: &Path, file: &File) -> io::Result<PathBuf> {
    let from = descriptor_path(file);
    let link = |path: &Path| {
        let flags = AtFlags::AT_SYMLINK_FOLLOW;
        linkat(AT_FDCWD, from.as_path(), AT_FDCWD, path, flags).map_err(io::Error::from)
    };
    with_free_name(target, link).map(|(path, ())| path)
}

/// Tries `create` with temporary names in the directory of `target` until one is free.
fn with_free_name<T>(
    target: &Path,
    create: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(PathBuf, T)> {
    let name = target.file_name().ok_or_else(|| io::Error::other("no name of a file"))?;
    let mut last = None;
    for attempt in 0..ATTEMPTS_MAX {
        let path = directory(target).join(temporary_name(name, attempt));
        match create(&path) {
            Ok(created) => return Ok((path, created)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no free name")))
}

fn temporary_name(name: &OsStr, attempt: u32) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{attempt}.tmp", process::id()));
    temporary
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Fails if `path` could not be replaced, without trying.
pub(crate) fn check_writable(path: &Path) -> io::Result<()> {
    Ok(access(directory(path), AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// Words for an error in writing.
pub(crate) fn write_error(error: &io::Error) -> String {
    format!("cannot be written: {}; it is as it was", io_text(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::tempdir;

    fn replace(path: &Path, text: &str) -> io::Result<()> {
        let mut file = Replacement::new(path)?;
        file.write_all(text.as_bytes())?;
        file.commit()
    }

    fn names(dir: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_at_the_end_and_keeps_its_permissions() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("m");
        replace(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut file = Replacement::new(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // Nothing would be left of a program that is killed now.
        let names_len = if file.temporary.is_none() { 1 } else { 2 };
        assert_eq!(names(dir.path()).len(), names_len);
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(dir.path()), ["m"]);
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("m");
        replace(&path, "old").unwrap();
        let mut file = Replacement::new(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"old".to_vec(), vec!["m".into()])
        );
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let dir = tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        replace(&at("d/m"), "old").unwrap();
        symlink("d/m", at("link")).unwrap();
        replace(&at("link"), "new").unwrap();
        assert_eq!(fs::read(at("d/m")).unwrap(), b"new");
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    }

    #[test]
    fn a_file_is_replaced_where_files_need_names() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("m");
        replace(&path, "old").unwrap();
        let (temporary, file) = create_beside(&path).unwrap();
        let file = Some(BufWriter::new(file));
        let mut named = Replacement { target: path.clone(), temporary: Some(temporary), file };
        named.write_all(b"new").unwrap();
        assert_eq!(names(dir.path()).len(), 2);
        named.commit().unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"new".to_vec(), vec!["m".into()])
        );
        drop(Replacement {
            target: path.clone(),
            temporary: Some(create_beside(&path).unwrap().0),
            file: None,
        });
        assert_eq!(names(dir.path()), ["m"]);
    }

    #[test]
    fn directories_and_devices_are_not_replaced() {
        let dir = tempdir().unwrap();
        assert!(replace(dir.path(), "x").is_err());
        assert!(replace(Path::new("/dev/null"), "x").is_err());
        assert!(replace(&dir.path().join("no/such"), "x").is_err());
    }
}
