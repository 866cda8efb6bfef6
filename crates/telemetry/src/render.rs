//! An event as a line: text, logfmt or JSON for standard error, RFC 5424 for a collector.
//!
//! Every line is whole in its format whatever its values are: they are escaped and cut one by one, so that
//! no cut ends within an escape, a quoted value or a character.

use crate::{Event, EventKind, ForeignLine, Level, is_harmful, utc};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};
use syslog::{Facility, Formatter5424, LogFormat as _, Severity};

/// Bytes of a line on standard error with its newline, as many as a pipe takes in one piece (`PIPE_BUF`).
pub const LINE_LEN_MAX: usize = 4096;
/// Bytes of an RFC 5424 message: every receiver should take as many (RFC 5424, section 6.1).
pub const SYSLOG_LEN_MAX: usize = 2048;

/// Bytes of the values that a structured line repeats beside its message, all together.
const FIELDS_LEN_MAX: usize = 1000;
/// Bytes of the message of a structured line on standard error.
const MESSAGE_LEN_MAX: usize = 2000;

/// Structured data of our events. Number 32473 is for those without one of their own (RFC 5612).
const SD_ID: &str = "hashcluster@32473";

/// Format of the lines on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// `PROGRAM: [LEVEL: ]MESSAGE`, for people.
    #[default]
    Text,
    /// `key=value` pairs.
    Logfmt,
    /// A JSON object per line.
    Json,
}

impl FromStr for LineFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "text" => Ok(Self::Text),
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err("unknown format; text, logfmt and json are known".to_owned()),
        }
    }
}

/// LogOrigin of lines: a program on a host.
#[derive(Debug)]
pub(crate) struct LogOrigin {
    pub(crate) program: &'static str,
    formatter: Formatter5424,
}

impl LogOrigin {
    pub(crate) fn of_process(program: &'static str) -> Self {
        let formatter = Formatter5424 {
            facility: Facility::LOG_DAEMON,
            hostname: this_host(),
            process: program.to_owned(),
            pid: std::process::id(),
        };
        Self { program, formatter }
    }

    fn host(&self) -> &str {
        self.formatter.hostname.as_deref().unwrap_or("localhost")
    }
}

/// The name of this host, if it can be in a header.
pub(crate) fn this_host() -> Option<String> {
    // The formatter is the one to ask the system.
    Formatter5424::default().hostname.filter(|host| is_header(host, 255))
}

