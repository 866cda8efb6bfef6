//! A VM image: a directory with `kernel`, `initrd` and `image.txt`, whoever built it. Instead of
//! the one `initrd` for all VMs there can be `initrd.controller` and `initrd.worker`, and beside
//! `kernel` the same kernel unpacked, `vmlinux`.

use super::arch::Arch;
use super::plan::Accel;
use crate::cluster::Error;
use crate::deployment::Role;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// `image.txt` is a few lines.
const TEXT_LEN_MAX: u64 = 4096;

/// Hex digits of the digest in `image.txt`: of SHA-256 it may be a prefix of this length or longer.
const DIGEST_LEN_MIN: usize = 40;
const DIGEST_LEN_MAX: usize = 64;

const KERNEL: &str = "kernel";

/// An ELF file with an entry point for PVH, which boots half a second faster without KVM. With KVM
/// unpacking takes no time, and places the kernel at random.
const VMLINUX: &str = "vmlinux";

/// For all VMs, or for those of a role.
const INITRD: &str = "initrd";
const INITRD_CONTROLLER: &str = "initrd.controller";
const INITRD_WORKER: &str = "initrd.worker";

/// A directory that VMs can boot from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) dir: PathBuf,
    /// `sha256:` and hex digits over [`Self::files`]: as `image.txt` says, and verified by
    /// [`Self::copy_to`], which comes before any boot.
    pub(crate) digest: String,
    /// `dev` or `yocto`.
    pub(crate) kind: String,
    pub(crate) arch: Arch,
    /// True if each role has an initrd of its own.
    by_role: bool,
    has_vmlinux: bool,
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
    /// Its VMs cannot run here.
    #[error("VM image: {} is for {found}, and only images for x86_64 and aarch64 are known", path.display())]
    UnknownArch { path: PathBuf, found: String },
    /// Its files are not those that `image.txt` was written for.
    #[error(
        "VM image: {} does not hold what its image.txt names, {said}: kernel and initrd have the digest \
         {found}, so they are damaged or of another image; qemu/dev-image.sh builds one, or copy it again",
        dir.display()
    )]
    Changed { dir: PathBuf, said: String, found: String },
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
        let has_vmlinux = dir.join(VMLINUX).exists();
        for name in files(by_role, has_vmlinux) {
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
        let digest = value("digest")?;
        if !is_digest(&digest) {
            return Err(ImageError::Incomplete { path, key: "digest sha256:" });
        }
        let arch = match value("arch") {
            Err(_) => Arch::default(),
            Ok(found) => match Arch::ALL.into_iter().find(|arch| arch.name() == found) {
                Some(arch) => arch,
                None => return Err(ImageError::UnknownArch { path, found }),
            },
        };
        Ok(Self { digest, kind: value("kind")?, arch, dir: dir.clone(), by_role, has_vmlinux })
    }

    /// Compares kernel and initrds with the digest in `image.txt`, which may be truncated.
    ///
    /// # Errors
    /// [`ImageError::Changed`], [`ImageError::Unreadable`].
    pub(crate) fn verify(&self) -> Result<(), ImageError> {
        self.verify_as(&self.dir)
    }

    /// An image that is still to be built, for showing what would be run.
    pub(super) fn unseen(dir: &Path) -> Self {
        let unknown = "unknown".to_owned();
        Self {
            dir: dir.to_owned(),
            digest: unknown.clone(),
            kind: unknown,
            arch: Arch::default(),
            by_role: false,
            has_vmlinux: false,
        }
    }

    pub(super) fn kernel(&self, accel: Accel) -> PathBuf {
        let unpacked = accel == Accel::Tcg && self.has_vmlinux;
        self.dir.join(if unpacked { VMLINUX } else { KERNEL })
    }

    pub(super) fn initrd(&self, role: Role) -> PathBuf {
        self.dir.join(match role {
            Role::Controller if self.by_role => INITRD_CONTROLLER,
            Role::Worker if self.by_role => INITRD_WORKER,
            Role::Controller | Role::Worker => INITRD,
        })
    }

    /// The files that VMs boot, in the order of their digest.
    fn files(&self) -> impl Iterator<Item = &'static str> {
        files(self.by_role, self.has_vmlinux)
    }

    /// Copies it to `dir`, where nobody else changes it, and verifies the digest of the copy.
    ///
    /// # Errors
    /// [`Error::Step`] names the file that cannot be written; [`ImageError::Changed`].
    pub(crate) fn copy_to(&self, dir: &Path) -> Result<Self, Error> {
        let copy = Self { dir: dir.to_owned(), ..self.clone() };
        // The last of the files says that all are there, and are what they should be.
        if dir.join("image.txt").exists() {
            self.verify()?;
            return Ok(copy);
        }
        fs::create_dir_all(dir).map_err(Error::write(dir))?;
        let copy_file = |name: &str| {
            let path = dir.join(name);
            fs::copy(self.dir.join(name), &path).map(drop).map_err(Error::write(&path))
        };
        self.files().try_for_each(copy_file)?;
        copy.verify_as(&self.dir)?;
        copy_file("image.txt")?;
        Ok(copy)
    }

    /// The same, where the files are a copy of those in `shown`.
    fn verify_as(&self, shown: &Path) -> Result<(), ImageError> {
        let mut hasher = HashingWriter(Sha256::new());
        for name in self.files() {
            let path = self.dir.join(name);
            let copied =
                fs::File::open(&path).and_then(|mut file| io::copy(&mut file, &mut hasher));
            copied.map_err(|error| ImageError::Unreadable { path, error })?;
        }
        let found: String = hasher.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let found = format!("sha256:{found}");
        if found.starts_with(&self.digest) {
            return Ok(());
        }
        let said = self.digest.clone();
        let found = found[..said.len()].to_owned();
        Err(ImageError::Changed { dir: shown.to_owned(), said, found })
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

fn files(by_role: bool, has_vmlinux: bool) -> impl Iterator<Item = &'static str> {
    let initrds: &[&str] = if by_role { &[INITRD_CONTROLLER, INITRD_WORKER] } else { &[INITRD] };
    let kernels = [KERNEL].into_iter().chain(initrds.iter().copied());
    kernels.chain(has_vmlinux.then_some(VMLINUX))
}

