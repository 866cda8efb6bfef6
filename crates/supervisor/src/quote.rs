//! Text as other programs read it.

use std::ffi::OsStr;
use std::path::Path;

/// A word as a shell takes it.
pub(crate) fn shell(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
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
    }
}
