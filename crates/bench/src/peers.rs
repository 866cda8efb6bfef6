//! The programs that people use today, each with one thread unless a row says otherwise.

use crate::contest::{Cost, measure};
use crate::machine::version_of;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// A program, and its arguments before the names of files.
pub(crate) type Peer = (&'static str, &'static [&'static str]);

pub(crate) const SHA256: &[Peer] =
    &[("sha256sum", &[]), ("openssl", &["dgst", "-sha256"]), ("rhash", &["--sha256"])];
pub(crate) const SHA512: &[Peer] =
    &[("sha512sum", &[]), ("openssl", &["dgst", "-sha512"]), ("rhash", &["--sha512"])];
pub(crate) const BLAKE3: &[Peer] = &[("b3sum", &[])];

/// `b3sum --version` of a release that rows are about: older ones open and map files otherwise.
const B3SUM_PREFIX: &str = "b3sum 1.8.";

/// The versions of all peers, once per run.
///
/// # Panics
/// If b3sum is not of the release that rows are about.
pub(crate) fn versions() -> String {
    let b3sum = version_of("b3sum", "--version");
    let how = "run cargo xtask bench, which installs it below the target directory";
    assert!(b3sum.starts_with(B3SUM_PREFIX), "{b3sum:?} is not b3sum 1.8: {how}");
    let others = [("openssl", "version"), ("rhash", "--version"), ("sha256sum", "--version")];
    let others = others.map(|(program, question)| version_of(program, question));
    format!("{b3sum}; {}", others.join("; "))
}

/// One run over `names` in `dir`.
pub(crate) fn run((program, args): Peer, dir: &Path, names: &[OsString]) -> Cost {
    measure(Command::new(program).args(args).args(names).current_dir(dir), &[])
}
