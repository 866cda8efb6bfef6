//! Groups that speak the protocol themselves, against another build: its programs may speak another
//! version, so its own bench program measures them, in turn with this one.

use crate::contest::median;
use crate::report::{Report, Target, parse_check};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROUNDS: usize = 3;

/// Figures by row, each with its good side.
type Figures = BTreeMap<String, (Vec<f64>, Target)>;

/// Runs `group` of both bench programs in turn and compares the rows that both have.
pub(crate) fn compare(report: &mut Report, group: &str, other_dir: &Path) {
    let Some(other_bench) = bench_of(other_dir) else {
        let dir = other_dir.display();
        report.note(&format!("not compared: no bench program beside {dir} (cargo xtask bench)"));
        return;
    };
    let own = std::env::current_exe().expect("our own path");
    let (mut ours, mut others) = (Figures::new(), Figures::new());
    for _ in 0..ROUNDS {
        run(Command::new(&other_bench).env("HASHCLUSTER_BIN_DIR", other_dir), group, &mut others);
        run(&mut Command::new(&own), group, &mut ours);
    }
    for (what, (ours, target)) in ours {
        let Some((others, _)) = others.remove(&what) else {
            report.note(&format!("{what}: {:.2}, the other build has no such row", median(ours)));
            continue;
        };
        // Costs, in either case.
        match target {
            Target::AtMost(_) => report.compare(&what, &others, &ours),
            Target::AtLeast(_) => report.compare(&what, &ours, &others),
        }
    }
}

/// The bench program that was built in the tree of `dir`: there, or where cargo puts it.
fn bench_of(dir: &Path) -> Option<PathBuf> {
    let places = [dir.join("bench"), dir.join("../../release/bench")];
    places.into_iter().find(|path| path.is_file())
}

fn run(bench: &mut Command, group: &str, figures: &mut Figures) {
    // Without this the program would start this comparison again.
    bench.env_remove("HASHCLUSTER_OTHER_BIN_DIR").arg(group).stdin(Stdio::null());
    let output = bench.output().unwrap_or_else(|error| panic!("{bench:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, summary) = text.split_once("\nsummary\n").unwrap_or_else(|| {
        panic!("{bench:?} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr))
    });
    for (what, value, target) in summary.lines().filter_map(parse_check) {
        figures.entry(what.to_owned()).or_insert_with(|| (Vec::new(), target)).0.push(value);
    }
}
