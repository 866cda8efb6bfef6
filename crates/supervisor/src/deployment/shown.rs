//! Somebody's bytes in a message of ours: on one line, short, nothing that moves a terminal.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Characters that are shown at most.
const SHOWN_MAX: usize = 40;

/// Bytes in quotes, with escapes for what is not printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown(String);

impl Shown {
    pub(super) fn quoted(bytes: &[u8]) -> Self {
        Self(format!("\"{}\"", cut(escaped(bytes, '"'))))
    }

    /// Bytes without quotes, with escapes for what is not printable and for a quote.
    pub(super) fn bare(bytes: &[u8]) -> Self {
        Self(cut(escaped(bytes, '"')))
    }

    /// A text that may be long, without quotes.
    pub(super) fn cut(text: impl AsRef<str>) -> Self {
        Self(cut(escaped(text.as_ref().as_bytes(), '\0')))
    }

    /// A text of ours, or one that is known to be harmless.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path without quotes, whole.
pub(super) fn shown_path(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes(), '\0').concat()
}

fn cut(chars: Vec<String>) -> String {
    let end = if chars.len() > SHOWN_MAX { "…" } else { "" };
    chars.into_iter().take(SHOWN_MAX).chain([end.to_owned()]).collect()
}

/// One text per character, or per byte that is none.
fn escaped(bytes: &[u8], quote: char) -> Vec<String> {
    let mut shown = Vec::new();
    for chunk in bytes.utf8_chunks() {
        shown.extend(chunk.valid().chars().map(|c| match c {
            '"' | '\'' | '\\' if c != quote => c.to_string(),
            c => c.escape_debug().to_string(),
        }));
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], want: &str) {
        assert_eq!(Shown::quoted(bytes).to_string(), want);
    }

    #[test]
    fn what_would_move_a_terminal_is_escaped() {
        check(b"22x", r#""22x""#);
        check("naïve".as_bytes(), r#""naïve""#);
        check(b"\x1b[2J\r\n\0\x7f", r#""\u{1b}[2J\r\n\0\u{7f}""#);
        check(b"a\xffb\xc3", r#""a\xffb\xc3""#);
        check("\u{202e}\u{feff}\u{a0}".as_bytes(), r#""\u{202e}\u{feff}\u{a0}""#);
        check(br#"it's "\n""#, r#""it's \"\n\"""#);
    }

    #[test]
    fn what_is_long_is_cut() {
        check(&[b'x'; 40], &format!("\"{}\"", "x".repeat(40)));
        check(&[b'x'; 41], &format!("\"{}…\"", "x".repeat(40)));
    }

    #[test]
    fn a_path_is_shown_whole() {
        let path = format!("/a b/it's{}\n", "x".repeat(80));
        assert_eq!(shown_path(Path::new(&path)), path.replace('\n', "\\n"));
    }
}
