//! `cargo xtask images`: development images other than the one that `cargo xtask test` boots, and the table of
//! all runs.
//!
//! A run is one line of `docs/images/runs.tsv`, appended by the command that made it; `docs/images.md` has the
//! newest ones as a table, which a test compares.

mod compare;
mod disk;
mod machine;
mod table;

use crate::oldest::cargo_of_tests;
use crate::packages;
use crate::release::{self, FOR_IMAGE};
use crate::steps::TESTED;
use crate::target::{BuildTarget, Libc};
use crate::tools::{Failure, output, root, run};
use std::env::consts::ARCH;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::ImageRun;

/// Of `tests/system/vm`.
const MAIN_JOB: &str = "main_job::vms_print_what_the_tools_print_even_if_one_dies";

/// A development image: the one that `./run.sh` boots, or how another one differs from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageChoice {
    /// Of Debian's packages for arm64, with programs for it.
    pub(crate) arm64: bool,
    /// Programs with musl, as in images by Yocto.
    pub(crate) musl: bool,
    /// The kernel that the layer asks for.
    pub(crate) minimal_kernel: bool,
    /// On the disk of a device, with its root and data.
    pub(crate) disk: bool,
}

impl ImageChoice {
    /// The one with all differences that `words` name, or an error about the words.
    pub(crate) fn named(words: &[&str]) -> Result<Self, String> {
        let mut image = Self::default();
        for &word in words {
            match word {
                "debian" => {}
                "arm64" => image.arm64 = true,
                "musl" => image.musl = true,
                "minimal" => image.minimal_kernel = true,
                "disk" => image.disk = true,
                _ => return Err(format!("unknown image '{word}'")),
            }
        }
        if image.arm64 && image.minimal_kernel {
            return Err("the layer's kernel is built for x86_64 only".into());
        }
        if image.disk && (image.arm64 || image.minimal_kernel) {
            return Err("a disk is made for x86_64 with Debian's kernel only".into());
        }
        Ok(image)
    }

    fn arch(self) -> &'static str {
        if self.arm64 { "aarch64" } else { ARCH }
    }

    /// Options of `qemu/setup.sh`.
    fn options(self) -> Vec<&'static str> {
        let given = [
            (self.arm64, ["--arch", "arm64"]),
            (self.musl, ["--libc", "musl"]),
            (self.minimal_kernel, ["--kernel", "minimal"]),
        ];
        given.into_iter().filter(|(is_given, _)| *is_given).flat_map(|(_, words)| words).collect()
    }

    /// Its programs, if those of this host are in `bin_dir`.
    fn programs(self, bin_dir: &Path) -> Result<PathBuf, Failure> {
        match self {
            Self { arm64: true, .. } => release::build_for_image("aarch64"),
            // A device has hashctl, too.
            Self { musl: true, disk: true, .. } => release::build_musl(),
            Self { musl: true, .. } => release::build_for_image(ARCH),
            Self { .. } => Ok(bin_dir.to_owned()),
        }
    }

    /// Makes the image, and returns its directory.
    pub(crate) fn set_up(self, bin_dir: &Path) -> Result<PathBuf, Failure> {
        let mut setup = Command::new(root().join("qemu/setup.sh"));
        let printed = output(setup.args(["--image", "dev"]).args(self.options()).arg(bin_dir))?;
        let dir = printed.lines().find_map(|line| line.strip_prefix("--image="));
        dir.map(PathBuf::from).ok_or_else(|| Failure::Wrong("qemu/setup.sh names no image".into()))
    }
}

/// Builds an image, has a test hash with VMs that boot it, and appends the run.
pub(crate) fn try_out(image: ImageChoice) -> Result<(), Failure> {
    packages::ensure(packages::FOR_TESTS)?;
    let bin_dir = release::build()?;
    let dir = image.set_up(&bin_dir)?;
    let programs = image.programs(&bin_dir)?;
    let libc = release::libc(&programs.join("hashcluster-worker"))?;
    if image.disk {
        disk::try_out(&dir, &programs)?;
    } else {
        main_job(&bin_dir, &dir)?;
    }
    let kernel = if image.minimal_kernel { "the layer's" } else { "Debian's" };
    let kind = if image.disk { "disk" } else { "initramfs" };
    ImageRun::now(image.arch(), libc, kernel, kind)?.append()
}

