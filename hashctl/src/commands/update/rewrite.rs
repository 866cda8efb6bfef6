//! Writing a manifest and its state anew.
//!
//! The old manifest is read a second time, line by line: what stays is copied byte for byte, so
//! order, form, comments and line ends are kept. Lines whose digest changed get the new one in the
//! place of the old one. Both files are complete and on disk before the first is replaced; the
//! manifest is the first, as a state counts only for the digests that its manifest has.

use super::{Update, UpdatePrinter};
use crate::engine::function::Function;
use crate::lists::hex;
use crate::lists::lines::{Line, Lines};
use crate::lists::manifest::{Claim, Parsed, Parser};
use crate::lists::names::is_bag_manifest;
use crate::lists::quote::quote;
use crate::output::{escape, needs_escape};
use crate::replace::{Replacement, write_error};
use crate::say::io_text;
use crate::state::StateWriter;
use crate::trees::found::{Metadata, look_at};
use ipc_proto::Algorithm;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Fate of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// It gets this one of the fresh digests.
    Replace(u32),
    Remove,
}

/// Files that are written.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub(super) manifest: OsString,
    pub(super) state: OsString,
    /// The directory as it was named.
    pub(super) dir: Vec<u8>,
    pub(super) asked: Option<Algorithm>,
    /// Metadata of the manifest when it was read; `None` if there was none.
    pub(super) before: Option<Metadata>,
}

/// Form of the lines of a manifest, for those that are appended.
#[derive(Clone, Debug)]
struct Form {
    is_tagged: bool,
    /// Names are percent-encoded (BagIt, RFC 8493, section 2.1.3).
    is_bag: bool,
    separator: Vec<u8>,
    /// In front of names.
    prefix: Vec<u8>,
    end: &'static [u8],
}

impl Rewrite {
    /// Writes what `printer` found out.
    ///
    /// # Errors
    /// A text for people.
    pub(super) fn write(&self, update: &Update, printer: &UpdatePrinter) -> Result<(), String> {
        let at = |path: &OsStr| quote(path.as_bytes());
        let wrong =
            |path: &OsStr, error: io::Error| format!("{}: {}", at(path), write_error(&error));
        let manifest_error = |error| wrong(&self.manifest, error);
        let state_error = |error| wrong(&self.state, error);
        let mut manifest = Replacement::new(Path::new(&self.manifest)).map_err(manifest_error)?;
        let state = Replacement::new(Path::new(&self.state)).map_err(state_error)?;
        let mut state = StateWriter::new(state).map_err(state_error)?;
        let mut form = None;
        let mut rows = 0;
        if self.before.is_some() {
            let old = File::open(&self.manifest)
                .map_err(|error| format!("{}: {}", at(&self.manifest), io_text(&error)))?;
            rows = self.copy(&old, update, printer, &mut manifest, &mut state, &mut form)?;
        }
        // It is read twice, and what was found out is about what was read first.
        if rows != update.claims.len() || look_at(self.manifest.as_bytes()) != self.before {
            return Err(format!("{}: changed meanwhile; run this again", at(&self.manifest)));
        }
        let mut form = form.unwrap_or_else(|| self.new_form(printer));
        form.is_bag = is_bag_manifest(self.manifest.as_bytes());
        self.append(&form, update, printer, &mut manifest, &mut state).map_err(manifest_error)?;
        let state = state.end().map_err(state_error)?;
        let is_same = self.before.is_some()
            && printer.appended.is_empty()
            && printer.fates.iter().all(|fate| *fate == Fate::Keep);
        if !is_same {
            manifest.commit().map_err(manifest_error)?;
        }
        state.commit().map_err(state_error)
    }

