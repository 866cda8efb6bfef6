//! Formats of text: lists of digests, hexadecimal digits, quoted names.

pub(crate) mod digest;
mod formats;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod hex;
pub(crate) mod lines;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod quote;
mod signed;
