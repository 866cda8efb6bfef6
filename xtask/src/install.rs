//! `cargo xtask install`: release binaries, what starts clusters with them (run.sh as `bin/hashcluster`, scripts,
//! the guest's root, the image builder), man pages and completions below a prefix, and on request links under
//! the names of the programs that hashctl can stand for.
//!
//! An installed copy finds its parts relative to itself, and needs neither cargo nor this tree. The variable
//! DESTDIR, as for make, is put before the prefix.

pub(crate) mod installed;

use crate::release;
use crate::target::Libc;
use crate::tools::{Failure, cargo, output, root, run, target_dir};
use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the links are, below the prefix: in no directory that is in `PATH` by itself.
const LINKS_DIR: &str = "libexec/hashcluster/bin";

/// The program that they lead to, from there.
const LINK_TARGET: &str = "../../../bin/hashctl";

/// Files of this tree that start and inspect clusters, below the prefix in the same places as here.
const CLUSTER_DIR: &str = "share/hashcluster";
const CLUSTER_FILES: [&str; 6] =
    ["run.sh", "ports.conf", "scripts", "qemu", "monitoring", "LICENSE-MIT"];

/// Links below the prefix: the command that people type, and where the scripts find the programs.
const CLUSTER_LINKS: [(&str, &str); 2] = [
    ("bin/hashcluster", "../share/hashcluster/run.sh"),
    ("share/hashcluster/programs", "../../bin"),
];

/// The vsock daemon of VMs, which distributions have no package of; qemu/tools.sh looks for it here.
const VSOCK: &str = "libexec/hashcluster/vhost-device-vsock";

/// Man pages of section 1, below the prefix.
const MAN_DIR: &str = "share/man/man1";

/// Completions as the generator names them, and where each shell looks for them below the prefix.
const COMPLETIONS: [(&str, &str); 3] = [
    ("hashctl.bash", "share/bash-completion/completions/hashctl"),
    ("_hashctl", "share/zsh/site-functions/_hashctl"),
    ("hashctl.fish", "share/fish/vendor_completions.d/hashctl.fish"),
];

/// The arguments of `install`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InstallArgs {
    prefix: PathBuf,
    links: bool,
}

impl InstallArgs {
    /// Parses `--prefix DIR [--links]`, in any order.
    pub(crate) fn parse(args: &[&str]) -> Result<Self, String> {
        let (mut prefix, mut links) = (None, false);
        let mut args = args.iter();
        while let Some(&arg) = args.next() {
            match arg.split_once('=') {
                Some(("--prefix", dir)) => prefix = Some(dir),
                _ if arg == "--prefix" => prefix = args.next().copied(),
                _ if arg == "--links" => links = true,
                _ => return Err(format!("unknown argument of install: {arg}")),
            }
        }
        match prefix {
            Some(dir) if !dir.is_empty() => Ok(Self { prefix: dir.into(), links }),
            _ => Err("install needs --prefix DIR".into()),
        }
    }
}

/// `cargo xtask install`.
pub(crate) fn install(args: &InstallArgs) -> Result<(), Failure> {
    let InstallArgs { prefix, links } = args;
    let prefix = std::path::absolute(prefix).map_err(|error| failed(prefix, &error))?;
    let prefix = &staged(env::var_os("DESTDIR"), &prefix);
    let installation = Installation::build()?;
    if *links {
        // Before anything is changed.
        installation.check_links(prefix)?;
    }
    installation.put(prefix)?;
    println!("installed below {}", prefix.display());
    if *links {
        installation.link(prefix)?;
        let dir = prefix.join(LINKS_DIR);
        println!(
            "to use it as {}: export PATH={}:$PATH",
            installation.links.join(", "),
            dir.display()
        );
    }
    Ok(())
}

/// Built programs and generated documents, ready to be put somewhere.
pub(crate) struct Installation {
    bin_dir: PathBuf,
    vsock: PathBuf,
    documents: PathBuf,
    /// Names of the programs that hashctl can stand for.
    links: Vec<String>,
}

