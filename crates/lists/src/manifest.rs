//! Lists of digests, one line at a time: those of sha*sum, b3sum, the BSDs and OpenSSL, and those of
//! other tools, which are a table of rules in `formats`.
//!
//! Every command that reads lists does it so: [`Lines`](super::lines::Lines) cuts the input and
//! bounds the length of a line; a [`Parser`] per list, made with the name of the list, takes the
//! lines in order and says what each is. It finds out the format from line to line, so that lists
//! may be concatenated, mixed and signed; nothing is asked of the user.
//!
//! Rules for lines of digest and name are coreutils' (src/digest.c, `split_3`), for any algorithm of
//! ours. There are two forms of them, and the first good line fixes which one a list has: to mix them
//! would let somebody rename a file whose name starts with a space.
//!
//! Invariant: a claim has a digest of its function's length, and a name without zero bytes.

use super::digest::{Choice, Digest};
use super::formats::{Memory, RULES, tagged};
use super::names::{function_of_list, is_bag_manifest, percent_decode, unescape};
use super::signed::{Armor, Signed};
use crate::function::Function;
use ipc_proto::codec;
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::limits::CLAIMS_STATE_LEN_MAX;
use ipc_proto::message::{LimitExceeded, Message};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Mark of UTF-8 at the start of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file and its digest, by one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Function of the digest.
    pub function: Function,
    /// The digest that the file had.
    pub digest: Vec<u8>,
    /// The file.
    pub name: Cow<'a, [u8]>,
    /// Its length in bytes, where the list has it.
    pub size: Option<u64>,
}

/// Meaning of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Empty, a comment, or what a format has around its digests.
    Nothing,
    /// A file and its digest.
    Claim(Claim<'a>),
    /// A digest alone, before any claim: of the file that the list is named after (see
    /// [`file_of_list`](super::names::file_of_list)), or one that the user names.
    Digest(Function, Vec<u8>),
    /// The text from here on is signed, and nobody verifies the signature.
    Signed,
    /// Improperly formatted.
    Bad,
    /// A digest of a function that is not supported.
    Unsupported,
    /// The whole list cannot be read: what follows has no meaning.
    Refused(NotAList),
}

/// Reason why a file is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAList {
    /// Text in UTF-16, as some shells of Windows write it.
    Utf16,
    /// No text.
    Binary,
}

impl fmt::Display for NotAList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf16 => "the list is UTF-16; convert it with iconv -f UTF-16 -t UTF-8",
            Self::Binary => "not a list of digests but a binary file",
        })
    }
}

/// Something about a list besides claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The line of this number has a digest, and nothing says of which file.
    LoneDigest(u64),
    /// The line of this number has a digest of a function that is not supported.
    UnsupportedLine(u64),
    /// The line of this number has a name with too few components.
    ShortName(u64),
    /// The start of a signed text.
    Signed,
    /// The start of a list that is checked so that this can be resumed.
    Start,
    /// An entry that an earlier run verified.
    Verified,
    /// The list is no text that can be read.
    Refused(NotAList),
    /// All digests of the list were taken for this function by nothing but their length.
    Guess(Function),
    /// All lists end here.
    EndOfAll,
}

/// Between digest and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Separator {
    /// A space, and a space or an asterisk.
    Gnu,
    /// One space: `sum -r` of the BSDs.
    BsdReversed,
}

/// Reads the lines of one list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Parser {
    choice: Choice,
    separator: Option<Separator>,
    /// Names are percent-encoded.
    is_bag: bool,
    is_first: bool,
    armor: Armor,
    memory: Memory,
    guess: Guess,
}

/// Function of claims that name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Guess {
    NoClaim,
    /// All of them, by the length of their digests.
    All(Function),
    Mixed,
}

impl Message for Parser {
    fn check(&self) -> Result<(), LimitExceeded> {
        Ok(())
    }
}

impl Parser {
    /// A parser that takes lines without a tag as of `asked`, else as the name of the list says,
    /// else by the length of the digest.
    pub fn new(asked: Option<Function>, list: &[u8]) -> Self {
        let choice = Choice { asked, likely: function_of_list(list) };
        Self {
            choice,
            separator: None,
            is_bag: is_bag_manifest(list),
            is_first: true,
            armor: Armor::default(),
            memory: Memory::new(choice),
            guess: Guess::NoClaim,
        }
    }

    /// The function that every claim so far was taken for only because of its length.
    pub fn guess(&self) -> Option<Function> {
        match self.guess {
            Guess::All(function) => Some(function),
            Guess::NoClaim | Guess::Mixed => None,
        }
    }

    /// All that it knows, from which [`Self::restored`] goes on; `None` if that is more than a message takes.
    #[must_use]
    pub fn state(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        codec::encode_frame(self, &mut bytes).ok()?;
        bytes.drain(..PREFIX_LEN);
        (bytes.len() <= CLAIMS_STATE_LEN_MAX).then_some(bytes)
    }

