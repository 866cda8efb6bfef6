//! The state beside a manifest: the metadata that each file had when its digest was last found right.
//! With it rot is told from change, and unchanged files need not be read.
//!
//! The format is a text, `docs/state.md`:
//! ```text
//! hashctl-state 1
//! ALGORITHM DIGEST SIZE MTIME CTIME INODE SEEN NAME
//! …
//! end COUNT CHECKSUM
//! ```
//! Times are nanoseconds since 1970. SEEN is when the file was about to be read. NAME is as in the
//! manifest, with `\\`, `\n` and `\r` for backslash, newline and carriage return. CHECKSUM is the
//! BLAKE3 of everything before the last line.
//!
//! Invariants: nothing of a file is used before its last line was found right, and an entry counts
//! only for the digest that the manifest has.

use crate::engine::function::Function;
use crate::lists::digest::by_tag;
use crate::lists::hex;
use crate::lists::lines::{Line, Lines};
use crate::output::escape;
use crate::trees::found::Metadata;
use crate::trees::table::{BytesTable, ROWS_MAX};
use schedule::Cause;
use std::io::{self, Read, Write};
use thiserror::Error;

const MAGIC: &str = "hashctl-state";
const VERSION: &str = "1";

/// Longest time between two timestamps of a file system that counts fractions of a second: the
/// kernel's clock ticks 100 times per second or faster.
const TICK_NS: i64 = 40_000_000;

/// The same for one that does not: FAT has even seconds only.
const COARSE_TICK_NS: i64 = 2_000_000_000;

/// Metadata of a file when its digest was last found right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) metadata: Metadata,
    /// Time before the file was read, in nanoseconds since 1970.
    pub(crate) seen_ns: i64,
}

/// Nanoseconds between two timestamps of the file system that gave `metadata`.
fn tick_ns(metadata: &Metadata) -> i64 {
    let is_whole = |time_ns: i64| time_ns % 1_000_000_000 == 0;
    let is_coarse = is_whole(metadata.mtime_ns) && is_whole(metadata.ctime_ns);
    if is_coarse { COARSE_TICK_NS } else { TICK_NS }
}

/// Time from which on a write to a file with this metadata gives it another time: what is read then
/// and still has this metadata later is what was read.
pub(crate) fn settled_ns(metadata: &Metadata) -> i64 {
    metadata.ctime_ns.saturating_add(tick_ns(metadata)).saturating_add(1)
}

impl Seen {
    /// True if the file could have been written to after it was read without a trace in its
    /// metadata, because its last change was in the same tick of the clock (as in git's racy index).
    fn is_racy(&self) -> bool {
        self.seen_ns < settled_ns(&self.metadata)
    }

    /// True if a file that looks like `now` surely has the content that it had.
    pub(crate) fn is_unchanged(&self, now: &Metadata) -> bool {
        self.metadata == *now && !self.is_racy()
    }

    /// The cause of another digest, for a file that looks like `now`.
    pub(crate) fn cause(&self, now: &Metadata) -> Cause {
        let size_and_time = |metadata: &Metadata| (metadata.size, metadata.mtime_ns);
        Cause::of(size_and_time(&self.metadata), size_and_time(now), self.is_racy())
    }
}

/// An entry of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateEntry {
    pub(crate) function: Function,
    pub(crate) digest: Vec<u8>,
    pub(crate) seen: Seen,
    pub(crate) name: Vec<u8>,
}

/// Reasons why a state cannot be used.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    #[error("cannot be read")]
    Io(#[from] io::Error),
    #[error("not a state of hashctl")]
    Foreign,
    #[error("of version {0}, and this hashctl knows version {VERSION}: use the newer one")]
    Version(String),
    #[error(
        "damaged in line {line}; restore it, or remove it: then the next update reads every file and \
         cannot tell rot from change"
    )]
    Damaged { line: u64 },
}

/// A state in memory, by name.
#[derive(Debug, Default)]
pub(crate) struct StateTable {
    names: BytesTable,
    digests: BytesTable,
    entries: Vec<(Function, Seen)>,
}

impl StateTable {
    /// # Errors
    /// The state cannot be used.
    pub(crate) fn read(input: impl Read) -> Result<Self, StateError> {
        let mut table = Self::default();
        read(input, |entry| {
            if table.entries.len() < ROWS_MAX {
                table.names.push(&entry.name);
                table.digests.push(&entry.digest);
                table.entries.push((entry.function, entry.seen));
            }
        })?;
        table.names.sort();
        Ok(table)
    }

    /// The metadata that `name` had when it had this digest.
    pub(crate) fn find(&self, name: &[u8], function: Function, digest: &[u8]) -> Option<&Seen> {
        self.names.find(name).iter().find_map(|&row| {
            let (other, seen) = &self.entries[row as usize];
            (*other == function && self.digests.get(row) == digest).then_some(seen)
        })
    }
}

