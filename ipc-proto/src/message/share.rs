//! Shares of the files of a job, by which several runs read everything once.

use serde::{Deserialize, Serialize};

/// A share of files, chosen by their paths: those whose [`place`](Self::place) is one of `len` values from `from` on, where 0
/// follows the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameShare {
    /// The first place.
    pub from: u32,
    /// The number of places; 0 for all of them.
    pub len: u32,
}

impl NameShare {
    /// All files.
    pub const ALL: Self = Self { from: 0, len: 0 };

    /// The place of a path: FNV-1a, whose halves are mixed, as it spreads similar names little over its upper bits.
    #[must_use]
    pub fn place(path: &[u8]) -> u32 {
        let add = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = path.iter().fold(0xcbf2_9ce4_8422_2325, add);
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> 32) as u32
    }

    /// True if this is the place of a file of the share.
    #[must_use]
    pub fn contains(self, place: u32) -> bool {
        self.len == 0 || place.wrapping_sub(self.from) < self.len
    }
}
