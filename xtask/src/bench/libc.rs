//! `cargo xtask bench libc`: the same programs with glibc and with musl, in turn, and the table of the results in
//! the decision about the C library.

use super::daemons_command;
use crate::release::{self, PACKAGES};
use crate::tools::{Failure, output, root};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const DECISION: &str = "docs/decisions/0028-libc.md";

/// Lines of [`DECISION`] around the table.
const START: &str = "<!-- by `cargo xtask bench libc` -->";
const END: &str = "<!-- end -->";

/// Throughput, latency, memory.
const GROUPS: [&str; 4] = ["latency", "files", "large", "idle"];

/// Measures, prints what the bench program prints, and writes the table.
pub(crate) fn compare_libcs() -> Result<(), Failure> {
    let (glibc, musl) = (release::build()?, release::build_musl()?);
    let mut bench = daemons_command(&GROUPS, Some(&musl))?;
    let unread = |error| Failure::Wrong(format!("the bench program: {error}"));
    let printed = bench.stderr(Stdio::inherit()).output().map_err(unread)?.stdout;
    let printed = String::from_utf8_lossy(&printed);
    println!("{printed}");
    // A C library that is worse is a result: the status says nothing else once there is a summary.
    let Some((head, summary)) = printed.split_once("\nsummary\n") else {
        return Err(Failure::Wrong("the bench program did not come to its summary".into()));
    };
    let machine = head.lines().find_map(|line| line.strip_prefix("machine: ")).unwrap_or_default();
    let date = output(Command::new("date").args(["-u", "+%F"]))?;
    let mut rows = format!("{}, {machine}:\n\n{}", date.trim(), table(summary));
    for package in PACKAGES {
        let [of_glibc, of_musl] = [size(&glibc.join(package))?, size(&musl.join(package))?];
        rows += &format!("| {package}, bytes | {of_glibc} | {of_musl} |\n");
    }
    let path = root().join(DECISION);
    let wrong = |error| Failure::Wrong(format!("{DECISION}: {error}"));
    let text = fs::read_to_string(&path).map_err(wrong)?;
    fs::write(&path, with_table(&text, &rows)?).map_err(wrong)
}

fn size(path: &Path) -> Result<u64, Failure> {
    let metadata = fs::metadata(path);
    Ok(metadata.map_err(|e| Failure::Wrong(format!("{}: {e}", path.display())))?.len())
}

/// The rows of a comparison: what was compared, how often glibc is as good as musl, the verdict about glibc.
fn table(summary: &str) -> String {
    let mut text = "| | glibc as good as musl | verdict |\n|---|---|---|\n".to_owned();
    for line in summary.lines() {
        let Some((row, ratios)) = line.split_once(": this build ") else { continue };
        let Some((middle, bounds)) = ratios.split_once(" as good as the other one ") else {
            continue;
        };
        let Some((verdict, what)) = row.trim_start().split_once(' ') else { continue };
        let bounds = bounds.trim_matches(['(', ')']);
        text += &format!("| {} | {middle}, {bounds} | {} |\n", what.trim(), verdict.to_lowercase());
    }
    text + "\n| size | glibc | musl |\n|---|---|---|\n"
}

/// `text` with `rows` between the two lines.
fn with_table(text: &str, rows: &str) -> Result<String, Failure> {
    let parts =
        text.split_once(START).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let lacks = || Failure::Wrong(format!("{DECISION} lacks the lines {START} and {END}"));
    let (before, after) = parts.ok_or_else(lacks)?;
    Ok(format!("{before}{START}\n{rows}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_comparisons_and_replaces_the_last_one() {
        let summary = "  same   files, 4 KiB: CPU: this build 1.01x as good as the other one (0.99x to 1.03x)\n  \
                       met    x: 1.00x (target >= 1x)\n1 of 2 targets met\n";
        let rows = table(summary);
        assert!(rows.contains("| files, 4 KiB: CPU | 1.01x, 0.99x to 1.03x | same |\n"), "{rows}");
        assert!(!rows.contains("target"), "{rows}");
        let text = format!("a\n{START}\nold\n{END}\nb\n");
        assert_eq!(with_table(&text, "new\n").unwrap(), format!("a\n{START}\nnew\n{END}\nb\n"));
        assert!(with_table("a", "new\n").is_err());
    }

    #[test]
    fn the_decision_has_a_place_for_the_table() {
        with_table(&fs::read_to_string(root().join(DECISION)).unwrap(), "").unwrap();
    }
}
