//! `cargo xtask kernels`: the tests of the kernels, once more for each CPU feature that is hidden, the
//! newest first, so that this processor runs what an older one would.
//!
//! The backends that have to be available follow from the features that the system's kernel reports: a
//! backend that ought to be detected and is not fails the tests, where it would only be missing
//! otherwise. The backends are those of `ipc_proto::backend`; the features below are compared with the
//! engine's source by a test.

use crate::oldest::cargo_of_tests;
use crate::steps::TESTED;
use crate::tools::{Failure, output, run};
use ipc_proto::backend::{self, BackendInfo};
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::Command;

/// Hides features from the engine, and requires backends of it (`crates/engine/src/hash.rs`).
const DENY_CPU: &str = "HASHCLUSTER_DENY_CPU";
pub(crate) const REQUIRE_BACKENDS: &str = "HASHCLUSTER_REQUIRE_BACKENDS";

/// Names of tests begin or end like this: every backend against the portable one.
const FILTERS: [&str; 2] = ["hash::", "by_every_backend"];

/// A kind of processor.
#[derive(Debug)]
pub(crate) struct Kernels {
    arch: &'static str,
    /// The newest first.
    features: &'static [Feature],
}

#[derive(Debug)]
struct Feature {
    /// The name for [`DENY_CPU`].
    name: &'static str,
    /// Its names in `/proc/cpuinfo`; a processor that has it has all of them.
    flags: &'static [&'static str],
}

const X86_64: Kernels = Kernels {
    arch: "x86_64",
    features: &[
        Feature { name: "avx512vl", flags: &["avx512vl"] },
        Feature { name: "avx512bw", flags: &["avx512bw"] },
        Feature { name: "avx512f", flags: &["avx512f"] },
        Feature { name: "sha", flags: &["sha_ni"] },
        Feature { name: "avx2", flags: &["avx2"] },
        Feature { name: "bmi2", flags: &["bmi2"] },
        Feature { name: "bmi1", flags: &["bmi1"] },
        Feature { name: "sse4.1", flags: &["sse4_1"] },
        Feature { name: "ssse3", flags: &["ssse3"] },
    ],
};

/// `sha3` is what the standard library calls the instructions for SHA-512 together with those for
/// SHA-3.
pub(crate) const AARCH64: Kernels = Kernels {
    arch: "aarch64",
    features: &[
        Feature { name: "sha3", flags: &["sha3", "sha512"] },
        Feature { name: "sha2", flags: &["sha2"] },
        Feature { name: "neon", flags: &["asimd"] },
    ],
};

/// Names of the backends that a processor of this machine's kind has if it has no other `features`.
pub(crate) fn backends_with(features: &[&str]) -> Vec<&'static str> {
    let of_arch = backend::ALL.iter().filter(|backend| backend.arch == env::consts::ARCH);
    let has_all = |backend: &&BackendInfo| backend.features.iter().all(|f| features.contains(f));
    of_arch.filter(has_all).map(|backend| backend.name).collect()
}

/// The suite on this machine.
pub(crate) fn run_here() -> Result<(), Failure> {
    let kernels = match env::consts::ARCH {
        "x86_64" => X86_64,
        "aarch64" => AARCH64,
        other => {
            let how = "run it on x86_64 or aarch64".into();
            return Err(Failure::Unavailable { what: format!("no kernels for {other}"), how });
        }
    };
    let path = "/proc/cpuinfo";
    let text = fs::read_to_string(path).map_err(|e| Failure::Wrong(format!("{path}: {e}")))?;
    let flags = flags(&text);
    // The packages are those of all tests, whose dependencies need not be built again.
    let tests = || {
        let mut tests = cargo_of_tests(&["test"]);
        tests.args(TESTED);
        tests
    };
    kernels.check(|flag| flags.contains(flag), tests)
}

