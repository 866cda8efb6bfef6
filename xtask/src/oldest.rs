//! The oldest Rust that is supported: `rust-version`, as the Yocto series has it. The debug tests of `cargo
//! xtask test` are built with it; clippy and the release binaries with the current Rust.
//!
//! cargo refuses a crate that needs a newer Rust, and names it.

use crate::tools::{Failure, cargo, cargo_config, has_program, output, root, run};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Compared with the workspace's `rust-version` and the Yocto series by a house rule.
pub(crate) const VERSION: &str = "1.94.1";

/// True once this run builds its tests with [`VERSION`].
static FOR_TESTS: AtomicBool = AtomicBool::new(false);

/// From now on [`cargo_of_tests`] is that of [`VERSION`].
pub(crate) fn use_for_tests() -> Result<(), Failure> {
    ensure()?;
    FOR_TESTS.store(true, Ordering::Relaxed);
    Ok(())
}

/// The cargo that builds debug tests: one toolchain for all of them, or most would be built twice.
pub(crate) fn cargo_of_tests(args: &[&str]) -> Command {
    if FOR_TESTS.load(Ordering::Relaxed) { cargo_of_version(args) } else { cargo(args) }
}

/// `cargo xtask oldest ARG…`: cargo with [`VERSION`].
pub(crate) fn oldest(args: &[&str]) -> Result<(), Failure> {
    ensure()?;
    run(&mut cargo_of_version(args))
}

fn cargo_of_version(args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", VERSION, "cargo"]).args(cargo_config()).args(args).current_dir(root());
    // They name the programs of the toolchain that built this one.
    for variable in ["CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command
}

/// Installs the toolchain if it is missing.
fn ensure() -> Result<(), Failure> {
    if !has_program("rustup") {
        let why = "rustup is missing, which provides it";
        return Err(Failure::Wrong(format!("Rust {VERSION} is not here: {why}")));
    }
    if is_installed() {
        return Ok(());
    }
    let install = ["toolchain", "install", VERSION, "--profile", "minimal", "--no-self-update"];
    run(Command::new("rustup").args(install)).map_err(|failure| {
        Failure::Wrong(format!("Rust {VERSION} is not here and cannot be installed: {failure}"))
    })
}

fn is_installed() -> bool {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", VERSION, "rustc", "--version"]).stderr(Stdio::null());
    // rustup would install a missing toolchain by itself, with components that nobody needs here.
    rustc.env("RUSTUP_AUTO_INSTALL", "0");
    output(&mut rustc).is_ok_and(|text| text.starts_with(&format!("rustc {VERSION} ")))
}