impl Installation {
    /// Builds the programs, and generates what comes from the definition of their flags.
    pub(crate) fn build() -> Result<Self, Failure> {
        let bin_dir = release::build()?;
        release::build_bridge(Libc::Glibc)?;
        let documents = target_dir()?.join("documents");
        remove(&documents)?;
        let example =
            ["run", "--quiet", "--locked", "-p", "hashctl", "--example", "documents", "--"];
        run(cargo(&example).arg(&documents))?;
        let list = documents.join("links");
        let names = fs::read_to_string(&list).map_err(|error| failed(&list, &error))?;
        let vsock = vsock_daemon()?;
        Ok(Self { bin_dir, vsock, documents, links: names.lines().map(str::to_owned).collect() })
    }

    /// Puts everything but the links of hashctl below `prefix`, in the place of older ones.
    pub(crate) fn put(&self, prefix: &Path) -> Result<(), Failure> {
        for program in release::PACKAGES.into_iter().chain(release::BRIDGE) {
            copy(&self.bin_dir.join(program), &prefix.join("bin").join(program), 0o755)?;
        }
        let man = self.documents.join("man");
        for page in entries(&man)? {
            copy(&man.join(&page), &prefix.join(MAN_DIR).join(&page), 0o644)?;
        }
        for (name, to) in COMPLETIONS {
            copy(&self.documents.join("completions").join(name), &prefix.join(to), 0o644)?;
        }
        copy(&self.vsock, &prefix.join(VSOCK), 0o755)?;
        let cluster_dir = prefix.join(CLUSTER_DIR);
        for name in ["scripts", "qemu", "monitoring"] {
            // No file of an older version stays.
            remove(&cluster_dir.join(name))?;
        }
        for name in CLUSTER_FILES {
            copy_all(&root().join(name), &cluster_dir.join(name))?;
        }
        CLUSTER_LINKS.iter().try_for_each(|(name, target)| replace_link(target, &prefix.join(name)))
    }

    /// Fails if a file that is no link of ours has the name of one.
    fn check_links(&self, prefix: &Path) -> Result<(), Failure> {
        for name in &self.links {
            let path = prefix.join(LINKS_DIR).join(name);
            let is_ours = match fs::symlink_metadata(&path) {
                Err(error) => error.kind() == io::ErrorKind::NotFound,
                Ok(_) => fs::read_link(&path).is_ok_and(|target| target == Path::new(LINK_TARGET)),
            };
            if !is_ours {
                let text = "exists and is not a link to hashctl: not replaced";
                return Err(Failure::Wrong(format!("{} {text}", path.display())));
            }
        }
        Ok(())
    }

