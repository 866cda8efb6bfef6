//! Formats of text: lists of digests, hexadecimal digits, quoted names.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod quote;

pub(crate) use ::lists::{digest, hex, lines, manifest, names};
