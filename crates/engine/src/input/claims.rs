//! Pages of a manifest of a dataset: the files that it names, and where they are.
//!
//! A page starts at a byte of the manifest, with what the parser knew there, so that any worker can read it and none
//! keeps anything. The manifest is compared with the one whose start was read before and after each page.
//!
//! Invariants:
//! - a path leads neither up nor to a root: a name that does is refused by itself;
//! - memory is bounded by the page, however long the manifest and its lines are.

use crate::clock::Stopwatch;
use crate::input::dataset::{FILE, PLACE, open_below};
use crate::input::open_file::regular_stamp;
use ipc_proto::limits::{NAMES_LEN_MAX, PATH_LEN_MAX};
use ipc_proto::message::{ClaimEntry, ClaimsWork, Failure, ListOutcome, ListWork, Stamp};
use ipc_proto::{Algorithm, Blob};
use lists::function::Function;
use lists::lines::{Line, Lines};
use lists::manifest::{Claim, Parsed, Parser};
use lists::names::{base, file_of_list};
use nix::sys::uio::pread;
use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A page ends behind this many bytes, whatever is in them.
const PAGE_LEN_MAX: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// A page ends early after this long, so that a slow disk does not cost the lease. In microseconds.
const PAGE_TIME_MAX_US: u64 = 5_000_000;

/// The manifest from some byte on: twice a page at most, so that no line keeps a worker for longer.
struct ManifestBytes {
    file: OwnedFd,
    next: Cell<u64>,
    end: u64,
}

impl Read for &ManifestBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.next.get()).unwrap_or(usize::MAX);
        let len_max = buffer.len().min(left);
        let next = i64::try_from(self.next.get()).map_err(io::Error::other)?;
        let len = pread(&self.file, &mut buffer[..len_max], next)?;
        self.next.set(self.next.get() + len as u64);
        Ok(len)
    }
}

/// The page of the manifest `claims` that `work` asks for, in the dataset at `root`.
pub(crate) fn page(
    root: BorrowedFd<'_>,
    work: &ListWork,
    claims: &ClaimsWork,
    revoked: &AtomicBool,
) -> Result<ListOutcome, Failure> {
    let file = open_below(root, &claims.path, FILE)?;
    let stamp = regular_stamp(file.as_fd())?;
    if claims.seen.is_some_and(|seen| seen != stamp) {
        return Err(Failure::Changed);
    }
    let parser = match claims.state.is_empty() {
        true => Some(Parser::new(None, &claims.path)),
        false => Parser::restored(&claims.state),
    };
    let mut parser = parser.ok_or(Failure::Invalid)?;
    let end = claims.offset.saturating_add(2 * PAGE_LEN_MAX);
    let input = ManifestBytes { file, next: Cell::new(claims.offset), end };
    let mut lines = Lines::new(&input);
    let stopwatch = Stopwatch::start();
    let mut page =
        ClaimsPage { root, work, claims, entries: Vec::new(), names_len: 0, bad_lines: 0 };
    let mut is_inside = false;
    let more = loop {
        let offset = input.next.get() - lines.unread_len() as u64;
        let is_full = page.is_full()
            || offset - claims.offset >= PAGE_LEN_MAX
            || (offset > claims.offset && stopwatch.elapsed_us() > PAGE_TIME_MAX_US)
            || revoked.load(Ordering::Relaxed);
        if is_full && !is_inside {
            break true;
        }
        let line = lines
            .next_line()
            .map_err(|error| Failure::Io { errno: error.raw_os_error().unwrap_or(libc::EIO) })?;
        let line = match line {
            Some(Line::Whole(line)) => line,
            Some(Line::TooLong) => {
                page.bad_lines = page.bad_lines.saturating_add(1);
                is_inside = true;
                if page.is_at_start() && lines.is_binary() {
                    return Err(Failure::NotAList);
                }
                continue;
            }
            // A line that does not end within two pages.
            None if input.next.get() == end => return Err(Failure::NotAList),
            None => break false,
        };
        is_inside = false;
        page.take(parser.parse(line), line)?;
    };
    let offset = input.next.get() - lines.unread_len() as u64;
    drop(lines);
    if regular_stamp(input.file.as_fd())? != stamp {
        return Err(Failure::Changed);
    }
    let state = parser.state().ok_or(Failure::Invalid)?.into();
    let ClaimsPage { entries, bad_lines, .. } = page;
    Ok(ListOutcome::Claims { stamp, entries, bad_lines, offset, state, more })
}

