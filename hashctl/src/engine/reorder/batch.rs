//! Listed entries: neighbours in a batch, with the text of their names in one piece.

use super::outcome::Verdict;
use crate::engine::function::Function;
use std::ffi::CStr;

/// Bytes of text for which a batch has room per entry, so that it seldom grows.
const NAME_LEN_USUAL: usize = 64;

/// The name of an entry, and what its digest is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    /// The name of the file, or of the manifest for a mark; without zero bytes.
    pub(crate) name: &'a [u8],
    pub(crate) function: Function,
    /// The expected digest; empty if there is none.
    pub(crate) want: &'a [u8],
}

/// Neighbouring entries, as they were listed.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(super) rows: Vec<ListedEntry>,
    /// Names, each with a zero byte behind it, and expected digests.
    text: Vec<u8>,
}

/// One entry, as it was listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListedEntry {
    name_end: usize,
    want_end: usize,
    function: Function,
    pub(super) listed: Verdict,
}

impl Batch {
    /// An empty batch with room for `len` entries.
    pub(crate) fn with_capacity(len: usize) -> Self {
        Self { rows: Vec::with_capacity(len), text: Vec::with_capacity(len * NAME_LEN_USUAL) }
    }

    /// Appends an entry, with its verdict if that is known without opening a file.
    pub(crate) fn push(&mut self, label: Label<'_>, listed: Verdict) {
        let Label { name, function, want } = label;
        self.text.extend_from_slice(name);
        let name_end = self.text.len();
        self.text.push(0);
        self.text.extend_from_slice(want);
        self.rows.push(ListedEntry { name_end, want_end: self.text.len(), function, listed });
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of names and expected digests.
    pub(crate) fn text_len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn label(&self, position: usize) -> Label<'_> {
        let row = &self.rows[position];
        Label {
            name: &self.text[self.start(position)..row.name_end],
            function: row.function,
            want: &self.text[row.name_end + 1..row.want_end],
        }
    }

    /// The name of an entry from its byte `start` on, as system calls take it.
    pub(crate) fn path(&self, position: usize, start: usize) -> &CStr {
        let text = &self.text[self.start(position) + start..=self.rows[position].name_end];
        CStr::from_bytes_with_nul(text).expect("names hold no zero byte")
    }

    pub(super) fn start(&self, position: usize) -> usize {
        position.checked_sub(1).map_or(0, |before| self.rows[before].want_end)
    }
}
