//! Rows of results, packed for the disk: what neighbouring results have in common is stored once, and rows are as
//! long as the pages that they take up.
//!
//! A row is one byte, the version of its form, and its results until it ends. A result is one byte of flags, the
//! number of its root if that is another one than before, the number of leading bytes of its path that are those of
//! the path before it, the rest of the path, its stamp, and its outcome. Times are differences: to the result
//! before, and of the change to the modification. Numbers are LEB128, signed ones by zigzag; bytes follow their
//! number.
//!
//! Invariant: a row depends on no other one.

use super::record::{BadRow, FORM, StoredFailure, StoredResult, StoredResults, record, value};
use ipc_proto::Blob;
use ipc_proto::message::{ItemOutcome, Stamp};

/// Version of packed rows. Those of [`FORM`] are still read.
const PACKED_FORM: u8 = 2;

/// Outcomes, in the flags.
const DIGESTS: u8 = 0;
const MISMATCH: u8 = 1;
const FAILED: u8 = 2;

/// Flag of a result whose root is another one than that before it.
const OTHER_ROOT: u8 = 0b100;

/// Bytes of a page of the journal.
const PAGE_LEN: usize = 4096;

/// Bytes that a row takes up in its page besides its value: the head of the page, two lengths, and its key.
const ROW_OVERHEAD: usize = 4 + 8 + 20;

/// Longest rows that are split: what a longer one wastes is little of it.
const SPLIT_LEN_MAX: usize = 64 << 10;

/// Packs the results of a chunk into rows: the values, each with the position of its first result.
///
/// Values are kept in pages of a power of two, so that one that is a little longer than such a page is cut there:
/// less than [`PAGE_LEN`] is wasted per chunk.
pub(super) fn pack(StoredResults(results): &StoredResults) -> Vec<(u64, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut first = 0;
    while first < results.len() {
        let rest = &results[first..];
        let (mut row, mut taken) = take(rest, usize::MAX);
        let need = row.len() + ROW_OVERHEAD;
        let page = need.next_power_of_two();
        if row.len() <= SPLIT_LEN_MAX && page - need >= PAGE_LEN {
            (row, taken) = take(rest, page / 2 - ROW_OVERHEAD);
        }
        rows.push((first as u64, row));
        first += taken;
    }
    rows
}

/// A row of as many results as fit `len_max` bytes, at least one, and their number.
fn take(results: &[StoredResult], len_max: usize) -> (Vec<u8>, usize) {
    let mut row = vec![PACKED_FORM];
    let mut before = Before::default();
    for (taken, result) in results.iter().enumerate() {
        let len = row.len();
        before.put(result, &mut row);
        if row.len() > len_max && taken > 0 {
            row.truncate(len);
            return (row, taken);
        }
    }
    (row, results.len())
}

/// The results of a row, of any form.
pub(super) fn unpack(row: &[u8]) -> Result<Vec<StoredResult>, BadRow> {
    match row.split_first() {
        Some((&PACKED_FORM, body)) => {
            let (mut rest, mut before, mut results) = (Unread(body), Before::default(), Vec::new());
            while !rest.0.is_empty() {
                results.push(before.next(&mut rest).ok_or_else(|| {
                    BadRow(format!("result {} of a row is not one", results.len()))
                })?);
            }
            Ok(results)
        }
        Some((&FORM, _)) => Ok(record::<StoredResults>(row)?.0),
        Some((form, _)) => Err(BadRow(format!("results of form {form}, not {PACKED_FORM}"))),
        None => Err(BadRow("an empty row of results".to_owned())),
    }
}

/// The result before, to which differences are stored.
#[derive(Debug, Default)]
struct Before {
    root: u16,
    path: Vec<u8>,
    mtime_ns: i64,
}

impl Before {
    fn put(&mut self, result: &StoredResult, row: &mut Vec<u8>) {
        let StoredResult { root, path, stamp, outcome } = result;
        let failure;
        let (kind, bytes) = match outcome {
            ItemOutcome::Digests(digests) => (DIGESTS, &digests[..]),
            ItemOutcome::Mismatch(digests) => (MISMATCH, &digests[..]),
            ItemOutcome::Failed(of) => {
                failure = value(&StoredFailure(*of));
                (FAILED, &failure[..])
            }
        };
        let is_other = *root != self.root;
        row.push(kind | if is_other { OTHER_ROOT } else { 0 });
        if is_other {
            put_number(row, (*root).into());
        }
        let shared = self.path.iter().zip(&path[..]).take_while(|(a, b)| a == b).count();
        put_number(row, shared as u64);
        put_bytes(row, &path[shared..]);
        put_number(row, stamp.size);
        put_number(row, zigzag(stamp.mtime_ns.wrapping_sub(self.mtime_ns)));
        put_number(row, zigzag(stamp.ctime_ns.wrapping_sub(stamp.mtime_ns)));
        put_bytes(row, bytes);
        self.follow(*root, path, stamp.mtime_ns);
    }

