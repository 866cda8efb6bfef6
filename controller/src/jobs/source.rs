//! Where the items of a running job come from, and how far it is with them.

use super::feed::{Feed, FeedItem, ItemContent};
use super::limits::CHUNK_ITEMS;
use super::record::{
    BadRow, StoredItem, StoredItems, StoredResult, chunk_results, end_key, index_of, item_key,
    record,
};
use crate::journal::{Rows, TableId};
use ipc_proto::limits::FRAME_NAMES_MAX;
use ipc_proto::message::{ItemOutcome, JobId, Stamp};
use std::collections::VecDeque;
use std::rc::Rc;

/// A source, with what it reads next.
#[derive(Debug)]
pub(super) struct ItemSource {
    step: SourceStep,
    /// The number of items up to which it goes.
    end: u64,
    /// A read is on its way.
    pub(super) is_reading: bool,
}

/// `from` is the index of an item that starts a row, at or before the one with `next`.
#[derive(Debug)]
enum SourceStep {
    /// The results of the chunk in which the job goes on at item `next`.
    Tail { next: u64 },
    /// Stored items from `next` on, up to `end`.
    Stored { next: u64, from: u64, end: u64 },
    /// The results of the chunks from `next` on, up to `end`, to find those that failed.
    Again { next: u64, from: u64, end: u64 },
    /// The stored items from `next` on of a chunk with failed ones, whose results from there on these are.
    AgainItems { next: u64, from: u64, end: u64, results: VecDeque<StoredResult> },
    /// There are no more.
    Done,
}

/// A table, and the first key and the one after the last.
pub(super) type RowRange = (TableId, Vec<u8>, Vec<u8>);

impl ItemSource {
    /// Of a job that goes on at `next` of `items`.
    pub(super) fn first_pass(next: u64, items: u64) -> Self {
        let step = if next.is_multiple_of(CHUNK_ITEMS) {
            Self::stored(next, row_before(next), items)
        } else {
            SourceStep::Tail { next }
        };
        Self { step, end: items, is_reading: false }
    }

    /// Of a job whose failed items are hashed again, from the chunk of `next` on.
    pub(super) fn again(next: u64, items: u64) -> Self {
        let next = next - next % CHUNK_ITEMS;
        Self {
            step: SourceStep::Again { next, from: row_before(next), end: items },
            end: items,
            is_reading: false,
        }
    }

    fn stored(next: u64, from: u64, end: u64) -> SourceStep {
        if next < end { SourceStep::Stored { next, from, end } } else { SourceStep::Done }
    }

    /// Goes on up to `items`, once it is through with those before.
    pub(super) fn grow(&mut self, items: u64) {
        if self.is_done() && self.end < items {
            self.step = Self::stored(self.end, row_before(self.end), items);
            self.end = items;
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.step, SourceStep::Done)
    }

    /// The next read, if one is to be done.
    pub(super) fn next_read(&mut self, id: JobId) -> Option<RowRange> {
        if self.is_reading {
            return None;
        }
        let chunk =
            |first| (TableId::Results, item_key(id, first), item_key(id, first + CHUNK_ITEMS));
        let range = match &self.step {
            SourceStep::Tail { next } => chunk(next - next % CHUNK_ITEMS),
            SourceStep::Again { next, .. } => chunk(*next),
            SourceStep::Stored { from, .. } | SourceStep::AgainItems { from, .. } => {
                (TableId::Items, item_key(id, *from), end_key(id))
            }
            SourceStep::Done => return None,
        };
        self.is_reading = true;
        Some(range)
    }
}

/// An index that no row before that of the item `next` starts behind: a row has at most a frame's items.
fn row_before(next: u64) -> u64 {
    next.saturating_sub(FRAME_NAMES_MAX as u64 - 1)
}