/// `cargo xtask images sbom`: builds an image, and writes its SBOM, `image.cdx.json`, into its directory.
pub(crate) fn sbom(image: ImageChoice) -> Result<(), Failure> {
    if image.minimal_kernel {
        return Err(Failure::Wrong(
            "the layer's kernel is in no package: its SBOM is that of Yocto".into(),
        ));
    }
    packages::ensure(packages::FOR_PYTHON)?;
    let bin_dir = release::build()?;
    let dir = image.set_up(&bin_dir)?;
    let programs = image.programs(&bin_dir)?;
    let libc = match release::libc(&programs.join(FOR_IMAGE[0]))? {
        "musl" => Libc::Musl,
        _ => Libc::Glibc,
    };
    let target = BuildTarget { arch: image.arch(), libc }.triple();
    let mut script = Command::new("python3");
    script.arg(root().join("xtask/release/image_sbom.py")).arg(root()).arg(dir).arg(programs);
    run(script.arg(target).args(FOR_IMAGE).env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The test that hashes, checks, kills a worker and stops, in VMs of the image in `dir`.
pub(crate) fn main_job(bin_dir: &Path, dir: &Path) -> Result<(), Failure> {
    tests(bin_dir, dir, &["--", "--exact", MAIN_JOB])
}

/// Tests in VMs of the image in `dir`.
pub(crate) fn tests(bin_dir: &Path, dir: &Path, filter: &[&str]) -> Result<(), Failure> {
    let mut test = cargo_of_tests(&["test"]);
    test.args(TESTED).args(["--test", "vm"]).args(filter);
    run(test.env("HASHCLUSTER_BIN_DIR", bin_dir).env("HASHCLUSTER_IMAGE", dir))
}

/// `cargo xtask yocto kernel`: builds the layer's kernel, compares it with Debian's, and tries it out.
pub(crate) fn kernel() -> Result<(), Failure> {
    let bin_dir = release::build()?;
    let layers = ImageChoice { minimal_kernel: true, ..ImageChoice::default() };
    let debian = ImageChoice::default().set_up(&bin_dir)?;
    let minimal = layers.set_up(&bin_dir)?;
    compare::kernels(&bin_dir, &[("Debian's", &debian), ("the layer's", &minimal)])?;
    try_out(layers)
}

/// `cargo xtask images report`: writes the table of runs.
pub(crate) fn report() -> Result<(), Failure> {
    table::write()
}

/// Ports of SSH that are free now, with those of the metrics, 1000 above.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let no_port = |error| Failure::Wrong(format!("127.0.0.1: no free port: {error}"));
    let mut held = Vec::new();
    let mut ports = Vec::new();
    while ports.len() < count {
        let low = TcpListener::bind("127.0.0.1:0").map_err(no_port)?;
        let port = low.local_addr().map_err(no_port)?.port();
        let high = port.checked_add(1000).map(|port| TcpListener::bind(("127.0.0.1", port)));
        if let Some(Ok(high)) = high {
            ports.push(port);
            held.push([low, high]);
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_select_an_image_and_those_that_no_build_has_are_refused() {
        let options =
            |words: &[&str]| ImageChoice::named(words).map(|image| image.options().join(" "));
        assert_eq!(options(&["debian"]), Ok(String::new()));
        assert_eq!(options(&["musl", "minimal"]), Ok("--libc musl --kernel minimal".into()));
        assert_eq!(options(&["arm64"]), Ok("--arch arm64".into()));
        for words in [["arm64", "minimal"], ["disk", "minimal"], ["disk", "arm64"]] {
            assert!(options(&words).is_err(), "{words:?}");
        }
        assert!(options(&["musl", "bsd"]).unwrap_err().contains("'bsd'"));
    }
}
