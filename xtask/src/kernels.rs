//! `cargo xtask kernels`: the suite of the worker's kernels, once more for each CPU feature that is
//! hidden, the newest first, so that what an older processor would run is run on this one.
//!
//! Which backends there have to be is worked out here, from what the kernel of the system says about
//! the processor: a backend that the worker ought to find and does not fails the suite, where it would
//! only be missing otherwise. The tables below are held against the worker's sources by tests.

use crate::tools::{Failure, cargo, output, run};
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::Command;

/// What hides features from the worker, and what requires backends (`crates/engine/src/hash.rs`).
const DENY_CPU: &str = "HASHCLUSTER_DENY_CPU";
const REQUIRE_BACKENDS: &str = "HASHCLUSTER_REQUIRE_BACKENDS";

/// Names of tests begin or end like this: every backend against the portable one.
const FILTERS: [&str; 2] = ["hash::", "by_every_backend"];

/// The features and backends of a kind of processor.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// The newest first.
    features: &'static [Feature],
    backends: &'static [Backend],
}

#[derive(Debug)]
struct Feature {
    /// The name for [`DENY_CPU`].
    name: &'static str,
    /// Its names in `/proc/cpuinfo`, of which all have to be there.
    flags: &'static [&'static str],
}

#[derive(Debug)]
struct Backend {
    name: &'static str,
    /// Names of features.
    needs: &'static [&'static str],
}

const X86_64: Kernels = Kernels {
    features: &[
        Feature { name: "avx512vl", flags: &["avx512vl"] },
        Feature { name: "avx512bw", flags: &["avx512bw"] },
        Feature { name: "avx512f", flags: &["avx512f"] },
        Feature { name: "sha", flags: &["sha_ni"] },
        Feature { name: "avx2", flags: &["avx2"] },
        Feature { name: "sse4.1", flags: &["sse4_1"] },
        Feature { name: "ssse3", flags: &["ssse3"] },
    ],
    backends: &[
        Backend { name: "avx512_x16", needs: &["avx512f", "avx512bw"] },
        Backend { name: "avx512_x8", needs: &["avx512f", "avx512bw"] },
        Backend { name: "sha256_avx512_x16", needs: &["avx512f", "avx512bw"] },
        Backend { name: "sha_ni_x2", needs: &["sha", "sse4.1", "ssse3"] },
        Backend { name: "avx2_x8", needs: &["avx2"] },
        Backend { name: "blake3_avx2_x8", needs: &["avx2"] },
        Backend { name: "avx2_x4", needs: &["avx2"] },
    ],
};

/// `sha3` is what the standard library calls the instructions for SHA-512 together with those for
/// SHA-3.
pub(crate) const AARCH64: Kernels = Kernels {
    features: &[
        Feature { name: "sha3", flags: &["sha3", "sha512"] },
        Feature { name: "sha2", flags: &["sha2"] },
    ],
    backends: &[
        Backend { name: "sha256_aarch64_x2", needs: &["sha2"] },
        Backend { name: "sha512_aarch64_x2", needs: &["sha3"] },
    ],
};

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
    kernels.check(|flag| flags.contains(flag), |_| {})
}

impl Kernels {
    /// The suite at every level of a processor that `has` flags. `prepare` says what else a command
    /// of cargo needs.
    pub(crate) fn check(
        &self,
        has: impl Fn(&str) -> bool,
        prepare: impl Fn(&mut Command),
    ) -> Result<(), Failure> {
        there_are_tests(&prepare)?;
        let lacking = self.lacking(has);
        for backend in self.backends {
            if let Some(feature) = backend.needs.iter().find(|feature| lacking.contains(*feature)) {
                println!("not run: {}: this processor has no {feature}", backend.name);
            }
        }
        for Level { hidden, required } in self.levels(&lacking) {
            let names =
                |names: &[&str]| if names.is_empty() { "-".into() } else { names.join(" ") };
            println!("\n--> hidden: {}; required: {}", names(&hidden), names(&required));
            let mut suite = suite(&prepare);
            suite.args(["--", "--quiet"]).args(FILTERS);
            suite.env(DENY_CPU, hidden.join(",")).env(REQUIRE_BACKENDS, required.join(","));
            run(&mut suite)?;
        }
        Ok(())
    }

    /// Names of features that a processor does not have that `has` flags.
    fn lacking(&self, has: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let lacks = |feature: &&Feature| !feature.flags.iter().all(|flag| has(flag));
        self.features.iter().filter(lacks).map(|feature| feature.name).collect()
    }

