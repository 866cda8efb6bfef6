//! Files with known, seeded contents.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Small, seeded, and the same everywhere (Vigna, `SplitMix64`).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

/// Writes a file of `len` bytes.
///
/// # Panics
/// If it cannot.
pub fn write_file(path: &Path, len: u64, seed: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a new file"));
    let mut random = Random(seed);
    let mut left = len;
    while left > 0 {
        let bytes = random.next_u64().to_le_bytes();
        let take = left.min(8);
        file.write_all(&bytes[..usize::try_from(take).expect("at most 8")]).expect("room");
        left -= take;
    }
    file.flush().expect("room");
}

/// Writes `files` files of `len` bytes below `dir`, 500 in a directory; their paths, sorted.
///
/// # Panics
/// If it cannot.
#[must_use]
pub fn write_tree(dir: &Path, files: usize, len: u64) -> Vec<PathBuf> {
    (0..files)
        .map(|i| {
            let sub = dir.join(format!("d{:04}", i / 500));
            if i % 500 == 0 {
                fs::create_dir_all(&sub).expect("a new directory");
            }
            let path = sub.join(format!("f{i:06}"));
            write_file(&path, len, i as u64);
            path
        })
        .collect()
}
