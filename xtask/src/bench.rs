//! `cargo xtask bench`: the bench program of `crates/bench` measures the static release binaries
//! against other tools, or in VMs against the same binaries outside, and the kernels against those of
//! other libraries.

use crate::packages;
use crate::release;
use crate::tools::{Failure, cargo, output, root, run};
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The group that boots VMs; runs only when it is named.
const VM_GROUP: &str = "vm";

/// The group of kernels; runs only when it is named, and needs no daemon.
const SIMD_GROUP: &str = "simd";

/// Makes `sha2` behave as on a processor without the SHA extensions.
const SOFT_SHA2: &str = "--cfg sha2_backend=\"soft\"";

/// Hides the SHA extensions from OpenSSL: OPENSSL_ia32cap(3), bit 29 of its second word.
const SOFT_OPENSSL: &str = ":~0x20000000";

/// Builds, and passes `groups` on to the bench program.
pub(crate) fn bench(groups: &[&str]) -> Result<(), Failure> {
    let wants_simd = groups.contains(&SIMD_GROUP);
    let others: Vec<&str> = groups.iter().copied().filter(|&name| name != SIMD_GROUP).collect();
    let results = [
        if wants_simd { simd() } else { Ok(()) },
        if wants_simd && others.is_empty() { Ok(()) } else { daemons(&others) },
    ];
    results.into_iter().collect()
}

/// Two builds of the same group: with and without the SHA extensions.
fn simd() -> Result<(), Failure> {
    packages::ensure(packages::FOR_SIMD_BENCH)?;
    let with = run(bench_program().arg(SIMD_GROUP));
    let mut without = bench_program();
    let flags =
        env::var("RUSTFLAGS").map_or(SOFT_SHA2.into(), |flags| format!("{flags} {SOFT_SHA2}"));
    let target_dir = env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    without.arg(SIMD_GROUP).env("RUSTFLAGS", flags).env("OPENSSL_ia32cap", SOFT_OPENSSL);
    without.env("CARGO_TARGET_DIR", target_dir.join("soft-sha2"));
    // A missed target does not keep the others from being measured.
    with.and(run(&mut without))
}

fn bench_program() -> Command {
    cargo(&["run", "--release", "-p", "bench", "--"])
}

fn daemons(groups: &[&str]) -> Result<(), Failure> {
    let wants_vms = groups.contains(&VM_GROUP);
    if groups != [VM_GROUP] {
        packages::ensure(packages::FOR_BENCHES)?;
    }
    if wants_vms {
        packages::ensure(packages::FOR_VM_BENCH)?;
    }
    let bin_dir = release::build()?;
    let mut bench = bench_program();
    bench.args(groups).env("HASHCLUSTER_BIN_DIR", &bin_dir);
    if wants_vms {
        let options = output(Command::new(root().join("qemu/setup.sh")).arg(&bin_dir))?;
        bench.env("HASHCLUSTER_VM_OPTIONS", options);
    }
    run(&mut bench)
}
