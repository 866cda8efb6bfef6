//! The lines of a list as b3sum reads them: `DIGEST  NAME` or `BLAKE3 (NAME) = DIGEST`, with a
//! backslash in front if the name is escaped. Stricter than GNU's rules: whatever is not such a line
//! is an error, and a name that another name could be taken for is refused.

use std::fmt;

/// Length of a digest in a list.
pub(super) const DIGEST_LEN: usize = 32;

/// Stands in printed names for bytes that are not UTF-8, so it can mean any of them.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// One line: a file, and the digest that it had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CheckLine<'a> {
    pub(super) digest: [u8; DIGEST_LEN],
    /// The file.
    pub(super) path: String,
    /// The name as the line has it.
    pub(super) written: &'a str,
    pub(super) is_escaped: bool,
}

/// Reason why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadLine {
    Empty,
    Format,
    DigestLength,
    Hex,
    Escape,
    NoName,
    Nul,
    Replacement,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty line",
            Self::Format => "Invalid check line format",
            Self::DigestLength => "Invalid hash length",
            Self::Hex => "Invalid hex",
            Self::Escape => "Invalid backslash escape",
            Self::NoName => "empty file path",
            Self::Nul => "Null character in path",
            Self::Replacement => "Unicode replacement character in path",
        })
    }
}

/// Parses `line`, with or without what ends it.
pub(super) fn parse(line: &str) -> Result<CheckLine<'_>, BadLine> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(BadLine::Empty);
    }
    let (line, is_escaped) = match line.strip_prefix('\\') {
        Some(line) => (line, true),
        None => (line, false),
    };
    let (digest, written) = split(line).ok_or(BadLine::Format)?;
    let digest = decode(digest)?;
    let path = if is_escaped { unescape(written)? } else { written.to_owned() };
    if path.is_empty() {
        return Err(BadLine::NoName);
    }
    if path.contains('\0') {
        return Err(BadLine::Nul);
    }
    if path.contains(REPLACEMENT) {
        return Err(BadLine::Replacement);
    }
    Ok(CheckLine { digest, path, written, is_escaped })
}

/// Digest and name. Two spaces anywhere make it a line without a tag.
fn split(line: &str) -> Option<(&str, &str)> {
    line.split_once("  ").or_else(|| {
        let (name, digest) = line.strip_prefix("BLAKE3 (")?.rsplit_once(") = ")?;
        Some((digest, name))
    })
}

/// Bytes of a digest in lower-case digits.
fn decode(text: &str) -> Result<[u8; DIGEST_LEN], BadLine> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(BadLine::DigestLength) };
    let pairs: &[[u8; 2]; DIGEST_LEN] = pairs.try_into().map_err(|_| BadLine::DigestLength)?;
    let mut digest = [0; DIGEST_LEN];
    for (byte, &[high, low]) in digest.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Ok(digest)
}

fn digit(text: u8) -> Result<u8, BadLine> {
    match text {
        b'0'..=b'9' => Ok(text - b'0'),
        b'a'..=b'f' => Ok(text - b'a' + 10),
        _ => Err(BadLine::Hex),
    }
}

fn unescape(name: &str) -> Result<String, BadLine> {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('\\') => '\\',
                _ => return Err(BadLine::Escape),
            },
            c => c,
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, want: Result<&str, BadLine>) {
        let line = line.replace("H32", &"a0".repeat(DIGEST_LEN));
        let got = parse(&line);
        if let Ok(line) = &got {
            assert_eq!(line.digest, [0xa0; DIGEST_LEN]);
        }
        let got = got.map(|line| line.path);
        assert_eq!(got.as_deref().map_err(|why| *why), want, "{line:?}");
    }

    #[test]
    fn takes_the_two_forms_that_b3sum_prints() {
        check("H32  a", Ok("a"));
        check("H32  a\r\n", Ok("a"));
        check("H32   a  b ", Ok(" a  b "));
        check("H32  a\\nb", Ok("a\\nb"));
        check("\\H32  a\\nb\\\\c\\r", Ok("a\nb\\c\r"));
        check("BLAKE3 (a) = H32", Ok("a"));
        check("BLAKE3 (a) = b) = H32", Ok("a) = b"));
        check("\\BLAKE3 (a\\n) = H32", Ok("a\n"));
        check("H32  ü", Ok("ü"));
    }

    #[test]
    fn refuses_everything_else_with_its_reason() {
        for line in ["# comment", "H32", "H32 a", "H32 *a", "SHA256 (a) = H32", "BLAKE3 (a)= H32"] {
            check(line, Err(BadLine::Format));
        }
        for line in ["", "\n", "\r\r\n"] {
            check(line, Err(BadLine::Empty));
        }
        for line in ["#  a", "H32H32  a", "BLAKE3 (a  b) = H32", " H32  a", "BLAKE3 (a) = H32 "] {
            check(line, Err(BadLine::DigestLength));
        }
        for digit in ["A0", "g0", " 0", "ü"] {
            check(&format!("{}  a", digit.repeat(DIGEST_LEN)), Err(BadLine::Hex));
        }
        for line in ["\\H32  a\\t", "\\H32  a\\", "\\H32  \\ü"] {
            check(line, Err(BadLine::Escape));
        }
        check("H32  ", Err(BadLine::NoName));
        check("H32  a\0b", Err(BadLine::Nul));
        check("H32  a\u{fffd}", Err(BadLine::Replacement));
    }
}
