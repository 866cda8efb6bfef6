//! Rules about words: how documentation opens, and that a name means one thing.

use crate::tree::{File, refuse, rust_files};
use std::collections::{BTreeMap, BTreeSet};

/// First words that make a reader wait for the subject.
const SLOW_OPENINGS: [&str; 7] = ["Who", "Whose", "What", "Whether", "How", "Of what", "Beside"];

/// First lines of documentation comments that open slowly, as `path:line: text`.
fn slow_openings(file: &File) -> Vec<String> {
    let is_doc = |line: &str| line.starts_with("///") || line.starts_with("//!");
    let mut before = "";
    let mut found = Vec::new();
    for (i, line) in file.text.lines().map(str::trim_start).enumerate() {
        let text = line.get(3..).unwrap_or_default().trim_start();
        let opens_with = |word: &&str| {
            let rest = text.strip_prefix(*word);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
        };
        if is_doc(line) && !is_doc(before) && SLOW_OPENINGS.iter().any(opens_with) {
            found.push(format!("{}:{}: {line}", file.path, i + 1));
        }
        before = line;
    }
    found
}

#[test]
fn documentation_opens_with_its_subject() {
    let found: Vec<String> = rust_files().iter().flat_map(slow_openings).collect();
    let reason = "documentation opens with a noun phrase or a verb, never with Who, Whose, What, \
                  Whether, How, Of what or Beside";
    refuse(&found, reason);
}

#[test]
fn a_slow_opening_is_found_in_the_first_line_only() {
    let text = "//! What it is.\n\n/// Whether\n/// How\nx\n/// Whatever\nx\n    /// Of what, and\n// Who\n";
    let file = File { path: "a/b.rs".into(), text: text.into() };
    let want = ["a/b.rs:1: //! What it is.", "a/b.rs:3: /// Whether", "a/b.rs:8: /// Of what, and"];
    assert_eq!(slow_openings(&file), want);
}

/// Names that stand for two types: a type that is renamed leaves this list, none is added.
const SHARED_NAMES: &str = "\
    Args Backend Batch Case Check Choice Config Datasets Error Event Failure Fault File Fleet \
    ImageError Job Kernels Kind Limits Listener Message Order Plane Role Scratch Settings \
    Share Signals Source Status Supervisor";

/// The name of the type that `line` declares, if others can see it.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start().strip_prefix("pub")?;
    let line = match line.strip_prefix('(') {
        Some(scoped) => scoped.split_once(')')?.1,
        None => line,
    };
    let (kind, rest) = line.trim_start().split_once(' ')?;
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    ["struct", "enum", "trait", "type", "union"].contains(&kind).then_some(name)
}

#[test]
fn a_type_name_means_one_thing() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files().into_iter().filter(|file| !file.is_test()) {
        for name in file.untested_lines().filter_map(declared) {
            places.entry(name.to_owned()).or_default().insert(file.path.clone());
        }
    }
    let shared = places.iter().filter(|(_, paths)| paths.len() > 1);
    let fresh =
        shared.filter(|(name, _)| !SHARED_NAMES.split(' ').any(|shared| shared == name.as_str()));
    let fresh = fresh.map(|(name, paths)| format!("{name}: {paths:?}"));
    refuse(&fresh.collect::<Vec<_>>(), "a type name is used once in the workspace");
}

#[test]
fn a_declaration_is_known_by_its_first_words() {
    for (line, want) in [
        ("pub struct Lane<T> {", Some("Lane")),
        ("    pub(crate) enum Kind {", Some("Kind")),
        ("pub(in crate::core) type Id = u64;", Some("Id")),
        ("struct Private;", None),
        ("pub fn type_of() {}", None),
    ] {
        assert_eq!(declared(line), want, "{line}");
    }
}
