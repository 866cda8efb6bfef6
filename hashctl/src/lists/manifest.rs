//! The lines of a manifest: what sha*sum and b3sum print, and the BSD form with a tag.
//!
//! The rules are coreutils' (src/digest.c, `split_3`), for any algorithm of ours. [`Lines`] cuts the
//! input and bounds the length of a line; [`Parser`] remembers which of two forms a manifest uses,
//! because to mix them would let somebody rename a file whose name starts with a space.

use crate::lists::hex;
use ipc_proto::Algorithm;
use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};

/// Longest line in bytes: a path of 4,096 bytes, each escaped, with tag and digest.
pub(crate) const LINE_LEN_MAX: usize = 16 << 10;

/// Bytes that are read at once.
const READ_LEN: usize = 128 << 10;

/// A file and its digest, by one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim<'a> {
    /// Algorithm of the digest.
    pub(crate) algorithm: Algorithm,
    /// The digest that the file had.
    pub(crate) digest: Vec<u8>,
    /// The file.
    pub(crate) name: Cow<'a, [u8]>,
}

/// Meaning of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// Empty, or a comment.
    Nothing,
    /// Improperly formatted.
    Bad,
    /// A file and its digest.
    Claim(Claim<'a>),
}

/// Between digest and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    /// A space, and a space or an asterisk.
    Gnu,
    /// One space: `sum -r` of the BSDs.
    BsdReversed,
}

/// Reads the lines of one manifest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parser {
    asked: Option<Algorithm>,
    separator: Option<Separator>,
}

impl Parser {
    /// A parser that takes lines without a tag as of `asked`, else by the length of the digest.
    #[must_use]
    pub(crate) fn new(asked: Option<Algorithm>) -> Self {
        Self { asked, separator: None }
    }

    /// Parses `line`, which comes without its newline.
    pub(crate) fn parse<'a>(&mut self, line: &'a [u8]) -> Parsed<'a> {
        if line.starts_with(b"#") {
            return Parsed::Nothing;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Parsed::Nothing;
        }
        self.claim(line).map_or(Parsed::Bad, Parsed::Claim)
    }

    fn claim<'a>(&mut self, line: &'a [u8]) -> Option<Claim<'a>> {
        let line = trim_start(line);
        let (line, is_escaped) = match line.strip_prefix(b"\\") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let (algorithm, digest, name) = match tagged(line) {
            Some(tagged) => tagged?,
            None => self.untagged(line)?,
        };
        let digest = hex::decode(digest).filter(|digest| digest.len() == algorithm.digest_len())?;
        let name: Cow<'a, [u8]> = if is_escaped { unescape(name)?.into() } else { name.into() };
        let is_name = !name.is_empty() && !name.contains(&0);
        is_name.then_some(Claim { algorithm, digest, name })
    }

    fn untagged<'a>(&mut self, line: &'a [u8]) -> Option<(Algorithm, &'a [u8], &'a [u8])> {
        let digest_len = line.iter().position(|byte| !byte.is_ascii_hexdigit())?;
        let (digest, rest) = line.split_at(digest_len);
        let algorithm = match self.asked {
            Some(asked) => asked,
            None => by_digits(digest_len)?,
        };
        // As coreutils: a digest, two bytes and a name of at least one.
        let ([b' ' | b'\t', after @ ..], true) = (rest, rest.len() >= 3) else { return None };
        let separator = match after {
            [b' ' | b'*', ..] if self.separator != Some(Separator::BsdReversed) => Separator::Gnu,
            _ if self.separator != Some(Separator::Gnu) => Separator::BsdReversed,
            _ => return None,
        };
        self.separator = Some(separator);
        let name = if separator == Separator::Gnu { &after[1..] } else { after };
        Some((algorithm, digest, name))
    }
}