    /// Copies the old manifest; how many entries it has.
    fn copy(
        &self,
        old: &File,
        update: &Update,
        printer: &UpdatePrinter,
        manifest: &mut Replacement,
        state: &mut StateWriter<Replacement>,
        form: &mut Option<Form>,
    ) -> Result<usize, String> {
        let at = quote(self.manifest.as_bytes());
        let mut parser = Parser::new(self.asked.map(Function::from), self.manifest.as_bytes());
        let mut lines = Lines::new(old);
        let mut row = 0_u32;
        for number in 1_u64.. {
            let line = match lines.next_line() {
                Ok(Some(Line::Whole(line))) => line,
                Ok(None) => break,
                Ok(Some(Line::TooLong)) => return Err(format!("{at}: {number}: line too long")),
                Err(error) => return Err(format!("{at}: {}", io_text(&error))),
            };
            let parsed = parser.parse(line);
            if parsed == Parsed::Signed {
                return Err(format!("{at}: {number}: a signed list cannot be updated"));
            }
            let Parsed::Claim(claim) = parsed else {
                put(manifest, &[line, b"\n"])
                    .map_err(|error| format!("{at}: {}", write_error(&error)))?;
                continue;
            };
            // A length in the line would have to change, too.
            if claim.size.is_some() {
                return Err(format!("{at}: {number}: a line of this form cannot be updated"));
            }
            let is_known = (row as usize) < update.claims.len();
            let fate = if is_known { printer.fates[row as usize] } else { Fate::Keep };
            if form.is_none() && is_known {
                *form = Some(Form::of(line, &claim, update.claims.name(row)));
            }
            let digest = match fate {
                Fate::Remove => {
                    row += 1;
                    continue;
                }
                Fate::Keep => &*claim.digest,
                Fate::Replace(fresh) => printer.fresh.get(fresh),
            };
            let new_line = match fate {
                Fate::Replace(_) => with_digest(line, &claim.digest, digest).ok_or_else(|| {
                    format!("{at}: {number}: only hexadecimal digests can be updated")
                })?,
                Fate::Keep | Fate::Remove => line.to_vec(),
            };
            let seen = match is_known {
                true => printer.seen[row as usize].as_ref().or(update.claims.seen(row)),
                false => None,
            };
            put(manifest, &[&new_line, b"\n"])
                .and_then(|()| match seen {
                    Some(seen) => state.entry(claim.function, digest, seen, &claim.name),
                    None => Ok(()),
                })
                .map_err(|error| format!("{at}: {}", write_error(&error)))?;
            row += 1;
        }
        Ok(row as usize)
    }

    /// Appends lines for new files.
    fn append(
        &self,
        form: &Form,
        update: &Update,
        printer: &UpdatePrinter,
        manifest: &mut Replacement,
        state: &mut StateWriter<Replacement>,
    ) -> io::Result<()> {
        let mut line = Vec::new();
        for &(file, function, fresh) in &printer.appended {
            let name = [&form.prefix, update.tree.names.get(file)].concat();
            let digest = printer.fresh.get(fresh);
            line.clear();
            form.put(function, digest, &name, &mut line);
            manifest.write_all(&line)?;
            let seen_ns = update.plan.now_ns;
            let seen = crate::state::Seen { metadata: *update.tree.metadata(file), seen_ns };
            state.entry(function, digest, &seen, &name)?;
        }
        Ok(())
    }

    /// Form of a manifest without entries: that of `sum -r DIR`, with a tag where the length of the
    /// digest does not name the algorithm.
    fn new_form(&self, printer: &UpdatePrinter) -> Form {
        let algorithm = printer.appended.first().map(|(_, function, _)| function.algorithm());
        let is_tagged = matches!(
            algorithm,
            Some(Algorithm::Blake3 | Algorithm::Blake2b | Algorithm::Sha512_256)
        );
        let mut prefix = self.dir.clone();
        if prefix.last() != Some(&b'/') {
            prefix.push(b'/');
        }
        Form { is_tagged, is_bag: false, separator: b"  ".to_vec(), prefix, end: b"\n" }
    }
}

impl Form {
    /// The form of `line`, which is about the file `relative`.
    fn of(line: &[u8], claim: &Claim<'_>, relative: &[u8]) -> Self {
        let prefix = claim.name.strip_suffix(relative).unwrap_or_default().to_vec();
        let end: &[u8] = if line.ends_with(b"\r") { b"\r\n" } else { b"\n" };
        let digest_len = 2 * claim.digest.len();
        let text = line.strip_prefix(b"\\").unwrap_or(line);
        let is_tagged = find_digest(text, &claim.digest).is_none_or(|start| start > 0);
        let after = text.get(digest_len..).unwrap_or_default();
        let separator: &[u8] = match after {
            [b' ', b'*', ..] if !claim.name.starts_with(b"*") => b" *",
            [b' ' | b'\t', next, ..] if *next != b' ' => &after[..1],
            _ => b"  ",
        };
        Self { is_tagged, is_bag: false, separator: separator.to_vec(), prefix, end }
    }