/// Reads a state and calls `take` for each entry, in order. Entries count only if this returns no
/// error.
pub(crate) fn read(input: impl Read, mut take: impl FnMut(StateEntry)) -> Result<(), StateError> {
    let mut lines = Lines::new(input);
    let mut checksum = blake3::Hasher::new();
    let mut count = 0_u64;
    for number in 1.. {
        let damaged = StateError::Damaged { line: number };
        let line = match lines.next_line()? {
            Some(Line::Whole(line)) => line,
            Some(Line::TooLong) if number == 1 => return Err(StateError::Foreign),
            Some(Line::TooLong) | None => return Err(damaged),
        };
        if number == 1 {
            header(line)?;
        } else if let Some(end) = line.strip_prefix(b"end ") {
            let want = format!("{count} {}", checksum.finalize().to_hex());
            let is_last = end == want.as_bytes() && lines.next_line()?.is_none();
            return if is_last { Ok(()) } else { Err(damaged) };
        } else {
            take(parse(line).ok_or(damaged)?);
            count += 1;
        }
        checksum.update(line).update(b"\n");
    }
    unreachable!("numbers do not end")
}

fn header(line: &[u8]) -> Result<(), StateError> {
    let text = std::str::from_utf8(line).map_err(|_| StateError::Foreign)?;
    match text.split_once(' ') {
        Some((MAGIC, VERSION)) => Ok(()),
        Some((MAGIC, version)) if version.parse::<u32>().is_ok() => {
            Err(StateError::Version(version.to_owned()))
        }
        _ => Err(StateError::Foreign),
    }
}

