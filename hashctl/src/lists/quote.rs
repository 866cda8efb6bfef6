//! Names in messages for people, quoted as GNU tools quote them in a UTF-8 locale
//! (`shell-escape`): plain where a shell would take them as they are, else in a form that can be
//! pasted into one. Nothing that moves a terminal or turns text around passes.

use std::fmt::Write;
use telemetry::is_harmful;

/// Bytes that are special to a shell wherever they stand.
const SPECIAL: &[u8] = b" !\"$&'()*:;<=>?[\\^`|";

/// Those of them that mean the same inside double quotes.
const PLAIN_IN_DOUBLE_QUOTES: &[u8] = b" ':";

/// `name` as it appears in a message.
pub(crate) fn quote(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    if is_plain(name) {
        text.push_str(&String::from_utf8_lossy(name));
        return text;
    }
    if name.contains(&b'\'') && fits_double_quotes(name) {
        text.push('"');
        text.push_str(&String::from_utf8_lossy(name));
        text.push('"');
        return text;
    }
    let mut is_escaping = false;
    text.push('\'');
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_harmful(c) {
                begin_escape(&mut text, &mut is_escaping);
                escape(c, &mut text);
            } else {
                end_escape(&mut text, &mut is_escaping);
                match c {
                    '\'' => text.push_str("'\\''"),
                    _ => text.push(c),
                }
            }
        }
        for &byte in chunk.invalid() {
            begin_escape(&mut text, &mut is_escaping);
            octal(byte, &mut text);
        }
    }
    text.push('\'');
    text
}

fn is_plain(name: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(name) else { return false };
    let starts_plain = !matches!(name, [] | [b'#' | b'~', ..] | b"{" | b"}");
    starts_plain && !name.iter().any(|byte| SPECIAL.contains(byte)) && !text.chars().any(is_harmful)
}

fn fits_double_quotes(name: &[u8]) -> bool {
    let is_special = |byte: &u8| SPECIAL.contains(byte) && !PLAIN_IN_DOUBLE_QUOTES.contains(byte);
    let text = std::str::from_utf8(name);
    text.is_ok_and(|text| !text.chars().any(is_harmful)) && !name.iter().any(is_special)
}

fn begin_escape(text: &mut String, is_escaping: &mut bool) {
    if !*is_escaping {
        text.push_str("'$'");
        *is_escaping = true;
    }
}

fn end_escape(text: &mut String, is_escaping: &mut bool) {
    if *is_escaping {
        text.push_str("''");
        *is_escaping = false;
    }
}

fn escape(c: char, text: &mut String) {
    let letter = match c {
        '\x07' => 'a',
        '\x08' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\x0b' => 'v',
        '\x0c' => 'f',
        '\r' => 'r',
        _ => {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| octal(byte, text));
            return;
        }
    };
    text.push('\\');
    text.push(letter);
}

fn octal(byte: u8, text: &mut String) {
    write!(text, "\\{byte:03o}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_gnu_does() {
        for (name, want) in [
            ("plain", "plain"),
            ("a#{~]", "a#{~]"),
            ("#a", "'#a'"),
            ("~a", "'~a'"),
            ("{", "'{'"),
            ("a b", "'a b'"),
            ("a:b", "'a:b'"),
            (r"a\b", r"'a\b'"),
            ("x'y", "\"x'y\""),
            ("q'$x", r"'q'\''$x'"),
            ("é", "é"),
            ("\t", r"''$'\t'"),
            ("a\nb", r"'a'$'\n''b'"),
            ("a\u{1}\u{2}b", r"'a'$'\001\002''b'"),
            ("\u{85}.no", r"''$'\302\205''.no'"),
            ("\u{202e}", r"''$'\342\200\256'"),
            ("", "''"),
        ] {
            assert_eq!(quote(name.as_bytes()), want, "{name:?}");
        }
        assert_eq!(quote(b"x\xff"), r"'x'$'\377'");
    }

    #[test]
    fn no_byte_reaches_the_terminal_as_a_control() {
        for byte in 0..=255_u8 {
            let text = quote(&[b'a', byte, b'\'', b'z']);
            assert!(!text.chars().any(char::is_control), "byte {byte}: {text:?}");
        }
    }
}
