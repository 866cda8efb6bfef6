//! Outcomes of entries: what is learned of each, and how it reaches a printer.

use super::Tag;
use super::batch::{Batch, Label};
use crate::input::open::Way;
use crate::lists::manifest::Remark;
use crate::problem::{Problem, Special};
use blake3::OutputReader;
use ipc_proto::message::Failure;
use std::sync::Arc;

/// Longest digest of any algorithm, in bytes.
const DIGEST_LEN_MAX: usize = 64;

/// State of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Waiting,
    /// Its digest.
    Digest,
    /// It has none, because of this.
    Problem(Problem),
    /// Found in a tree and left out.
    Skipped(Special),
    /// Not a file but a mark between files.
    Mark(Mark),
}

/// Something about a list, in its place among the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The line of this number is not a line of a list.
    BadLine(u64),
    /// The line of this number is too long.
    LongLine(u64),
    /// The list cannot be read (any further), with this error number.
    Unreadable(i32),
    /// The same, where the number is not reported.
    ReadError,
    /// The list ends here.
    End,
    /// Something that only `check` says.
    Remark(Remark),
}

/// One entry with its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) label: Label<'a>,
    /// Length of the file in bytes.
    pub(crate) size: u64,
    /// Never [`Verdict::Waiting`].
    pub(crate) verdict: Verdict,
    /// The digest, if there is one.
    pub(crate) digest: &'a [u8],
    /// Output of any length of [`Function::Blake3`], which starts with the digest.
    pub(crate) output: Option<&'a OutputReader>,
    /// More about a problem, for a person.
    pub(crate) detail: Option<&'a str>,
}

impl<'a> Item<'a> {
    /// The text of `problem`, with what else is known of it.
    pub(crate) fn problem_text(&self, problem: Problem) -> String {
        match self.detail {
            Some(detail) => format!("{problem}: {detail}"),
            None => problem.to_string(),
        }
    }

    /// One item per digest.
    pub(crate) fn each(self) -> impl Iterator<Item = Self> {
        let mut rest = self.digest;
        self.label.function.each().map(move |function| {
            let len = function.digest_len().min(rest.len());
            let digest = rest.split_off(..len).unwrap_or_default();
            Self { label: Label { function, ..self.label }, digest, ..self }
        })
    }
}

/// Facts about one entry.
#[derive(Clone, Debug)]
pub(super) struct EntryOutcome {
    pub(super) size: u64,
    /// Bytes of it that are hashed, while that is not over.
    pub(super) done_len: u64,
    pub(super) verdict: Verdict,
    pub(super) digest: [u8; DIGEST_LEN_MAX],
    pub(super) is_taken: bool,
    /// The digests, if they are longer than that.
    pub(super) digests: Option<Box<[u8]>>,
    pub(super) output: Option<Box<OutputReader>>,
    /// More about a problem.
    pub(super) detail: Option<Box<str>>,
    /// It went by name, and can be opened this way.
    pub(super) named: Option<Way>,
    /// It was sent, and can be opened this way.
    pub(super) sent: Option<Way>,
}

impl EntryOutcome {
    /// That of an entry that was listed with `verdict`.
    pub(super) fn new(verdict: Verdict) -> Self {
        Self {
            size: 0,
            done_len: 0,
            verdict,
            digest: [0; _],
            is_taken: false,
            digests: None,
            output: None,
            detail: None,
            named: None,
            sent: None,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.verdict, Verdict::Waiting)
    }
}

/// A file that has to be sent again: it went by name, and the workers do not find it as it is here, or its
/// connection was lost.
#[derive(Debug)]
pub(crate) struct Unseen {
    pub(crate) tag: Tag,
    pub(crate) batch: Arc<Batch>,
    /// Its position there.
    pub(crate) position: usize,
    pub(crate) way: Way,
    /// The failure under its name; `None` if the connection was lost.
    pub(crate) failure: Option<Failure>,
}

impl Unseen {
    /// True if a file that is here may fail like this, as its name leads the workers elsewhere.
    pub(super) fn is_possible(failure: Failure) -> bool {
        match failure {
            Failure::Changed
            | Failure::NotRegular
            | Failure::Io { .. }
            | Failure::Unsupported
            | Failure::UnknownDataset => true,
            Failure::Invalid
            | Failure::WorkersLost { .. }
            | Failure::Disputed
            | Failure::Outside
            | Failure::NotAList
            | Failure::BadLines { .. } => false,
        }
    }
}

/// Entries that were taken, complete.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(super) batch: Arc<Batch>,
    /// Position of the first in the batch.
    pub(super) start: usize,
    pub(super) outcomes: Vec<EntryOutcome>,
}

impl Complete {
    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.outcomes.iter().zip(self.start..).map(|(outcome, position)| {
            let label = self.batch.label(position);
            let digest = match &outcome.digests {
                Some(digests) => digests,
                None => &outcome.digest[..label.function.digest_len().min(outcome.digest.len())],
            };
            let output = outcome.output.as_deref();
            let detail = outcome.detail.as_deref();
            Item { label, size: outcome.size, verdict: outcome.verdict, digest, output, detail }
        })
    }

    pub(super) fn text_len(&self) -> usize {
        let end = self.batch.start(self.start + self.outcomes.len());
        end - self.batch.start(self.start)
    }
}

/// Facts that an opener or hashing thread learns about an entry. The verdict or digest is the last.
#[derive(Debug)]
pub(crate) enum Change {
    Size(u64),
    /// Its length; it is sent.
    Sent(u64, Way),
    /// Its length; it goes by name.
    Named(u64, Way),
    Verdict(Verdict),
    Digest {
        bytes: [u8; DIGEST_LEN_MAX],
        len: usize,
    },
    /// Several digests, back to back.
    Digests(Vec<u8>),
    Output(Box<OutputReader>),
}

impl Change {
    pub(crate) fn digest(digest: &[u8]) -> Self {
        if digest.len() > DIGEST_LEN_MAX {
            return Self::Digests(digest.to_vec());
        }
        let mut bytes = [0; DIGEST_LEN_MAX];
        bytes[..digest.len()].copy_from_slice(digest);
        Self::Digest { bytes, len: digest.len() }
    }
}
