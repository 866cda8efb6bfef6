//! Formats of text: manifests, hexadecimal digits, quoted names.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod hex;
pub(crate) mod manifest;
pub(crate) mod quote;