/// A header's field ends at the first space, and is ASCII (RFC 5424, section 6).
fn is_header(text: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

/// `PROGRAM: [LEVEL: ]MESSAGE`, behind the time if there is one.
pub(crate) fn text(program: &str, time: Option<SystemTime>, event: &dyn Event) -> String {
    let mut line = time.map(|time| utc(time) + " ").unwrap_or_default();
    let level = match event.kind().level {
        Level::Info => String::new(),
        level @ (Level::Error | Level::Warning) => format!("{}: ", level.name()),
    };
    let room = LINE_LEN_MAX - 1 - line.len();
    put(&mut line, room, Escape::Text, &format_args!("{program}: {level}{event}"));
    line.push('\n');
    line
}

/// `key=value` pairs; a value that is not a plain word is quoted.
pub(crate) fn logfmt(origin: &LogOrigin, time: SystemTime, event: &dyn Event) -> String {
    let kind = event.kind();
    let mut line = format!("time={} level={}", precise(time), kind.level.name());
    let mut pair = |key: &str, len_max: usize, value: &dyn Display| {
        let mut text = String::new();
        put(&mut text, len_max, Escape::Quoted, value);
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
        let is_word = !text.is_empty() && text.chars().all(is_plain);
        let quote = if is_word { "" } else { "\"" };
        line += &format!(" {key}={quote}{text}{quote}");
    };
    pair("host", usize::MAX, &origin.host());
    pair("program", usize::MAX, &origin.program);
    pair("pid", usize::MAX, &origin.formatter.pid);
    pair("event", usize::MAX, &kind.name);
    pair("message", MESSAGE_LEN_MAX, &event);
    let len_max = field_len_max(kind);
    event.fields(&mut |name, value| pair(name, len_max, value));
    line.push('\n');
    line
}

/// An object; fields are an object of their own, so that none hides another key.
pub(crate) fn json(origin: &LogOrigin, time: SystemTime, event: &dyn Event) -> String {
    let kind = event.kind();
    let (time, pid) = (precise(time), origin.formatter.pid);
    let mut line = format!("{{\"time\":\"{time}\",\"pid\":{pid}");
    let mut string = |before: &str, key: &str, len_max: usize, value: &dyn Display| {
        line += &format!("{before}\"{key}\":\"");
        put(&mut line, len_max, Escape::Json, value);
        line.push('"');
    };
    string(",", "level", usize::MAX, &kind.level.name());
    string(",", "host", usize::MAX, &origin.host());
    string(",", "program", usize::MAX, &origin.program);
    string(",", "event", usize::MAX, &kind.name);
    string(",", "message", MESSAGE_LEN_MAX, &event);
    let len_max = field_len_max(kind);
    let mut before = ",\"fields\":{";
    event.fields(&mut |name, value| {
        string(before, name, len_max, value);
        before = ",";
    });
    line += if kind.fields.is_empty() { "}\n" } else { "}}\n" };
    line
}

/// A message as RFC 5424 has it: the event's name and fields are structured data.
pub(crate) fn rfc5424(origin: &LogOrigin, event: &dyn Event) -> String {
    let kind = event.kind();
    let mut data = BTreeMap::from([("event".to_owned(), kind.name.to_owned())]);
    let len_max = field_len_max(kind);
    event.fields(&mut |name, value| {
        let mut text = String::new();
        put(&mut text, len_max, Escape::Parameter, value);
        data.insert(name.to_owned(), text);
    });
    let data = BTreeMap::from([(SD_ID.to_owned(), data)]);
    message(&origin.formatter, kind.level, kind.message_id(), data, event)
}

/// The same of a line that another program wrote; it has no structured data.
pub(crate) fn foreign(line: &ForeignLine<'_>) -> String {
    let field = |text: &str, len_max| is_header(text, len_max).then(|| text.to_owned());
    let formatter = Formatter5424 {
        facility: Facility::LOG_DAEMON,
        hostname: field(line.host, 255),
        process: field(line.program, 48).unwrap_or_else(|| "-".to_owned()),
        pid: line.pid,
    };
    message(&formatter, line.level, 0, BTreeMap::new(), &line.text)
}

/// Parameters by the id of their element.
type StructuredData = BTreeMap<String, BTreeMap<String, String>>;

fn message(
    formatter: &Formatter5424,
    level: Level,
    id: u32,
    data: StructuredData,
    text: &dyn Display,
) -> String {
    let severity = match level {
        Level::Error => Severity::LOG_ERR,
        Level::Warning => Severity::LOG_WARNING,
        Level::Info => Severity::LOG_INFO,
    };
    let mut line = Vec::with_capacity(SYSLOG_LEN_MAX);
    formatter
        .format(&mut line, severity, (id, data, ""))
        .expect("memory takes all that is written");
    let mut line = String::from_utf8(line).expect("all parts are text");
    let room = SYSLOG_LEN_MAX - line.len();
    put(&mut line, room, Escape::Text, text);
    line
}

fn field_len_max(kind: &EventKind) -> usize {
    FIELDS_LEN_MAX / kind.fields.len().max(1)
}

/// A time to the microsecond, as RFC 5424 allows.
fn precise(time: SystemTime) -> String {
    let micros = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_micros());
    let mut text = utc(time);
    text.pop();
    text + &format!(".{micros:06}Z")
}

/// Notation of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    /// Harmful characters are escaped as in Rust.
    Text,
    /// The same in structured data, whose own escapes the formatter adds: the limit counts them.
    Parameter,
    /// The same between quotes.
    Quoted,
    Json,
}

