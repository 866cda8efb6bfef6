//! Findings about the files of a tree, as lines for people and as JSON.

use super::format::TreeFormat;
use crate::engine::function::Function;
use crate::json::{JsonName, put_line};
use crate::lists::hex;
use crate::lists::quote::quote;
use crate::say::say;
use clap::{Args, ValueEnum};
use overview::FindingObject;
use schedule::Cause;
use std::fmt;

/// Outcome for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Finding {
    /// It has the content that the manifest says
    Matched,
    /// It has another content; with a state it is known to be modified, older or rotted
    Changed,
    /// It has another content, and another size or time of modification
    Modified,
    /// It has another content, and an earlier time of modification
    Older,
    /// It has another content, but size and time of modification are as they were: bit rot
    Rotted,
    /// It is new, with the content of a name that is missing or has another one now
    Moved,
    /// It is new, with the content of another file
    Copied,
    /// It is in no manifest
    New,
    /// It is in a manifest, but not there
    Missing,
    /// It cannot be read
    Unreadable,
}

impl Finding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Changed => "changed",
            Self::Modified => "modified",
            Self::Older => "older",
            Self::Rotted => "rotted",
            Self::Moved => "moved",
            Self::Copied => "copied",
            Self::New => "new",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
        }
    }

    /// True if `self` or the finding that it is a kind of is `other`.
    fn is(self, other: Self) -> bool {
        let is_change = matches!(self, Self::Modified | Self::Older | Self::Rotted);
        self == other || other == Self::Changed && is_change
    }
}

impl From<Cause> for Finding {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Unknown => Self::Changed,
            Cause::Modified => Self::Modified,
            Cause::Older => Self::Older,
            Cause::Rotted => Self::Rotted,
        }
    }
}

/// Findings that are printed, and their form.
#[derive(Clone, Debug, Args)]
pub(crate) struct FindingFormat {
    /// Print these findings only, separated by commas; the summary and the exit status are about
    /// all
    #[arg(
        long,
        value_name = "FINDING,…",
        value_enum,
        value_delimiter = ',',
        help_heading = "Output"
    )]
    pub(crate) only: Vec<Finding>,
    #[command(flatten)]
    pub(crate) tree: TreeFormat,
}

/// A file and what became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FindingLine<'a> {
    pub(crate) finding: Finding,
    pub(crate) name: &'a [u8],
    /// Name whose content it has.
    pub(crate) from: Option<&'a [u8]>,
    pub(crate) size: Option<u64>,
    /// The digest that it has.
    pub(crate) digest: Option<(Function, &'a [u8])>,
    /// The digest that the manifest has.
    pub(crate) expected: Option<&'a [u8]>,
    pub(crate) error: Option<&'a str>,
}

impl<'a> FindingLine<'a> {
    pub(crate) fn new(finding: Finding, name: &'a [u8]) -> Self {
        let (from, size, digest, expected, error) = (None, None, None, None, None);
        Self { finding, name, from, size, digest, expected, error }
    }
}

impl FindingFormat {
    /// True if a finding is printed; `is_usual` says that it is no problem to this command.
    pub(crate) fn shows(&self, finding: Finding, is_usual: bool) -> bool {
        let is_hidden = self.tree.quiet && is_usual;
        match &*self.only {
            // What is right is of interest to programs only.
            [] => !is_hidden && (self.tree.json || finding != Finding::Matched),
            only => only.iter().any(|&only| finding.is(only)),
        }
    }

    pub(crate) fn put(&self, line: &FindingLine<'_>, out: &mut Vec<u8>) {
        let FindingLine { finding, name, from, size, digest, expected, error } = *line;
        let line = FindingObject {
            name: JsonName::new(name),
            status: finding.name(),
            from: from.map(|bytes| JsonName { key: "from", bytes }),
            size,
            algorithm: digest.map(|(function, _)| function.name()),
            digest: digest.map(|(_, digest)| hex::text(digest)),
            expected: expected.map(hex::text),
            error,
        };
        if self.tree.json {
            return put_line(&line, out);
        }
        line.put_text(self.tree.zero, out);
        self.tree.end_line(out);
    }
}

/// Says that a file rotted.
pub(crate) fn say_rotted(name: &[u8]) {
    say(format_args!("{}: {}", quote(name), Cause::Rotted.text().unwrap_or_default()));
}

/// Number of files per finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FindingCounts([u64; Finding::Unreadable as usize + 1]);

impl FindingCounts {
    pub(crate) fn add(&mut self, finding: Finding) {
        self.0[finding as usize] += 1;
    }

    pub(crate) fn add_many(&mut self, finding: Finding, count: u64) {
        self.0[finding as usize] += count;
    }

    pub(crate) fn get(&self, finding: Finding) -> u64 {
        self.0[finding as usize]
    }

    fn pairs(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Finding::value_variants().iter().map(|&finding| (finding.name(), self.get(finding)))
    }

    /// Appends the last line of JSON, with `more` counts.
    pub(crate) fn put_json(&self, more: &[(&'static str, u64)], out: &mut Vec<u8>) {
        let all = self.pairs().chain(more.iter().copied());
        let counts: serde_json::Map<String, serde_json::Value> =
            all.map(|(name, count)| (name.to_owned(), count.into())).collect();
        put_line(&serde_json::json!({ "counts": counts }), out);
    }
}

impl fmt::Display for FindingCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} matched", self.get(Finding::Matched))?;
        self.pairs()
            .skip(1)
            .filter(|(_, count)| *count > 0)
            .try_for_each(|(name, count)| write!(f, ", {count} {name}"))
    }
}
