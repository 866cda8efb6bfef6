//! Options of the GNU digest tools, and what they mean together.

use super::getopt::{self, Misuse, OptionSpec};
use super::tool::Tool;
use std::ffi::{OsStr, OsString};

/// Reports about the files of a list. Each such option overrides those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reporting {
    #[default]
    All,
    /// All, and each improperly formatted line.
    Warn,
    /// All but what is OK.
    Quiet,
    /// Nothing: the exit status tells.
    Status,
}

/// Options, once they are known to fit together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GnuOptions {
    pub(super) is_check: bool,
    pub(super) is_binary: bool,
    pub(super) is_tagged: bool,
    pub(super) is_zero: bool,
    pub(super) ignores_missing: bool,
    pub(super) is_strict: bool,
    pub(super) report: Reporting,
    /// Bytes of a digest of b2sum, if they were asked for.
    pub(super) digest_len: Option<u8>,
}

/// Meaning of the arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ToolRequest<'a> {
    Run(GnuOptions, Vec<&'a OsStr>),
    Help,
    Version,
}

/// Invalid arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadUsage<'a> {
    /// With a hint at `--help`.
    Usage(Vec<u8>),
    /// A length that is no number, or one that is too large to be one.
    Length { text: &'a [u8], overflows: bool },
    /// A length that is not a number of bytes.
    UnevenLength { text: &'a [u8] },
    /// A length above the longest digest.
    LongLength { text: &'a [u8] },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Length,
    Check,
    IgnoreMissing,
    Reporting(Reporting),
    Strict,
    Tag,
    Zero,
    Binary,
    Text,
    Help,
    Version,
}

const fn spec(long: &'static str, short: Option<u8>, key: Key) -> OptionSpec<Key> {
    OptionSpec { long, short, takes_value: matches!(key, Key::Length), key }
}

/// In the order in which an ambiguous abbreviation lists them. The first is b2sum's only.
const SPECS: [OptionSpec<Key>; 13] = [
    spec("length", Some(b'l'), Key::Length),
    spec("check", Some(b'c'), Key::Check),
    spec("ignore-missing", None, Key::IgnoreMissing),
    spec("quiet", None, Key::Reporting(Reporting::Quiet)),
    spec("status", None, Key::Reporting(Reporting::Status)),
    spec("warn", Some(b'w'), Key::Reporting(Reporting::Warn)),
    spec("strict", None, Key::Strict),
    spec("tag", None, Key::Tag),
    spec("zero", Some(b'z'), Key::Zero),
    spec("binary", Some(b'b'), Key::Binary),
    spec("text", Some(b't'), Key::Text),
    spec("help", None, Key::Help),
    spec("version", None, Key::Version),
];

/// Why parsing ends early.
enum Early<'a> {
    Refused(BadUsage<'a>),
    Asked(ToolRequest<'a>),
}

impl From<Misuse> for Early<'_> {
    fn from(Misuse(text): Misuse) -> Self {
        Self::Refused(BadUsage::Usage(text))
    }
}

/// Options as they are typed.
#[derive(Default)]
struct Typed<'a> {
    options: GnuOptions,
    is_binary: Option<bool>,
    /// Bits, and how they were typed.
    length: Option<(u64, &'a [u8])>,
}

/// Parses the arguments of `tool`.
pub(super) fn parse<'a>(
    tool: &Tool,
    args: &'a [OsString],
    is_posix: bool,
) -> Result<ToolRequest<'a>, BadUsage<'a>> {
    let specs = if tool.has_length { &SPECS[..] } else { &SPECS[1..] };
    let mut typed = Typed::default();
    let operands = getopt::parse(specs, args, is_posix, |key, value| typed.take(key, value));
    match operands {
        Ok(operands) => typed.check().map(|options| ToolRequest::Run(options, operands)),
        Err(Early::Refused(refusal)) => Err(refusal),
        Err(Early::Asked(request)) => Ok(request),
    }
}

impl<'a> Typed<'a> {
    fn take(&mut self, key: Key, value: &'a [u8]) -> Result<(), Early<'a>> {
        let options = &mut self.options;
        match key {
            Key::Length => self.length = Some((length(value).map_err(Early::Refused)?, value)),
            Key::Check => options.is_check = true,
            Key::IgnoreMissing => options.ignores_missing = true,
            Key::Reporting(report) => options.report = report,
            Key::Strict => options.is_strict = true,
            Key::Tag => {
                options.is_tagged = true;
                self.is_binary = Some(true);
            }
            Key::Zero => options.is_zero = true,
            Key::Binary => self.is_binary = Some(true),
            Key::Text => self.is_binary = Some(false),
            Key::Help => return Err(Early::Asked(ToolRequest::Help)),
            Key::Version => return Err(Early::Asked(ToolRequest::Version)),
        }
        Ok(())
    }

    /// The options, if they fit together.
    fn check(self) -> Result<GnuOptions, BadUsage<'a>> {
        let Self { mut options, is_binary, length } = self;
        options.digest_len = match length {
            None | Some((0, _)) => None,
            Some((bits, text)) => match u8::try_from(bits / 8) {
                Ok(len) if usize::from(len) <= Tool::BLAKE2B_LEN_MAX => Some(len),
                _ => return Err(BadUsage::LongLength { text }),
            },
        };
        let GnuOptions { is_check, is_tagged, is_zero, ignores_missing, is_strict, report, .. } =
            options;
        let only_when_verifying = |option: &str| {
            format!("the --{option} option is meaningful only when verifying checksums")
        };
        let what = if is_tagged && is_binary == Some(false) {
            "--tag does not support --text mode".into()
        } else if is_zero && is_check {
            "the --zero option is not supported when verifying checksums".into()
        } else if is_tagged && is_check {
            "the --tag option is meaningless when verifying checksums".into()
        } else if is_binary.is_some() && is_check {
            "the --binary and --text options are meaningless when verifying checksums".into()
        } else if is_check {
            options.is_binary = false;
            return Ok(options);
        } else if ignores_missing {
            only_when_verifying("ignore-missing")
        } else {
            match report {
                Reporting::Status => only_when_verifying("status"),
                Reporting::Warn => only_when_verifying("warn"),
                Reporting::Quiet => only_when_verifying("quiet"),
                Reporting::All if is_strict => only_when_verifying("strict"),
                Reporting::All => {
                    options.is_binary = is_binary == Some(true);
                    return Ok(options);
                }
            }
        };
        Err(BadUsage::Usage(what.into_bytes()))
    }
}

/// A number of bits as strtoumax(3) reads it: blanks and a plus may come first.
fn length(text: &[u8]) -> Result<u64, BadUsage<'_>> {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b'\x0b');
    let digits = start.map_or(&b""[..], |start| &text[start..]);
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadUsage::Length { text, overflows: false });
    }
    let digits = std::str::from_utf8(digits).expect("digits are ASCII");
    let bits: u64 = digits.parse().map_err(|_| BadUsage::Length { text, overflows: true })?;
    if bits.is_multiple_of(8) { Ok(bits) } else { Err(BadUsage::UnevenLength { text }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tool: &str, args: &str, want: Result<GnuOptions, &str>) {
        let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
        match (parse(Tool::by_name(tool).unwrap(), &args, false), want) {
            (Ok(ToolRequest::Run(got, _)), Ok(want)) => assert_eq!(got, want, "{args:?}"),
            (Err(BadUsage::Usage(got)), Err(want)) => {
                assert_eq!(String::from_utf8(got).unwrap(), want, "{args:?}");
            }
            (got, want) => panic!("{args:?}: {got:?} instead of {want:?}"),
        }
    }

    #[test]
    fn later_options_override_earlier_ones() {
        let options = GnuOptions::default();
        check("sha256sum", "-b -t", Ok(options));
        check("sha256sum", "-t -b", Ok(GnuOptions { is_binary: true, ..options }));
        let tagged = GnuOptions { is_tagged: true, is_binary: true, ..options };
        check("sha256sum", "-t --tag", Ok(tagged));
        let checking = GnuOptions { is_check: true, ..options };
        check(
            "md5sum",
            "-c -w --status --quiet",
            Ok(GnuOptions { report: Reporting::Quiet, ..checking }),
        );
        check("b2sum", "-l 16 -l 0", Ok(options));
        check("b2sum", "-l 16 -l 512", Ok(GnuOptions { digest_len: Some(64), ..options }));
    }

    #[test]
    fn refuses_options_that_do_not_fit_together() {
        check("md5sum", "--tag -t", Err("--tag does not support --text mode"));
        let text = "the --binary and --text options are meaningless when verifying checksums";
        check("md5sum", "-c -t", Err(text));
        let text = "the --ignore-missing option is meaningful only when verifying checksums";
        check("md5sum", "--strict -w --ignore-missing", Err(text));
        check("md5sum", "-l 8", Err("invalid option -- 'l'"));
    }

    #[test]
    fn lengths_are_read_as_strtoumax_does() {
        assert_eq!(length(b"\t +016"), Ok(16));
        for text in [&b""[..], b"-8", b"8 ", b"8k", b"0x10", b"+", b"+ 8"] {
            assert_eq!(length(text), Err(BadUsage::Length { text, overflows: false }), "{text:?}");
        }
        let text = b"18446744073709551616";
        assert_eq!(length(text), Err(BadUsage::Length { text, overflows: true }));
        assert_eq!(length(b"7"), Err(BadUsage::UnevenLength { text: b"7" }));
    }
}