    fn next(&mut self, rest: &mut Unread<'_>) -> Option<StoredResult> {
        let flags = rest.byte()?;
        let root = match flags & OTHER_ROOT {
            0 => self.root,
            _ => u16::try_from(rest.number()?).ok()?,
        };
        let shared = self.path.get(..usize::try_from(rest.number()?).ok()?)?;
        let path = [shared, rest.bytes()?].concat();
        let size = rest.number()?;
        let mtime_ns = self.mtime_ns.wrapping_add(unzigzag(rest.number()?));
        let ctime_ns = mtime_ns.wrapping_add(unzigzag(rest.number()?));
        let bytes = rest.bytes()?;
        let outcome = match flags & !OTHER_ROOT {
            DIGESTS => ItemOutcome::Digests(bytes.into()),
            MISMATCH => ItemOutcome::Mismatch(bytes.into()),
            FAILED => ItemOutcome::Failed(record::<StoredFailure>(bytes).ok()?.0),
            _ => return None,
        };
        self.follow(root, &path, mtime_ns);
        Some(StoredResult {
            root,
            path: Blob(path),
            stamp: Stamp { size, mtime_ns, ctime_ns },
            outcome,
        })
    }

    fn follow(&mut self, root: u16, path: &[u8], mtime_ns: i64) {
        (self.root, self.mtime_ns) = (root, mtime_ns);
        self.path.clear();
        self.path.extend_from_slice(path);
    }
}

const fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

fn put_number(row: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return row.push(low);
        }
        row.push(low | 0x80);
    }
}

fn put_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    put_number(row, bytes.len() as u64);
    row.extend_from_slice(bytes);
}

/// The rest of a row.
struct Unread<'r>(&'r [u8]);

impl<'r> Unread<'r> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The last byte has room for one bit.
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'r [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::message::Failure;
    use test_kit::Random;

    fn results(random: &mut Random, len: usize, name_len: usize) -> Vec<StoredResult> {
        let one = |number: usize| StoredResult {
            root: u16::try_from(number / 100).unwrap(),
            path: Blob(
                [format!("dir{}/", number / 50).into_bytes(), random.bytes(name_len)].concat(),
            ),
            stamp: Stamp {
                size: random.below(1 << 40),
                mtime_ns: random.below(u64::MAX).cast_signed(),
                ctime_ns: random.one_of(&[i64::MIN, -1, 0, i64::MAX]),
            },
            outcome: match random.below(10) {
                0 => ItemOutcome::Mismatch(random.bytes(64).into()),
                1 => ItemOutcome::Failed(Failure::Io { errno: 5 }),
                2 => ItemOutcome::Failed(Failure::WorkersLost { attempts: 3 }),
                _ => ItemOutcome::Digests(random.bytes(32).into()),
            },
        };
        (0..len).map(one).collect()
    }

    fn unpacked(rows: &[(u64, Vec<u8>)]) -> Vec<StoredResult> {
        let mut all = Vec::new();
        for (first, row) in rows {
            assert_eq!(*first, all.len() as u64, "rows follow each other");
            all.extend(unpack(row).unwrap());
        }
        all
    }

    #[test]
    fn packed_results_are_read_as_they_were_and_waste_less_than_a_page() {
        let mut random = Random::new(1);
        for len in [0, 1, 2, 100, 255, 256] {
            for name_len in [0, 1, 5, 20, 40, 100, 4000] {
                let results = results(&mut random, len, name_len);
                let rows = pack(&StoredResults(results.clone()));
                assert_eq!(unpacked(&rows), results, "{len} results, names of {name_len}");
                let needs: Vec<usize> =
                    rows.iter().map(|(_, row)| row.len() + ROW_OVERHEAD).collect();
                let pages: usize =
                    needs.iter().map(|need| need.next_power_of_two().max(PAGE_LEN)).sum();
                if len == 256 && name_len <= 100 {
                    let (needed, longest) = (needs.iter().sum::<usize>(), name_len + 150);
                    let wasted = pages - needed;
                    assert!(wasted < PAGE_LEN + needs.len() * longest, "{wasted} of {needed}");
                }
            }
        }
    }

    #[test]
    fn a_row_of_the_form_before_is_still_read() {
        let results = results(&mut Random::new(2), 40, 9);
        assert_eq!(unpack(&value(&StoredResults(results.clone()))), Ok(results));
    }

    #[test]
    fn damaged_rows_are_refused_or_read_as_others_and_never_end_the_process() {
        let mut random = Random::new(3);
        let results = results(&mut random, 20, 10);
        let rows = pack(&StoredResults(results.clone()));
        let row = &rows[0].1;
        for at in 0..row.len() {
            assert_ne!(unpack(&row[..at]).as_ref(), Ok(&results), "cut off after {at}");
            for bit in 0..8 {
                let mut damaged = row.clone();
                damaged[at] ^= 1 << bit;
                assert_ne!(unpack(&damaged).as_ref(), Ok(&results), "bit {bit} of byte {at}");
            }
        }
        for bad in [&[][..], &[3], &[2, 3, 0, 0, 0, 0, 0, 0], &[2, 0, 1, 0, 0, 0, 0, 0]] {
            assert!(unpack(bad).is_err(), "{bad:?}");
        }
        // A number of more than 64 bits.
        assert!(unpack(&[&[2, 0][..], &[0xff; 9], &[2, 0, 0, 0, 0, 0]].concat()).is_err());
    }
}
