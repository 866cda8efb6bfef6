//! Lines of JSON: one object each, whose keys `docs/json.md` lists. A change of their meaning is a new
//! [`VERSION`].

use crate::engine::reorder::Label;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::borrow::Cow;

/// Version of the keys.
pub(crate) const VERSION: u32 = 1;

/// One line. What does not apply has no key.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record<'a> {
    pub(crate) version: Version,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    /// Instead of `name`, where that is not UTF-8: its bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name_b64: Option<String>,
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

/// [`VERSION`].
#[derive(Debug, Serialize)]
pub(crate) struct Version(u32);

impl Default for Version {
    fn default() -> Self {
        Self(VERSION)
    }
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

/// With padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

impl<'a> Record<'a> {
    /// A line about a file.
    pub(crate) fn of(label: Label<'a>) -> Self {
        let algorithm = Some(label.function.name());
        match std::str::from_utf8(label.name) {
            Ok(name) => Self { name: Some(name), algorithm, ..Self::default() },
            Err(_) => {
                let name_b64 = Some(base64(label.name));
                Self { name_b64, algorithm, ..Self::default() }
            }
        }
    }

    /// Appends the line.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self).expect("a vector takes everything");
        out.push(b'\n');
    }
}
