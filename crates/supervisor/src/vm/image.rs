//! A VM image: a directory with `kernel`, `initrd` and `image.txt`, whoever built it. Instead of
//! the one `initrd` for all VMs there can be `initrd.controller` and `initrd.worker`.

use crate::cluster::Error;
use crate::deployment::Role;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// `image.txt` is a few lines.
const TEXT_LEN_MAX: u64 = 4096;

/// Hex digits of a digest that suffice to recognise an image.
const DIGEST_LEN_MIN: usize = 32;

/// For all VMs, or for those of a role.
const INITRD: &str = "initrd";
const INITRD_CONTROLLER: &str = "initrd.controller";
const INITRD_WORKER: &str = "initrd.worker";

/// A directory that VMs can boot from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) dir: PathBuf,
    /// `sha256:` and hex digits over kernel and initrd.
    pub(crate) digest: String,
    /// `dev` or `yocto`.
    pub(crate) kind: String,
    /// True if each role has an initrd of its own.
    by_role: bool,
}

#[derive(Debug, Error)]
pub(crate) enum ImageError {
    /// A file of it cannot be read.
    #[error(
        "VM image: cannot read {}: {error}; qemu/dev-image.sh builds an image, --image names one",
        path.display()
    )]
    Unreadable {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// A file of it is empty or too large.
    #[error("VM image: {} {what}", path.display())]
    Odd { path: PathBuf, what: &'static str },
    /// `image.txt` lacks a line.
    #[error("VM image: {} has no line `{key} …`", path.display())]
    Incomplete { path: PathBuf, key: &'static str },
    /// `image.txt` names another digest than that of the files.
    #[error("VM image: {} does not hold what its image.txt names, {named}", dir.display())]
    Changed { dir: PathBuf, named: String },
}

impl Image {
    /// Looks at the image in `dir`.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub(crate) fn open(dir: &Path) -> Result<Self, ImageError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |error| ImageError::Unreadable { path, error }
        };
        let dir = fs::canonicalize(dir).map_err(unreadable(dir))?;
        let by_role = dir.join(INITRD_WORKER).exists();
        for name in files(by_role) {
            let path = dir.join(name);
            let metadata = fs::metadata(&path).map_err(unreadable(&path))?;
            fs::File::open(&path).map_err(unreadable(&path))?;
            if !metadata.is_file() || metadata.len() == 0 {
                return Err(ImageError::Odd { path, what: "is empty, or no file" });
            }
        }
        let path = dir.join("image.txt");
        if fs::metadata(&path).map_err(unreadable(&path))?.len() > TEXT_LEN_MAX {
            return Err(ImageError::Odd { path, what: "is too long" });
        }
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        let value = |key: &'static str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            let value = line.map(str::trim).filter(|value| is_plain(value));
            value.map(str::to_owned).ok_or(ImageError::Incomplete { path: path.clone(), key })
        };
        Ok(Self { digest: value("digest")?, kind: value("kind")?, dir: dir.clone(), by_role })
    }

    /// Compares kernel and initrds with the digest in `image.txt`, which may be truncated.
    ///
    /// # Errors
    /// [`ImageError::Changed`], [`ImageError::Unreadable`].
    pub(crate) fn verify(&self) -> Result<(), ImageError> {
        let mut hasher = HashingWriter(Sha256::new());
        for name in files(self.by_role) {
            let path = self.dir.join(name);
            let copied =
                fs::File::open(&path).and_then(|mut file| io::copy(&mut file, &mut hasher));
            copied.map_err(|error| ImageError::Unreadable { path, error })?;
        }
        let found: String = hasher.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let named = self.digest.strip_prefix("sha256:").unwrap_or_default();
        if named.len() < DIGEST_LEN_MIN || !found.starts_with(named) {
            return Err(ImageError::Changed { dir: self.dir.clone(), named: self.digest.clone() });
        }
        Ok(())
    }

    /// An image that is still to be built, for showing what would be run.
    pub(super) fn unseen(dir: &Path) -> Self {
        let unknown = "unknown".to_owned();
        Self { dir: dir.to_owned(), digest: unknown.clone(), kind: unknown, by_role: false }
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.dir.join("kernel")
    }

    pub(super) fn initrd(&self, role: Role) -> PathBuf {
        self.dir.join(match role {
            Role::Controller if self.by_role => INITRD_CONTROLLER,
            Role::Worker if self.by_role => INITRD_WORKER,
            Role::Controller | Role::Worker => INITRD,
        })
    }

    /// Copies it to `dir`, where nobody else changes it.
    ///
    /// # Errors
    /// [`Error::Step`] names the file that cannot be written.
    pub(crate) fn copy_to(&self, dir: &Path) -> Result<Self, Error> {
        // The last of the files says that all are there.
        if !dir.join("image.txt").exists() {
            fs::create_dir_all(dir).map_err(Error::write(dir))?;
            for &name in files(self.by_role).iter().chain(&["image.txt"]) {
                let path = dir.join(name);
                fs::copy(self.dir.join(name), &path).map_err(Error::write(&path))?;
            }
        }
        Ok(Self { dir: dir.to_owned(), ..self.clone() })
    }
}

