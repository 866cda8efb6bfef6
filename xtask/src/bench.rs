//! `cargo xtask bench`: the bench program of `crates/bench` measures the static release binaries
//! against other tools, or in VMs against the same binaries outside, and the kernels against those of
//! other libraries.

mod libc;

pub(crate) use libc::compare_libcs;

use crate::packages;
use crate::release;
use crate::target::Libc;
use crate::tools::{Failure, cargo, output, root, run, target_dir};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The group that boots VMs; runs only when it is named.
const VM_GROUP: &str = "vm";

/// The group of durable jobs; runs only when it is named, against a program of its own.
const JOURNAL_GROUP: &str = "journal";

/// The group of many hosts; runs only when it is named, and needs a broker.
const HOSTS_GROUP: &str = "hosts";

/// The group of kernels; runs only when it is named, and needs no daemon.
const SIMD_GROUP: &str = "simd";

/// The b3sum that rows are about; Debian has 1.2, which opens and maps files otherwise.
const B3SUM_VERSION: &str = "1.8.7";

/// Makes `sha2` behave as on a processor without the SHA extensions.
const SOFT_SHA2: &str = "--cfg sha2_backend=\"soft\"";

/// Hides the SHA extensions from OpenSSL: OPENSSL_ia32cap(3), bit 29 of its second word.
const SOFT_OPENSSL: &str = ":~0x20000000";

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BenchArgs<'a> {
    /// The directory of another build's programs, to measure in turn with ours.
    pub(crate) against: Option<&'a str>,
    /// Groups of the bench program; none for its default.
    pub(crate) groups: Vec<&'a str>,
}

impl<'a> BenchArgs<'a> {
    /// Reads `[against DIR] [GROUP]…`.
    pub(crate) fn parse(args: &[&'a str]) -> Result<Self, &'static str> {
        match *args {
            ["against"] => Err("against needs the directory of the other build's programs"),
            ["against", dir, ref groups @ ..] => {
                Ok(Self { against: Some(dir), groups: groups.to_vec() })
            }
            ref groups => Ok(Self { against: None, groups: groups.to_vec() }),
        }
    }
}

/// Builds, and passes the rest on to the bench program.
pub(crate) fn bench(args: &BenchArgs<'_>) -> Result<(), Failure> {
    let wants_simd = args.groups.contains(&SIMD_GROUP);
    let others: Vec<&str> =
        args.groups.iter().copied().filter(|&name| name != SIMD_GROUP).collect();
    let results = [
        if wants_simd { simd() } else { Ok(()) },
        if wants_simd && others.is_empty() { Ok(()) } else { daemons(&others, args.against) },
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
    without.arg(SIMD_GROUP).env("RUSTFLAGS", flags).env("OPENSSL_ia32cap", SOFT_OPENSSL);
    without.env("CARGO_TARGET_DIR", target_dir()?.join("soft-sha2"));
    // A missed target does not keep the others from being measured.
    with.and(run(&mut without))
}

fn bench_program() -> Command {
    cargo(&["run", "--release", "-p", "bench", "--"])
}

fn daemons(groups: &[&str], against: Option<&str>) -> Result<(), Failure> {
    let dir = |dir: &str| fs::canonicalize(dir).map_err(|e| Failure::Wrong(format!("{dir}: {e}")));
    run(&mut daemons_command(groups, against.map(dir).transpose()?.as_deref())?)
}

/// The bench program on our programs, and on those in the directory `against`.
fn daemons_command(groups: &[&str], against: Option<&Path>) -> Result<Command, Failure> {
    let wants_vms = groups.contains(&VM_GROUP);
    let bin_dir = release::build()?;
    let mut bench = bench_program();
    bench.args(groups).env("HASHCLUSTER_BIN_DIR", &bin_dir);
    if let Some(dir) = against {
        bench.env("HASHCLUSTER_OTHER_BIN_DIR", dir);
    }
    if groups.iter().any(|group| [JOURNAL_GROUP, HOSTS_GROUP].contains(group)) {
        packages::ensure(packages::FOR_JOURNAL_BENCH)?;
    }
    if groups.contains(&HOSTS_GROUP) {
        release::build_bridge(Libc::Glibc)?;
    }
    let is_of_files = |group: &&str| ![VM_GROUP, JOURNAL_GROUP, HOSTS_GROUP].contains(group);
    if groups.is_empty() || groups.iter().any(is_of_files) {
        packages::ensure(packages::FOR_BENCHES)?;
        bench.env("PATH", path_with_b3sum()?);
    }
    if wants_vms {
        packages::ensure(packages::FOR_VM_BENCH)?;
        let options = output(Command::new(root().join("qemu/setup.sh")).arg(&bin_dir))?;
        bench.env("HASHCLUSTER_VM_OPTIONS", options);
    }
    Ok(bench)
}

/// `PATH` with our b3sum before the distribution's, which may be older.
pub(crate) fn path_with_b3sum() -> Result<OsString, Failure> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([b3sum()?].into_iter().chain(env::split_paths(&path)));
    Ok(path.expect("directories of PATH have no colon"))
}

/// The directory of the b3sum that is measured against, installed first where it is missing.
fn b3sum() -> Result<PathBuf, Failure> {
    let root = target_dir()?.join("peers");
    let bin = root.join("bin");
    let mut version = Command::new(bin.join("b3sum"));
    version.arg("--version");
    let wanted = format!("b3sum {B3SUM_VERSION}");
    let has = version.output().is_ok_and(|output| output.stdout.trim_ascii() == wanted.as_bytes());
    if !has {
        println!("installing b3sum {B3SUM_VERSION} into {}", root.display());
        let mut install = cargo(&["install", "--locked", "--force", "--version", B3SUM_VERSION]);
        // As its users build it.
        run(install.arg("--root").arg(&root).arg("b3sum").env_remove("RUSTFLAGS"))?;
    }
    Ok(bin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_another_build_and_groups() {
        let of = BenchArgs::parse;
        assert_eq!(of(&[]), Ok(BenchArgs::default()));
        assert_eq!(of(&["files"]), Ok(BenchArgs { against: None, groups: vec!["files"] }));
        let want = BenchArgs { against: Some("dir"), groups: vec!["files", "pair"] };
        assert_eq!(of(&["against", "dir", "files", "pair"]), Ok(want));
        assert!(of(&["against"]).is_err());
    }
}
