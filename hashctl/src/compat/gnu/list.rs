//! Lines of a list, by the rules of the GNU tools in version 9.1: BSD-style lines with the tool's own tag,
//! and lines of a digest and a name in the GNU form or the reversed BSD form, which are not mixed.
//!
//! A line is a C string to those tools: a zero byte ends a name, and what is behind it is not seen.

use super::tool::Tool;
use crate::lists::hex;
use crate::lists::names::unescape;
use std::borrow::Cow;

/// One file and its digest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) digest: Vec<u8>,
    pub(super) name: Cow<'a, [u8]>,
}

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ListLine<'a> {
    Entry(Entry<'a>),
    /// A comment or an empty line.
    Nothing,
    /// Improperly formatted.
    Bad,
}

/// Parser of all lists of a run: the form of the first untagged line holds for all others.
#[derive(Debug)]
pub(super) struct LineParser {
    tool: &'static Tool,
    /// Untagged lines have one blank between digest and name.
    is_reversed: Option<bool>,
}

impl LineParser {
    pub(super) fn new(tool: &'static Tool) -> Self {
        Self { tool, is_reversed: None }
    }

    /// Parses a line, which comes without its newline.
    pub(super) fn parse<'a>(&mut self, line: &'a [u8]) -> ListLine<'a> {
        if line.starts_with(b"#") {
            return ListLine::Nothing;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return ListLine::Nothing;
        }
        self.entry(trim_start(line)).map_or(ListLine::Bad, ListLine::Entry)
    }

    fn entry<'a>(&mut self, line: &'a [u8]) -> Option<Entry<'a>> {
        let (line, is_escaped) = match line.strip_prefix(b"\\") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let (digest, name) = match line.strip_prefix(self.tool.tag.as_bytes()) {
            Some(rest) => self.tagged(rest)?,
            None => self.untagged(line)?,
        };
        let name = if is_escaped { escaped(name)?.into() } else { until_zero(name).into() };
        Some(Entry { digest, name })
    }

    /// The parts of a line behind its tag: ` (NAME) = DIGEST`.
    fn tagged<'a>(&self, rest: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
        let mut digest_len = self.tool.algorithm.digest_len();
        let mut rest = rest;
        if self.tool.has_length {
            match rest.split_first()? {
                (b'-', after) => (digest_len, rest) = length(after)?,
                (b'(', _) => {}
                // b2sum ends the tag there, whatever byte it is; a blank may follow.
                (_, after) => rest = after,
            }
        }
        let rest = rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b"(")?;
        let name_len = rest.iter().rposition(|&byte| byte == b')')?;
        let after = trim_start(&rest[name_len + 1..]).strip_prefix(b"=")?;
        let digest = hex::decode(until_zero(trim_start(after)))?;
        (digest.len() == digest_len).then(|| (digest, &rest[..name_len]))
    }

    /// The parts of `DIGEST  NAME`, `DIGEST *NAME` or, reversed, `DIGEST NAME`.
    fn untagged<'a>(&mut self, line: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
        let digits_len = if self.tool.has_length {
            line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count()
        } else {
            2 * self.tool.algorithm.digest_len()
        };
        let (digits, rest) = line.split_at_checked(digits_len)?;
        let digest = hex::decode(digits)?;
        let (b' ' | b'\t', rest) = rest.split_first()? else { return None };
        // Only tools with one length of digest want a name of at least one byte.
        let is_too_short = rest.is_empty() && !self.tool.has_length;
        if digest.is_empty() || digest.len() > self.tool.algorithm.digest_len() || is_too_short {
            return None;
        }
        let looks_reversed = rest.len() == 1 || !matches!(rest, [b' ' | b'*', ..]);
        if looks_reversed && self.is_reversed == Some(false) {
            return None;
        }
        let is_reversed = *self.is_reversed.get_or_insert(looks_reversed);
        Some((digest, if is_reversed { rest } else { &rest[1..] }))
    }
}

/// Bits as bytes, and what follows them, from the length in a tag of b2sum: as strtoumax(3) reads a
/// number of any base.
fn length(text: &[u8]) -> Option<(usize, &[u8])> {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b'\x0b')?;
    let text = text[start..].strip_prefix(b"+").unwrap_or(&text[start..]);
    let (radix, text) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        [b'0', ..] => (8, text),
        _ => (10, text),
    };
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let (digits, rest) = text.split_at(text.iter().take_while(is_digit).count());
    let bits = usize::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
    let is_valid = bits > 0 && bits <= 8 * Tool::BLAKE2B_LEN_MAX && bits.is_multiple_of(8);
    is_valid.then_some((bits / 8, rest))
}