/// The parts of `TAG (name) = digest`; `None` if it does not start like one.
#[expect(clippy::type_complexity, reason = "two questions, each with its own no")]
fn tagged(line: &[u8]) -> Option<Option<(Algorithm, &[u8], &[u8])>> {
    let starts = |algorithm: &Algorithm| {
        let rest = line.strip_prefix(algorithm.tag().as_bytes())?;
        let rest = rest.strip_prefix(b" ").unwrap_or(rest);
        Some((*algorithm, rest.strip_prefix(b"(")?))
    };
    let (algorithm, rest) = Algorithm::ALL.iter().find_map(starts)?;
    let parts = || {
        let name_len = rest.iter().rposition(|&byte| byte == b')')?;
        let (name, after) = (&rest[..name_len], trim_start(&rest[name_len + 1..]));
        Some((algorithm, trim_start(after.strip_prefix(b"=")?), name))
    };
    Some(parts())
}

fn by_digits(digits_len: usize) -> Option<Algorithm> {
    // Those that share a length with a SHA-2 have to be named.
    let fits = |algorithm: &Algorithm| 2 * algorithm.digest_len() == digits_len;
    let by_length = [
        Algorithm::Sha256,
        Algorithm::Sha224,
        Algorithm::Sha384,
        Algorithm::Sha512,
        Algorithm::Sha1,
        Algorithm::Md5,
    ];
    by_length.into_iter().find(fits)
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
    start.map_or(&[], |start| &bytes[start..])
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(plain)
}

/// Cuts an input into lines.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
}

/// One line of an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Without its newline.
    Whole(&'a [u8]),
    /// Longer than [`LINE_LEN_MAX`].
    TooLong,
}

impl<R: Read> Lines<R> {
    /// The lines of `input`.
    pub(crate) fn new(input: R) -> Self {
        Self::with_capacity(READ_LEN, input)
    }

    fn with_capacity(capacity: usize, input: R) -> Self {
        Self { input: BufReader::with_capacity(capacity, input), line: Vec::new() }
    }

    /// True if the next line has to be read from the input.
    pub(crate) fn is_drained(&self) -> bool {
        self.input.buffer().is_empty()
    }