/// A page that is being read.
struct ClaimsPage<'a> {
    root: BorrowedFd<'a>,
    work: &'a ListWork,
    claims: &'a ClaimsWork,
    entries: Vec<ClaimEntry>,
    names_len: usize,
    bad_lines: u32,
}

impl ClaimsPage<'_> {
    fn is_full(&self) -> bool {
        self.entries.len() >= usize::from(self.work.entries_max)
            || self.names_len + 2 * PATH_LEN_MAX > NAMES_LEN_MAX
    }

    /// True if no line of the manifest was a claim so far, as far as this page knows.
    fn is_at_start(&self) -> bool {
        self.claims.offset == 0 && self.entries.is_empty()
    }

    fn take(&mut self, parsed: Parsed<'_>, line: &[u8]) -> Result<(), Failure> {
        match parsed {
            Parsed::Nothing | Parsed::Signed => {}
            Parsed::Claim(Claim { function, digest, name, .. }) => {
                self.claim(function, digest, &name);
            }
            Parsed::Digest(function, digest) => match file_of_list(&self.claims.path) {
                Some(file) => self.claim(function, digest, base(file)),
                None => self.bad_lines = self.bad_lines.saturating_add(1),
            },
            Parsed::Bad if self.is_at_start() && line.contains(&0) => {
                return Err(Failure::NotAList);
            }
            Parsed::Bad | Parsed::Unsupported => self.bad_lines = self.bad_lines.saturating_add(1),
            Parsed::Refused(_) => return Err(Failure::NotAList),
        }
        Ok(())
    }

    fn claim(&mut self, function: Function, digest: Vec<u8>, name: &[u8]) {
        if name.len() > PATH_LEN_MAX {
            self.bad_lines = self.bad_lines.saturating_add(1);
            return;
        }
        let (algorithm, digest, place) = match function.standard() {
            Some(algorithm) => (algorithm, digest, path_of(&self.work.dir, name)),
            // A BLAKE2b of another length, which no worker computes.
            None => {
                let (algorithm, len) = (Algorithm::Blake2b, Algorithm::Blake2b.digest_len());
                (algorithm, vec![0; len], Err(Failure::Unsupported))
            }
        };
        let (path, refused) = match place {
            Ok(path) => (path, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let stamp = if refused.is_none() { self.stamp(&path) } else { Stamp::default() };
        let (name, path, digest) = (name.into(), Blob(path), Blob(digest));
        let entry = ClaimEntry { name, path, algorithm, digest, stamp, refused };
        self.names_len += entry.page_len();
        self.entries.push(entry);
    }

    /// The stamp of a file, which whoever reads it reports on if it is not there.
    fn stamp(&self, path: &[u8]) -> Stamp {
        let place = open_below(self.root, path, PLACE);
        place.and_then(|place| regular_stamp(place.as_fd())).unwrap_or_default()
    }
}

/// The path of `name` relative to the directory `dir`, without what says nothing in it.
fn path_of(dir: &[u8], name: &[u8]) -> Result<Vec<u8>, Failure> {
    let is_plain = |component: &&[u8]| !matches!(*component, b"" | b".");
    let components: Vec<&[u8]> = name.split(|&byte| byte == b'/').filter(is_plain).collect();
    if name.starts_with(b"/") || components.is_empty() || components.contains(&&b".."[..]) {
        return Err(Failure::Outside);
    }
    let dir = (!dir.is_empty()).then_some(dir);
    let path = dir.into_iter().chain(components).collect::<Vec<_>>().join(&b'/');
    if path.len() > PATH_LEN_MAX {
        return Err(Failure::Io { errno: libc::ENAMETOOLONG });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use tempfile::TempDir;

    static GOING: AtomicBool = AtomicBool::new(false);

    fn work(entries_max: u16) -> ListWork {
        let claims = ClaimsWork {
            path: b"d/SHA256SUMS"[..].into(),
            offset: 0,
            seen: None,
            state: Blob::default(),
        };
        ListWork {
            dataset: "d".to_owned(),
            dir: b"d"[..].into(),
            after: Blob::default(),
            entries_max,
            claims: Some(claims),
        }
    }

    /// A dataset with a manifest.
    fn dataset(text: &[u8]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/SHA256SUMS"), text).unwrap();
        fs::write(dir.path().join("d/a"), "12345").unwrap();
        dir
    }

    fn read(dir: &TempDir, work: &ListWork) -> Result<ListOutcome, Failure> {
        let root = File::open(dir.path()).unwrap();
        let outcome = page(root.as_fd(), work, work.claims.as_ref().unwrap(), &GOING)?;
        assert!(outcome.fits(work), "{outcome:?}");
        Ok(outcome)
    }

    /// All entries and the number of bad lines, by pages of `entries_max`.
    fn all(dir: &TempDir, entries_max: u16) -> Result<(Vec<ClaimEntry>, u32), Failure> {
        let (mut found, mut bad, mut work) = (Vec::new(), 0, work(entries_max));
        loop {
            let ListOutcome::Claims { stamp, entries, bad_lines, offset, state, more } =
                read(dir, &work)?
            else {
                panic!("claims");
            };
            found.extend(entries);
            bad += bad_lines;
            if !more {
                return Ok((found, bad));
            }
            let claims = work.claims.as_mut().unwrap();
            (claims.offset, claims.seen, claims.state) = (offset, Some(stamp), state);
        }
    }

    #[test]
    fn a_manifest_is_the_same_by_pages_of_any_length() {
        let hex = "ab".repeat(32);
        let long = "x".repeat(300 << 10);
        let mut text =
            format!("{hex}  a\nrubbish\n{hex}  ./b//c\n{long}\nMD5 (a) = {}\n", &hex[..32]);
        for name in ["../x", "/x", "y/../z", "."] {
            text += &format!("{hex}  {name}\n");
        }
        text += &format!("BLAKE2b-256 (a) = {hex}\n# end\n{hex}  last");
        let dir = dataset(text.as_bytes());
        let (found, bad) = all(&dir, 2048).unwrap();
        assert_eq!(bad, 2);
        let size = |size| Stamp { size, ..Stamp::default() };
        let short: Vec<_> = found
            .iter()
            .map(|claim| {
                (
                    &claim.name[..],
                    &claim.path[..],
                    claim.algorithm,
                    size(claim.stamp.size),
                    claim.refused,
                )
            })
            .collect();
        let (sha256, outside) = (Algorithm::Sha256, Some(Failure::Outside));
        let want: [(&[u8], &[u8], _, _, _); 9] = [
            (b"a", b"d/a", sha256, size(5), None),
            (b"./b//c", b"d/b/c", sha256, size(0), None),
            (b"a", b"d/a", Algorithm::Md5, size(5), None),
            (b"../x", b"", sha256, size(0), outside),
            (b"/x", b"", sha256, size(0), outside),
            (b"y/../z", b"", sha256, size(0), outside),
            (b".", b"", sha256, size(0), outside),
            (b"a", b"", Algorithm::Blake2b, size(0), Some(Failure::Unsupported)),
            (b"last", b"d/last", sha256, size(0), None),
        ];
        assert_eq!(short, want);
        for entries_max in 1..=9 {
            assert_eq!(all(&dir, entries_max).unwrap(), (found.clone(), bad), "{entries_max}");
        }
    }

    #[test]
    fn a_manifest_that_changes_between_two_pages_is_not_read_on() {
        let line = format!("{}  a\n", "ab".repeat(32));
        let dir = dataset(line.repeat(3).as_bytes());
        let mut next = work(1);
        let ListOutcome::Claims { stamp, offset, state, more, .. } = read(&dir, &next).unwrap()
        else {
            panic!("claims");
        };
        assert!(more);
        *next.claims.as_mut().unwrap() =
            ClaimsWork { offset, seen: Some(stamp), state, ..next.claims.clone().unwrap() };
        fs::write(dir.path().join("d/SHA256SUMS"), line.repeat(4)).unwrap();
        assert_eq!(read(&dir, &next), Err(Failure::Changed));
        fs::remove_file(dir.path().join("d/SHA256SUMS")).unwrap();
        assert_eq!(read(&dir, &next), Err(Failure::Io { errno: libc::ENOENT }));
    }

    #[test]
    fn what_is_no_list_is_refused_however_long_it_is() {
        for (text, want) in [
            (vec![0; 1 << 20], Failure::NotAList),
            (b"\x7fELF\0\0\n".repeat(100), Failure::NotAList),
            (b"\xff\xfea\0b\0".to_vec(), Failure::NotAList),
            (vec![b'x'; 3 << 20], Failure::NotAList),
        ] {
            assert_eq!(all(&dataset(&text), 2048), Err(want), "{:?}", &text[..4]);
        }
        // Nothing but comments has many pages, and no claim.
        assert_eq!(all(&dataset(&b"# nothing\n".repeat(300_000)), 1), Ok((Vec::new(), 0)));
        assert_eq!(all(&dataset(b""), 1), Ok((Vec::new(), 0)));
        let dir = dataset(b"");
        fs::remove_file(dir.path().join("d/SHA256SUMS")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("d/SHA256SUMS")).unwrap();
        assert_eq!(all(&dir, 1), Err(Failure::Io { errno: libc::ELOOP }));
    }
}
