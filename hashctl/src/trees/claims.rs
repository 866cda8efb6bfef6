//! Entries of manifests, by the name of their file below a directory.
//!
//! First all manifests are read into a [`ClaimTable`]; then, as the tree is known,
//! [`settle`](ClaimTable::settle) makes names relative to the directory and findable, and
//! [`add_state`](ClaimTable::add_state) adds what a state tells about them.

use super::found::FileId;
use super::prefix::Prefix;
use super::table::{BytesTable, ROWS_MAX};
use crate::engine::function::Function;
use crate::lists::lines::{Line, Lines};
use crate::lists::manifest::{Parsed, Parser};
use crate::state::{self, Seen, StateError};
use ipc_proto::Algorithm;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// Fewest bytes of a digest by which contents are better told apart than by a legacy one.
const STRONG_LEN_MIN: usize = 28;

/// A manifest that was read.
#[derive(Debug)]
pub(crate) struct ManifestPart {
    /// Its first entry.
    pub(crate) start: u32,
    /// Lines that are no entries, and the number of the first one.
    pub(crate) bad_lines: u64,
    pub(crate) first_bad: u64,
    /// Names that are not below the directory.
    pub(crate) outside: u64,
    pub(crate) prefix: Prefix,
}

/// Entries in the order of their lines.
#[derive(Debug, Default)]
pub(crate) struct ClaimTable {
    /// As in the manifest; once settled, relative to the directory for those below it.
    pub(crate) names: BytesTable,
    digests: BytesTable,
    functions: Vec<Function>,
    /// Names that are not below the directory, once settled.
    is_outside: Vec<bool>,
    /// Empty, or one per entry.
    seen: Vec<Option<Seen>>,
    pub(crate) manifests: Vec<ManifestPart>,
}

impl ClaimTable {
    /// Appends the entries of the manifest that is called `list`; lines without a tag are of
    /// `asked`, or by that name, or by their length.
    ///
    /// # Errors
    /// Of reading; and that there are more than [`ROWS_MAX`] entries.
    pub(crate) fn read(
        &mut self,
        input: impl Read,
        asked: Option<Algorithm>,
        list: &[u8],
    ) -> io::Result<()> {
        let start = self.next_row()?;
        let prefix = Prefix::default();
        let mut part = ManifestPart { start, bad_lines: 0, first_bad: 0, outside: 0, prefix };
        let mut parser = Parser::new(asked.map(Function::from), list);
        let mut lines = Lines::new(input);
        for number in 1.. {
            match lines.next_line()? {
                Some(Line::Whole(line)) => match parser.parse(line) {
                    Parsed::Claim(claim) => {
                        self.next_row()?;
                        self.names.push(&claim.name);
                        self.digests.push(&claim.digest);
                        self.functions.push(claim.function);
                        continue;
                    }
                    Parsed::Nothing | Parsed::Signed => continue,
                    Parsed::Refused(why) => return Err(io::Error::other(why.to_string())),
                    Parsed::Bad | Parsed::Digest(..) | Parsed::Unsupported => {}
                },
                Some(Line::TooLong) => {}
                None => break,
            }
            if part.bad_lines == 0 {
                part.first_bad = number;
            }
            part.bad_lines += 1;
        }
        self.manifests.push(part);
        Ok(())
    }

