//! `cargo xtask miri`: the kernels, the protocol and the controller's core in an interpreter that sees
//! every access to memory that is not allowed. It knows the SHA extensions and AVX2.

use crate::kernels;
use crate::tools::{Failure, has_program, root, run};
use std::process::{Command, Stdio};

/// Features of the interpreted processor: nothing is detected there.
const FEATURES: [&str; 4] = ["ssse3", "sse4.1", "sha", "avx2"];

/// The one test that is small enough.
const TEST: &str = "hash::equal::one_set_of_short_messages";

const COMPONENTS: [&str; 2] = ["miri", "rust-src"];

/// Crates and filters of their unit tests: of the core's modules those whose tests take less than a
/// minute. Neither has `unsafe` of its own, so this is about what they use.
const PLAIN: [(&str, &[&str]); 2] =
    [("ipc-proto", &[]), ("hashcluster-controller", &["core::batch", "core::check"])];

pub(crate) fn all() -> Result<(), Failure> {
    prepare()?;
    for (package, filters) in PLAIN {
        println!("\n==> {package}");
        let mut test = nightly(&["cargo", "miri", "test", "-p", package, "--lib", "--"]);
        run(test.args(filters).env("MIRIFLAGS", "-Zmiri-disable-isolation"))?;
    }
    println!("\n==> kernels");
    kernels()
}

fn kernels() -> Result<(), Failure> {
    let mut test = nightly(&["cargo", "miri", "test", "-p", "engine", "--lib"]);
    test.args(["--", "--exact", TEST]);
    // A variable that is only forwarded does not arrive (Miri of May 2026).
    let backends = kernels::backends_with(&FEATURES).join(",");
    let required = format!("-Zmiri-env-set={}={backends}", kernels::REQUIRE_BACKENDS);
    let features = format!("-C target-feature=+{}", FEATURES.join(",+"));
    run(test.env("MIRIFLAGS", required).env("RUSTFLAGS", features))
}

fn prepare() -> Result<(), Failure> {
    if has_program("rustup") && !has_miri() {
        // Whether it worked shows below.
        let add = ["component", "add", "--toolchain", "nightly"];
        let _ = run(Command::new("rustup").args(add).args(COMPONENTS));
    }
    if has_program("rustup") && has_miri() {
        return Ok(());
    }
    let how = format!(
        "`rustup toolchain install nightly --component {}`, then `cargo xtask miri`",
        COMPONENTS.join(",")
    );
    Err(Failure::Unavailable { what: "there is no Miri here".into(), how })
}

fn has_miri() -> bool {
    let mut asked = nightly(&["cargo", "miri", "--version"]);
    let asked = asked.stdout(Stdio::null()).stderr(Stdio::null());
    run(asked).is_ok()
}

fn nightly(command: &[&str]) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.args(["run", "nightly"]).args(command).current_dir(root());
    rustup
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A filter that finds no test would be green.
    #[test]
    fn the_test_that_miri_runs_is_there() {
        let (module, name) = TEST.rsplit_once("::").unwrap();
        let path = root().join(format!("crates/engine/src/{}.rs", module.replace("::", "/")));
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(&format!("#[test]\nfn {name}() {{")), "{TEST}");
    }
}
