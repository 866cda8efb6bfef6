//! Formats besides lines of digest and name, as a table of rules: each looks at a line and says what
//! it is, or that it is not of its format. What a line needs to know of those before it is in the
//! [`Memory`].

use super::digest::{Choice, Digest, by_tag};
use super::manifest::{Parsed, claim, trim_start};
use crate::function::Function;
use ipc_proto::Algorithm;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One format; the line comes without leading blanks.
pub(super) type ListFormat = for<'a> fn(&mut Memory, &'a [u8]) -> Option<Parsed<'a>>;

/// Every format, the likely ones first.
pub(super) const RULES: &[ListFormat] = &[
    debian_field,
    digest_alone,
    digest_in_table,
    labelled,
    hash_of_file,
    columns,
    gentoo,
    simple_verification,
    around,
    unsupported_tag,
];

/// Facts from earlier lines that the next ones need.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    choice: Choice,
    section: Section,
    /// Fields and their continuation lines, as in Debian's control files.
    is_document: bool,
    /// Comments with a semicolon were seen: the digest may come last.
    is_simple: bool,
    /// File that the next digest of the paragraph is of.
    file: Vec<u8>,
    /// Function and digest of the file that a later line of the paragraph names.
    function: Option<Function>,
    digest: Option<Digest>,
}

/// Lines with a meaning of their own.
#[derive(Debug, Serialize, Deserialize)]
enum Section {
    None,
    /// Digest, size and name, below a field; no algorithm if it is not supported.
    Debian(Option<Function>),
    /// Digest of the file in the line before, by CertUtil.
    HashOf(Function),
    /// Fields with commas between them, in quotation marks or not.
    Columns(Vec<Column>, Quotes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Column {
    Size,
    Name,
    Digest(Function),
    /// The name of the function of [`Column::Hash`].
    Algorithm,
    Hash,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Quotes {
    /// Of hashdeep: the last field may hold commas.
    Never,
    /// Of `Export-Csv`.
    Maybe,
}

impl Memory {
    pub(super) fn new(choice: Choice) -> Self {
        Self {
            choice,
            section: Section::None,
            is_document: false,
            is_simple: false,
            file: Vec::new(),
            digest: None,
            function: None,
        }
    }

    /// An empty line: the next one starts something new.
    pub(super) fn end_paragraph(&mut self) {
        self.file.clear();
        (self.digest, self.function) = (None, None);
        if matches!(self.section, Section::Debian(_)) {
            self.section = Section::None;
        }
    }

    /// Meaning of `line`, if it belongs to the section that an earlier one began.
    pub(super) fn section<'a>(&mut self, line: &'a [u8]) -> Option<Parsed<'a>> {
        let is_continued = matches!(line, [b' ' | b'\t', ..]);
        match &self.section {
            Section::Debian(function) if is_continued => Some(debian_line(*function, line)),
            Section::Columns(columns, quotes) => {
                let fields = fields(line, columns.len(), *quotes);
                (fields.len() == columns.len() && columns_of(line).is_none())
                    .then(|| row(columns, &fields))
            }
            &Section::HashOf(function) => self.hash_of(function, line),
            Section::None | Section::Debian(_) => {
                (self.is_document && is_continued).then_some(Parsed::Nothing)
            }
        }
    }

    /// The line of CertUtil with the digest.
    fn hash_of<'a>(&mut self, function: Function, line: &[u8]) -> Option<Parsed<'a>> {
        self.section = Section::None;
        let digits = line.iter().copied().filter(|&byte| byte != b' ').collect::<Vec<_>>();
        let digest = Digest::named(function, &digits)?;
        let mut name = std::mem::take(&mut self.file);
        // Older ones write blanks between bytes, and "of file NAME".
        if digits.len() < line.len() && name.starts_with(b"file ") {
            name.drain(..b"file ".len());
        }
        Some(claim(digest, Cow::Owned(name), None))
    }
}

/// `TAG (name) = digest`, of the BSDs and OpenSSL.
pub(super) fn tagged(line: &[u8]) -> Option<(Digest, &[u8])> {
    let (tag, name, digest) = split_tagged(line)?;
    if is_of_stdin(line) {
        return None;
    }
    Some((Digest::named(by_tag(tag)?, digest)?, name))
}

/// True for the digest of standard input, as OpenSSL prints it: no file has it.
fn is_of_stdin(line: &[u8]) -> bool {
    let blank = line.iter().position(|&byte| byte == b' ').unwrap_or_default();
    line[..blank].ends_with(b"(stdin)=")
}

/// The parts of `TAG (name) = value`.
fn split_tagged(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let open = line.iter().position(|&byte| byte == b'(')?;
    let (tag, rest) = (line[..open].trim_ascii_end(), &line[open + 1..]);
    let close = rest.iter().rposition(|&byte| byte == b')')?;
    let value = trim_start(&rest[close + 1..]).strip_prefix(b"=")?;
    Some((tag, &rest[..close], value.trim_ascii()))
}

/// The two parts of `line` around the first `mark`, without blanks around them.
fn split(line: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|&byte| byte == mark)?;
    Some((line[..at].trim_ascii(), line[at + 1..].trim_ascii()))
}

