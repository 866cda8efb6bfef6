//! Rules about documents: they exist, and what they promise is tested.

use crate::tree::{File, files, read, refuse, root, rust_files, xtask};
use std::collections::HashSet;
use std::fs;

/// Documents of promises: the short list and the complete one.
const SPECIFICATIONS: [&str; 2] = ["SPECIFICATION.md", "docs/specification-annex.md"];

const DOCUMENTS: [&str; 13] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "docs/protocol.md",
    "docs/yocto.md",
    "meta-hashcluster/README.md",
    "meta-hashcluster/SECURITY.md",
    "meta-hashcluster/COPYING.MIT",
    "docs/decisions/0002-dependencies.md",
];

/// Marks a promise that has no test yet.
const PENDING: &str = "*pending*";

/// Marks a promise that a command outside CI checks.
const BY_COMMAND: &str = "*by command*";

/// Files that users write.
const OF_USERS: [&str; 1] = ["cluster.toml"];

/// Extensions of files that documents refer to by a path in the tree.
const EXTENSIONS: [&str; 6] = ["rs", "md", "sh", "toml", "yml", "py"];

#[test]
fn the_documents_that_readers_look_for_are_there() {
    let says_something = |path: &&str| {
        fs::read_to_string(root().join(path)).is_ok_and(|text| !text.trim().is_empty())
    };
    let missing = DOCUMENTS.into_iter().filter(|path| !says_something(path));
    refuse(&missing.map(str::to_owned).collect::<Vec<_>>(), "a document that is missing or empty");
}

/// Names of the functions under a `#[test]` or `#[tokio::test]` attribute.
fn tests_in(file: &File) -> Vec<String> {
    let mut is_test = false;
    let mut found = Vec::new();
    for line in file.text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && line.contains("fn ") {
            let name = line.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
            found.extend(name.map(str::to_owned));
            is_test = false;
        }
    }
    found
}

/// Commands of `cargo xtask` by its own help, as `cargo xtask yocto parse`.
fn commands() -> HashSet<String> {
    let mut found = HashSet::new();
    for parent in ["", "yocto "] {
        let words = parent.split_whitespace().chain(["--help"]);
        let output = xtask().args(words).output().unwrap();
        assert!(output.status.success(), "cargo xtask {parent}--help failed");
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let is_command = line.starts_with("  ") && !line.starts_with("   ");
            let name = line.split_whitespace().next().filter(|_| is_command);
            found.extend(name.map(|name| format!("cargo xtask {parent}{name}")));
        }
    }
    found
}

/// The fault of the promise in `line`, if it has one: nothing enforces it, or something that does
/// not exist.
fn fault(line: &str, tests: &HashSet<String>, commands: &HashSet<String>) -> Option<String> {
    let (_, keeper) = line.rsplit_once('→')?;
    if keeper.contains(PENDING) {
        return None;
    }
    let spans: Vec<&str> = keeper.split('`').skip(1).step_by(2).collect();
    if spans.is_empty() {
        return Some(format!("names no test and does not say {PENDING}"));
    }
    let is_known = |span: &str| {
        commands.contains(span) || tests.contains(span.rsplit("::").next().unwrap_or_default())
    };
    if let Some(unknown) = spans.iter().find(|span| !is_known(span)) {
        return Some(format!("there is no test or command `{unknown}`"));
    }
    let has_command = spans.iter().any(|span| commands.contains(*span));
    (has_command != keeper.contains(BY_COMMAND))
        .then(|| format!("{BY_COMMAND} and the name of a command go together"))
}

#[test]
fn every_promise_names_a_test_that_exists_or_is_pending() {
    let tests: HashSet<String> = rust_files().iter().flat_map(tests_in).collect();
    let commands = commands();
    let mut broken = Vec::new();
    for path in SPECIFICATIONS {
        let text = read(path);
        let promises = text.lines().enumerate().filter(|(_, line)| line.contains('→'));
        let faults = promises.clone().filter_map(|(i, line)| {
            fault(line, &tests, &commands).map(|fault| format!("{path}:{}: {fault}", i + 1))
        });
        broken.extend(faults);
        assert!(promises.count() > 0, "{path} has no line with an arrow to its test");
    }
    refuse(&broken, "a promise names the test that enforces it, or says *pending*");
}

