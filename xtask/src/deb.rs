//! `cargo xtask deb`: a Debian package of the release binaries with man pages, completions, the links of
//! `install --links` (in no directory that is in `PATH`) and services of a local cluster, which nothing
//! starts by itself.
//!
//! The same tree gives the same bytes: every time in the package is SOURCE_DATE_EPOCH, else that of the
//! last commit.

mod clean_root;

pub(crate) use clean_root::{check, needs_root};

use crate::install::{Installation, copy, failed, remove};
use crate::release;
use crate::tools::{Failure, output, root, run, target_dir};
use std::env;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const NAME: &str = "hashcluster";

/// Files that are kept with the sources, below `xtask/deb`, and where they are in the package.
const SOURCES: &[(&str, &str)] = &[
    ("hashcluster-controller.service", "usr/lib/systemd/system/hashcluster-controller.service"),
    ("hashcluster-worker.service", "usr/lib/systemd/system/hashcluster-worker.service"),
    ("hashcluster-bridge.service", "usr/lib/systemd/system/hashcluster-bridge.service"),
    ("hashcluster.conf", "usr/lib/sysusers.d/hashcluster.conf"),
    ("hashcluster.default", "etc/default/hashcluster"),
];

/// Its control files, below `xtask/deb/DEBIAN`, with their modes.
const CONTROL: &[(&str, u32)] = &[("conffiles", 0o644), ("postinst", 0o755), ("prerm", 0o755)];

/// Services in the package.
pub(crate) const UNITS: [&str; 3] =
    ["hashcluster-controller.service", "hashcluster-worker.service", "hashcluster-bridge.service"];

/// `cargo xtask deb`: builds the package and returns its path.
pub(crate) fn deb() -> Result<PathBuf, Failure> {
    let installation = Installation::build()?;
    build(&installation, &target_dir()?.join("deb"))
}

/// Builds the package in `dir`, from nothing.
pub(crate) fn build(installation: &Installation, dir: &Path) -> Result<PathBuf, Failure> {
    let architecture = architecture()?;
    let tree = dir.join("tree");
    remove(&tree)?;
    installation.put(&tree.join("usr"))?;
    installation.link(&tree.join("usr"))?;
    compress_man_pages(&tree.join("usr/share/man/man1"))?;
    let sources = root().join("xtask/deb");
    for (name, to) in SOURCES {
        copy(&sources.join(name), &tree.join(to), 0o644)?;
    }
    for (name, mode) in CONTROL {
        copy(&sources.join("DEBIAN").join(name), &tree.join("DEBIAN").join(name), *mode)?;
    }
    let doc = tree.join("usr/share/doc").join(NAME);
    copy(&root().join("LICENSE-MIT"), &doc.join("copyright"), 0o644)?;
    let paths = paths(&tree)?;
    write(&tree.join("DEBIAN/control"), &control(architecture, &paths)?)?;
    write(&tree.join("DEBIAN/md5sums"), &md5sums(&tree, &paths)?)?;
    let epoch = epoch()?;
    settle(&tree, SystemTime::UNIX_EPOCH + Duration::from_secs(epoch))?;
    let package = dir.join(format!("{NAME}_{}_{architecture}.deb", env!("CARGO_PKG_VERSION")));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&package);
    run(build.env("SOURCE_DATE_EPOCH", epoch.to_string()).stdout(Stdio::null()))?;
    Ok(package)
}

/// Debian's word for the architecture of the programs.
fn architecture() -> Result<&'static str, Failure> {
    let host = release::host()?;
    match host.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => Err(Failure::Wrong(format!("no name of Debian's is known for {host}"))),
    }
}

/// Seconds since 1970 of every file in the package.
fn epoch() -> Result<u64, Failure> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()))?
        }
    };
    let text = text.trim();
    text.parse().map_err(|_| Failure::Wrong(format!("SOURCE_DATE_EPOCH: '{text}' is no number")))
}

fn control(architecture: &str, paths: &[PathBuf]) -> Result<String, Failure> {
    let mut size = 0;
    for path in paths {
        let metadata = fs::symlink_metadata(path).map_err(|error| failed(path, &error))?;
        size += metadata.len().div_ceil(1024);
    }
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "Package: {NAME}\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: the hashcluster authors <hashcluster@localhost>\n\
         Installed-Size: {size}\n\
         Section: utils\n\
         Priority: optional\n\
         Description: hash and check files with all cores\n \
         hashctl computes and checks digests (SHA-2, BLAKE3, BLAKE2b and older ones) of files and trees. It\n \
         understands the options of md5sum, sha*sum, b2sum and b3sum. Controller and worker hash files for\n \
         several users, isolated from them.\n"
    ))
}

/// Digests of the files, as dpkg --verify compares them.
fn md5sums(tree: &Path, paths: &[PathBuf]) -> Result<String, Failure> {
    let is_digested = |path: &&PathBuf| path.is_file() && !path.is_symlink();
    let names = paths
        .iter()
        .filter(is_digested)
        .map(|path| path.strip_prefix(tree).expect("they are below the tree").to_owned());
    let names = names.filter(|name| !name.starts_with("DEBIAN") && !name.starts_with("etc"));
    output(Command::new("md5sum").args(names).current_dir(tree))
}

/// Everything in `dir` that is no directory, sorted.
fn paths(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).map_err(|error| failed(&dir, &error))? {
            let path = entry.map_err(|error| failed(&dir, &error))?.path();
            if path.is_dir() && !path.is_symlink() { dirs.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Compresses man pages, without names and times in them.
fn compress_man_pages(dir: &Path) -> Result<(), Failure> {
    run(Command::new("gzip").args(["-9", "-n"]).args(paths(dir)?))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)));
    written.map_err(|error| failed(path, &error))
}

/// Gives every directory its mode, whatever the umask is, and everything its time.
fn settle(tree: &Path, time: SystemTime) -> Result<(), Failure> {
    let set = |path: &Path| -> io::Result<()> {
        if path.is_symlink() {
            // dpkg-deb gives it the time, as it is newer.
            return Ok(());
        }
        if path.is_dir() {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
        File::open(path)?.set_modified(time)
    };
    let mut all = paths(tree)?;
    let dirs: Vec<PathBuf> =
        all.iter().flat_map(|path| path.ancestors().skip(1)).map(Into::into).collect();
    all.extend(dirs.into_iter().filter(|dir| dir.starts_with(tree)));
    all.sort();
    all.dedup();
    all.iter().try_for_each(|path| set(path).map_err(|error| failed(path, &error)))
}
