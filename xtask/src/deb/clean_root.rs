//! The package in use: it is built twice, installed into a root directory that has nothing but a shell for
//! its scripts, used there by chroot(8), and purged.
//!
//! The services are read by `systemd-analyze verify`, and their hardening is judged by `systemd-analyze
//! security`; they are started elsewhere (`services`).

use super::{UNITS, build};
use crate::install::{Installation, copy, failed, installed, remove};
use crate::packages::{self, Need};
use crate::tools::{Failure, output, run, target_dir};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const NEEDS: &[Need] = &[
    ("dpkg-deb", &["dpkg"]),
    ("systemd-analyze", &["systemd"]),
    ("gzip", &["gzip"]),
    ("chroot", &["coreutils"]),
    ("unshare", &["util-linux"]),
];

/// Most exposure of a service that `systemd-analyze security` may see, times ten.
const EXPOSURE_MAX: &str = "20";

/// A file that every installation has, and programs that all print its digest.
const FILE: &str = "/usr/share/doc/hashcluster/copyright";

/// Fails for users other than root.
pub(crate) fn needs_root() -> Result<(), Failure> {
    if packages::is_root() {
        return Ok(());
    }
    let what = "a package is installed, and programs are run, in a root directory of their own";
    Err(Failure::Unavailable { what: what.into(), how: "`cargo xtask deb --check` as root".into() })
}

/// Builds the package, tries it, and returns its path.
pub(crate) fn check() -> Result<PathBuf, Failure> {
    needs_root()?;
    packages::ensure(NEEDS)?;
    let dir = target_dir()?.join("deb");
    let installation = Installation::build()?;
    let [package, again] = [dir.clone(), dir.join("again")].map(|dir| build(&installation, &dir));
    let (package, again) = (package?, again?);
    if read(&package)? != read(&again)? {
        return Err(Failure::Wrong(format!("two builds of {} differ", package.display())));
    }
    let root = dir.join("root");
    remove(&root)?;
    let result = use_in(&root, &package);
    remove(&root)?;
    result?;
    installed::check(&installation)?;
    Ok(package)
}

fn use_in(root: &Path, package: &Path) -> Result<(), Failure> {
    make_root(root)?;
    let before = files_in(root)?;
    run(dpkg(root).arg("--install").arg(package))?;
    run(dpkg(root).args(["--verify", "hashcluster"]))?;
    let want = output(Command::new("sha256sum").arg(inside(root, FILE)))?;
    let digest = want.split(' ').next().unwrap_or_default();
    for command in [
        &["/usr/bin/hashctl", "sum", FILE][..],
        &["/usr/bin/hashctl", "sha256sum", FILE],
        &["/usr/libexec/hashcluster/bin/sha256sum", FILE],
    ] {
        let got = output(&mut chroot(root, command))?;
        if got != format!("{digest}  {FILE}\n") {
            return Err(Failure::Wrong(format!("{} in a clean root: {got}", command.join(" "))));
        }
    }
    for program in crate::release::PACKAGES {
        run(&mut chroot(root, &[&format!("/usr/bin/{program}"), "--version"]))?;
    }
    check_units(root, &root.with_extension("units"))?;
    run(dpkg(root).args(["--purge", "hashcluster"]))?;
    let after = files_in(root)?;
    if let Some(left) = after.iter().find(|path| !before.contains(path)) {
        return Err(Failure::Wrong(format!("purging the package leaves {}", left.display())));
    }
    Ok(())
}

/// Judges the services, with their programs where they are in `root`.
fn check_units(root: &Path, dir: &Path) -> Result<(), Failure> {
    remove(dir)?;
    fs::create_dir(dir).map_err(|error| failed(dir, &error))?;
    let bin_dir = format!("ExecStart={}", inside(root, "/usr/bin/").display());
    for unit in UNITS {
        let text = read(&inside(root, "/usr/lib/systemd/system").join(unit))?;
        let text = String::from_utf8_lossy(&text).replace("ExecStart=/usr/bin/", &bin_dir);
        let path = dir.join(unit);
        fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    let units = UNITS.map(|unit| dir.join(unit));
    run(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units))?;
    for options in [&[][..], &["--system", "--user", "root"], &["--local", "2"]] {
        let mut show = Command::new(inside(root, "/usr/bin/hashcluster-vm"));
        show.args(["autostart", "--start"]).arg(inside(root, "/usr/share/hashcluster/run.sh"));
        let text = output(show.arg("show").args(options))?;
        let unit = dir.join("hashcluster.service");
        fs::write(&unit, text).map_err(|error| failed(&unit, &error))?;
        run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit))?;
    }
    for unit in units {
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX]);
        let text = output(security.arg(&unit))?;
        println!("{}", text.lines().last().unwrap_or_default());
    }
    remove(dir)
}

/// Makes a root directory with a shell, and a package database without packages.
fn make_root(root: &Path) -> Result<(), Failure> {
    for dir in ["/var/lib/dpkg/info", "/var/lib/dpkg/updates", "/dev", "/tmp"] {
        let dir = inside(root, dir);
        fs::create_dir_all(&dir).map_err(|error| failed(&dir, &error))?;
    }
    // Only root outside a container makes devices: scripts write into a file instead.
    for file in ["/var/lib/dpkg/status", "/var/lib/dpkg/available", "/dev/null"] {
        let file = inside(root, file);
        fs::write(&file, "").map_err(|error| failed(&file, &error))?;
    }
    copy(Path::new("/bin/sh"), &inside(root, "/bin/sh"), 0o755)?;
    // Lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f…)`, and the loader without an arrow.
    for word in output(Command::new("ldd").arg("/bin/sh"))?.split_whitespace() {
        if word.starts_with('/') {
            copy(Path::new(word), &inside(root, word), 0o755)?;
        }
    }
    Ok(())
}

/// `path`, which starts at the root, below `root`.
fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Everything that packages can put into `root`.
fn files_in(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let files = super::paths(root)?;
    let own = ["/var", "/dev"].map(|dir| inside(root, dir));
    Ok(files.into_iter().filter(|path| !own.iter().any(|dir| path.starts_with(dir))).collect())
}

fn dpkg(root: &Path) -> Command {
    let mut command = Command::new("dpkg");
    // No log of the host's.
    command.arg("--log=/dev/null").arg("--root").arg(root);
    command
}

fn chroot(root: &Path, command: &[&str]) -> Command {
    let mut chroot = Command::new("chroot");
    chroot.arg(root).args(command).env_clear().env("PATH", "/usr/sbin:/usr/bin").current_dir("/");
    chroot
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| failed(path, &error))
}
