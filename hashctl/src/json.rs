//! Lines of JSON: one object each, whose keys `docs/json.md` lists. A change of their meaning is a new
//! [`VERSION`].

use crate::engine::reorder::Label;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// Version of the keys.
const VERSION: u32 = 1;

/// A name as a key and its value: `name`, or `name_b64` where the bytes are not UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonName<'a> {
    /// `name`, or another key that holds one.
    pub(crate) key: &'static str,
    pub(crate) bytes: &'a [u8],
}

impl<'a> JsonName<'a> {
    /// A name under the key `name`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { key: "name", bytes }
    }
}

impl Serialize for JsonName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match std::str::from_utf8(self.bytes) {
            Ok(text) => map.serialize_entry(self.key, text)?,
            // With padding (RFC 4648, section 4).
            Err(_) => {
                map.serialize_entry(&format!("{}_b64", self.key), &STANDARD.encode(self.bytes))?
            }
        }
        map.end()
    }
}

/// A line with the version of its keys.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    line: &'a T,
}

/// Appends `line`, an object, with the version and a newline.
pub(crate) fn put_line(line: &impl Serialize, out: &mut Vec<u8>) {
    let line = Versioned { version: VERSION, line };
    serde_json::to_writer(&mut *out, &line).expect("a vector takes everything");
    out.push(b'\n');
}

/// A line of `sum` and `check`. What does not apply has no key.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record<'a> {
    /// The file.
    #[serde(flatten)]
    pub(crate) name: Option<JsonName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) algorithm: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// The digest in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'a str>,
    /// Why the digest is another one, where a state tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a str>,
    /// The list, quoted for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) list: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<FileCounts>,
}

/// Numbers of files, in the last line of `check`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct FileCounts {
    pub(crate) files: u64,
    pub(crate) ok: u64,
    pub(crate) mismatch: u64,
    pub(crate) unreadable: u64,
    pub(crate) missing_ignored: u64,
    pub(crate) verified_earlier: u64,
}

impl<'a> Record<'a> {
    /// A line about a file.
    pub(crate) fn of(label: Label<'a>) -> Self {
        let name = Some(JsonName::new(label.name));
        Self { name, algorithm: Some(label.function.name()), ..Self::default() }
    }

    /// Appends the line.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_line(self, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_every_byte() {
        for (bytes, want) in [
            (&b"a\n\"b"[..], "{\"version\":1,\"name\":\"a\\n\\\"b\"}\n"),
            (b"\xff", "{\"version\":1,\"name_b64\":\"/w==\"}\n"),
            (b"\xff\xfea", "{\"version\":1,\"name_b64\":\"//5h\"}\n"),
            (b"fo\xef\xbf", "{\"version\":1,\"name_b64\":\"Zm/vvw==\"}\n"),
        ] {
            let mut out = Vec::new();
            put_line(&JsonName::new(bytes), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