impl Kernels {
    /// The suite at every level of a processor that `has` flags. `tests` is `cargo test` of the package,
    /// with what else it needs.
    pub(crate) fn check(
        &self,
        has: impl Fn(&str) -> bool,
        tests: impl Fn() -> Command,
    ) -> Result<(), Failure> {
        there_are_tests(suite(&tests))?;
        let lacking = self.lacking(has);
        for backend in self.backends() {
            if let Some(feature) = backend.features.iter().find(|f| lacking.contains(*f)) {
                println!("not run: {}: this processor has no {feature}", backend.name);
            }
        }
        for Level { hidden, required } in self.levels(&lacking) {
            let names =
                |names: &[&str]| if names.is_empty() { "-".into() } else { names.join(" ") };
            println!("\n--> hidden: {}; required: {}", names(&hidden), names(&required));
            let mut suite = suite(&tests);
            suite.args(["--", "--quiet"]).args(FILTERS);
            suite.env(DENY_CPU, hidden.join(",")).env(REQUIRE_BACKENDS, required.join(","));
            run(&mut suite)?;
        }
        Ok(())
    }

    fn backends(&self) -> impl Iterator<Item = &'static BackendInfo> {
        backend::ALL.iter().filter(|backend| backend.arch == self.arch)
    }

    /// Names of the features that a processor lacks which `has` flags.
    fn lacking(&self, has: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let lacks = |feature: &&Feature| !feature.flags.iter().all(|flag| has(flag));
        self.features.iter().filter(lacks).map(|feature| feature.name).collect()
    }

    /// First with nothing hidden, then one level per set of backends that is left while more and more
    /// features are hidden.
    fn levels(&self, lacking: &[&str]) -> Vec<Level> {
        let mut levels: Vec<Level> = Vec::new();
        for len in 0..=self.features.len() {
            let hidden: Vec<_> = self.features[..len].iter().map(|feature| feature.name).collect();
            let is_there = |name| !lacking.contains(name) && !hidden.contains(name);
            let left = self.backends().filter(|backend| backend.features.iter().all(is_there));
            let required: Vec<_> = left.map(|backend| backend.name).collect();
            match levels.last_mut() {
                Some(last) if last.required == required && last.hidden.is_empty() => {}
                Some(last) if last.required == required => last.hidden = hidden,
                _ => levels.push(Level { hidden, required }),
            }
        }
        levels
    }
}

/// One run of the suite.
#[derive(Debug, PartialEq, Eq)]
struct Level {
    /// Names of features.
    hidden: Vec<&'static str>,
    /// Names of backends.
    required: Vec<&'static str>,
}

/// A filter that finds no test would be green.
fn there_are_tests(mut suite: Command) -> Result<(), Failure> {
    let listed = output(suite.args(["--", "--list"]).args(FILTERS))?;
    match FILTERS.iter().find(|filter| !listed.lines().any(|line| line.contains(**filter))) {
        None => Ok(()),
        Some(filter) => Err(Failure::Wrong(format!("the engine has no test like '{filter}'"))),
    }
}

fn suite(tests: impl Fn() -> Command) -> Command {
    let mut command = tests();
    command.args(["--lib", "--test", "it"]);
    command
}