/// The last cell of each row of a table names the tests.
#[test]
fn every_promise_to_an_attacker_names_a_test_that_exists() {
    let tests: HashSet<String> = rust_files().iter().flat_map(tests_in).collect();
    let (commands, text) = (commands(), read("SECURITY.md"));
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(" | ").collect()).collect();
    let rows = rows.iter().filter(|cells| cells.len() == 4 && !cells[0].contains("boundary"));
    let faults = rows.clone().filter_map(|cells| {
        fault(&format!("→ {}", cells[3]), &tests, &commands)
            .map(|fault| format!("SECURITY.md: {}: {fault}", cells[2]))
    });
    refuse(&faults.collect::<Vec<_>>(), "a row of the threat model names the tests that try it");
    assert!(rows.count() >= 10, "the threat model is a table of four columns");
}

#[test]
fn a_promise_without_an_enforcing_test_is_refused() {
    let text = "#[test]\n#[cfg(unix)]\nfn kept() {\n}\nfn helper() {}\n#[tokio::test(x)]\nasync fn \
                waits() {}\n";
    let file = File { path: "x/tests/it/main.rs".into(), text: text.into() };
    let tests: HashSet<String> = tests_in(&file).into_iter().collect();
    assert_eq!(tests.len(), 2);
    let commands = commands();
    for (line, is_good) in [
        ("no promise here", true),
        ("a → `x::kept`", true),
        ("a → `x::kept`, `y::waits`", true),
        ("a → *pending*", true),
        ("a → *by command* `cargo xtask bench`", true),
        ("a → `kept`; *by command* `cargo xtask yocto parse`", true),
        ("a → b → `kept`", true),
        ("a → `x::helper`", false),
        ("a → `x::kept`, `x::lost`", false),
        ("a → `cargo xtask bench`", false),
        ("a → *by command* `cargo xtask nonsense`", false),
        ("a → *by command* `kept`", false),
        ("a → soon", false),
        ("a →", false),
    ] {
        assert_eq!(fault(line, &tests, &commands).is_none(), is_good, "{line}");
    }
}

/// True if the inline code `span` is meant as a path of this tree; `tops` are the entries of its
/// root.
fn is_path(span: &str, tops: &HashSet<&str>) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let extension = span.rsplit_once('.').map_or("", |(_, extension)| extension);
    let top = span.split_once('/').map_or("", |(top, _)| top);
    span.chars().all(is_plain)
        && span.starts_with(|c: char| c.is_ascii_lowercase())
        && !OF_USERS.contains(&span)
        && (tops.contains(top) || EXTENSIONS.contains(&extension))
}

#[test]
fn every_path_in_a_document_exists() {
    let files = files();
    let paths: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let tops = paths.iter().filter_map(|path| path.split('/').next()).collect();
    // A path may be cut at its left: `core/dispatch.rs`.
    let exists = |span: &str| {
        let (inner, end) = (format!("/{span}"), if span.ends_with('/') { "" } else { "/" });
        let folder = format!("/{span}{end}");
        paths.iter().any(|path| {
            let path = format!("/{path}");
            path.ends_with(&inner) || path.contains(&folder)
        })
    };
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let is_history = file.path == "CHANGELOG.md" || file.path.starts_with("docs/reports/");
        for (i, line) in file.text.lines().enumerate().filter(|_| !is_history) {
            let spans = line.split('`').skip(1).step_by(2);
            let lost = spans.filter(|span| is_path(span, &tops) && !exists(span));
            broken.extend(lost.map(|span| format!("{}:{}: `{span}`", file.path, i + 1)));
        }
    }
    refuse(&broken, "a document names a path that does not exist");
}
