//! `cargo xtask images`: development images other than the one that `cargo xtask test` boots, and the table of
//! all runs.
//!
//! A run is one line of `docs/images/runs.tsv`, appended by the command that made it; `docs/images.md` has the
//! newest ones as a table, which a test compares.

mod compare;
mod table;

use crate::release;
use crate::tools::{Failure, cargo, output, root, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use table::ImageRun;

/// The test that hashes, checks, kills a worker and stops.
const MAIN_JOB: &str = "vms_print_what_the_tools_print_even_if_one_dies";

/// A development image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageChoice {
    /// The one that `cargo xtask test` boots.
    Debian,
    /// Of Debian's packages for arm64.
    Arm64,
    /// With the kernel that the layer asks for.
    MinimalKernel,
}

impl ImageChoice {
    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "debian" => Some(Self::Debian),
            "arm64" => Some(Self::Arm64),
            "minimal" => Some(Self::MinimalKernel),
            _ => None,
        }
    }

    /// Options of `qemu/setup.sh`.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Debian => &[],
            Self::Arm64 => &["--arch", "arm64"],
            Self::MinimalKernel => &["--kernel", "minimal"],
        }
    }
}

/// Builds an image, has a test hash with VMs that boot it, and appends the run.
pub(crate) fn try_out(image: ImageChoice) -> Result<(), Failure> {
    let bin_dir = release::build()?;
    let dir = set_up(&bin_dir, image.options())?;
    let (arch, kernel, programs) = match image {
        ImageChoice::Debian => ("x86_64", "Debian's", bin_dir.clone()),
        ImageChoice::Arm64 => ("aarch64", "Debian's", release::build_for_image("aarch64")?),
        ImageChoice::MinimalKernel => ("x86_64", "the layer's", bin_dir.clone()),
    };
    let libc = release::libc(&programs.join("hashcluster-worker"))?;
    let mut test = cargo(&["test", "-p", "system-tests", "--test", "vm", "--", "--exact"]);
    test.arg(format!("main_job::{MAIN_JOB}"));
    run(test.env("HASHCLUSTER_BIN_DIR", &bin_dir).env("HASHCLUSTER_IMAGE", &dir))?;
    ImageRun::now(arch, libc, kernel, "initramfs")?.append()
}

/// `cargo xtask yocto kernel`: builds the layer's kernel, compares it with Debian's, and tries it out.
pub(crate) fn kernel() -> Result<(), Failure> {
    let bin_dir = release::build()?;
    let debian = set_up(&bin_dir, &[])?;
    let minimal = set_up(&bin_dir, ImageChoice::MinimalKernel.options())?;
    compare::kernels(&bin_dir, &[("Debian's", &debian), ("the layer's", &minimal)])?;
    try_out(ImageChoice::MinimalKernel)
}

/// `cargo xtask images report`: writes the table of runs.
pub(crate) fn report() -> Result<(), Failure> {
    table::write()
}

/// Makes a development image, and returns its directory.
fn set_up(bin_dir: &Path, options: &[&str]) -> Result<PathBuf, Failure> {
    let mut setup = Command::new(root().join("qemu/setup.sh"));
    let printed = output(setup.args(["--image", "dev"]).args(options).arg(bin_dir))?;
    let dir = printed.lines().find_map(|line| line.strip_prefix("--image="));
    dir.map(PathBuf::from).ok_or_else(|| Failure::Wrong("qemu/setup.sh names no image".into()))
}
