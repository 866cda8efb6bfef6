//! Builds both images by bitbake with this host's compilers, C library and kernel, which would take
//! oe-core a night. The layer `xtask/yocto/smoke` substitutes them; BusyBox, dropbear and all of our
//! recipes are real.

use super::bitbake::{Site, line_with, told};
use super::crates;
use super::promises::{WORKER_BYTES_MAX, check_files, check_shadow};
use crate::packages;
use crate::release;
use crate::tools::{Failure, cargo, output, root, run};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MACHINE: &str = "qemux86-64";

const TARGETS: [&str; 3] =
    ["hashcluster-image-controller", "hashcluster-image-worker", "hashcluster-vm-image"];

/// Build directories with names of unequal length, so that a path in an image makes a difference.
const BUILDS: [&str; 2] = ["smoke", "smoke-once-more"];

const IMAGE: [&str; 3] = ["kernel", "initrd.controller", "initrd.worker"];

/// Source tarballs: Debian's package, the start of its version, Debian's name of the tarball, and
/// the name in oe-core, which has the checksum.
const SOURCES: [(&str, &str, &str, &str); 2] = [
    ("busybox", "1:1.37.0-", "busybox_1.37.0.orig.tar.bz2", "busybox-1.37.0.tar.bz2"),
    ("dropbear", "2025.89-", "dropbear_2025.89.orig.tar.bz2", "dropbear-2025.89.tar.bz2"),
];

/// Builds both images twice, checks and compares them; returns the directory of one build.
pub(super) fn smoke() -> Result<PathBuf, Failure> {
    let site = Site::find("smoke")?;
    packages::ensure(packages::FOR_SMOKE)?;
    let downloads = site.work.join("downloads");
    find_sources(&downloads)?;
    site.give(&downloads)?;
    let sysroot = readable_rust(&site)?;
    let mut images = Vec::new();
    for name in BUILDS {
        let build = site.build_dir_of(name, MACHINE, &layers(), &local_conf(&downloads))?;
        fill(&build, &sysroot)?;
        site.give(&build)?;
        let said = site.bitbake(&build, &TARGETS)?;
        println!("{name}: {}", line_with(&said, "Tasks Summary"));
        let image = build.join("tmp/deploy/images").join(MACHINE);
        check_promises(&image)?;
        images.push(image);
    }
    for file in IMAGE {
        let read = |dir: &Path| fs::read(dir.join(file)).map_err(told(&dir.join(file)));
        if read(&images[0])? != read(&images[1])? {
            let (one, other) = (images[0].display(), images[1].display());
            return Err(Failure::Wrong(format!("{file} differs between {one} and {other}")));
        }
    }
    println!(
        "two builds are identical; boot one with\n    ./run.sh --image {}",
        images[0].display()
    );
    Ok(images.swap_remove(0))
}

/// Does the same and runs all tests in VMs on the result.
pub(super) fn smoke_and_boot() -> Result<(), Failure> {
    let image = smoke()?;
    let bin_dir = release::build()?;
    let mut tests = cargo(&["test", "-p", "system-tests", "--test", "vm"]);
    run(tests.env("HASHCLUSTER_BIN_DIR", bin_dir).env("HASHCLUSTER_IMAGE", image))
}

/// Checks that adding the layer without its distro changes no build.
pub(super) fn layer_check() -> Result<(), Failure> {
    let site = Site::find("layer-check")?;
    let build = site.build_dir_of("layer-check", MACHINE, "", "")?;
    let layer = root().join("meta-hashcluster").display().to_string();
    let program = site.oe_core.join("scripts/yocto-check-layer");
    let said = site.run_in(&build, &program, &["-n", &layer])?;
    match said.lines().find(|line| line.ends_with("meta-hashcluster ... PASS")) {
        Some(line) => println!("{line}"),
        None => return Err(Failure::Wrong("yocto-check-layer ended without PASS".into())),
    }
    Ok(())
}

fn layers() -> String {
    let tree = root();
    let tree = tree.display();
    format!("{tree}/meta-hashcluster {tree}/xtask/yocto/smoke")
}

fn local_conf(downloads: &Path) -> String {
    format!(
        "DISTRO = \"hashcluster\"\nDL_DIR = \"{}\"\nCORE_IMAGE_EXTRA_INSTALL = \"host-kernel\"\n\
         require conf/smoke.conf\n",
        downloads.display()
    )
}

