//! Byte strings in one allocation, found again by their value.

use std::ops::Range;

/// Most strings in a table.
pub(crate) const ROWS_MAX: usize = u32::MAX as usize;

/// A table of names. Push them all, then [`sort`](BytesTable::sort), then find.
#[derive(Debug, Default)]
pub(crate) struct BytesTable {
    text: Vec<u8>,
    ends: Vec<usize>,
    /// Indices in the order of the names; equal names in the order in which they were pushed.
    order: Vec<u32>,
}

impl BytesTable {
    /// Appends a name and returns its index.
    ///
    /// # Panics
    /// If there are [`ROWS_MAX`] already; callers compare with it first.
    pub(crate) fn push(&mut self, name: &[u8]) -> u32 {
        let index = u32::try_from(self.ends.len()).expect("at most ROWS_MAX names");
        self.text.extend_from_slice(name);
        self.ends.push(self.text.len());
        index
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// All indices.
    pub(crate) fn indices(&self) -> Range<u32> {
        0..u32::try_from(self.len()).expect("at most ROWS_MAX names")
    }

    pub(crate) fn get(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }

    /// Makes names findable.
    pub(crate) fn sort(&mut self) {
        let mut order: Vec<u32> = self.indices().collect();
        order.sort_unstable_by(|&a, &b| self.get(a).cmp(self.get(b)).then(a.cmp(&b)));
        self.order = order;
    }

    /// Indices of the names that equal `name`, in the order in which they were pushed.
    pub(crate) fn find(&self, name: &[u8]) -> &[u32] {
        debug_assert_eq!(self.order.len(), self.len(), "sorted after the last push");
        let start = self.order.partition_point(|&index| self.get(index) < name);
        let rest = &self.order[start..];
        // The group may be long, and is asked for often.
        &rest[..rest.partition_point(|&index| self.get(index) == name)]
    }

    /// The first name that equals `name`.
    pub(crate) fn first(&self, name: &[u8]) -> Option<u32> {
        self.find(name).first().copied()
    }

    /// Groups of equal names in the order of names, each with its indices in order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[u32]> {
        self.order.chunk_by(|&a, &b| self.get(a) == self.get(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_kit::Random;

    #[test]
    fn names_are_found_as_a_linear_search_finds_them() {
        let mut random = Random::new(11);
        for _ in 0..200 {
            let names: Vec<Vec<u8>> = (0..random.below(30))
                .map(|_| (0..random.below(3)).map(|_| b"a/\xff"[random.index(3)]).collect())
                .collect();
            let mut table = BytesTable::default();
            names.iter().for_each(|name| {
                table.push(name);
            });
            table.sort();
            for name in names.iter().map(Vec::as_slice).chain([&b"b"[..], b""]) {
                let want: Vec<u32> =
                    (0..).zip(&names).filter(|(_, other)| *other == name).map(|(i, _)| i).collect();
                assert_eq!(table.find(name), want);
                assert_eq!(table.first(name), want.first().copied());
            }
            assert_eq!(table.groups().map(<[u32]>::len).sum::<usize>(), names.len());
        }
    }
}