    /// With nothing hidden, then one for each set of backends that is left while ever more is.
    fn levels(&self, lacking: &[&str]) -> Vec<Level> {
        let mut levels: Vec<Level> = Vec::new();
        for len in 0..=self.features.len() {
            let hidden: Vec<_> = self.features[..len].iter().map(|feature| feature.name).collect();
            let is_there = |name| !lacking.contains(name) && !hidden.contains(name);
            let left = self.backends.iter().filter(|backend| backend.needs.iter().all(is_there));
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
fn there_are_tests(prepare: impl Fn(&mut Command)) -> Result<(), Failure> {
    let listed = output(suite(&prepare).args(["--", "--list"]).args(FILTERS))?;
    match FILTERS.iter().find(|filter| !listed.lines().any(|line| line.contains(**filter))) {
        None => Ok(()),
        Some(filter) => Err(Failure::Wrong(format!("the worker has no test like '{filter}'"))),
    }
}

fn suite(prepare: impl Fn(&mut Command)) -> Command {
    let mut command = cargo(&["test", "-p", "engine", "--lib", "--test", "it"]);
    prepare(&mut command);
    command
}

/// What all processors of `/proc/cpuinfo` have.
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

    /// What is hidden and what is required, on a processor that has `flags`.
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
        let wide = "avx512_x16 avx512_x8 sha256_avx512_x16";
        let avx2 = "avx2_x8 blake3_avx2_x8 avx2_x4";
        check(
            &X86_64,
            "ssse3 sse4_1 sha_ni avx2 avx512f avx512bw avx512vl",
            &[
                ("", &format!("{wide} sha_ni_x2 {avx2}")),
                ("avx512vl avx512bw avx512f", &format!("sha_ni_x2 {avx2}")),
                ("avx512vl avx512bw avx512f sha", avx2),
                ("avx512vl avx512bw avx512f sha avx2 sse4.1 ssse3", ""),
            ],
        );
        check(
            &AARCH64,
            "sha2 sha512 sha3",
            &[
                ("", "sha256_aarch64_x2 sha512_aarch64_x2"),
                ("sha3", "sha256_aarch64_x2"),
                ("sha3 sha2", ""),
            ],
        );
    }

    #[test]
    fn what_a_processor_lacks_is_not_required_of_it() {
        let avx2 = "avx2_x8 blake3_avx2_x8 avx2_x4";
        check(
            &X86_64,
            "ssse3 sse4_1 avx2 avx512f",
            &[("", avx2), ("avx512vl avx512bw avx512f sha avx2 sse4.1 ssse3", "")],
        );
        check(&X86_64, "", &[("", "")]);
        check(&AARCH64, "sha2 sha3", &[("", "sha256_aarch64_x2"), ("sha3 sha2", "")]);
    }

    #[test]
    fn only_what_every_core_has_counts() {
        let cpuinfo = "processor\t: 0\nflags\t\t: fpu sha_ni avx2\nbugs\t\t: spectre_v1\n\n\
                       processor\t: 1\nflags\t\t: fpu avx2 avx512f\nvmx flags\t: vnmi\n";
        assert_eq!(flags(cpuinfo), BTreeSet::from(["avx2", "fpu"]));
        assert_eq!(flags("Features\t: fp sha2\n"), BTreeSet::from(["fp", "sha2"]));
        assert_eq!(flags("no such lines"), BTreeSet::new());
    }

    /// What lines that begin with `start` have in quotes, after `between`.
    fn quoted(path: &str, start: &str, between: &str) -> BTreeSet<String> {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let names = text.lines().filter_map(|line| {
            let (left, right) = line.trim().strip_suffix("\",")?.split_once(between)?;
            (left.starts_with(start)).then(|| right.to_owned())
        });
        names.collect()
    }

    #[test]
    fn the_tables_have_every_backend_and_feature_of_the_worker() {
        let all = [X86_64, AARCH64];
        let backends = all.iter().flat_map(|kernels| kernels.backends).map(|b| b.name.to_owned());
        let mut backends: BTreeSet<_> = backends.collect();
        backends.insert("portable".into());
        assert_eq!(backends, quoted("crates/engine/src/hash.rs", "Self::", " => \""));
        let features = all.iter().flat_map(|kernels| kernels.features).map(|f| f.name.to_owned());
        let features: BTreeSet<_> = features.collect();
        assert_eq!(features, quoted("crates/engine/src/hash/cpu.rs", "", " = \""));
        for kernels in all {
            let known: BTreeSet<_> = kernels.features.iter().map(|feature| feature.name).collect();
            assert!(kernels.backends.iter().flat_map(|b| b.needs).all(|need| known.contains(need)));
        }
    }
}