/// The first word of `line`, and the rest.
fn word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    (end > 0).then(|| (&line[..end], line[end..].trim_ascii_start()))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Fields with which the control files of Debian start.
const DOCUMENT_STARTS: [&[u8]; 5] = [b"Format", b"Origin", b"Package", b"Source", b"Suite"];

/// A field of `.dsc`, `.changes`, `Release` or `Packages`.
fn debian_field<'a>(memory: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    let (field, value) = split(line, b':')?;
    if value.is_empty() {
        let named = |tag: &[u8]| match tag.strip_prefix(b"Checksums-") {
            Some(tag) => Some(by_tag(tag)),
            None if matches!(tag, b"Files" | b"MD5Sum") => Some(Some(Algorithm::Md5.into())),
            None => by_tag(tag).map(Some),
        };
        if let Some(function) = named(field) {
            memory.section = Section::Debian(function);
            memory.is_document = true;
            return Some(Parsed::Nothing);
        }
    }
    memory.is_document |= DOCUMENT_STARTS.contains(&field);
    if !memory.is_document {
        return None;
    }
    memory.section = Section::None;
    if field == b"Filename" {
        memory.file = value.to_vec();
    }
    let tag = if field == b"MD5sum" { b"MD5" } else { field };
    let digest = by_tag(tag).and_then(|function| Digest::named(function, value));
    Some(match digest {
        Some(digest) if !memory.file.is_empty() => claim(digest, memory.file.clone().into(), None),
        _ => Parsed::Nothing,
    })
}

/// A line below such a field. The name comes last, also where section and priority are before it.
fn debian_line(function: Option<Function>, line: &[u8]) -> Parsed<'_> {
    let parts = || {
        let (digest, rest) = word(line)?;
        let (size, rest) = word(rest)?;
        let name = rest.rsplit(u8::is_ascii_whitespace).next().filter(|name| !name.is_empty())?;
        Some((digest, number(size)?, name))
    };
    match (parts(), function) {
        (None, _) => Parsed::Bad,
        (Some(_), None) => Parsed::Unsupported,
        (Some((digest, size, name)), Some(function)) => {
            let digest = Digest::named(function, digest);
            digest.map_or(Parsed::Bad, |digest| claim(digest, name.into(), Some(size)))
        }
    }
}

/// A digest and nothing else, or with the name of its algorithm in front.
fn digest_alone<'a>(memory: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    let line = line.trim_ascii_end();
    let named = |mark| {
        let (tag, digest) = split(line, mark)?;
        Digest::named(by_tag(tag)?, digest)
    };
    let of_stdin = || {
        let (tag, _, digest) = split_tagged(line).filter(|_| is_of_stdin(line))?;
        match tag {
            b"" => Digest::parse(digest, memory.choice),
            _ => Digest::named(by_tag(tag)?, digest),
        }
    };
    let digest = Digest::parse(line, memory.choice)
        .or_else(of_stdin)
        .or_else(|| named(b':'))
        .or_else(|| named(b'='))?;
    Some(Parsed::Digest(digest.function, digest.bytes))
}