    /// A parser in the middle of a list.
    #[must_use]
    pub fn restored(state: &[u8]) -> Option<Self> {
        codec::decode(state).ok()
    }

    /// Parses the next `line`, which comes without its newline.
    pub fn parse<'a>(&mut self, mut line: &'a [u8]) -> Parsed<'a> {
        if std::mem::take(&mut self.is_first) {
            if is_utf16(line) {
                return Parsed::Refused(NotAList::Utf16);
            }
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = match self.armor.take(line) {
            Signed::Text(line) => line,
            Signed::Start => return Parsed::Signed,
            Signed::Around => return Parsed::Nothing,
        };
        if line.starts_with(b"#") {
            return Parsed::Nothing;
        }
        let text = trim_start(line);
        if text.is_empty() {
            self.memory.end_paragraph();
            return Parsed::Nothing;
        }
        if let Some(parsed) = self.memory.section(line) {
            return self.count(parsed, None);
        }
        let (text, is_escaped) = match text.strip_prefix(b"\\") {
            Some(text) => (text, true),
            None => (text, false),
        };
        if let Some((digest, name)) = self.untagged(text).or_else(|| tagged(text)) {
            let name = match (is_escaped, self.is_bag) {
                (true, _) => unescape(name).map(Cow::Owned),
                (false, true) => Some(percent_decode(name).into()),
                (false, false) => Some(Cow::Borrowed(name)),
            };
            let guess = digest.is_guess.then_some(digest.function);
            return self.count(name.map_or(Parsed::Bad, |name| claim(digest, name, None)), guess);
        }
        if is_escaped {
            return Parsed::Bad;
        }
        let parsed = RULES.iter().find_map(|rule| rule(&mut self.memory, text));
        self.count(parsed.unwrap_or(Parsed::Bad), None)
    }

    /// Takes note of a claim, whose function may be a guess. A digest alone is one only where no
    /// claim was before.
    fn count<'a>(&mut self, parsed: Parsed<'a>, guess: Option<Function>) -> Parsed<'a> {
        if matches!(parsed, Parsed::Digest(..)) && self.guess != Guess::NoClaim {
            return Parsed::Bad;
        }
        if matches!(parsed, Parsed::Claim(_)) {
            self.guess = match (self.guess, guess) {
                (Guess::NoClaim, Some(guess)) => Guess::All(guess),
                (Guess::All(all), Some(guess)) if all == guess => Guess::All(all),
                _ => Guess::Mixed,
            };
        }
        parsed
    }

    /// A digest, and the name behind one or two separators.
    fn untagged<'a>(&mut self, line: &'a [u8]) -> Option<(Digest, &'a [u8])> {
        let digest_len = line.iter().position(|byte| b" \t".contains(byte))?;
        let (digest, after) = (&line[..digest_len], &line[digest_len + 1..]);
        let digest = Digest::parse(digest, self.choice)?;
        let name = if self.is_bag {
            let name = trim_start(after);
            name.strip_prefix(b"*").unwrap_or(name)
        } else {
            self.name(after)?
        };
        Some((digest, name))
    }

    fn name<'a>(&mut self, after: &'a [u8]) -> Option<&'a [u8]> {
        let (separator, name) = match (after, self.separator) {
            ([b' ' | b'*', name @ ..], None | Some(Separator::Gnu)) => (Separator::Gnu, name),
            (_, None | Some(Separator::BsdReversed)) => (Separator::BsdReversed, after),
            (_, Some(Separator::Gnu)) => return None,
        };
        if name.is_empty() {
            return None;
        }
        self.separator = Some(separator);
        Some(name)
    }
}