/// Lets [`io::copy`] hash.
struct HashingWriter(Sha256);

impl io::Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The files that VMs boot.
const fn files(by_role: bool) -> &'static [&'static str] {
    if by_role { &["kernel", INITRD_CONTROLLER, INITRD_WORKER] } else { &["kernel", INITRD] }
}

/// A word that may be part of a file name and of a line.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":._-".contains(c);
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("kernel", "k"), ("initrd", "i"), ("image.txt", text)] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    #[test]
    fn an_image_is_known_by_its_digest() {
        let dir = image("kind dev\ndigest sha256:abc\nkernel 6.1\n");
        let found = Image::open(dir.path()).unwrap();
        assert_eq!((found.digest.as_str(), found.kind.as_str()), ("sha256:abc", "dev"));
        fs::write(dir.path().join("kernel"), "").unwrap();
        assert!(Image::open(dir.path()).unwrap_err().to_string().contains("kernel is empty"));
        fs::remove_file(dir.path().join("kernel")).unwrap();
        assert!(Image::open(dir.path()).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn a_role_boots_its_own_initrd_where_there_is_one() {
        let dir = image("kind yocto\ndigest sha256:def\nkernel 6.18\n");
        let same = Image::open(dir.path()).unwrap();
        assert_eq!(same.initrd(Role::Controller), same.initrd(Role::Worker));
        fs::remove_file(dir.path().join("initrd")).unwrap();
        fs::write(dir.path().join("initrd.worker"), "w").unwrap();
        let error = Image::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("initrd.controller"), "{error}");
        fs::write(dir.path().join("initrd.controller"), "c").unwrap();
        let copy = Image::open(dir.path()).unwrap().copy_to(&dir.path().join("copy")).unwrap();
        assert_eq!(fs::read_to_string(copy.initrd(Role::Worker)).unwrap(), "w");
        assert_eq!(fs::read_to_string(copy.initrd(Role::Controller)).unwrap(), "c");
    }

    #[test]
    fn an_image_whose_files_changed_is_told_from_what_image_txt_names() {
        // Of "ki", cut as the builders do.
        let digest = "2b84b2a9020f8b086b7709581ca4586a459938f8";
        let dir = image(&format!("kind dev\ndigest sha256:{digest}\n"));
        Image::open(dir.path()).unwrap().verify().expect("it is whole");
        fs::write(dir.path().join("initrd"), "j").unwrap();
        assert!(matches!(
            Image::open(dir.path()).unwrap().verify(),
            Err(ImageError::Changed { .. })
        ));
        let short = image(&format!("kind dev\ndigest sha256:{}\n", &digest[..31]));
        assert!(Image::open(short.path()).unwrap().verify().is_err(), "anything has those digits");
    }

    #[test]
    fn a_digest_that_would_leave_its_directory_is_none() {
        for text in ["kind dev\ndigest ../../x", "kind dev\ndigest ", "kind dev\n"] {
            let dir = image(text);
            let error = Image::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains("no line `digest"), "{text}: {error}");
        }
    }
}