fn parse(line: &[u8]) -> Option<StateEntry> {
    let mut parts = line.splitn(8, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let function = by_tag(text()?.as_bytes())?;
    let digest = hex::decode(text()?.as_bytes())?;
    let size = text()?.parse().ok()?;
    let mut time = || text()?.parse().ok();
    let (mtime_ns, ctime_ns) = (time()?, time()?);
    let inode = text()?.parse().ok()?;
    let seen_ns = text()?.parse().ok()?;
    let name = unescape(parts.next()?)?;
    let metadata = Metadata { size, mtime_ns, ctime_ns, inode };
    let is_whole = digest.len() == function.digest_len() && !name.is_empty();
    is_whole.then_some(StateEntry { function, digest, seen: Seen { metadata, seen_ns }, name })
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        name.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(name)
}

/// Writes a state: [`entry`](StateWriter::entry) for each, in the order of the manifest, then
/// [`end`](StateWriter::end).
#[derive(Debug)]
pub(crate) struct StateWriter<W> {
    output: W,
    checksum: blake3::Hasher,
    count: u64,
    line: Vec<u8>,
}

impl<W: Write> StateWriter<W> {
    pub(crate) fn new(output: W) -> io::Result<Self> {
        let (checksum, line) = (blake3::Hasher::new(), format!("{MAGIC} {VERSION}\n").into_bytes());
        let mut writer = Self { output, checksum, count: 0, line };
        writer.put()?;
        Ok(writer)
    }

    pub(crate) fn entry(
        &mut self,
        function: Function,
        digest: &[u8],
        seen: &Seen,
        name: &[u8],
    ) -> io::Result<()> {
        let Seen { metadata: Metadata { size, mtime_ns, ctime_ns, inode }, seen_ns } = seen;
        self.line.clear();
        write!(self.line, "{} ", function.name())?;
        hex::encode(digest, &mut self.line);
        write!(self.line, " {size} {mtime_ns} {ctime_ns} {inode} {seen_ns} ")?;
        escape(name, &mut self.line);
        self.line.push(b'\n');
        self.count += 1;
        self.put()
    }

    pub(crate) fn end(mut self) -> io::Result<W> {
        writeln!(self.output, "end {} {}", self.count, self.checksum.finalize().to_hex())?;
        Ok(self.output)
    }

    fn put(&mut self) -> io::Result<()> {
        self.checksum.update(&self.line);
        self.output.write_all(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;

    const SECOND: i64 = 1_000_000_000;

    fn metadata(size: u64, mtime_ns: i64) -> Metadata {
        Metadata { size, mtime_ns, ctime_ns: 10 * SECOND + 1, inode: 7 }
    }

    fn entries() -> Vec<StateEntry> {
        let seen = |seen_ns| Seen { metadata: metadata(3, -5), seen_ns };
        let entry = |function: Function, seen_ns, name: &[u8]| StateEntry {
            function,
            digest: vec![0xab; function.digest_len()],
            seen: seen(seen_ns),
            name: name.to_vec(),
        };
        vec![
            entry(Algorithm::Sha512_256.into(), 17, b"./a b"),
            entry(Algorithm::Md5.into(), i64::MAX, b"./a b"),
            entry(Algorithm::Blake3.into(), i64::MIN, b"\\n\n\r\xff "),
            entry(Function::Blake2b(32), 0, b"end 3"),
        ]
    }

    fn written(entries: &[StateEntry]) -> Vec<u8> {
        let mut writer = StateWriter::new(Vec::new()).unwrap();
        for StateEntry { function, digest, seen, name } in entries {
            writer.entry(*function, digest, seen, name).unwrap();
        }
        writer.end().unwrap()
    }

    fn read_all(text: &[u8]) -> Result<Vec<StateEntry>, StateError> {
        let mut entries = Vec::new();
        read(text, |entry| entries.push(entry)).map(|()| entries)
    }

    #[test]
    fn a_state_that_is_written_is_read_as_the_same() {
        for len in 0..=entries().len() {
            let entries = &entries()[..len];
            assert_eq!(read_all(&written(entries)).unwrap(), entries);
        }
    }

    #[test]
    fn a_state_that_is_cut_or_flipped_anywhere_is_damaged() {
        let text = written(&entries());
        for len in 0..text.len() - 1 {
            assert!(read_all(&text[..len]).is_err(), "cut at {len}");
        }
        for at in 0..text.len() - 1 {
            let mut flipped = text.clone();
            flipped[at] ^= 1;
            assert!(read_all(&flipped).is_err(), "flipped at {at}");
        }
        for extra in [&b"x"[..], b"\n", b"end 0 \n"] {
            assert!(read_all(&[&text, extra].concat()).is_err());
        }
    }

    #[test]
    fn other_files_and_versions_are_named_as_what_they_are() {
        for (text, want) in [
            ("", "damaged in line 1"),
            ("junk\n", "not a state"),
            ("\u{0}", "not a state"),
            ("hashctl-state 2\nwhatever\n", "of version 2"),
            ("hashctl-state x\n", "not a state"),
            ("hashctl-state 1\n", "damaged in line 2"),
            ("hashctl-state 1\nsha256 00 1 1 1 1 1 a\n", "damaged in line 2"),
        ] {
            let error = read_all(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{text:?}: {error}");
        }
    }

    #[track_caller]
    fn check(seen_ns: i64, now: Metadata, want: Cause) {
        assert_eq!(Seen { metadata: metadata(3, 5 * SECOND), seen_ns }.cause(&now), want);
    }

    #[test]
    fn rot_is_told_from_change_by_size_and_time() {
        let later = 20 * SECOND;
        check(later, metadata(3, 5 * SECOND), Cause::Rotted);
        check(later, metadata(4, 5 * SECOND), Cause::Modified);
        check(later, metadata(3, 5 * SECOND + 1), Cause::Modified);
        check(later, metadata(3, 5 * SECOND - 1), Cause::Older);
        check(later, metadata(9, 5 * SECOND - 1), Cause::Older);
        let touched = Metadata { ctime_ns: 19 * SECOND, inode: 8, ..metadata(3, 5 * SECOND) };
        check(later, touched, Cause::Rotted);
    }

    #[test]
    fn a_file_that_changed_in_the_tick_in_which_it_was_read_is_read_again() {
        let metadata = metadata(3, 5 * SECOND);
        let is_unchanged = |seen_ns| Seen { metadata, seen_ns }.is_unchanged(&metadata);
        assert!(!is_unchanged(metadata.ctime_ns));
        assert!(!is_unchanged(metadata.ctime_ns + TICK_NS));
        assert!(is_unchanged(settled_ns(&metadata)));
        check(metadata.ctime_ns + TICK_NS, metadata, Cause::Modified);
        // A file system with whole seconds.
        let coarse = Metadata { ctime_ns: 10 * SECOND, ..metadata };
        let is_unchanged = |seen_ns| Seen { metadata: coarse, seen_ns }.is_unchanged(&coarse);
        assert!(!is_unchanged(coarse.ctime_ns + COARSE_TICK_NS));
        assert!(is_unchanged(coarse.ctime_ns + COARSE_TICK_NS + 1));
    }

    #[test]
    fn any_other_metadata_means_reading_the_file() {
        let before = metadata(3, 5 * SECOND);
        let seen = Seen { metadata: before, seen_ns: 20 * SECOND };
        assert!(seen.is_unchanged(&before));
        for now in [
            Metadata { size: 4, ..before },
            Metadata { mtime_ns: 0, ..before },
            Metadata { ctime_ns: 0, ..before },
            Metadata { inode: 0, ..before },
        ] {
            assert!(!seen.is_unchanged(&now), "{now:?}");
        }
    }
}