impl Escape {
    fn push(self, out: &mut String, c: char) {
        if matches!(self, Self::Quoted | Self::Json) && matches!(c, '"' | '\\') {
            out.extend(['\\', c]);
        } else if !is_harmful(c) {
            out.push(c);
        } else if self == Self::Json {
            // None of these is outside the basic plane: there are no surrogates.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.extend(c.escape_default());
        }
    }

    fn len(self, escaped: &str) -> usize {
        let added = match self {
            Self::Parameter => escaped.matches(['"', '\\', ']']).count(),
            Self::Text | Self::Quoted | Self::Json => 0,
        };
        escaped.len() + added
    }
}

/// Appends `value`, escaped, as far as it fits into `len_max` bytes; an ellipsis marks a cut.
fn put(out: &mut String, len_max: usize, escape: Escape, value: &dyn Display) {
    // Room for the longest escape, `\\u{10ffff}`, and the ellipsis.
    let left = len_max.saturating_sub(11 + '…'.len_utf8());
    let is_cut = write!(Bounded { out: &mut *out, left: Some(left), escape }, "{value}").is_err();
    if is_cut {
        out.push('…');
    }
}

/// Text that is written up to a limit.
struct Bounded<'a> {
    out: &'a mut String,
    /// Bytes, after which there is only one more escape.
    left: Option<usize>,
    escape: Escape,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let left = self.left.ok_or(fmt::Error)?;
            let start = self.out.len();
            self.escape.push(self.out, c);
            let len = self.escape.len(&self.out[start..]);
            self.left = left.checked_sub(len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;
    use std::time::Duration;

    events! {
        enum Sample<'a> {
            Error Quarantined { worker: &'a str } => "worker {worker} is given no more work",
            Warning Refused { uid: u32 } => "peer refused: uid {uid}",
            Info Ends {} => "stops",
            Info Full { a: &'a str, b: &'a str, c: &'a str, d: &'a str, e: &'a str, f: &'a str }
                => "{a}{b}{c}{d}{e}{f}",
        }
    }

    const TIME: Duration = Duration::from_micros(1_795_777_200_000_042);

    fn origin() -> LogOrigin {
        let mut origin = LogOrigin::of_process("test");
        origin.formatter.hostname = Some("host".to_owned());
        origin.formatter.pid = 7;
        origin
    }

    /// The four lines of an event; the time of the last is left out.
    fn lines(event: &Sample<'_>) -> [String; 4] {
        let (origin, time) = (origin(), UNIX_EPOCH + TIME);
        let syslog = rfc5424(&origin, event);
        let (head, rest) = syslog.split_once(' ').unwrap();
        let syslog = format!("{head} TIME {}", rest.split_once(' ').unwrap().1);
        [
            text("test", None, event),
            logfmt(&origin, time, event),
            json(&origin, time, event),
            syslog,
        ]
    }

    const HOSTILE: &str = "w\ntest: stops\r\u{1b}[2J\u{9b}\u{2028}\u{202e}é\\\"] x=1";

    #[test]
    fn an_event_is_a_line_in_each_format() {
        let want = [
            "test: warning: peer refused: uid 7\n",
            "time=2026-11-27T11:00:00.000042Z level=warning host=host program=test pid=7 \
             event=Refused message=\"peer refused: uid 7\" uid=7\n",
            "{\"time\":\"2026-11-27T11:00:00.000042Z\",\"pid\":7,\"level\":\"warning\",\
             \"host\":\"host\",\"program\":\"test\",\"event\":\"Refused\",\
             \"message\":\"peer refused: uid 7\",\"fields\":{\"uid\":\"7\"}}\n",
            "<28>1 TIME host test 7 2438311299 [hashcluster@32473 event=\"Refused\" uid=\"7\"] \
             peer refused: uid 7",
        ];
        assert_eq!(lines(&Sample::Refused { uid: 7 }), want);
        let [text, _, json, syslog] = lines(&Sample::Ends {});
        assert_eq!(text, "test: stops\n");
        assert!(json.ends_with("\"message\":\"stops\"}\n"), "{json}");
        let data = "[hashcluster@32473 event=\"Ends\"] stops";
        assert_eq!(syslog, format!("<30>1 TIME host test 7 4263713723 {data}"));
    }

    #[test]
    fn words_of_a_peer_forge_no_line_and_reach_no_terminal() {
        let [text, logfmt, json, syslog] = lines(&Sample::Quarantined { worker: HOSTILE });
        let escaped = "w\\ntest: stops\\r\\u{1b}[2J\\u{9b}\\u{2028}\\u{202e}é\\\"] x=1";
        assert_eq!(text, format!("test: error: worker {escaped} is given no more work\n"));
        let quoted = "w\\ntest: stops\\r\\u{1b}[2J\\u{9b}\\u{2028}\\u{202e}é\\\\\\\"] x=1";
        assert!(logfmt.ends_with(&format!(" worker=\"{quoted}\"\n")), "{logfmt}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["fields"]["worker"], HOSTILE, "nothing is lost: {json}");
        let data = "worker=\"w\\\\ntest: stops\\\\r\\\\u{1b}[2J\\\\u{9b}\\\\u{2028}\\\\u{202e}é\\\\\\\"\\] x=1\"] ";
        assert!(syslog.contains(data), "{syslog}");
        for line in [text, logfmt, json, syslog + "\n"] {
            let harmful = line.strip_suffix('\n').unwrap().chars().filter(|c| is_harmful(*c));
            assert_eq!(harmful.count(), 0, "{line}");
        }
    }

    #[test]
    fn a_line_is_cut_at_its_limit_and_stays_whole() {
        for long in ["x", "é", "\u{1b}", "\u{10ffff}", "\u{202e}", "\\", "\"", "]", " "] {
            let long = long.repeat(100_000);
            let [a, b, c, d, e, f] = [&*long; 6];
            for event in [
                Sample::Quarantined { worker: &long },
                Sample::Full { a, b, c, d, e, f },
                Sample::Full { a: "", b: "", c: "", d: "", e: "", f },
            ] {
                let [text, logfmt, json, syslog] = lines(&event);
                assert!(text.ends_with("…\n") && text.len() > LINE_LEN_MAX - 30, "{text}");
                for line in [&text, &logfmt, &json] {
                    assert!(line.len() <= LINE_LEN_MAX, "{} bytes: {line}", line.len());
                }
                serde_json::from_str::<serde_json::Value>(&json).unwrap();
                assert!(logfmt.ends_with("…\n") || logfmt.ends_with("…\"\n"), "{logfmt}");
                // The test has replaced a time of at most 27 bytes.
                assert!(
                    syslog.len() - "TIME".len() + 27 <= SYSLOG_LEN_MAX,
                    "{} bytes",
                    syslog.len()
                );
                assert!(syslog.contains("…\"] ") && syslog.ends_with('…'), "{syslog}");
            }
        }
    }

    #[test]
    fn a_host_whose_name_cannot_be_in_a_header_is_localhost() {
        let mut origin = origin();
        origin.formatter.hostname = None;
        assert!(rfc5424(&origin, &Sample::Ends {}).contains(" localhost test 7 "));
    }

    #[test]
    fn a_line_of_another_program_stays_a_line_of_its_host() {
        let text = "a\n<8>1 - forged \u{1b}[2J";
        let line = ForeignLine { host: "w1", program: "sh", pid: 9, level: Level::Warning, text };
        let end = |line: &ForeignLine<'_>| foreign(line).split_once("Z ").unwrap().1.to_owned();
        assert!(foreign(&line).starts_with("<28>1 2"));
        assert_eq!(end(&line), "w1 sh 9 0 - a\\n<8>1 - forged \\u{1b}[2J");
        let forged = ForeignLine { host: "a b", program: "c d", ..line };
        assert!(end(&forged).starts_with("localhost - 9 0 - a"));
        let long = "x".repeat(5000);
        assert!(foreign(&ForeignLine { text: &long, ..line }).len() <= SYSLOG_LEN_MAX);
    }
}
