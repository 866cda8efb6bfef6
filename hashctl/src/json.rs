//! Lines of JSON: one object each, whose keys `docs/json.md` lists. A change of their meaning is a new
//! [`VERSION`].

use crate::engine::reorder::Label;
use serde::Serialize;
use std::borrow::Cow;

/// Version of the keys.
const VERSION: u32 = 1;

pub(crate) use overview::{JsonName, LossObject};

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
    /// Every worker that was lost over it, of a durable job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) losses: Vec<LossObject<'a>>,
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
