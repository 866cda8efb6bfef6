//! Lists of digests: what each line says, in the formats of many tools.
//!
//! [`Lines`](lines::Lines) cuts a text, and a [`Parser`](manifest::Parser) per list says what each line is. Both take
//! any bytes, in bounded memory.
//!
//! Not here: what becomes of a claim, and any file.

pub mod digest;
mod formats;
pub mod function;
pub mod hex;
pub mod lines;
pub mod manifest;
pub mod names;
mod signed;
