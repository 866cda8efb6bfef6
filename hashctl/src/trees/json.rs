//! JSON lines of the commands that work on trees: `docs/json.md`.

use crate::json::VERSION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A name as a key and its value: `name`, or `name_b64` where the bytes are not UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonName<'a> {
    /// `name`, or another key that holds one.
    pub(crate) key: &'static str,
    pub(crate) bytes: &'a [u8],
}

impl Serialize for JsonName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match std::str::from_utf8(self.bytes) {
            Ok(text) => map.serialize_entry(self.key, text)?,
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
            put_line(&JsonName { key: "name", bytes }, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