/// Downloads the tarballs into `downloads` with a private apt configuration for newer releases.
fn find_sources(downloads: &Path) -> Result<(), Failure> {
    fs::create_dir_all(downloads).map_err(told(downloads))?;
    if SOURCES.iter().all(|(.., name)| downloads.join(name).is_file()) {
        return Ok(());
    }
    let apt = downloads.join("apt");
    for dir in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(dir)).map_err(told(&apt))?;
    }
    // The mirror that this host's apt uses.
    let mirrors = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Origin: Debian",
    ]))?;
    let mirror = mirrors.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
    let mirror =
        mirror.ok_or_else(|| Failure::Wrong("apt has no Debian mirror configured".into()))?;
    let key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    let source = |suite| format!("deb-src {key} {mirror} {suite} main\n");
    let sources: String = ["trixie", "forky", "sid"].map(source).concat();
    let conf = format!(
        "Dir::State::lists \"{0}/lists\";\nDir::Cache \"{0}/cache\";\n\
         Dir::Etc::sourcelist \"{0}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
         APT::Sandbox::User \"root\";\n",
        apt.display()
    );
    for (name, text) in [("sources.list", sources), ("apt.conf", conf)] {
        fs::write(apt.join(name), text).map_err(told(&apt))?;
    }
    let ours = |program| {
        let mut command = Command::new(program);
        command.arg("-q").env("APT_CONFIG", apt.join("apt.conf")).current_dir(&apt);
        command
    };
    run(ours("apt-get").arg("update"))?;
    for (package, version, file, name) in SOURCES {
        let known = output(ours("apt-cache").args(["showsrc", "--only-source", package]))?;
        let versions = known.lines().filter_map(|line| line.strip_prefix("Version: "));
        let Some(found) = versions.rev().find(|found| found.starts_with(version)) else {
            let what = format!("Debian no longer has the source of {package} {version}");
            return Err(Failure::Wrong(what));
        };
        let package = format!("{package}={found}");
        run(ours("apt-get").args(["source", "--tar-only", "--download-only", &package]))?;
        fs::rename(apt.join(file), downloads.join(name)).map_err(told(&apt.join(file)))?;
    }
    Ok(())
}

/// The sysroot of this host's Rust, copied to where the user who runs bitbake can read it.
fn readable_rust(site: &Site) -> Result<PathBuf, Failure> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let (sysroot, copy) = (PathBuf::from(sysroot.trim()), site.work.join("rust"));
    if !packages::is_root() {
        return Ok(sysroot);
    }
    fs::create_dir_all(&copy).map_err(told(&copy))?;
    let target = "lib/rustlib/x86_64-unknown-linux-gnu";
    let mut cp = Command::new("bash");
    let line = format!("cp -a --parents -t \"$1\" bin/cargo bin/rustc lib/*.so* {target}");
    run(cp.args(["-euc", &line, "cp"]).arg(&copy).current_dir(&sysroot))?;
    Ok(copy)
}

/// Puts Rust's programs and Debian's kernel into the build directory, where the smoke layer expects
/// them.
fn fill(build: &Path, sysroot: &Path) -> Result<(), Failure> {
    let tools = build.join("tools");
    fs::create_dir_all(&tools).map_err(told(&tools))?;
    for name in ["cargo", "rustc"] {
        let tool = tools.join(name);
        let text = format!("#!/bin/sh\nexec {}/bin/{name} \"$@\"\n", sysroot.display());
        fs::write(&tool, text).map_err(told(&tool))?;
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).map_err(told(&tool))?;
    }
    let bin_dir = output(&mut Command::new(root().join("scripts/bin-dir.sh")))?;
    let cache = build.with_file_name("cache");
    let mut image = Command::new(root().join("qemu/dev-image.sh"));
    image.arg(build.join("dev-image")).arg(bin_dir.trim()).stdin(Stdio::null());
    run(image.env("HASHCLUSTER_CACHE", &cache))?;
    let mut copy = Command::new("bash");
    copy.args(["-euc", "rm -rf kernel && cp -a \"$1\"/dev-image/base-* kernel", "copy"]);
    run(copy.arg(&cache).current_dir(build))
}

/// Checks the promises on both initrds of `image`.
fn check_promises(image: &Path) -> Result<(), Failure> {
    for role in ["controller", "worker"] {
        let initrd = image.join(format!("initrd.{role}"));
        let bytes = fs::metadata(&initrd).map_err(told(&initrd))?.len();
        if role == "worker" && bytes > WORKER_BYTES_MAX {
            let what = format!("the worker's initrd has {bytes} bytes, over {WORKER_BYTES_MAX}");
            return Err(Failure::Wrong(what));
        }
        let files = check_files(&cpio(&initrd, "--list --verbose")?)?;
        check_shadow(&cpio(&initrd, "--extract --to-stdout etc/shadow ./etc/shadow")?)?;
        println!("{role}: {bytes} bytes, {files} files: all promises kept");
        println!("{role}: {}", check_sbom(image, role)?.trim_end());
    }
    Ok(())
}

/// Checks that every package of the image and every crate of its program is in the SBOM with its
/// licence.
fn check_sbom(image: &Path, role: &str) -> Result<String, Failure> {
    let program = format!("hashcluster-{role}");
    let crates = crates::linked_with(&program, &root())?;
    // The list fits a pipe's buffer.
    let piped = io::pipe().and_then(|(reader, mut writer)| {
        writer.write_all(crates.as_bytes())?;
        Ok(reader)
    });
    let piped = piped.map_err(|error| Failure::Wrong(format!("a pipe: {error}")))?;
    let of_image = |what| image.join(format!("hashcluster-image-{role}-{MACHINE}.rootfs.{what}"));
    let mut sbom = Command::new("python3");
    sbom.arg(root().join("xtask/yocto/sbom.py"));
    sbom.args([of_image("spdx.json"), of_image("manifest")]).arg(program);
    output(sbom.stdin(piped))
}

fn cpio(initrd: &Path, args: &str) -> Result<String, Failure> {
    let line = format!("zstd -dc -- \"$1\" | LC_ALL=C cpio --quiet {args}");
    output(Command::new("bash").args(["-euo", "pipefail", "-c", &line, "cpio"]).arg(initrd))
}