/// True for `sha256:` and enough lower-case hex digits.
fn is_digest(text: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix("sha256:").is_some_and(|digits| {
        (DIGEST_LEN_MIN..=DIGEST_LEN_MAX).contains(&digits.len()) && digits.bytes().all(is_hex)
    })
}

/// A word that may be part of a file name and of a line.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":._-".contains(c);
    (1..="sha256:".len() + DIGEST_LEN_MAX).contains(&text.len())
        && !text.starts_with('.')
        && text.chars().all(plain)
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

    /// SHA-256 of "ki".
    const KI: &str = "sha256:2b84b2a9020f8b086b7709581ca4586a459938f80e0393abce3840dba921694a";

    #[test]
    fn an_image_is_known_by_its_digest() {
        let dir = image(&format!("kind dev\ndigest {KI}\nkernel 6.1\n"));
        let found = Image::open(dir.path()).unwrap();
        assert_eq!((found.digest.as_str(), found.kind.as_str()), (KI, "dev"));
        fs::write(dir.path().join("kernel"), "").unwrap();
        assert!(Image::open(dir.path()).unwrap_err().to_string().contains("kernel is empty"));
        fs::remove_file(dir.path().join("kernel")).unwrap();
        assert!(Image::open(dir.path()).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn an_image_is_for_x86_64_unless_it_says_otherwise() {
        for (line, want) in [
            ("", Ok(Arch::X86_64)),
            ("arch x86_64\n", Ok(Arch::X86_64)),
            ("arch aarch64\n", Ok(Arch::Aarch64)),
            ("arch riscv64\n", Err("is for riscv64")),
        ] {
            let dir = image(&format!("kind dev\ndigest {KI}\n{line}"));
            let found = Image::open(dir.path());
            match (found, want) {
                (Ok(found), Ok(want)) => assert_eq!(found.arch, want, "{line:?}"),
                (Err(found), Err(want)) => assert!(found.to_string().contains(want), "{found}"),
                (found, want) => panic!("{line:?}: {found:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn an_image_that_is_not_what_its_text_says_is_not_booted() {
        for digits in [40, 64] {
            let dir = image(&format!("kind dev\ndigest {}\n", &KI[.."sha256:".len() + digits]));
            let found = Image::open(dir.path()).unwrap();
            let copy = |name: &str| found.copy_to(&dir.path().join(name));
            copy("good").expect("it is as its text says");
            fs::write(dir.path().join("initrd"), "j").unwrap();
            for name in ["bad", "bad", "good"] {
                let error = copy(name).unwrap_err().to_string();
                let words = [dir.path().to_str().unwrap(), "image.txt names, sha256:", "damaged"];
                assert!(words.iter().all(|word| error.contains(word)), "{error}");
            }
        }
    }

    #[test]
    fn a_role_boots_its_own_initrd_where_there_is_one() {
        let dir = image(
            "kind yocto\ndigest sha256:e073c190d068dcd7e5b4cca107ef729844dab7c3\nkernel 6.18\n",
        );
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
    fn an_unpacked_kernel_is_verified_too_and_booted_without_kvm() {
        let dir = image(&format!("kind dev\ndigest {KI}\n"));
        let packed = Image::open(dir.path()).unwrap();
        assert_eq!(packed.kernel(Accel::Tcg), packed.kernel(Accel::Kvm));
        fs::write(dir.path().join("vmlinux"), "v").unwrap();
        let error = Image::open(dir.path()).unwrap().verify().unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        // SHA-256 of "kiv".
        let kiv = "sha256:61f1ffc92712b0f21eb4866a201c2c80af185cf99e7e99762bf1489d5fe4656a";
        fs::write(dir.path().join("image.txt"), format!("kind dev\ndigest {kiv}\n")).unwrap();
        let copy = Image::open(dir.path()).unwrap().copy_to(&dir.path().join("copy")).unwrap();
        assert!(copy.kernel(Accel::Tcg).ends_with("vmlinux"));
        assert!(copy.kernel(Accel::Kvm).ends_with("kernel"));
        assert!(copy.kernel(Accel::Tcg).exists());
    }

    #[test]
    fn a_digest_that_is_none_or_would_leave_its_directory_is_refused() {
        for text in [
            "kind dev\ndigest ../../x",
            "kind dev\ndigest ",
            "kind dev\n",
            "kind dev\ndigest sha256:",
            "kind dev\ndigest sha256:abc",
            "kind dev\ndigest sha256:2B84B2A9020F8B086B7709581CA4586A459938F80E0393ABCE3840DBA921694A",
            "kind dev\ndigest md5:0123456789012345678901234567890123456789",
        ] {
            let dir = image(text);
            let error = Image::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains("no line `digest"), "{text}: {error}");
        }
    }
}