    fn next_row(&self) -> io::Result<u32> {
        if self.len() >= ROWS_MAX {
            return Err(io::Error::other(format!("more than {ROWS_MAX} entries")));
        }
        Ok(u32::try_from(self.len()).expect("fewer than ROWS_MAX"))
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Makes names relative to `dir`, whose absolute paths are `roots`. `is_found` tells if a
    /// relative name is there.
    pub(crate) fn settle(
        &mut self,
        dir: &[u8],
        roots: &[Vec<u8>],
        is_found: impl Fn(&[u8]) -> bool,
    ) {
        let mut names = BytesTable::default();
        for part in 0..self.manifests.len() {
            let rows = self.rows(part);
            let raw = rows.clone().map(|row| self.names.get(row));
            let prefix = Prefix::guess(&raw, dir, roots.to_vec(), &is_found);
            let mut outside = 0;
            for name in raw {
                let relative = prefix.relative(name);
                self.is_outside.push(relative.is_none());
                outside += u64::from(relative.is_none());
                // No name below the directory looks like one outside, so that will be missing.
                names.push(relative.as_deref().unwrap_or(name));
            }
            self.manifests[part].prefix = prefix;
            self.manifests[part].outside = outside;
        }
        names.sort();
        self.names = names;
    }

    /// Takes away the directory that all names have in common. Call it once settled.
    pub(crate) fn strip_common(&mut self) {
        let all = || self.names.indices().map(|row| self.names.get(row));
        let prefix = Prefix::common(all());
        let mut names = BytesTable::default();
        for name in all() {
            names.push(prefix.relative(name).as_deref().unwrap_or(name));
        }
        names.sort();
        self.names = names;
    }

    /// Rows of a manifest.
    pub(crate) fn rows(&self, part: usize) -> Range<u32> {
        let end = self.manifests.get(part + 1).map_or(self.names.indices().end, |next| next.start);
        self.manifests[part].start..end
    }

    /// Adds the state of a manifest, for the entries whose digest it has. Call it once settled.
    ///
    /// # Errors
    /// The state cannot be used.
    pub(crate) fn add_state(&mut self, part: usize, input: impl Read) -> Result<(), StateError> {
        let rows = self.rows(part);
        let mut seen = std::mem::take(&mut self.seen);
        seen.resize(self.len(), None);
        state::read(input, |entry| {
            let Some(name) = self.manifests[part].prefix.relative(&entry.name) else { return };
            for &row in self.names.find(&name) {
                // Equal lines have equal entries, of which the first was for all of them.
                if seen[row as usize] == Some(entry.seen) {
                    break;
                }
                if rows.contains(&row)
                    && self.function(row) == entry.function
                    && self.digest(row) == entry.digest
                {
                    seen[row as usize] = Some(entry.seen);
                }
            }
        })?;
        self.seen = seen;
        Ok(())
    }

    pub(crate) fn name(&self, row: u32) -> &[u8] {
        self.names.get(row)
    }

    pub(crate) fn function(&self, row: u32) -> Function {
        self.functions[row as usize]
    }

    pub(crate) fn digest(&self, row: u32) -> &[u8] {
        self.digests.get(row)
    }

    pub(crate) fn is_outside(&self, row: u32) -> bool {
        self.is_outside[row as usize]
    }

    pub(crate) fn seen(&self, row: u32) -> Option<&Seen> {
        self.seen.get(row as usize)?.as_ref()
    }

    /// Entries of the file `name`, in order.
    pub(crate) fn find(&self, name: &[u8]) -> &[u32] {
        self.names.find(name)
    }

    /// Entries, those of one file together, in the order of names.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[u32]> {
        self.names.groups()
    }

    /// Functions of the entries in `rows`, each once, in order.
    pub(crate) fn functions_of(&self, rows: &[u32]) -> Vec<Function> {
        let mut functions = Vec::with_capacity(1);
        for &row in rows {
            if !functions.contains(&self.function(row)) {
                functions.push(self.function(row));
            }
        }
        functions
    }

    /// The entry in `rows` whose digest tells most about the content.
    pub(crate) fn strongest(&self, rows: &[u32]) -> Option<u32> {
        rows.iter().copied().max_by_key(|&row| {
            let (algorithm, len) = (self.function(row).algorithm(), self.digest(row).len());
            let is_strong = !algorithm.is_legacy() && len >= STRONG_LEN_MIN;
            (is_strong, len, algorithm, std::cmp::Reverse(row))
        })
    }
}

/// Identity of an open file.
pub(crate) fn id_of(file: &File) -> io::Result<FileId> {
    let metadata = file.metadata()?;
    Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
}
