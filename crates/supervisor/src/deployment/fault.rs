//! Faults of a deployment: each has its file, its line if it has one, its reason.

use super::kind::Kind;
use super::shown::{Shown, shown_path};
use std::fmt;
use std::path::Path;

/// Longest file that is read, in bytes.
pub(super) const FILE_LEN_MAX: u64 = 64 << 10;

/// Faults that are told at most: who has more has another kind of file.
const TOLD_MAX: usize = 100;

/// Names that are listed at most.
const LISTED_MAX: usize = 16;

/// Why a deployment is refused: every fault, in the order of the files and their lines.
#[derive(Debug)]
pub(crate) struct LoadErrors(Vec<Fault>);

/// One fault.
#[derive(Debug)]
pub(super) struct Fault {
    source: String,
    line: Option<usize>,
    text: String,
}

/// The faults of one file, or of the command line.
#[derive(Debug)]
pub(super) struct Faults {
    source: String,
    list: Vec<Fault>,
}

impl Faults {
    pub(super) fn of_file(path: &Path) -> Self {
        Self::of(shown_path(path))
    }

    pub(super) fn of(source: impl Into<String>) -> Self {
        Self { source: source.into(), list: Vec::new() }
    }

    /// A fault in a line, counted from 1.
    pub(super) fn at(&mut self, line: usize, text: impl Into<String>) {
        self.add(Some(line), text);
    }

    /// A fault of the whole.
    pub(super) fn whole(&mut self, text: impl Into<String>) {
        self.add(None, text);
    }

    pub(super) fn add(&mut self, line: Option<usize>, text: impl Into<String>) {
        self.list.push(Fault { source: self.source.clone(), line, text: text.into() });
    }
}

impl LoadErrors {
    /// `value`, unless there are faults.
    pub(super) fn unless<T, const N: usize>(value: T, faults: [Faults; N]) -> Result<T, Self> {
        let mut all = Vec::new();
        for mut faults in faults {
            faults.list.sort_by_key(|fault| fault.line);
            all.append(&mut faults.list);
        }
        if all.is_empty() { Ok(value) } else { Err(Self(all)) }
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().take(TOLD_MAX).enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{fault}")?;
        }
        match self.0.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for LoadErrors {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.source, self.text),
            None => write!(f, "{}: {}", self.source, self.text),
        }
    }
}

/// The text of a value that is not of its kind; `is_quoted` where the file wants quotes around it.
pub(super) fn bad_value(key: &str, value: &Shown, kind: Kind, is_quoted: bool) -> String {
    let quotes = if is_quoted { " in quotes" } else { "" };
    format!("{key}: bad value {value}; write{quotes} {kind}")
}

pub(super) fn bad_dataset_name(name: &[u8]) -> String {
    format!("{} is no name of a dataset; use {}", Shown::quoted(name), Kind::DatasetName)
}

/// The first of `names`, with commas between them.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let mut list: Vec<&str> = names.iter().take(LISTED_MAX).map(AsRef::as_ref).collect();
    if names.len() > LISTED_MAX {
        list.push("…");
    }
    list.join(", ")
}