    /// The next line, or `None` at the end.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut bounded = (&mut self.input).take(LINE_LEN_MAX as u64 + 1);
        bounded.read_until(b'\n', &mut self.line)?;
        match self.line.last() {
            None => return Ok(None),
            Some(b'\n') => drop(self.line.pop()),
            Some(_) if self.line.len() <= LINE_LEN_MAX => {}
            Some(_) => {
                self.input.skip_until(b'\n')?;
                return Ok(Some(Line::TooLong));
            }
        }
        Ok(Some(Line::Whole(&self.line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(asked: Option<Algorithm>, line: &str, want: Option<(Algorithm, &[u8])>) {
        let line = line
            .replace("H32", &"aB".repeat(32))
            .replace("H16", &"aB".repeat(16))
            .replace("H20", &"aB".repeat(20))
            .replace("H28", &"aB".repeat(28))
            .replace("H64", &"aB".repeat(64));
        match (Parser::new(asked).parse(line.as_bytes()), want) {
            (Parsed::Claim(claim), Some((algorithm, name))) => {
                assert_eq!((claim.algorithm, &*claim.name), (algorithm, name), "{line}");
                assert_eq!(claim.digest, vec![0xab; algorithm.digest_len()]);
            }
            (Parsed::Bad, None) => {}
            (got, want) => panic!("{line}: {got:?} instead of {want:?}"),
        }
    }

    #[test]
    fn parses_the_lines_of_coreutils() {
        let sha256 = Algorithm::Sha256;
        check(None, "H32  a", Some((sha256, b"a")));
        check(None, "H32 *a", Some((sha256, b"a")));
        check(None, "  H32   a ", Some((sha256, b" a ")));
        check(None, "H32  a\r", Some((sha256, b"a")));
        check(None, "\\H32  a\\nb\\\\c\\r", Some((sha256, b"a\nb\\c\r")));
        check(None, "H32  a\\nb", Some((sha256, b"a\\nb")));
        check(None, "H16  a", Some((Algorithm::Md5, b"a")));
        check(None, "H20  a", Some((Algorithm::Sha1, b"a")));
        check(None, "H28  a", Some((Algorithm::Sha224, b"a")));
        check(None, "H64  a", Some((Algorithm::Sha512, b"a")));
        check(Some(Algorithm::Blake3), "H32  a", Some((Algorithm::Blake3, b"a")));
        check(Some(Algorithm::Blake2b), "H64  a", Some((Algorithm::Blake2b, b"a")));
        check(Some(Algorithm::Sha256), "H16  a", None);
        check(None, "H32 ab", Some((sha256, b"ab")));
    }

    #[test]
    fn a_tag_names_the_algorithm_whatever_was_asked_for() {
        let asked = Some(Algorithm::Sha224);
        check(asked, "SHA256 (a) = H32", Some((Algorithm::Sha256, b"a")));
        check(asked, "SHA512/256 (a) = H32", Some((Algorithm::Sha512_256, b"a")));
        check(asked, "SHA512 (a) = H64", Some((Algorithm::Sha512, b"a")));
        check(asked, "BLAKE2b (a) = H64", Some((Algorithm::Blake2b, b"a")));
        check(asked, "MD5 (a) = H16", Some((Algorithm::Md5, b"a")));
        check(asked, "SHA1 (a) = H20", Some((Algorithm::Sha1, b"a")));
        check(asked, "BLAKE3 (a) b) = H32", Some((Algorithm::Blake3, b"a) b")));
        check(asked, "\\SHA256 (a\\nb) = H32", Some((Algorithm::Sha256, b"a\nb")));
        check(asked, "SHA256(a)= H32", Some((Algorithm::Sha256, b"a")));
    }

    #[test]
    fn reports_improperly_formatted_lines() {
        for line in [
            "garbage",
            "H32",
            "H32 a",
            "H32  ",
            "H32\u{b}\u{b}a",
            "H32x  a",
            "xH32  a",
            "\\H32  a\\t",
            "\\H32  a\\",
            "H32  a\0b",
            "SHA256 (a) = H28",
            "SHA256 (a) H32",
            "SHA256 (a = H32",
            "SHA256 () = H32",
            "MD5 (a) = H32",
            "SHA256 a = H32",
        ] {
            check(None, line, None);
        }
        check(Some(Algorithm::Sha512), "H32  a", None);
    }

    #[test]
    fn ignores_comments_and_empty_lines() {
        for line in ["", "\r", "# comment"] {
            assert_eq!(Parser::new(None).parse(line.as_bytes()), Parsed::Nothing, "{line:?}");
        }
    }

    #[test]
    fn two_forms_are_not_mixed_in_one_manifest() {
        let digest = "00".repeat(32);
        let gnu = format!("{digest}  a");
        let bsd = format!("{digest} ab");
        let mut parser = Parser::new(None);
        assert!(matches!(parser.parse(gnu.as_bytes()), Parsed::Claim(_)));
        assert_eq!(parser.parse(bsd.as_bytes()), Parsed::Bad);
        let mut parser = Parser::new(None);
        assert!(matches!(parser.parse(bsd.as_bytes()), Parsed::Claim(_)));
        let Parsed::Claim(claim) = parser.parse(gnu.as_bytes()) else { panic!("a claim") };
        assert_eq!(&*claim.name, b" a", "the same form throughout");
    }

    #[test]
    fn lines_are_cut_and_bounded_wherever_the_input_breaks() {
        let long = "x".repeat(LINE_LEN_MAX);
        let text = format!("a\n\n{long}\n{long}x\nlast");
        for capacity in [1, 7, 8192] {
            let mut lines = Lines::with_capacity(capacity, text.as_bytes());
            let mut got = Vec::new();
            while let Some(line) = lines.next_line().unwrap() {
                got.push(match line {
                    Line::Whole(line) => line.len(),
                    Line::TooLong => usize::MAX,
                });
            }
            assert_eq!(got, [1, 0, LINE_LEN_MAX, usize::MAX, 4]);
            assert!(lines.line.capacity() <= 2 * LINE_LEN_MAX);
        }
    }
}
