//! Entries of an open directory, as getdents64(2) returns them.

pub use super::sys::read_entries;

use std::ffi::CStr;

/// Where the fields of a record of getdents64(2) start: the inode and then an offset come first.
const INODE_LEN: usize = 8;
const RECLEN_AT: usize = 16;
const TYPE_AT: usize = 18;
const NAME_AT: usize = 19;

/// Shortest record of getdents64(2): its header, a name of one byte and its zero, aligned to 8.
pub const DIRENT_LEN_MIN: usize = 24;

/// The inode, type (`DT_REG` …) and name of each entry in what [`read_entries`] read, without `.` and `..`.
pub fn dirents(mut bytes: &[u8]) -> impl Iterator<Item = (u64, u8, &CStr)> {
    std::iter::from_fn(move || {
        let len = bytes.get(RECLEN_AT..TYPE_AT)?;
        let len = usize::from(u16::from_ne_bytes([len[0], len[1]]));
        let (record, rest) = bytes.split_at_checked(len.max(NAME_AT))?;
        bytes = rest;
        let name = CStr::from_bytes_until_nul(&record[NAME_AT..]).ok()?;
        let inode = record.first_chunk::<INODE_LEN>()?;
        Some((u64::from_ne_bytes(*inode), record[TYPE_AT], name))
    })
    .filter(|(_, _, name)| !matches!(name.to_bytes(), b"." | b".."))
}