/// Features that all processors of `/proc/cpuinfo` have.
fn flags(cpuinfo: &str) -> BTreeSet<&str> {
    let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let lists = lines.filter(|(key, _)| ["flags", "Features"].contains(&key.trim()));
    let sets = lists.map(|(_, flags)| flags.split_whitespace().collect());
    sets.reduce(|all: BTreeSet<_>, set| &all & &set).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::root;

    /// Features to hide and backends to require, on a processor that has `flags`.
    #[track_caller]
    fn check(kernels: &Kernels, flags: &str, want: &[(&str, &str)]) {
        let has = |flag: &str| flags.split(' ').any(|other| other == flag);
        let levels = kernels.levels(&kernels.lacking(has));
        let got: Vec<_> =
            levels.iter().map(|l| (l.hidden.join(" "), l.required.join(" "))).collect();
        let want: Vec<_> = want.iter().map(|&(h, r)| (h.to_owned(), r.to_owned())).collect();
        assert_eq!(got, want, "{flags}");
    }

    #[test]
    fn each_level_hides_what_the_newest_backends_left_need() {
        let all = "sha256_sha_ni_x2 sha256_avx512_x16 sha256_avx2_x8 sha512_avx512_x8 \
                   sha512_avx2_x4 blake3_avx512_x16 blake3_avx2_x8 md5_avx512_x16 md5_avx2_x8 \
                   sha1_avx512_x16 sha1_avx2_x8";
        let avx2 = "sha256_avx2_x8 sha512_avx2_x4 blake3_avx2_x8 md5_avx2_x8 sha1_avx2_x8";
        let neon = "sha256_neon_x4 blake3_neon_x4 md5_neon_x4 sha1_neon_x4";
        check(
            &X86_64,
            "ssse3 sse4_1 sha_ni avx2 avx512f avx512bw avx512vl",
            &[
                ("", all),
                ("avx512vl avx512bw avx512f", &format!("sha256_sha_ni_x2 {avx2}")),
                ("avx512vl avx512bw avx512f sha", avx2),
                ("avx512vl avx512bw avx512f sha avx2 bmi2 bmi1 sse4.1 ssse3", ""),
            ],
        );
        check(
            &AARCH64,
            "asimd sha2 sha512 sha3",
            &[
                (
                    "",
                    "sha256_aarch64_x2 sha256_neon_x4 sha512_aarch64_x2 blake3_neon_x4 \
                     md5_neon_x4 sha1_neon_x4",
                ),
                ("sha3", &format!("sha256_aarch64_x2 {neon}")),
                ("sha3 sha2", neon),
                ("sha3 sha2 neon", ""),
            ],
        );
    }

    #[test]
    fn what_a_processor_lacks_is_not_required_of_it() {
        let avx2 = "sha256_avx2_x8 sha512_avx2_x4 blake3_avx2_x8 md5_avx2_x8 sha1_avx2_x8";
        check(
            &X86_64,
            "ssse3 sse4_1 avx2 avx512f",
            &[("", avx2), ("avx512vl avx512bw avx512f sha avx2 bmi2 bmi1 sse4.1 ssse3", "")],
        );
        check(&X86_64, "", &[("", "")]);
        check(&AARCH64, "sha2 sha3", &[("", "sha256_aarch64_x2"), ("sha3 sha2 neon", "")]);
    }

    #[test]
    fn only_what_every_core_has_counts() {
        let cpuinfo = "processor\t: 0\nflags\t\t: fpu sha_ni avx2\nbugs\t\t: spectre_v1\n\n\
                       processor\t: 1\nflags\t\t: fpu avx2 avx512f\nvmx flags\t: vnmi\n";
        assert_eq!(flags(cpuinfo), BTreeSet::from(["avx2", "fpu"]));
        assert_eq!(flags("Features\t: fp sha2\n"), BTreeSet::from(["fp", "sha2"]));
        assert_eq!(flags("no such lines"), BTreeSet::new());
    }

    /// Quoted words in lines that begin with `start`, after `between`.
    fn quoted(path: &str, start: &str, between: &str) -> BTreeSet<String> {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let names = text.lines().filter_map(|line| {
            let (left, right) = line.trim().strip_suffix("\",")?.split_once(between)?;
            (left.starts_with(start)).then(|| right.to_owned())
        });
        names.collect()
    }

    #[test]
    fn the_features_are_those_of_the_engine_and_of_every_backend() {
        let all = [X86_64, AARCH64];
        let features = all.iter().flat_map(|kernels| kernels.features).map(|f| f.name.to_owned());
        let features: BTreeSet<_> = features.collect();
        assert_eq!(features, quoted("crates/engine/src/hash/cpu.rs", "", " = \""));
        for backend in backend::ALL {
            let of_arch = all.iter().find(|kernels| kernels.arch == backend.arch).unwrap();
            let known: BTreeSet<_> = of_arch.features.iter().map(|feature| feature.name).collect();
            assert!(backend.features.iter().all(|feature| known.contains(feature)), "{backend:?}");
        }
    }
}