impl Feed {
    /// Takes in the rows of the last read, for a job of `items` items.
    pub(super) fn take_rows(&mut self, items: u64, rows: &Rows) -> Result<(), BadRow> {
        self.source.is_reading = false;
        match std::mem::replace(&mut self.source.step, SourceStep::Done) {
            SourceStep::Tail { next } => {
                let mut results = chunk_results(rows, next - next % CHUNK_ITEMS)?;
                let len = usize::try_from(next % CHUNK_ITEMS).unwrap_or(usize::MAX);
                if results.len() < len {
                    return Err(BadRow("a chunk of results is too short".to_owned()));
                }
                results.truncate(len);
                self.restore_chunk(results);
                self.source.step = ItemSource::stored(next, row_before(next), items);
                self.source.end = items;
            }
            SourceStep::Stored { mut next, end, .. } => {
                let last = for_items(rows, &mut next, end, |item, dataset| {
                    self.push(FeedItem::stored(item, dataset));
                    true
                })?;
                self.source.step = ItemSource::stored(next, last.end, end);
            }
            SourceStep::Again { next, from, end } => {
                let results = chunk_results(rows, next)?;
                self.source.step = if results.iter().all(|result| result.failure().is_none()) {
                    self.pass((next, from, end), results)
                } else {
                    SourceStep::AgainItems { next, from, end, results: results.into() }
                };
            }
            SourceStep::AgainItems { mut next, end, mut results, .. } => {
                let last = for_items(rows, &mut next, end, |item, dataset| {
                    let Some(result) = results.pop_front() else { return false };
                    self.push(FeedItem::again(item, dataset, result));
                    true
                })?;
                let from = if last.end > next { last.start } else { last.end };
                self.source.step = if results.is_empty() {
                    again_step(next, from, end)
                } else {
                    SourceStep::AgainItems { next, from, end, results }
                };
            }
            SourceStep::Done => {}
        }
        Ok(())
    }

    /// Lets the results of a chunk pass as they are.
    fn pass(
        &mut self,
        (first, from, end): (u64, u64, u64),
        results: Vec<StoredResult>,
    ) -> SourceStep {
        let next = first + results.len() as u64;
        if self.is_empty() && next.is_multiple_of(CHUNK_ITEMS) {
            self.skip_to(next);
        } else {
            results.into_iter().for_each(|result| self.push(FeedItem::known(result)));
        }
        again_step(next, from.max(row_before(next)), end)
    }
}

fn again_step(next: u64, from: u64, end: u64) -> SourceStep {
    if next < end { SourceStep::Again { next, from, end } } else { SourceStep::Done }
}

/// Calls `take` for the items from `next` on, up to `end`, until it returns false; there must be no gap.
/// Returns the items of the last row.
fn for_items(
    rows: &Rows,
    next: &mut u64,
    end: u64,
    mut take: impl FnMut(StoredItem, &Rc<str>) -> bool,
) -> Result<std::ops::Range<u64>, BadRow> {
    let mut last = None;
    for (key, value) in &rows.rows {
        let first = index_of(key)?;
        let StoredItems { dataset, items } = record(value)?;
        let dataset = Rc::from(dataset);
        let row = first..first + items.len() as u64;
        last = Some(row.clone());
        for (index, item) in (first..).zip(items) {
            if index == *next && index < end {
                if !take(item, &dataset) {
                    return Ok(row);
                }
                *next += 1;
            }
        }
    }
    // A gap is between two rows, or after the last one.
    let is_whole = last.as_ref().is_some_and(|last| last.end <= *next || *next == end);
    let missing = || BadRow("items of a job are missing".to_owned());
    last.filter(|_| is_whole).ok_or_else(missing)
}

impl FeedItem {
    fn stored(item: StoredItem, dataset: &Rc<str>) -> Self {
        let StoredItem { root, name, expected, file, content, failure } = item;
        if let Some(failure) = failure {
            let outcome = ItemOutcome::Failed(failure);
            return Self {
                root,
                path: name,
                stamp: file.stamp,
                expected,
                before: None,
                content: None,
                outcome: Some(outcome),
            };
        }
        let (stamp, content) = if dataset.is_empty() {
            let size = content.len() as u64;
            (Stamp { size, ..Stamp::default() }, ItemContent::Bytes(content))
        } else {
            (file.stamp, ItemContent::Named { dataset: Rc::clone(dataset), path: content, file })
        };
        Self {
            root,
            path: name,
            stamp,
            expected,
            before: None,
            content: Some(content),
            outcome: None,
        }
    }

    fn again(item: StoredItem, dataset: &Rc<str>, result: StoredResult) -> Self {
        if result.failure().is_none() {
            return Self::known(result);
        }
        Self { before: Some(result.outcome), ..Self::stored(item, dataset) }
    }

    fn known(result: StoredResult) -> Self {
        let StoredResult { root, path, stamp, outcome } = result;
        let before: Option<ItemOutcome> = Some(outcome.clone());
        let expected = ipc_proto::Blob::default();
        Self { root, path, stamp, expected, before, content: None, outcome: Some(outcome) }
    }
}
