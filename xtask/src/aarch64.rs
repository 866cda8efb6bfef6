//! `cargo xtask aarch64`: tests the kernels for aarch64 under user emulation, and builds everything that
//! is shipped for it. Speed is not measured: an emulator says nothing about it.

use crate::kernels::AARCH64;
use crate::packages;
use crate::release;
use crate::target;
use crate::tools::{Failure, cargo, run};
use std::process::Command;

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Loader and C library of Debian's cross packages.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// The kernels, and the build of the default members.
pub(crate) fn all() -> Result<(), Failure> {
    prepare()?;
    println!("\n==> default members for {TARGET}");
    let mut clippy = cargo(&["clippy", "--all-targets"]);
    cross(&mut clippy);
    run(clippy.args(["--", "-D", "warnings"]))?;
    println!("\n==> kernels for {TARGET}");
    kernels()
}

/// Provides what building and running need: packages and the standard library.
pub(crate) fn prepare() -> Result<(), Failure> {
    if release::host()? == TARGET {
        let how = "`cargo xtask kernels` runs the same here, without an emulator".into();
        return Err(Failure::Unavailable { what: format!("this machine is {TARGET}"), how });
    }
    // First the requirement without an alternative.
    if target::ensure_standard_library(TARGET).is_err() {
        let what = format!("the standard library for {TARGET} is not here");
        let how = format!("`rustup target add {TARGET}`, then `cargo xtask aarch64`");
        return Err(Failure::Unavailable { what, how });
    }
    packages::ensure(packages::FOR_AARCH64)
}

/// The suite at every level of an emulated processor, which has all features.
pub(crate) fn kernels() -> Result<(), Failure> {
    AARCH64.check(
        |_| true,
        || {
            let mut tests = cargo(&["test", "-p", "engine"]);
            cross(&mut tests);
            tests
        },
    )
}

/// Builds for the target, and runs what was built.
fn cross(command: &mut Command) {
    let variable = |what| format!("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_{what}");
    command.args(["--target", TARGET]);
    command.env(variable("LINKER"), "aarch64-linux-gnu-gcc");
    command.env(variable("RUNNER"), format!("qemu-aarch64 -cpu max -L {LIBRARIES}"));
}
