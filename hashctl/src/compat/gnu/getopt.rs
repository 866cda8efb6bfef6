//! Options in the grammar of getopt_long(3): short ones in clusters, long ones in any unambiguous
//! abbreviation, operands between them; with its messages.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// One option.
#[derive(Debug)]
pub(super) struct OptionSpec<K> {
    pub(super) long: &'static str,
    pub(super) short: Option<u8>,
    pub(super) takes_value: bool,
    pub(super) key: K,
}

/// Arguments that are no options of the program, with the message as bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misuse(pub(super) Vec<u8>);

impl Misuse {
    fn new(parts: [&[u8]; 3]) -> Self {
        Self(parts.concat())
    }
}

/// Calls `on_option` for each option of `args` in turn, with its value, and returns the operands.
/// `stops_at_operand` is the order that `POSIXLY_CORRECT` asks for.
///
/// # Errors
/// The first misuse, or the first error of `on_option`.
pub(super) fn parse<'a, K: Copy, E: From<Misuse>>(
    specs: &[OptionSpec<K>],
    args: &'a [OsString],
    stops_at_operand: bool,
    mut on_option: impl FnMut(K, &'a [u8]) -> Result<(), E>,
) -> Result<Vec<&'a OsStr>, E> {
    let mut operands = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"--" => {
                operands.extend(args.by_ref().map(OsString::as_os_str));
            }
            [b'-', b'-', long @ ..] => {
                let (spec, value) = long_option(specs, long)?;
                let value = match value {
                    Some(value) => value,
                    None if spec.takes_value => {
                        args.next().map(|arg| arg.as_bytes()).ok_or_else(|| {
                            Misuse::new([
                                b"option '--",
                                spec.long.as_bytes(),
                                b"' requires an argument",
                            ])
                        })?
                    }
                    None => b"",
                };
                on_option(spec.key, value)?;
            }
            [b'-', cluster @ ..] if !cluster.is_empty() => {
                let mut cluster = cluster;
                while let [short, rest @ ..] = cluster {
                    cluster = rest;
                    let spec = specs
                        .iter()
                        .find(|spec| spec.short == Some(*short))
                        .ok_or_else(|| Misuse::new([b"invalid option -- '", &[*short], b"'"]))?;
                    let mut value = &b""[..];
                    if spec.takes_value {
                        value = match std::mem::take(&mut cluster) {
                            [] => args.next().map(|arg| arg.as_bytes()).ok_or_else(|| {
                                Misuse::new([b"option requires an argument -- '", &[*short], b"'"])
                            })?,
                            rest => rest,
                        };
                    }
                    on_option(spec.key, value)?;
                }
            }
            _ => {
                operands.push(arg.as_os_str());
                if stops_at_operand {
                    operands.extend(args.by_ref().map(OsString::as_os_str));
                }
            }
        }
    }
    Ok(operands)
}

/// The option that `text`, which may have a value after `=`, names.
fn long_option<'a, 's, K>(
    specs: &'s [OptionSpec<K>],
    text: &'a [u8],
) -> Result<(&'s OptionSpec<K>, Option<&'a [u8]>), Misuse> {
    let name_len = text.iter().position(|&byte| byte == b'=').unwrap_or(text.len());
    let (name, value) = (&text[..name_len], text.get(name_len + 1..));
    let exact = specs.iter().find(|spec| spec.long.as_bytes() == name);
    let candidates = || specs.iter().filter(|spec| spec.long.as_bytes().starts_with(name));
    let spec = match (exact, candidates().count()) {
        (Some(spec), _) => spec,
        (None, 0) => return Err(Misuse::new([b"unrecognized option '--", text, b"'"])),
        (None, 1) => candidates().next().expect("it was just counted"),
        (None, _) => {
            let names: String = candidates().map(|spec| format!(" '--{}'", spec.long)).collect();
            let after = format!("' is ambiguous; possibilities:{names}");
            return Err(Misuse::new([b"option '--", text, after.as_bytes()]));
        }
    };
    if value.is_some() && !spec.takes_value {
        return Err(Misuse::new([
            b"option '--",
            spec.long.as_bytes(),
            b"' doesn't allow an argument",
        ]));
    }
    Ok((spec, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec<char>] = &[
        OptionSpec { long: "status", short: None, takes_value: false, key: 's' },
        OptionSpec { long: "strict", short: None, takes_value: false, key: 't' },
        OptionSpec { long: "binary", short: Some(b'b'), takes_value: false, key: 'b' },
        OptionSpec { long: "bin", short: None, takes_value: false, key: 'n' },
        OptionSpec { long: "length", short: Some(b'l'), takes_value: true, key: 'l' },
    ];

    /// Options with their values, then operands after a bar; or the message.
    fn parsed(args: &str, stops_at_operand: bool) -> String {
        let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
        let mut text = String::new();
        let operands = parse::<_, Misuse>(SPECS, &args, stops_at_operand, |key, value| {
            text.push(key);
            text.push_str(std::str::from_utf8(value).unwrap());
            text.push(' ');
            Ok(())
        });
        match operands {
            Ok(operands) => {
                let operands: Vec<&str> =
                    operands.iter().map(|name| name.to_str().unwrap()).collect();
                format!("{text}| {}", operands.join(" "))
            }
            Err(Misuse(text)) => String::from_utf8(text).unwrap(),
        }
    }

    #[test]
    fn options_and_operands_come_in_any_order() {
        for (args, want) in [
            ("a -b b", "b | a b"),
            ("a -- -b --x -- -", "| a -b --x -- -"),
            ("- -bb --stri", "b b t | -"),
            ("-l8 -l 16 -bl24 --len=32 --length 40 --l=", "l8 l16 b l24 l32 l40 l | "),
            ("-lb -l -b", "lb l-b | "),
            ("--bin --bina --binary", "n b b | "),
        ] {
            assert_eq!(parsed(args, false), want, "{args}");
        }
        assert_eq!(parsed("-b a -b -- c", true), "b | a -b -- c");
        assert_eq!(parsed("-b -- -b", true), "b | -b");
    }

    #[test]
    fn misuses_are_reported_in_the_words_of_getopt() {
        for (args, want) in [
            ("--st=1 a", "option '--st=1' is ambiguous; possibilities: '--status' '--strict'"),
            ("--stat=1", "option '--status' doesn't allow an argument"),
            ("--statuses", "unrecognized option '--statuses'"),
            ("--x=y", "unrecognized option '--x=y'"),
            ("-bx", "invalid option -- 'x'"),
            ("-bl", "option requires an argument -- 'l'"),
            ("--len", "option '--length' requires an argument"),
        ] {
            assert_eq!(parsed(args, false), want, "{args}");
        }
    }
}
