//! Rules about documents: they exist, and what they promise is tested.

use crate::tree::{File, read, refuse, root, rust_files};
use std::collections::HashSet;
use std::fs;

const DOCUMENTS: [&str; 13] = [
    "README.md",
    "ARCHITECTURE.md",
    "SPECIFICATION.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "docs/protocol.md",
    "docs/yocto.md",
    "meta-hashcluster/README.md",
    "meta-hashcluster/SECURITY.md",
    "meta-hashcluster/COPYING.MIT",
    "docs/decisions/0002-dependencies.md",
];

/// What a promise says that has no test yet.
const PENDING: &str = "*pending*";

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

/// What is wrong with the promise in `line`, which is something if it names nothing that keeps it
/// after its arrow.
fn fault(line: &str, tests: &HashSet<String>) -> Option<String> {
    let (_, keeper) = line.rsplit_once('→')?;
    if keeper.contains(PENDING) {
        return None;
    }
    let spans: Vec<&str> = keeper.split('`').skip(1).step_by(2).collect();
    if spans.is_empty() {
        return Some(format!("names no test and does not say {PENDING}"));
    }
    let is_known = |span: &str| {
        let name = span.rsplit("::").next().unwrap_or_default();
        span.starts_with("cargo xtask ") || tests.contains(name)
    };
    let unknown = spans.into_iter().find(|span| !is_known(span))?;
    Some(format!("there is no test `{unknown}`"))
}

#[test]
fn every_promise_names_a_test_that_exists_or_is_pending() {
    let tests: HashSet<String> = rust_files().iter().flat_map(tests_in).collect();
    let specification = read("SPECIFICATION.md");
    let mut promises_len = 0;
    let mut broken = Vec::new();
    for (i, line) in specification.lines().enumerate().filter(|(_, line)| line.contains('→')) {
        promises_len += 1;
        broken.extend(fault(line, &tests).map(|fault| format!("line {}: {fault}", i + 1)));
    }
    assert!(promises_len > 0, "SPECIFICATION.md has no line with an arrow to its test");
    refuse(&broken, "SPECIFICATION.md: a promise names the test that keeps it, or says *pending*");
}

#[test]
fn a_promise_is_held_against_the_tests_there_are() {
    let text = "#[test]\n#[cfg(unix)]\nfn kept() {\n}\nfn helper() {}\n#[tokio::test(x)]\nasync fn \
                waits() {}\n";
    let file = File { path: "x/tests/it/main.rs".into(), text: text.into() };
    let tests: HashSet<String> = tests_in(&file).into_iter().collect();
    assert_eq!(tests.len(), 2);
    for (line, is_good) in [
        ("no promise here", true),
        ("a → `x::kept`", true),
        ("a → `x::kept`, `y::waits`", true),
        ("a → *pending*", true),
        ("a → `cargo xtask bench`", true),
        ("a → b → `kept`", true),
        ("a → `x::helper`", false),
        ("a → `x::kept`, `x::lost`", false),
        ("a → soon", false),
        ("a →", false),
    ] {
        assert_eq!(fault(line, &tests).is_none(), is_good, "{line}");
    }
}