/// The claim of `digest` about `name`, if that can be a name.
pub(super) fn claim(digest: Digest, name: Cow<'_, [u8]>, size: Option<u64>) -> Parsed<'_> {
    let Digest { function, bytes: digest, .. } = digest;
    match name.is_empty() || name.contains(&0) {
        true => Parsed::Bad,
        false => Parsed::Claim(Claim { function, digest, name, size }),
    }
}

/// True if the first line of a text looks like UTF-16, with its mark or without.
fn is_utf16(line: &[u8]) -> bool {
    let zeros = line.first_chunk::<4>().map(|bytes| bytes.map(|byte| byte == 0));
    let has_mark = line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff");
    has_mark || matches!(zeros, Some([false, true, false, true] | [true, false, true, false]))
}

pub(super) fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !b" \t".contains(byte));
    start.map_or(&[], |start| &bytes[start..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;

    #[track_caller]
    fn check(asked: Option<Algorithm>, line: &str, want: Option<(Algorithm, &[u8])>) {
        let line = line
            .replace("H32", &"aB".repeat(32))
            .replace("H16", &"aB".repeat(16))
            .replace("H20", &"aB".repeat(20))
            .replace("H28", &"aB".repeat(28))
            .replace("H64", &"aB".repeat(64));
        match (Parser::new(asked.map(Function::from), b"").parse(line.as_bytes()), want) {
            (Parsed::Claim(claim), Some((algorithm, name))) => {
                assert_eq!((claim.function, &*claim.name), (algorithm.into(), name), "{line}");
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
        check(None, "H32 a", Some((sha256, b"a")));
        check(None, "H32\ta", Some((sha256, b"a")));
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
        check(asked, "sha2-256 (a) = H32", Some((Algorithm::Sha256, b"a")));
    }

    #[test]
    fn reports_improperly_formatted_lines() {
        for line in [
            "garbage",
            "H32 *",
            "H32\u{b}\u{b}a",
            "H32x  a",
            "xH32  a",
            "\\H32  a\\t",
            "\\H32  a\\",
            "\\H32",
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
        for line in ["", "\r", " ", "# comment"] {
            assert_eq!(Parser::new(None, b"").parse(line.as_bytes()), Parsed::Nothing, "{line:?}");
        }
    }

    #[test]
    fn a_parser_goes_on_from_its_state_after_every_line() {
        let hex = "ab".repeat(32);
        for (list, text) in [
            ("SHA256SUMS", format!("{hex}  a\n# x\n{hex}  b\nrubbish\n{hex} c\n")),
            (
                "x.dsc",
                format!("Format: 3.0\nChecksums-Sha256:\n {hex} 5 a\n {hex} 6 b\nFiles:\n x\n"),
            ),
            (
                "k",
                format!("%%%% HASHDEEP-1.0\n%%%% size,sha256,filename\n5,{hex},a\n6,{hex},b,c\n"),
            ),
            ("c", format!("SHA256 hash of a:\n{hex}\nSHA256 hash of b:\n{hex}\n")),
            (
                "p",
                format!(
                    "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{hex}  a\n- x\n-----BEGIN PGP SIGNATURE-----\nx\n"
                ),
            ),
            ("l", format!("Algorithm : SHA256\nHash : {hex}\nPath : a\n\nAlgorithm : MD5\n")),
        ] {
            let mut whole = Parser::new(None, list.as_bytes());
            let mut cut = Parser::new(None, list.as_bytes());
            for line in text.lines() {
                let want = whole.parse(line.as_bytes());
                cut = Parser::restored(&cut.state().unwrap()).unwrap();
                assert_eq!(cut.parse(line.as_bytes()), want, "{list}: {line}");
            }
            assert_eq!(cut.guess(), whole.guess(), "{list}");
        }
        assert!(Parser::restored(b"\x09").is_none());
        // What a format makes it keep is bounded where it leaves the process.
        let mut parser = Parser::new(None, b"");
        parser.parse(["path,hash", &",".repeat(CLAIMS_STATE_LEN_MAX)].concat().as_bytes());
        assert_eq!(parser.state(), None);
    }

    #[test]
    fn two_forms_are_not_mixed_in_one_manifest() {
        let digest = "00".repeat(32);
        let gnu = format!("{digest}  a");
        let bsd = format!("{digest} ab");
        let mut parser = Parser::new(None, b"");
        assert!(matches!(parser.parse(gnu.as_bytes()), Parsed::Claim(_)));
        assert_eq!(parser.parse(bsd.as_bytes()), Parsed::Bad);
        let mut parser = Parser::new(None, b"");
        assert!(matches!(parser.parse(bsd.as_bytes()), Parsed::Claim(_)));
        let Parsed::Claim(claim) = parser.parse(gnu.as_bytes()) else { panic!("a claim") };
        assert_eq!(&*claim.name, b" a", "the same form throughout");
    }

    #[test]
    fn a_line_without_a_digest_decides_no_form() {
        let gnu = format!("{}  a", "00".repeat(32));
        for asked in [None, Some(Algorithm::Sha256)] {
            for junk in ["Added 2 files", "00 x", "d41d8cd98f00b204e9800998ecf8427 x"] {
                let mut parser = Parser::new(asked.map(Function::from), b"");
                assert_eq!(parser.parse(junk.as_bytes()), Parsed::Bad, "{junk}");
                let Parsed::Claim(claim) = parser.parse(gnu.as_bytes()) else { panic!("{junk}") };
                assert_eq!(&*claim.name, b"a", "{junk}");
            }
        }
    }

    #[test]
    fn knows_what_was_guessed() {
        let digest = "00".repeat(32);
        for (lines, want) in [
            (vec![], None),
            (vec!["  a", "  b"], Some(Algorithm::Sha256)),
            (vec!["  a", "SHA256 (a) = "], None),
        ] {
            let mut parser = Parser::new(None, b"");
            for line in lines {
                let line = match line.strip_prefix(' ') {
                    Some(_) => format!("{digest}{line}"),
                    None => format!("{line}{digest}"),
                };
                assert!(matches!(parser.parse(line.as_bytes()), Parsed::Claim(_)));
            }
            assert_eq!(parser.guess(), want.map(Function::from));
        }
        let mut parser = Parser::new(Some(Algorithm::Sha256.into()), b"");
        parser.parse(format!("{digest}  a").as_bytes());
        assert_eq!(parser.guess(), None, "it was asked for");
    }
}
