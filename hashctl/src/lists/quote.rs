//! Names in messages for people, quoted as GNU tools quote them (`shell-escape`): plain where a
//! shell would take them as they are, else in a form that can be pasted into one. Nothing that moves
//! a terminal or turns text around passes; outside UTF-8 locales, nothing but ASCII does.

use std::env;
use std::fmt::Write;
use std::sync::OnceLock;
use telemetry::is_harmful;

/// Bytes that are special to a shell wherever they stand.
const SPECIAL: &[u8] = b" !\"$&'()*:;<=>?[\\^`|";

/// Those of them that mean the same inside double quotes.
const PLAIN_IN_DOUBLE_QUOTES: &[u8] = b" ':";

/// `name` as it appears in a message.
pub(crate) fn quote(name: &[u8]) -> String {
    quote_by(name, if is_utf8_locale() { |c| !is_harmful(c) } else { is_ascii_shown })
}

fn is_ascii_shown(c: char) -> bool {
    c.is_ascii() && !c.is_control()
}

/// True if messages may hold any character, by the variables that setlocale(3) asks.
fn is_utf8_locale() -> bool {
    static IS_UTF8: OnceLock<bool> = OnceLock::new();
    *IS_UTF8.get_or_init(|| {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// `name` as it appears where only characters for which `is_shown` holds may be printed.
pub(crate) fn quote_by(name: &[u8], is_shown: fn(char) -> bool) -> String {
    quote_from(name, is_shown, false)
}

/// As [`quote_by`], and in every byte as the GNU tools of version 9.1: where a name with a single quote
/// ends in an escape, they start as if one were open.
pub(crate) fn quote_as_gnu(name: &[u8], is_shown: fn(char) -> bool) -> String {
    let last = name.utf8_chunks().last();
    let ends_escaped = last.is_some_and(|chunk| match chunk.invalid() {
        [] => chunk.valid().chars().next_back().is_some_and(|c| !is_shown(c)),
        _ => true,
    });
    quote_from(name, is_shown, ends_escaped && name.contains(&b'\''))
}

fn quote_from(name: &[u8], is_shown: fn(char) -> bool, mut is_escaping: bool) -> String {
    let shown = std::str::from_utf8(name).ok().filter(|text| text.chars().all(is_shown));
    if let Some(text) = shown {
        if is_plain(name) {
            return text.to_owned();
        }
        if name.contains(&b'\'') && fits_double_quotes(name) {
            return format!("\"{text}\"");
        }
    }
    let mut text = String::with_capacity(name.len() + 2);
    text.push('\'');
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                // It ends an escape, too.
                '\'' => {
                    is_escaping = false;
                    text.push_str("'\\''");
                }
                _ if is_shown(c) => {
                    end_escape(&mut text, &mut is_escaping);
                    text.push(c);
                }
                _ => {
                    begin_escape(&mut text, &mut is_escaping);
                    escape(c, &mut text);
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
    let starts_plain = !matches!(name, [] | [b'#' | b'~', ..] | b"{" | b"}");
    starts_plain && !name.iter().any(|byte| SPECIAL.contains(byte))
}

fn fits_double_quotes(name: &[u8]) -> bool {
    let is_special = |byte: &u8| SPECIAL.contains(byte) && !PLAIN_IN_DOUBLE_QUOTES.contains(byte);
    // GNU does so only where they come first.
    let is_odd = |byte: &u8| matches!(byte, b'#' | b'~' | b'{' | b'}');
    !name.iter().any(is_special)
        && !name.iter().skip(1).any(is_odd)
        && !matches!(name, [b'{' | b'}', ..])
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

    fn quote(name: &[u8]) -> String {
        quote_by(name, |c| !is_harmful(c))
    }

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
            ("#x'y", "\"#x'y\""),
            ("{'", r"'{'\'''"),
            ("'~", r"''\''~'"),
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
        assert_eq!(quote(b"x\xff'"), r"'x'$'\377'\'''");
        assert_eq!(quote(b"x\xffy'z"), r"'x'$'\377''y'\''z'");
        assert_eq!(quote(b"a'\x01'b"), r"'a'\'''$'\001'\''b'");
    }

    #[test]
    fn the_fault_of_gnu_is_copied_where_every_byte_counts() {
        let quote = |name| quote_as_gnu(name, |c| !is_harmful(c));
        assert_eq!(quote(b"\x01'\x02"), r"'\001'\'''$'\002'");
        assert_eq!(quote(b"a'\xff"), r"'''a'\'''$'\377'");
        assert_eq!(quote(b"'\xffa"), r"''\'''$'\377''a'");
        assert_eq!(quote(b"a\xff"), r"'a'$'\377'");
    }

    #[test]
    fn only_ascii_is_shown_outside_utf8_locales() {
        for (name, want) in
            [("é", r"''$'\303\251'"), ("é'", r"''$'\303\251'\'''"), ("x'y", "\"x'y\"")]
        {
            assert_eq!(quote_by(name.as_bytes(), is_ascii_shown), want, "{name}");
        }
    }

    #[test]
    fn no_byte_reaches_the_terminal_as_a_control() {
        for byte in 0..=255_u8 {
            let text = quote(&[b'a', byte, b'\'', b'z']);
            assert!(!text.chars().any(char::is_control), "byte {byte}: {text:?}");
        }
    }
}
