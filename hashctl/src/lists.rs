//! Formats of text: manifests, hexadecimal digits, quoted names.

pub(crate) mod hex;
pub(crate) mod manifest;
pub(crate) mod quote;
