//! A VM image: a directory with `kernel`, `initrd` and `image.txt`, whoever built it.

use super::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `image.txt` is a few lines.
const TEXT_LEN_MAX: u64 = 4096;

/// A directory that VMs can boot from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(super) dir: PathBuf,
    /// `sha256:` and hex digits over kernel and initrd.
    pub(super) digest: String,
    /// `dev` or `yocto`.
    pub(super) kind: String,
}

#[derive(Debug)]
pub(crate) enum ImageError {
    /// A file of it cannot be read.
    Unreadable { path: PathBuf, error: io::Error },
    /// A file of it is empty or too large.
    Odd { path: PathBuf, what: &'static str },
    /// `image.txt` lacks a line.
    Incomplete { path: PathBuf, key: &'static str },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(f, "VM image: cannot read {}: {error}; ", path.display())?;
                f.write_str("qemu/dev-image.sh builds an image, --image names one")
            }
            Self::Odd { path, what } => write!(f, "VM image: {} {what}", path.display()),
            Self::Incomplete { path, key } => {
                write!(f, "VM image: {} has no line `{key} …`", path.display())
            }
        }
    }
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
        for name in ["kernel", "initrd"] {
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
        Ok(Self { digest: value("digest")?, kind: value("kind")?, dir: dir.clone() })
    }

    /// An image that is still to be built, for showing what would be run.
    pub(super) fn unseen(dir: &Path) -> Self {
        let unknown = "unknown".to_owned();
        Self { dir: dir.to_owned(), digest: unknown.clone(), kind: unknown }
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.dir.join("kernel")
    }

    pub(super) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    /// Copies it to `dir`, where nobody else changes it.
    ///
    /// # Errors
    /// [`Error::Step`] names the file that cannot be written.
    pub(super) fn copy_to(&self, dir: &Path) -> Result<Self, Error> {
        // The last of the files says that all are there.
        if !dir.join("image.txt").exists() {
            fs::create_dir_all(dir).map_err(Error::write(dir))?;
            for name in ["kernel", "initrd", "image.txt"] {
                let path = dir.join(name);
                fs::copy(self.dir.join(name), &path).map_err(Error::write(&path))?;
            }
        }
        Ok(Self { dir: dir.to_owned(), ..self.clone() })
    }
}

/// A word that may be part of a file name and of a line.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":._-".contains(c);
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!(
            "hashcluster-image-{}-{:x}",
            std::process::id(),
            text.len()
        ));
        fs::create_dir_all(&dir).unwrap();
        for (name, content) in [("kernel", "k"), ("initrd", "i"), ("image.txt", text)] {
            fs::write(dir.join(name), content).unwrap();
        }
        dir
    }

    #[test]
    fn an_image_is_known_by_its_digest() {
        let dir = image("kind dev\ndigest sha256:abc\nkernel 6.1\n");
        let found = Image::open(&dir).unwrap();
        assert_eq!((found.digest.as_str(), found.kind.as_str()), ("sha256:abc", "dev"));
        fs::write(dir.join("kernel"), "").unwrap();
        assert!(Image::open(&dir).unwrap_err().to_string().contains("kernel is empty"));
        fs::remove_file(dir.join("kernel")).unwrap();
        assert!(Image::open(&dir).unwrap_err().to_string().contains("cannot read"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_digest_that_would_leave_its_directory_is_none() {
        for text in ["kind dev\ndigest ../../x", "kind dev\ndigest ", "kind dev\n"] {
            let dir = image(text);
            let error = Image::open(&dir).unwrap_err().to_string();
            assert!(error.contains("no line `digest"), "{text}: {error}");
            fs::remove_dir_all(&dir).unwrap();
        }
    }
}
