//! Messages on standard error, in the words and the quotes of the GNU tools.

use super::charset::{is_shown, is_utf8};
use super::options::BadUsage;
use super::tool::Tool;
use crate::lists::quote::quote_as_gnu;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Standard error of a run. A failure to write there is remembered: it makes the exit status 1.
#[derive(Debug)]
pub(super) struct Errors {
    /// The name by which the program was called.
    program: Vec<u8>,
    is_open: bool,
    pub(super) is_failed: bool,
}

impl Errors {
    /// `is_open` is false if standard error was closed when the program started.
    pub(super) fn new(program: Vec<u8>, is_open: bool) -> Self {
        Self { program, is_open, is_failed: false }
    }

    /// Writes `PROGRAM: TEXT`.
    pub(super) fn say(&mut self, text: &[u8]) {
        self.write(&[&self.program[..], b": ", text, b"\n"].concat());
    }

    /// Reports arguments that are refused.
    pub(super) fn refuse(&mut self, refusal: &BadUsage<'_>) {
        let invalid = |text: &[u8]| format!("invalid length: {}", quote_locale(text, is_utf8()));
        match *refusal {
            BadUsage::Usage(ref text) => {
                self.say(text);
                let program = &self.program[..];
                self.write(&[b"Try '", program, b" --help' for more information.\n"].concat());
            }
            BadUsage::Length { text, overflows } => {
                let why = if overflows { ": Value too large for defined data type" } else { "" };
                self.say((invalid(text) + why).as_bytes());
            }
            BadUsage::UnevenLength { text } => {
                self.say(invalid(text).as_bytes());
                self.say(b"length is not a multiple of 8");
            }
            BadUsage::LongLength { text } => {
                self.say(invalid(text).as_bytes());
                let tag = quote_locale(b"BLAKE2b", is_utf8());
                let bits = 8 * Tool::BLAKE2B_LEN_MAX;
                self.say(format!("maximum digest length for {tag} is {bits} bits").as_bytes());
            }
        }
    }

    fn write(&mut self, text: &[u8]) {
        // In one piece, as others may write there, too.
        self.is_failed |= !self.is_open || io::stderr().write_all(text).is_err();
    }
}

/// A file's name as messages show it.
pub(super) fn quote_name(name: &[u8]) -> String {
    quote_as_gnu(name, is_shown)
}

/// A word between the quotation marks of the locale.
fn quote_locale(text: &[u8], is_utf8: bool) -> String {
    let (left, right) = if is_utf8 { ('‘', '’') } else { ('\'', '\'') };
    let mut quoted = String::from(left);
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                _ if c == right || c == '\\' => quoted.extend(['\\', c]),
                '\x07' => quoted.push_str("\\a"),
                '\x08' => quoted.push_str("\\b"),
                '\t' => quoted.push_str("\\t"),
                '\n' => quoted.push_str("\\n"),
                '\x0b' => quoted.push_str("\\v"),
                '\x0c' => quoted.push_str("\\f"),
                '\r' => quoted.push_str("\\r"),
                _ if is_shown(c) => quoted.push(c),
                _ => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| octal(byte, &mut quoted)),
            }
        }
        chunk.invalid().iter().for_each(|&byte| octal(byte, &mut quoted));
    }
    quoted.push(right);
    quoted
}

fn octal(byte: u8, text: &mut String) {
    write!(text, "\\{byte:03o}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_between_the_marks_of_the_locale() {
        for (text, utf8, other) in [
            ("7", "‘7’", "'7'"),
            ("x'y", "‘x'y’", r"'x\'y'"),
            ("a\\\t\x01", r"‘a\\\t\001’", r"'a\\\t\001'"),
        ] {
            assert_eq!(quote_locale(text.as_bytes(), true), utf8);
            assert_eq!(quote_locale(text.as_bytes(), false), other);
        }
        assert_eq!(quote_locale(b"\xff", true), "‘\\377’");
    }
}
