//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, one after the other.

use crate::packages;
use crate::tools::{Failure, cargo, has_program, root, run};
use std::fs;

/// Time for each target where none is given, in seconds.
const SECONDS: u64 = 600;

/// Longest input, in bytes.
const INPUT_LEN_MAX: usize = 64 << 10;

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FuzzArgs<'a> {
    /// One target; none for all.
    target: Option<&'a str>,
    seconds: u64,
}

impl<'a> FuzzArgs<'a> {
    /// Reads `[TARGET] [SECONDS]`.
    pub(crate) fn parse(args: &[&'a str]) -> Result<Self, String> {
        let (target, seconds) = match *args {
            [] => (None, None),
            [one] if one.starts_with(|c: char| c.is_ascii_digit()) => (None, Some(one)),
            [target] => (Some(target), None),
            [target, seconds] => (Some(target), Some(seconds)),
            _ => return Err("fuzz takes a target and a number of seconds".to_owned()),
        };
        let seconds = match seconds.map(|text| (text, text.parse())) {
            None => SECONDS,
            Some((_, Ok(seconds @ 1..))) => seconds,
            Some((text, _)) => return Err(format!("'{text}' is not a number of seconds")),
        };
        Ok(Self { target, seconds })
    }
}

/// Runs one target, or all; what breaks a target is left in `fuzz/artifacts/`.
pub(crate) fn fuzz(args: &FuzzArgs<'_>) -> Result<(), Failure> {
    let all = targets()?;
    let targets = match args.target {
        None => all,
        Some(target) if all.iter().any(|name| name == target) => vec![target.to_owned()],
        Some(target) => {
            let what = format!("no fuzz target '{target}'; there are {}", all.join(", "));
            return Err(Failure::Wrong(what));
        }
    };
    if !has_program("cargo-fuzz") {
        let how = "`cargo install --locked cargo-fuzz`, then `cargo xtask fuzz`".into();
        return Err(Failure::Unavailable { what: "there is no cargo-fuzz here".into(), how });
    }
    packages::ensure(packages::FOR_FUZZING)?;
    for target in targets {
        println!("\n==> {target} for {} s", args.seconds);
        let (corpus, seeds) = (format!("fuzz/corpus/{target}"), format!("fuzz/seeds/{target}"));
        let path = root().join(&corpus);
        fs::create_dir_all(&path)
            .map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))?;
        let mut fuzz = cargo(&["fuzz", "run", &target, &corpus, &seeds, "--"]);
        fuzz.arg(format!("-max_total_time={}", args.seconds));
        fuzz.arg(format!("-max_len={INPUT_LEN_MAX}"));
        // The stable compiler takes the sanitizer's flags only so.
        run(fuzz.env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(())
}

/// Names of all targets, sorted.
fn targets() -> Result<Vec<String>, Failure> {
    let dir = root().join("fuzz/fuzz_targets");
    let wrong = |error| Failure::Wrong(format!("{}: {error}", dir.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_and_a_time_may_be_left_out() {
        for (args, want) in [
            (&[][..], Some((None, 600))),
            (&["60"], Some((None, 60))),
            (&["core"], Some((Some("core"), 600))),
            (&["core", "60"], Some((Some("core"), 60))),
            (&["0"], None),
            (&["core", "x"], None),
            (&["6x"], None),
            (&["core", "60", "x"], None),
        ] {
            let want = want.map(|(target, seconds)| FuzzArgs { target, seconds });
            assert_eq!(FuzzArgs::parse(args).ok(), want, "{args:?}");
        }
        assert!(targets().unwrap().contains(&"frames".to_owned()));
    }
}