    fn put(&self, function: Function, digest: &[u8], name: &[u8], line: &mut Vec<u8>) {
        let is_escaped = !self.is_bag && needs_escape(name);
        if is_escaped {
            line.push(b'\\');
        }
        let put_name = |line: &mut Vec<u8>| match (self.is_bag, is_escaped) {
            (true, _) => percent_encode(name, line),
            (false, true) => escape(name, line),
            (false, false) => line.extend_from_slice(name),
        };
        if self.is_tagged {
            line.extend_from_slice(function.tag().as_bytes());
            line.extend_from_slice(b" (");
            put_name(line);
            line.extend_from_slice(b") = ");
            hex::encode(digest, line);
        } else {
            hex::encode(digest, line);
            line.extend_from_slice(&self.separator);
            put_name(line);
        }
        line.extend_from_slice(self.end);
    }
}

/// Appends a name as manifests of bags have it.
fn percent_encode(name: &[u8], line: &mut Vec<u8>) {
    for &byte in name {
        match byte {
            b'%' => line.extend_from_slice(b"%25"),
            b'\n' => line.extend_from_slice(b"%0A"),
            b'\r' => line.extend_from_slice(b"%0D"),
            _ => line.push(byte),
        }
    }
}

fn put(output: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| output.write_all(part))
}

/// Where the hexadecimal digits of `digest` stand in `line`: at its start, or the last ones.
fn find_digest(line: &[u8], digest: &[u8]) -> Option<usize> {
    let mut digits = Vec::new();
    hex::encode(digest, &mut digits);
    let is_here = |part: &[u8]| part.eq_ignore_ascii_case(&digits);
    let start = line.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\\'))?;
    if line[start..].get(..digits.len()).is_some_and(is_here) {
        return Some(start);
    }
    line.windows(digits.len()).rposition(is_here)
}

/// `line` with the digits of `new` in the place of those of `old`, in their case.
fn with_digest(line: &[u8], old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let start = find_digest(line, old)?;
    let (before, rest) = line.split_at(start);
    let (digits, after) = rest.split_at(2 * old.len());
    let mut line = before.to_vec();
    hex::encode(new, &mut line);
    if digits.iter().any(u8::is_ascii_uppercase) {
        line[start..].make_ascii_uppercase();
    }
    line.extend_from_slice(after);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, relative: &str, want_changed: &str, want_new: &str) {
        let fill =
            |text: &str| text.replace("OLD", &"aB".repeat(32)).replace("NEW", &"c1".repeat(32));
        let line = fill(line);
        let Parsed::Claim(claim) = Parser::new(None, b"").parse(line.as_bytes()) else {
            panic!("{line}: no entry")
        };
        let changed = with_digest(line.as_bytes(), &claim.digest, &[0xc1; 32]).unwrap();
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(changed, fill(want_changed).replace(&"c1".repeat(32), &"C1".repeat(32)));
        let form = Form::of(line.as_bytes(), &claim, relative.as_bytes());
        let mut new = Vec::new();
        let name = [&form.prefix, &b"n"[..]].concat();
        form.put(Algorithm::Sha256.into(), &[0xc1; 32], &name, &mut new);
        assert_eq!(String::from_utf8(new).unwrap(), fill(want_new));
    }

    #[test]
    fn lines_keep_their_form() {
        check("OLD  a", "a", "NEW  a", "NEW  n\n");
        check("OLD *./a", "a", "NEW *./a", "NEW *./n\n");
        check("OLD ab", "ab", "NEW ab", "NEW n\n");
        check("SHA256 (d/a) = OLD", "a", "SHA256 (d/a) = NEW", "SHA256 (d/n) = NEW\n");
        check("\\OLD  x\\nb", "x\nb", "\\NEW  x\\nb", "NEW  n\n");
        check("OLD  a\r", "a", "NEW  a\r", "NEW  n\r\n");
        // A name that is the digest of its content.
        check("OLD  OLD", &"aB".repeat(32), "NEW  OLD", "NEW  n\n");
        check("SHA256 (OLD) = OLD", &"aB".repeat(32), "SHA256 (OLD) = NEW", "SHA256 (n) = NEW\n");
    }
}
