//! The programs that people use today, each with one thread unless a row says otherwise.

use crate::contest::{Cost, Series, measure, median, median_ratio};
use crate::machine::version_of;
use crate::report::Report;
use std::ffi::OsStr;
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
pub(crate) fn run<N: AsRef<OsStr>>((program, args): Peer, dir: &Path, names: &[N]) -> Cost {
    measure(Command::new(program).args(args).args(names).current_dir(dir), &[])
}

/// Says what each peer took for each of `files` files.
pub(crate) fn note(report: &mut Report, what: &str, peers: &[Peer], all: &[Series], files: usize) {
    for ((program, _), series) in peers.iter().zip(all) {
        report.note(&format!("{what}: {program} {}", per_file(series, files)));
    }
}

/// Both times of one file.
pub(crate) fn per_file(series: &Series, files: usize) -> String {
    let each = |times: &[f64]| median(times.to_vec()) / files as f64;
    format!("{:.2} us CPU per file, {:.2} us wall", each(&series.cpu), each(&series.wall))
}

/// CPU time, then wall time, of the best peer over ours.
pub(crate) fn best_over(ours: &Series, peers: &[Series]) -> (f64, f64) {
    let best = |ratio: fn(&Series, &Series) -> f64| {
        peers.iter().map(|peer| ratio(peer, ours)).fold(f64::INFINITY, f64::min)
    };
    (
        best(|peer, ours| median_ratio(&peer.cpu, &ours.cpu)),
        best(|peer, ours| median_ratio(&peer.wall, &ours.wall)),
    )
}
