//! The algorithms of one item: one read, several digests.

use crate::Algorithm;
use crate::limits::ITEM_ALGORITHMS_MAX;
use crate::list;
use crate::message::LimitExceeded;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;

/// 1 to [`ITEM_ALGORITHMS_MAX`] distinct algorithms, in the order of an item's digests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Algorithms {
    list: [Algorithm; ITEM_ALGORITHMS_MAX],
    len: usize,
}

impl Algorithms {
    /// These algorithms, in this order.
    ///
    /// # Errors
    /// There is none, there are too many, or one comes twice.
    pub fn new(algorithms: &[Algorithm]) -> Result<Self, LimitExceeded> {
        let error =
            |field, value, limit| LimitExceeded { field, value: value as u64, limit: limit as u64 };
        let len = algorithms.len();
        let Some(&first) = algorithms.first() else { return Err(error("algorithms", 0, 1)) };
        if len > ITEM_ALGORITHMS_MAX {
            return Err(error("algorithms", len, ITEM_ALGORITHMS_MAX));
        }
        if (1..len).any(|i| algorithms[..i].contains(&algorithms[i])) {
            return Err(error("occurrences of an algorithm", 2, 1));
        }
        // Unused places hold the first, so that equal lists are equal values.
        let mut list = [first; ITEM_ALGORITHMS_MAX];
        list[..len].copy_from_slice(algorithms);
        Ok(Self { list, len })
    }

    /// The algorithm, if there is only one.
    #[must_use]
    pub fn single(self) -> Option<Algorithm> {
        (self.len == 1).then_some(self.list[0])
    }

    /// Length of an item's digests together, in bytes.
    #[must_use]
    pub fn digests_len(self) -> usize {
        self.iter().map(|algorithm| algorithm.digest_len()).sum()
    }
}

impl From<Algorithm> for Algorithms {
    fn from(algorithm: Algorithm) -> Self {
        Self { list: [algorithm; ITEM_ALGORITHMS_MAX], len: 1 }
    }
}

impl Deref for Algorithms {
    type Target = [Algorithm];

    fn deref(&self) -> &[Algorithm] {
        &self.list[..self.len]
    }
}

impl fmt::Debug for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The names, with a plus sign between them: `sha256+blake3`.
impl fmt::Display for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(|algorithm| algorithm.name()).collect();
        f.pad(&names.join("+"))
    }
}

impl Serialize for Algorithms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Algorithms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = list::at_most::<_, _, ITEM_ALGORITHMS_MAX>(deserializer)?;
        Self::new(&list).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Algorithm::{Blake3, Sha256, Sha384, Sha512, Sha512_256};

    #[test]
    fn takes_one_to_four_distinct_algorithms_in_any_order() {
        for list in [&[Sha256][..], &[Blake3, Sha256], &[Sha512, Sha384, Sha256, Blake3]] {
            let algorithms = Algorithms::new(list).unwrap();
            assert_eq!(&*algorithms, list);
            let want_len: usize = list.iter().map(|algorithm| algorithm.digest_len()).sum();
            assert_eq!(algorithms.digests_len(), want_len);
            assert_eq!(algorithms.single(), (list.len() == 1).then_some(list[0]));
        }
        for list in [
            &[][..],
            &[Sha256; 2],
            &[Sha512, Blake3, Sha512],
            &[Sha256, Sha384, Sha512, Sha512_256, Blake3],
        ] {
            assert!(Algorithms::new(list).is_err(), "{list:?}");
        }
        assert_eq!(Algorithms::from(Sha256), Algorithms::new(&[Sha256]).unwrap());
        assert_eq!(Algorithms::new(&[Sha256, Blake3]).unwrap().to_string(), "sha256+blake3");
    }
}
