//! Parts of a BLAKE3 input: the chaining value of a subtree, and merging chaining values to the
//! root (BLAKE3 paper, sections 2.1 and 2.5).
//!
//! The library underneath panics on an empty or unaligned subtree, and returns another hash for one
//! of the wrong shape, so shapes are checked here before it sees them.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use ipc_proto::limits::{CHAINING_VALUE_LEN, CHUNK_LEN, MERGE_VALUES_MAX};
use std::fmt;

/// Chaining value of a subtree.
pub type ChainingValue = [u8; CHAINING_VALUE_LEN];

/// A subtree whose bytes come in pieces.
#[derive(Clone)]
pub struct Subtree {
    hasher: Box<blake3::Hasher>,
    missing_len: u64,
}

impl Subtree {
    /// The subtree over `len` bytes of the input from `offset` on, or `None` if no tree has it:
    /// `len` is 1024·2^k or, at the end of the input, anything less, and `offset` is a multiple of
    /// `len` rounded up to 1024·2^k.
    #[must_use]
    pub fn new(offset: u64, len: u64) -> Option<Self> {
        let full_len = len.max(CHUNK_LEN).checked_next_power_of_two()?;
        if len == 0 || !offset.is_multiple_of(full_len) || offset.checked_add(len).is_none() {
            return None;
        }
        let mut hasher = Box::new(blake3::Hasher::new());
        hasher.set_input_offset(offset);
        Some(Self { hasher, missing_len: len })
    }

    /// Appends bytes of the subtree; `None` if they are more than it has.
    #[must_use]
    pub fn update(&mut self, bytes: &[u8]) -> Option<()> {
        self.missing_len = self.missing_len.checked_sub(bytes.len() as u64)?;
        self.hasher.update(bytes);
        Some(())
    }

    /// The chaining value, or `None` if bytes are missing.
    #[must_use]
    pub fn finish(self) -> Option<ChainingValue> {
        (self.missing_len == 0).then(|| self.hasher.finalize_non_root())
    }
}

impl fmt::Debug for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subtree").field("missing_len", &self.missing_len).finish_non_exhaustive()
    }
}

/// Merges the chaining values of neighbouring subtrees of equal length, the last one possibly
/// shorter: into the digest if they are the whole input, else into one chaining value. `None`
/// unless there are 2 to [`MERGE_VALUES_MAX`] whole values.
#[must_use]
pub fn merge(values: &[u8], root: bool) -> Option<ChainingValue> {
    let (values, rest) = values.as_chunks::<CHAINING_VALUE_LEN>();
    if !rest.is_empty() || values.len() < 2 || values.len() > MERGE_VALUES_MAX {
        return None;
    }
    let (left, right) = halves(values);
    Some(if root {
        *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
    } else {
        merge_subtrees_non_root(&left, &right, Mode::Hash)
    })
}

/// A left subtree is the largest complete one that leaves something for the right.
fn halves(values: &[ChainingValue]) -> (ChainingValue, ChainingValue) {
    let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
    (merge_all(left), merge_all(right))
}

fn merge_all(values: &[ChainingValue]) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = halves(values);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_kit::pattern;

    fn subtree(offset: u64, data: &[u8]) -> Option<ChainingValue> {
        let mut subtree = Subtree::new(offset, data.len() as u64)?;
        data.chunks(3000).try_for_each(|piece| subtree.update(piece))?;
        subtree.finish()
    }

    fn values(data: &[u8], part_len: usize) -> Vec<u8> {
        data.chunks(part_len)
            .enumerate()
            .flat_map(|(i, part)| subtree((i * part_len) as u64, part).unwrap())
            .collect()
    }

    #[test]
    fn parts_of_every_size_merge_to_the_plain_hash() {
        let data = pattern(200_000);
        let near_powers = (10..18).flat_map(|log| {
            let power = 1_usize << log;
            [power - 1, power, power + 1, power + 1023, power + 1024, power + 1025]
        });
        for len in near_powers.chain([3 * 1024, 5 * 1024 + 7, 99_999, 131_072 + 65_536, 200_000]) {
            for part_len in (10..17).map(|log| 1_usize << log).filter(|&part_len| part_len < len) {
                let values = values(&data[..len], part_len);
                let root = merge(&values, true).unwrap();
                assert_eq!(root, *blake3::hash(&data[..len]).as_bytes(), "{len} by {part_len}");
            }
        }
    }

    #[test]
    fn merging_in_two_steps_gives_the_same_root() {
        let data = pattern(21 * 1024 + 5);
        let values = values(&data, 1024);
        let group_len = 4 * CHAINING_VALUE_LEN;
        let upper: Vec<u8> = values
            .chunks(group_len)
            .flat_map(|group| match group.len() {
                CHAINING_VALUE_LEN => group.to_vec(),
                _ => merge(group, false).unwrap().to_vec(),
            })
            .collect();
        assert_eq!(merge(&upper, true).unwrap(), *blake3::hash(&data).as_bytes());
    }

    #[test]
    fn the_most_values_merge_without_deep_recursion() {
        let data = pattern(MERGE_VALUES_MAX * 1024);
        let root = merge(&values(&data, 1024), true).unwrap();
        assert_eq!(root, *blake3::hash(&data).as_bytes());
    }

    #[test]
    fn an_impossible_tree_shape_is_an_error_not_a_panic() {
        for (offset, len) in [
            (0, 0),
            (1024, 0),
            (1, 1024),
            (1023, 1),
            (512, 1),
            (1024, 1025),
            (1024, 2048),
            (3 * 1024, 2048),
            (2048, 3 * 1024),
            (0, u64::MAX),
            (u64::MAX - 1023, 1024),
            (1 << 63, (1 << 63) + 1),
        ] {
            assert!(Subtree::new(offset, len).is_none(), "{len} bytes at {offset}");
        }
        assert!(subtree(u64::MAX - 2047, &[7; 1024]).is_some(), "the last whole chunk");
    }

    #[test]
    fn a_subtree_requires_exactly_its_length() {
        let mut short = Subtree::new(0, 2048).unwrap();
        short.update(&[0; 2047]).unwrap();
        assert_eq!(short.clone().finish(), None);
        assert_eq!(short.update(&[0; 2]), None);
    }

    #[test]
    fn rejects_values_that_are_not_siblings() {
        for len in [0, 1, 31, 32, 33, 63, 65, (MERGE_VALUES_MAX + 1) * CHAINING_VALUE_LEN] {
            assert_eq!(merge(&vec![0; len], true), None, "{len} bytes");
            assert_eq!(merge(&vec![0; len], false), None, "{len} bytes");
        }
    }
}
