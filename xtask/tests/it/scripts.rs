//! Rules about shell scripts; shellcheck is a step of its own.

use crate::tree::{File, files, refuse, root};
use std::os::unix::fs::PermissionsExt;

fn scripts() -> Vec<String> {
    let scripts = files().into_iter().filter(|file| file.path.ends_with(".sh"));
    let scripts: Vec<String> = scripts.map(|file| file.path).collect();
    assert!(scripts.contains(&"run.sh".to_owned()), "{scripts:?}");
    scripts
}

#[test]
fn every_script_can_be_started() {
    let is_executable = |path: &String| {
        let mode = root().join(path).metadata().unwrap().permissions().mode();
        mode & 0o111 == 0o111
    };
    let stuck = scripts().into_iter().filter(|path| !is_executable(path));
    refuse(&stuck.collect::<Vec<_>>(), "a script is started by its name: chmod +x");
}

#[test]
fn every_script_stops_at_its_first_error() {
    let loose = files().into_iter().filter(|file| {
        let is_script = file.path.ends_with(".sh") || file.path == ".ci/run";
        is_script && !file.text.lines().any(|line| line == "set -euo pipefail")
    });
    let reason = "without `set -euo pipefail` a script goes on after what failed";
    refuse(&loose.map(|file| file.path).collect::<Vec<_>>(), reason);
}

/// Names whose values arithmetic may have, and where those come from. Bash evaluates a value there as an
/// expression again, the commands in an array's subscript included.
const NUMBERS: [(&str, &str); 24] = [
    ("1", "given by callers that computed it, or a number of theirs"),
    (
        "2",
        "the same; a VM's clock comes from `hashcluster-vm filter-report`, which lets numbers pass",
    ),
    ("3", "a number of the caller"),
    ("ESP_MIB", "a constant"),
    ("EUID", "bash"),
    ("ROOT_MIB", "a constant"),
    ("STATE_MIB", "a constant"),
    ("answered_at", "date"),
    ("apart", "computed"),
    ("asked_at", "date"),
    ("available", "/proc/meminfo, by a pattern; a VM's by `hashcluster-vm filter-report`"),
    ("failures", "counted"),
    ("free", "stat"),
    ("length", "od"),
    ("missing", "a flag"),
    ("mode", "stat"),
    ("needed", "computed by awk"),
    ("offset", "od"),
    ("owner", "stat"),
    ("sectors", "od"),
    ("seen", "a flag"),
    ("size", "stat"),
    ("total", "`hashcluster-vm filter-report`"),
    ("uptime_ms", "digits of the controller's status, by a pattern"),
];

/// More that is counted, or an exit status.
const COUNTS: [&str; 3] = ["status", "warnings", "wrong"];

/// The inside of each `((…))` of a line.
fn arithmetic(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("((") {
        // `<((` is a process substitution, and what follows its first parenthesis.
        rest = match after.strip_prefix('(').filter(|_| before.ends_with('<')) {
            Some(inner) => inner,
            None => after,
        };
        let mut depth = 2;
        let end = rest.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let end = end.unwrap_or(rest.len());
        found.push(&rest[..end]);
        rest = &rest[end..];
    }
    found
}

/// The values that are evaluated in an expression: names, and positional parameters.
fn evaluated(expression: &str) -> Vec<&str> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_inner(c)).filter(|word| !word.is_empty());
    let at = |word: &str| word.as_ptr() as usize - expression.as_ptr() as usize;
    let is_value = |word: &&str| {
        let before = &expression[..at(word)];
        // The number of elements or of arguments is a number; so is what starts with a digit.
        let is_length = before.ends_with('#') && (before.ends_with("{#") || before.ends_with("$#"));
        let is_positional = before.ends_with('$') || before.ends_with("${");
        !is_length && (is_positional || !word.starts_with(|c: char| c.is_ascii_digit()))
    };
    words.filter(is_value).collect()
}

fn evaluation_faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = file.text.lines().zip(1..).filter(|(line, _)| !line.trim_start().starts_with('#'));
    for (line, number) in lines {
        let mut refuse = |what: &str| faults.push(format!("{}:{number}: {what}", file.path));
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_comparison = ["eval", "let", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"]
            .iter()
            .any(|w| words.contains(w));
        let is_v = line.contains("[[ -v ") || line.contains("[[ ! -v ");
        if is_comparison || is_v {
            refuse("evaluates a value");
        }
        for expression in arithmetic(line) {
            if expression.contains("$(") || expression.contains('`') {
                refuse("the output of a command in arithmetic");
            }
            for name in evaluated(expression) {
                if !COUNTS.contains(&name) && NUMBERS.iter().all(|(known, _)| *known != name) {
                    refuse(&format!("{name} in arithmetic"));
                }
            }
        }
    }
    faults
}

#[test]
fn no_script_evaluates_what_it_has_read() {
    let is_of_host = |file: &File| {
        let path = file.path.as_str();
        (path.starts_with("scripts/") && !path.ends_with("guest-report"))
            || path.ends_with(".sh") && !path.starts_with("qemu/rootfs")
            || path == ".ci/run"
    };
    let scripts: Vec<File> = files().into_iter().filter(is_of_host).collect();
    assert!(scripts.len() > 20, "{} scripts", scripts.len());
    let faults: Vec<String> = scripts.iter().flat_map(evaluation_faults).collect();
    refuse(&faults, "a value that is evaluated is of a source that is listed in this rule");
}

#[test]
fn a_value_that_may_be_evaluated_is_found() {
    for (line, is_good) in [
        ("if ((owner != EUID)); then", true),
        ("  while (($# > 0)); do", true),
        ("((${#answers[@]} == 0))", true),
        ("read -r x < <(((${#packages[@]} == 0)) || printf '%s' \"${words[@]}\" | sort -u)", true),
        ("if (((8#$mode & ~8#$1 & 8#7777) != 0)); then", true),
        ("x=$((100 * available / total))", true),
        ("x=$((said + 1))", false),
        ("x=$(($said + 1))", false),
        ("x=$((${words[1]} + 1))", false),
        ("x=$(($(stat -c %s f) + 1))", false),
        ("eval \"$x\"", false),
        ("[[ $x -gt 1 ]]", false),
        ("[[ -v $x ]]", false),
        ("let x=y", false),
        ("# eval", true),
    ] {
        let file = File { path: "x.sh".into(), text: line.into() };
        assert_eq!(evaluation_faults(&file).is_empty(), is_good, "{line}");
    }
}
