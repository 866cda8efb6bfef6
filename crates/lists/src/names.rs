//! Names in lists: their escapes, and what the name of a list itself says.

use super::digest::by_tag;
use crate::function::Function;

/// The name that a line with a backslash at its start has escaped.
pub fn unescape(name: &[u8]) -> Option<Vec<u8>> {
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

/// The name that a BagIt manifest has percent-encoded: of newlines and the percent sign, and of
/// nothing else (RFC 8493, section 2.1.3).
pub(super) fn percent_decode(mut name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    while let Some((&byte, rest)) = name.split_first() {
        let (byte, len) = match name.first_chunk::<3>() {
            Some(b"%0A" | b"%0a") => (b'\n', 3),
            Some(b"%0D" | b"%0d") => (b'\r', 3),
            Some(b"%25") => (b'%', 3),
            _ => (byte, 1),
        };
        plain.push(byte);
        name = &rest[len - 1..];
    }
    plain
}

/// The last component of a path.
pub fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// `path` without its first `count` components, if it has more.
pub fn strip_components(path: &[u8], count: usize) -> Option<&[u8]> {
    let mut rest = path;
    for _ in 0..count {
        let start = rest.iter().position(|&byte| byte != b'/')?;
        let slash = rest[start..].iter().position(|&byte| byte == b'/')?;
        rest = &rest[start + slash..];
    }
    if count > 0 {
        let start = rest.iter().position(|&byte| byte != b'/')?;
        rest = &rest[start..];
    }
    Some(rest)
}

/// True for `manifest-ALGORITHM.txt` and `tagmanifest-ALGORITHM.txt`.
pub fn is_bag_manifest(list: &[u8]) -> bool {
    let base = base(list);
    let base = base.strip_prefix(b"tag").unwrap_or(base);
    let algorithm = base.strip_prefix(b"manifest-").and_then(|rest| rest.strip_suffix(b".txt"));
    algorithm.is_some_and(|tag| by_tag(tag).is_some())
}

/// The function that the name of a list has in it: `B3SUMS`, `f.b2`, `manifest-sha256.txt`.
pub(super) fn function_of_list(list: &[u8]) -> Option<Function> {
    let words = base(list).rsplit(|byte| !byte.is_ascii_alphanumeric());
    words.map(without_sum).find_map(by_tag)
}

fn without_sum(word: &[u8]) -> &[u8] {
    let lower = word.to_ascii_lowercase();
    let len =
        ["sums", "sum"].iter().find(|end| lower.ends_with(end.as_bytes())).map_or(0, |e| e.len());
    &word[..word.len() - len]
}

/// The file that a list is named after: `f` for `f.sha256`, `f.sha256sum` and `f.sha256.txt`, with
/// the directory of the list.
pub fn file_of_list(list: &[u8]) -> Option<&[u8]> {
    let list = list.strip_suffix(b".txt").unwrap_or(list);
    let dot = list.iter().rposition(|&byte| byte == b'.')?;
    by_tag(without_sum(&list[dot + 1..]))?;
    let file = &list[..dot];
    (!base(file).is_empty()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;

    #[test]
    fn only_newlines_and_the_percent_sign_are_percent_encoded() {
        assert_eq!(percent_decode(b"a%0Ab%0dc%2525%41%"), b"a\nb\rc%25%41%");
    }

    #[test]
    fn leading_components_are_stripped() {
        for (path, count, want) in [
            ("/a/b", 0, Some("/a/b")),
            ("/a/b", 1, Some("b")),
            ("a//b/c", 1, Some("b/c")),
            ("a/b/c", 2, Some("c")),
            ("a/b", 2, None),
            ("a/", 1, None),
            ("a", 1, None),
        ] {
            let stripped = strip_components(path.as_bytes(), count);
            assert_eq!(stripped, want.map(str::as_bytes), "{path} {count}");
        }
    }

    #[test]
    fn a_list_is_named_after_its_file_or_its_algorithm() {
        for (list, file) in [
            ("d/f.jar.sha1", Some("d/f.jar")),
            ("f.tar.gz.sha256sum", Some("f.tar.gz")),
            ("f.SHA-512", Some("f")),
            ("f.sha256.txt", Some("f")),
            ("f.b3", Some("f")),
            ("SHA256SUMS", None),
            ("list.txt", None),
            ("d/.md5", None),
        ] {
            assert_eq!(file_of_list(list.as_bytes()), file.map(str::as_bytes), "{list}");
        }
        for (list, algorithm) in [
            ("d/B3SUMS", Some(Algorithm::Blake3)),
            ("f.b2", Some(Algorithm::Blake2b)),
            ("x.b2sum", Some(Algorithm::Blake2b)),
            ("manifest-blake3.txt", Some(Algorithm::Blake3)),
            ("blake3/list", None),
            ("list", None),
        ] {
            assert_eq!(function_of_list(list.as_bytes()), algorithm.map(Function::from), "{list}");
        }
        assert!(is_bag_manifest(b"bag/manifest-sha512.txt"));
        assert!(is_bag_manifest(b"tagmanifest-md5.txt"));
        assert!(!is_bag_manifest(b"manifest-x.txt") && !is_bag_manifest(b"manifest.txt"));
    }
}
