//! Names of files in JSON, whose bytes need not be UTF-8.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A name as a key and its value: `name`, or `name_b64` where the bytes are not UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct JsonName<'a> {
    /// `name`, or another key that holds one.
    pub key: &'static str,
    /// The name.
    pub bytes: &'a [u8],
}

impl<'a> JsonName<'a> {
    /// A name under the key `name`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
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