    /// Makes the links, each by the name of a program that hashctl can stand for.
    pub(crate) fn link(&self, prefix: &Path) -> Result<(), Failure> {
        self.check_links(prefix)?;
        for name in &self.links {
            let path = prefix.join(LINKS_DIR).join(name);
            make_parent(&path)?;
            match symlink(LINK_TARGET, &path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(&path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where the files of `prefix` are put, if they are to be packed and unpacked there.
fn staged(destdir: Option<OsString>, prefix: &Path) -> PathBuf {
    match destdir.filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join(prefix.strip_prefix("/").unwrap_or(prefix)),
        None => prefix.to_owned(),
    }
}

/// Builds the vsock daemon, unless that was done before.
fn vsock_daemon() -> Result<PathBuf, Failure> {
    let tools = output(Command::new(root().join("qemu/tools.sh")).arg("vhost-device-vsock"))?;
    let path = tools.trim().strip_prefix("vhost-device-vsock ").map(PathBuf::from);
    path.ok_or_else(|| Failure::Wrong(format!("qemu/tools.sh names no daemon: {tools}")))
}

/// Copies a file, or a directory with all that is in it; modes are those of a fresh clone.
fn copy_all(from: &Path, to: &Path) -> Result<(), Failure> {
    let metadata = fs::metadata(from).map_err(|error| failed(from, &error))?;
    if metadata.is_dir() {
        let names = entries(from)?;
        return names.iter().try_for_each(|name| copy_all(&from.join(name), &to.join(name)));
    }
    let is_program = metadata.permissions().mode() & 0o100 != 0;
    copy(from, to, if is_program { 0o755 } else { 0o644 })
}

/// Makes a link at `path`, in the place of an older one.
fn replace_link(target: &str, path: &Path) -> Result<(), Failure> {
    make_parent(path)?;
    if path.is_symlink() {
        fs::remove_file(path).map_err(|error| failed(path, &error))?;
    }
    symlink(target, path).map_err(|error| failed(path, &error))
}

/// Copies a file, so that whoever opens `to` finds the old or the new one, and a program that runs
/// keeps its file.
pub(crate) fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    make_parent(to)?;
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let copied = fs::copy(from, &new)
        .and_then(|_| fs::set_permissions(&new, Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&new, to));
    copied.map_err(|error| {
        // The failure is what matters.
        let _ = fs::remove_file(&new);
        failed(to, &error)
    })
}

/// Removes a directory with all that is in it, if it exists.
pub(crate) fn remove(dir: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(dir, &error)),
        _ => Ok(()),
    }
}

fn make_parent(path: &Path) -> Result<(), Failure> {
    let dir = path.parent().expect("a file is in a directory");
    fs::create_dir_all(dir).map_err(|error| failed(dir, &error))
}

/// Names in a directory, sorted.
fn entries(dir: &Path) -> Result<Vec<String>, Failure> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into())).collect()
    };
    let mut names = read().map_err(|error| failed(dir, &error))?;
    names.sort();
    Ok(names)
}

pub(crate) fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Wrong(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_a_prefix_and_takes_links() {
        let parsed = |links| Ok(InstallArgs { prefix: "/opt".into(), links });
        assert_eq!(InstallArgs::parse(&["--prefix", "/opt"]), parsed(false));
        assert_eq!(InstallArgs::parse(&["--links", "--prefix=/opt"]), parsed(true));
        for args in [&[][..], &["--links"], &["--prefix"], &["--prefix="], &["--prefix", "/", "x"]]
        {
            assert!(InstallArgs::parse(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn destdir_stands_before_the_prefix() {
        let prefix = Path::new("/usr");
        assert_eq!(staged(Some("/tmp/stage".into()), prefix), Path::new("/tmp/stage/usr"));
        assert_eq!(staged(Some("".into()), prefix), prefix);
        assert_eq!(staged(None, prefix), prefix);
    }

    #[test]
    fn a_link_replaces_no_file_of_others() {
        let prefix = std::env::temp_dir().join(format!("xtask-install-{}", std::process::id()));
        let links = vec!["md5sum".to_owned(), "b3sum".to_owned()];
        let installation = Installation {
            bin_dir: PathBuf::new(),
            vsock: PathBuf::new(),
            documents: PathBuf::new(),
            links,
        };
        installation.link(&prefix).unwrap();
        installation.link(&prefix).unwrap();
        let b3sum = prefix.join(LINKS_DIR).join("b3sum");
        assert_eq!(fs::read_link(&b3sum).unwrap(), Path::new(LINK_TARGET));
        for original in ["a file", "a link"] {
            fs::remove_file(&b3sum).unwrap();
            match original {
                "a file" => fs::write(&b3sum, original).unwrap(),
                _ => symlink("/usr/bin/b3sum", &b3sum).unwrap(),
            }
            let error = installation.link(&prefix).unwrap_err().to_string();
            assert!(error.contains("b3sum exists and is not a link to hashctl"), "{error}");
        }
        assert_eq!(fs::read_link(&b3sum).unwrap(), Path::new("/usr/bin/b3sum"));
        remove(&prefix).unwrap();
    }
}
