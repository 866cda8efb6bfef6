//! The tree of the parts of one BLAKE3 file: their chaining values, merged in groups of
//! [`MERGE_VALUES_MAX`], and what is merged again, until one merge gives the digest. So a part has the
//! length of a batch however long the file is, and little memory is held for it: parts go out in order, and a
//! group is kept from its first value to its last.

use super::batch::Node;
use ipc_proto::limits::{CHAINING_VALUE_LEN, MERGE_VALUES_MAX};
use std::collections::BTreeMap;

const GROUP_LEN: u64 = MERGE_VALUES_MAX as u64;

/// A file whose parts are on their way.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) size: u64,
    pub(super) path_len: usize,
    parts_len: u64,
    /// Number of parts without a value.
    pub(super) missing: u64,
    /// Number of merges that are on their way.
    pub(super) merging: usize,
    /// Values by the node that they will give.
    groups: BTreeMap<Node, Group>,
}

#[derive(Debug)]
struct Group {
    values: Vec<u8>,
    missing: usize,
}

/// Values to be merged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Merge {
    pub(super) values: Vec<u8>,
    /// The node whose value that gives; `None` for the digest.
    pub(super) parent: Option<Node>,
}

impl Split {
    /// A file of `size` bytes in several parts of `part_len`.
    pub(super) fn new(size: u64, part_len: u64, path_len: usize) -> Self {
        let parts_len = size.div_ceil(part_len);
        debug_assert!(parts_len > 1, "one part is the whole file");
        let (missing, merging, groups) = (parts_len, 0, BTreeMap::new());
        Self { size, path_len, parts_len, missing, merging, groups }
    }

    /// The value of a part; what is to be merged now, if anything.
    pub(super) fn part_done(&mut self, number: u64, value: &[u8]) -> Option<Merge> {
        self.missing -= 1;
        self.set(Node { level: 0, number }, value)
    }

    /// The value of a merge.
    pub(super) fn merge_done(&mut self, node: Node, value: &[u8]) -> Option<Merge> {
        self.merging -= 1;
        self.set(node, value)
    }

    fn set(&mut self, node: Node, value: &[u8]) -> Option<Merge> {
        let Node { mut level, mut number } = node;
        let mut nodes_len = (0..level).fold(self.parts_len, |len, _| len.div_ceil(GROUP_LEN));
        let (parent, group_len) = loop {
            let parent = Node { level: level + 1, number: number / GROUP_LEN };
            let group_len = GROUP_LEN.min(nodes_len - parent.number * GROUP_LEN);
            if group_len > 1 {
                break (parent, usize::try_from(group_len).unwrap_or(MERGE_VALUES_MAX));
            }
            // The last one is alone: there is nothing to merge it with before the next level.
            Node { level, number } = parent;
            nodes_len = nodes_len.div_ceil(GROUP_LEN);
        };
        let group = self.groups.entry(parent).or_insert_with(|| Group {
            values: vec![0; group_len * CHAINING_VALUE_LEN],
            missing: group_len,
        });
        let at = usize::try_from(number % GROUP_LEN).unwrap_or_default() * CHAINING_VALUE_LEN;
        group.values[at..at + CHAINING_VALUE_LEN].copy_from_slice(value);
        group.missing -= 1;
        if group.missing > 0 {
            return None;
        }
        self.merging += 1;
        let values = self.groups.remove(&parent)?.values;
        Some(Merge { values, parent: (nodes_len > GROUP_LEN).then_some(parent) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges all parts, each of which has its number for a value; the number of values of each merge, and
    /// the first of them, in the order of merging.
    fn merge_all(parts_len: u64, order: impl Iterator<Item = u64>) -> Vec<(usize, u64)> {
        let value = |number: u64| [number.to_le_bytes(); 4].concat();
        let mut split = Split::new(parts_len, 1, 0);
        let mut merges = Vec::new();
        for number in order {
            let mut merge = split.part_done(number, &value(number));
            while let Some(Merge { values, parent }) = merge.take() {
                let numbers: Vec<u64> = values
                    .chunks_exact(CHAINING_VALUE_LEN)
                    .map(|value| u64::from_le_bytes(*value.first_chunk().unwrap()))
                    .collect();
                assert!(numbers.is_sorted(), "in order");
                merges.push((numbers.len(), numbers[0]));
                let Some(node) = parent else {
                    assert_eq!((split.missing, split.merging, split.groups.len()), (0, 1, 0));
                    return merges;
                };
                merge = split.merge_done(node, &value(numbers[0]));
            }
        }
        panic!("{parts_len} parts without a digest");
    }

    #[test]
    fn parts_merge_in_groups_of_what_a_message_takes() {
        let max = MERGE_VALUES_MAX;
        let len = GROUP_LEN;
        for (parts_len, want) in [
            (2, vec![(2, 0)]),
            (len, vec![(max, 0)]),
            (len + 1, vec![(max, 0), (2, 0)]),
            (len + 2, vec![(max, 0), (2, len), (2, 0)]),
            (2 * len, vec![(max, 0), (max, len), (2, 0)]),
            (2 * len + 1, vec![(max, 0), (max, len), (3, 0)]),
        ] {
            assert_eq!(merge_all(parts_len, 0..parts_len), want, "{parts_len}");
            let mut back = merge_all(parts_len, (0..parts_len).rev());
            back.sort_unstable();
            let mut want = want;
            want.sort_unstable();
            assert_eq!(back, want, "{parts_len}, backwards");
        }
    }

    #[test]
    fn one_value_that_is_alone_goes_up_more_than_one_level() {
        let mut split = Split::new(GROUP_LEN * GROUP_LEN + 1, 1, 0);
        assert_eq!(split.part_done(GROUP_LEN * GROUP_LEN, &[9; 32]), None);
        assert_eq!(split.groups.keys().collect::<Vec<_>>(), [&Node { level: 3, number: 0 }]);
        let node = Node { level: 2, number: 0 };
        split.merging = 1;
        let Some(Merge { values, parent: None }) = split.merge_done(node, &[7; 32]) else {
            panic!("the digest")
        };
        assert_eq!(values, [[7; 32], [9; 32]].concat());
    }
}
