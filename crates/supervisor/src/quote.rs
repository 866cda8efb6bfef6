//! Text as other programs read it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A word as a shell takes it.
pub(crate) fn shell(word: &OsStr) -> String {
    let Some(text) = word.to_str().filter(|text| !text.contains(char::is_control)) else {
        return escaped(word.as_bytes());
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A word with bytes that would not survive copy and paste, as bash and others take it.
fn escaped(word: &[u8]) -> String {
    let escape = |&byte: &u8| match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    format!("$'{}'", word.iter().map(escape).collect::<String>())
}

/// A path as a shell takes it.
pub(crate) fn path(path: &Path) -> String {
    shell(path.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_odd_characters_survives_copy_and_paste() {
        assert_eq!(path(Path::new("/run/user/7/hashcluster")), "/run/user/7/hashcluster");
        assert_eq!(path(Path::new("/a b/it's")), r"'/a b/it'\''s'");
        assert_eq!(shell(OsStr::new("")), "''");
        assert_eq!(shell(OsStr::new("$(x)")), "'$(x)'");
        assert_eq!(shell(OsStr::from_bytes(b"a\n'b\\\xff\x1b")), r"$'a\x0a\'b\\\xff\x1b'");
    }
}