/// The name of a line with a backslash at its start: no such name has a zero byte.
fn escaped(name: &[u8]) -> Option<Vec<u8>> {
    unescape(name).filter(|_| !name.contains(&0))
}

fn until_zero(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
    start.map_or(&[], |start| &bytes[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `H` stands for a digest of the tool's length, `S` for one of two bytes.
    #[track_caller]
    fn check(tool: &str, lines: &[(&str, Option<&[u8]>)]) {
        let tool = Tool::by_name(tool).unwrap();
        let mut parser = LineParser::new(tool);
        for (line, want) in lines {
            let digest = "aB".repeat(tool.algorithm.digest_len());
            let text = line.replace('H', &digest).replace('S', "aBaB");
            match (parser.parse(text.as_bytes()), want) {
                (ListLine::Entry(entry), Some(want)) => assert_eq!(&*entry.name, *want, "{line:?}"),
                (ListLine::Bad, None) => {}
                (got, want) => panic!("{line:?}: {got:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn lines_of_the_own_algorithm_count_and_no_others() {
        check(
            "md5sum",
            &[
                ("H  a", Some(b"a")),
                ("H *a\r", Some(b"a")),
                (" \tH\t a ", Some(b"a ")),
                ("MD5 (a) b) = H", Some(b"a) b")),
                ("MD5(a)= H", Some(b"a")),
                ("MD5 (a)\t=\tH", Some(b"a")),
                ("MD5 () = H", Some(b"")),
                ("MD5  (a) = H", None),
                ("MD5 (a) = S", None),
                ("MD5-128 (a) = H", None),
                ("md5 (a) = H", None),
                ("SHA1 (a) = H", None),
                ("MD5 a = H", None),
                ("H", None),
                ("H ", None),
                ("HH  a", None),
                ("S  a", None),
            ],
        );
    }

    #[test]
    fn a_zero_byte_ends_a_name_and_spoils_an_escaped_one() {
        check(
            "md5sum",
            &[
                ("H  a\0b", Some(b"a")),
                ("MD5 (a\0b) = H\0c", Some(b"a")),
                ("\\H  a\\nb\\\\c\\r", Some(b"a\nb\\c\r")),
                ("\\H  a\0b", None),
                ("\\H  a\\", None),
                ("\\H  a\\t", None),
                ("\\MD5 (a\\nb) = H", Some(b"a\nb")),
            ],
        );
    }

    #[test]
    fn the_first_form_holds_for_all_lists() {
        check("md5sum", &[("H  a", Some(b"a")), ("H a", None), ("H *a", Some(b"a"))]);
        check("md5sum", &[("H a", Some(b"a")), ("H  a", Some(b" a")), ("H *a", Some(b"*a"))]);
        check("md5sum", &[("H  ", Some(b" ")), ("H  x", Some(b" x"))]);
        check("md5sum", &[("H x", Some(b"x")), ("junk", None), ("H  y", Some(b" y"))]);
    }

    #[test]
    fn digests_of_b2sum_have_any_length() {
        check(
            "b2sum",
            &[
                ("H  a", Some(b"a")),
                ("S *a", Some(b"a")),
                ("aba  a", None),
                ("HS  a", None),
                ("BLAKE2b (a) = H", Some(b"a")),
                ("BLAKE2b\t (a) = H", Some(b"a")),
                ("BLAKE2b   (a) = H", None),
                ("BLAKE2b (a) = S", None),
                ("BLAKE2b-16 (a) = S", Some(b"a")),
                ("BLAKE2b-0x10(a) = S", Some(b"a")),
                ("BLAKE2b- +020 (a) = S", Some(b"a")),
                ("BLAKE2b-16  (a) = S", None),
                ("BLAKE2b-0 (a) = ", None),
                ("BLAKE2b-17 (a) = S", None),
                ("BLAKE2b-520 (a) = H", None),
                ("BLAKE2b\0(a) = H", Some(b"a")),
                ("BLAKE2bb (a) = H", Some(b"a")),
                ("BLAKE2b\0\0(a) = H", None),
                ("BLAKE2b\0-16 (a) = S", None),
            ],
        );
    }
}
