//! A finding about a file of a tree: the same line and the same keys in hashctl and in the HTTP API.

use crate::JsonName;
use ipc_proto::message::Failure;
use serde::Serialize;
use std::borrow::Cow;
use std::io;

/// A finding with the keys that `docs/json.md` lists. What does not apply has none.
#[derive(Clone, Debug, Serialize)]
pub struct FindingObject<'a> {
    /// The file.
    #[serde(flatten)]
    pub name: JsonName<'a>,
    /// The finding, as a word.
    pub status: &'static str,
    /// The name whose content it has.
    #[serde(flatten)]
    pub from: Option<JsonName<'a>>,
    /// Its length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The algorithm by which it has another digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Cow<'static, str>>,
    /// Its digest by that, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The digest that it should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
}

impl FindingObject<'_> {
    /// Appends the line of `hashctl audit`, without its end. Names that would break a line are escaped, with a backslash
    /// in front of the line, unless they are to be `plain`.
    pub fn put_text(&self, plain: bool, out: &mut Vec<u8>) {
        let name = self.name.bytes;
        let from = self.from.as_ref().map(|from| from.bytes);
        let is_escaped = !plain && [Some(name), from].into_iter().flatten().any(needs_escape);
        let put_name = |name: &[u8], out: &mut Vec<u8>| match is_escaped {
            true => escape(name, out),
            false => out.extend_from_slice(name),
        };
        if is_escaped {
            out.push(b'\\');
        }
        put_name(name, out);
        out.extend_from_slice(b": ");
        // Bit rot is to be seen among many lines.
        let word = if self.status == "rotted" { "ROTTED" } else { self.status };
        out.extend_from_slice(word.as_bytes());
        if let Some(from) = from {
            out.extend_from_slice(b" from ");
            put_name(from, out);
        }
        if let Some(error) = self.error {
            out.extend_from_slice(b" (");
            out.extend_from_slice(error.as_bytes());
            out.push(b')');
        }
    }
}

/// True if a name would break its line.
#[must_use]
pub fn needs_escape(name: &[u8]) -> bool {
    // Without an early end, so that many bytes are compared at once.
    name.iter().fold(false, |found, byte| found | matches!(byte, b'\\' | b'\n' | b'\r'))
}

/// Appends `name` in the form that goes with a backslash at the start of its line.
pub fn escape(name: &[u8], out: &mut Vec<u8>) {
    for &byte in name {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.push(byte),
        }
    }
}

/// The system's words for an error number, without the number.
#[must_use]
pub fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let suffix = format!(" (os error {errno})");
    text.strip_suffix(&suffix).map(str::to_owned).unwrap_or(text)
}

/// The reason why a file has no digest, for people.
#[must_use]
pub fn failure_text(failure: Failure) -> Cow<'static, str> {
    Cow::Borrowed(match failure {
        Failure::Io { errno } => return errno_text(errno).into(),
        Failure::Changed => "changed while it was read",
        Failure::NotRegular => "skipped: not a regular file",
        Failure::Invalid => "the worker did not take the input",
        Failure::Unsupported => {
            "no worker serves this algorithm, or takes files this way; see hashctl status"
        }
        Failure::UnknownDataset => "the controller does not know the dataset that it is in",
        Failure::Disputed => "each time it was hashed the digest was another; see hashctl status",
        Failure::Outside => "refused: its path leads out of the directory that the list is about",
        Failure::NotAList => "not a list of digests",
        Failure::BadLines { lines: 1 } => {
            "1 line is improperly formatted, or of an unsupported algorithm"
        }
        Failure::BadLines { lines } => {
            return format!(
                "{lines} lines are improperly formatted, or of an unsupported algorithm"
            )
            .into();
        }
        Failure::WorkersLost { attempts } => {
            return format!("lost {attempts} workers while they read it").into();
        }
    })
}