/// `SHA256 DIGEST NAME`: a row of `Get-FileHash`.
fn digest_in_table<'a>(_: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    let (tag, rest) = word(line)?;
    let (digest, name) = word(rest)?;
    Some(claim(Digest::named(by_tag(tag)?, digest)?, name.into(), None))
}

/// `Get-FileHash | Format-List`: a line each of algorithm, digest and path.
fn labelled<'a>(memory: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    let (label, value) = split(line, b':')?;
    match label {
        b"Algorithm" => memory.function = Some(by_tag(value)?),
        b"Hash" => memory.digest = Some(Digest::named(memory.function?, value)?),
        b"Path" => return Some(claim(memory.digest.take()?, value.into(), None)),
        _ => return None,
    }
    Some(Parsed::Nothing)
}

/// `SHA256 hash of NAME:`, the line of CertUtil before that with the digest.
fn hash_of_file<'a>(memory: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    let (tag, rest) = word(line)?;
    let name = rest.strip_prefix(b"hash of ")?.strip_suffix(b":")?;
    memory.file = name.to_vec();
    memory.section = Section::HashOf(by_tag(tag)?);
    Some(Parsed::Nothing)
}

/// The line that names the columns of hashdeep, or of `Get-FileHash | Export-Csv`.
fn columns<'a>(memory: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    if line.starts_with(b"%%%% HASHDEEP-") {
        return Some(Parsed::Nothing);
    }
    let (columns, quotes) = columns_of(line)?;
    memory.section = Section::Columns(columns, quotes);
    Some(Parsed::Nothing)
}

fn columns_of(line: &[u8]) -> Option<(Vec<Column>, Quotes)> {
    let (line, quotes) = match line.strip_prefix(b"%%%% ") {
        Some(line) => (line, Quotes::Never),
        None => (line, Quotes::Maybe),
    };
    let column = |name: &Vec<u8>| match &*name.to_ascii_lowercase() {
        b"size" => Column::Size,
        b"filename" | b"path" => Column::Name,
        b"algorithm" => Column::Algorithm,
        b"hash" => Column::Hash,
        name => by_tag(name).map_or(Column::Other, Column::Digest),
    };
    let columns: Vec<Column> = fields(line, usize::MAX, quotes).iter().map(column).collect();
    let has = |column| columns.contains(&column);
    let is_known = has(Column::Name) && (quotes == Quotes::Never || has(Column::Hash));
    is_known.then_some((columns, quotes))
}

/// At most `max` fields of `line`.
fn fields(line: &[u8], max: usize, quotes: Quotes) -> Vec<Vec<u8>> {
    if quotes == Quotes::Never {
        return line.splitn(max, |&byte| byte == b',').map(<[u8]>::to_vec).collect();
    }
    let mut fields = vec![Vec::new()];
    let mut is_quoted = false;
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let field = fields.last_mut().expect("never empty");
        match byte {
            b'"' if is_quoted && bytes.next_if_eq(&b'"').is_some() => field.push(b'"'),
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => fields.push(Vec::new()),
            _ => field.push(byte),
        }
    }
    fields
}

/// A line with one field per column: the claim of the longest digest.
fn row(columns: &[Column], fields: &[Vec<u8>]) -> Parsed<'static> {
    let (mut size, mut name, mut tag, mut digest) = (None, None, None, None);
    for (column, field) in columns.iter().zip(fields) {
        let function = match column {
            Column::Digest(function) => Some(*function),
            Column::Hash => tag,
            Column::Size => {
                size = number(field);
                None
            }
            Column::Name => {
                name = Some(field);
                None
            }
            Column::Algorithm => {
                tag = by_tag(field);
                None
            }
            Column::Other => None,
        };
        let longest = digest.map_or(0, |(longest, _): (Function, _)| longest.digest_len());
        if let Some(function) = function.filter(|function| function.digest_len() > longest) {
            digest = Some((function, field));
        }
    }
    match (digest, name) {
        (None, _) => Parsed::Unsupported,
        (Some((function, digest)), Some(name)) => {
            let digest = Digest::named(function, digest);
            digest.map_or(Parsed::Bad, |digest| claim(digest, name.clone().into(), size))
        }
        (Some(_), None) => Parsed::Bad,
    }
}

/// `DIST NAME SIZE TAG DIGEST TAG DIGEST`, of Gentoo's `Manifest`: the claim of the longest digest.
fn gentoo<'a>(_: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    let (kind, rest) = word(line)?;
    let dir: &[u8] = match kind {
        b"AUX" => b"files/",
        b"DATA" | b"DIST" | b"EBUILD" | b"MANIFEST" | b"MISC" => b"",
        _ => return None,
    };
    let (name, rest) = word(rest)?;
    let (size, mut rest) = word(rest)?;
    let size = number(size)?;
    let mut longest: Option<Digest> = None;
    while let Some((tag, after)) = word(rest) {
        let (digest, after) = word(after)?;
        let digest = by_tag(tag).and_then(|function| Digest::named(function, digest));
        longest = longest.into_iter().chain(digest).max_by_key(|digest| digest.bytes.len());
        rest = after;
    }
    Some(match longest {
        Some(digest) => claim(digest, [dir, name].concat().into(), Some(size)),
        None => Parsed::Unsupported,
    })
}

/// `NAME DIGEST` below comments with semicolons (SFV), as `rhash` writes it.
fn simple_verification<'a>(memory: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    if line.starts_with(b";") {
        memory.is_simple = true;
        return Some(Parsed::Nothing);
    }
    if !memory.is_simple {
        return None;
    }
    let line = line.trim_ascii_end();
    let last = line.iter().rposition(u8::is_ascii_whitespace)? + 1;
    let (name, digest) = (line[..last].trim_ascii_end(), &line[last..]);
    if digest.len() == CRC32_DIGITS && digest.iter().all(u8::is_ascii_hexdigit) {
        return Some(Parsed::Unsupported);
    }
    Some(claim(Digest::parse(digest, memory.choice)?, name.into(), None))
}

const CRC32_DIGITS: usize = 8;

/// Lines around digests that say nothing about a file's content.
fn around<'a>(_: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    let is_size = || {
        let (tag, _, size) = split_tagged(line)?;
        let (size, unit) = word(size)?;
        let is_size = tag.eq_ignore_ascii_case(b"SIZE") && matches!(unit, b"" | b"bytes");
        (is_size && number(size).is_some()).then_some(())
    };
    let is_time = || split(line, b'=').is_some_and(|(key, _)| key == b"TIMESTAMP");
    let is_rule = || line.iter().all(|byte| b"- ".contains(byte));
    let is_heading = || {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.eq([&b"Algorithm"[..], b"Hash", b"Path"])
    };
    let is_nothing = line.starts_with(b"CertUtil: ")
        || line.starts_with(b"$NetBSD")
        || is_size().is_some()
        || is_time()
        || is_rule()
        || is_heading();
    is_nothing.then_some(Parsed::Nothing)
}

/// A digest with the name of an algorithm that is not ours.
fn unsupported_tag<'a>(_: &mut Memory, line: &'a [u8]) -> Option<Parsed<'a>> {
    let (tag, _, value) = split_tagged(line)?;
    let is_tag = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_/".contains(byte);
    let is_one = !tag.is_empty() && tag.iter().all(is_tag) && by_tag(tag).is_none();
    let is_digest = value.len() >= CRC32_DIGITS && value.iter().all(u8::is_ascii_hexdigit);
    (is_one && is_digest).then_some(Parsed::Unsupported)
}

#[cfg(test)]
mod tests;
