//! Log events of the programs, one line each, on standard error, and as RFC 5424 to a collector; metrics,
//! and the listener that serves them (feature `http`).
//!
//! A program defines its events with [`events!`] and writes them through one [`Log`].
//! `docs/logs.md` has all events, the formats and the limits.
//!
//! Invariants:
//! - an event is one line of bounded length in every format, whatever words of a peer it contains;
//! - nobody who logs waits for whoever reads, once [`Log::write_in_background`] was called;
//! - a flood of one event does not hide another: each has [`LINES_MAX`] lines per second;
//! - a line that is not written is counted, and the count is logged.

#[cfg(feature = "log")]
pub mod dropped;
#[cfg(feature = "log")]
mod forward;
pub mod hardware;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "log")]
mod log;
#[cfg(feature = "http")]
pub mod metrics;
#[cfg(feature = "http")]
pub mod port_holder;
#[cfg(feature = "http")]
pub mod process;
#[cfg(feature = "log")]
mod render;
#[cfg(feature = "log")]
mod syslog;
mod utc;
#[cfg(feature = "log")]
mod writer;

#[cfg(feature = "log")]
pub use forward::{ForeignLine, Forwarder};
#[cfg(feature = "log")]
pub use log::{LINES_MAX, Log, LogEvent};
#[cfg(feature = "log")]
pub use render::{LINE_LEN_MAX, LineFormat, SYSLOG_LEN_MAX};
use std::fmt::Display;
#[cfg(feature = "log")]
pub use syslog::SyslogTarget;
pub use utc::utc;

/// Severity of an event, by the names of syslog(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Somebody has to act.
    Error,
    /// Something failed that the program handles.
    Warning,
    /// Normal operation; not marked in the line.
    Info,
}

impl Level {
    /// Its name in a line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// The part of an event that does not depend on its values.
#[derive(Debug)]
pub struct EventKind {
    /// Its name.
    pub name: &'static str,
    /// Severity.
    pub level: Level,
    /// Names of its fields.
    pub fields: &'static [&'static str],
    /// Message with the names of fields in braces.
    pub message: &'static str,
}

impl EventKind {
    /// Row of a table in Markdown, as `docs/logs.md` has it.
    #[must_use]
    pub fn row(&self) -> String {
        let Self { name, level, message, .. } = self;
        let (id, level) = (self.message_id(), level.name());
        let fields: Vec<_> = self.fields.iter().map(|field| format!("`{field}`")).collect();
        format!("| `{name}` | {level} | {} | {message} | {id} |\n", fields.join(", "))
    }

    /// Its MSGID for RFC 5424, a number that stays as long as its name does: FNV-1a (RFC 9923).
    #[must_use]
    pub fn message_id(&self) -> u32 {
        let add = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        self.name.bytes().fold(0x811c_9dc5, add)
    }
}

/// Checks that `docs/logs.md` has these events under the heading `program`: for tests.
///
/// # Panics
/// It lacks one, or has others.
pub fn assert_documented(program: &str, kinds: &[EventKind]) {
    let document = include_str!("../../../docs/logs.md");
    let (_, section) = document.split_once(&format!("\n### {program}\n")).expect("a heading");
    let section = section.split_once("\n#").map_or(section, |(section, _)| section);
    let documented: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).collect();
    let table: String = kinds.iter().map(EventKind::row).collect();
    assert_eq!(documented.get(1..).unwrap_or_default().join("\n") + "\n", table, "{table}");
}

/// Something that an operator should know; its `Display` is the message.
pub trait Event: Display {
    /// The part that it shares with others of its kind.
    fn kind(&self) -> &'static EventKind;

    /// Calls `visit` with the name and the value of each field.
    fn fields(&self, visit: &mut dyn FnMut(&'static str, &dyn Display));
}

/// Defines an enum of [`Event`]s: per variant a level, fields that implement `Display`, and the
/// message with all of them.
#[macro_export]
macro_rules! events {
    ($(#[$meta:meta])* $vis:vis enum $name:ident<$life:lifetime> {
        $($level:ident $variant:ident { $($field:ident: $type:ty),* } => $text:literal,)+
    }) => {
        $(#[$meta])*
        #[allow(missing_docs, reason = "the message of each variant documents it")]
        $vis enum $name<$life> { $($variant { $($field: $type),* }),+ }

        impl $name<'_> {
            /// All kinds of these events.
            $vis const KINDS: &'static [$crate::EventKind] = &[$($crate::EventKind {
                name: stringify!($variant),
                level: $crate::Level::$level,
                fields: &[$(stringify!($field)),*],
                message: $text,
            }),+];
        }

        impl $crate::Event for $name<'_> {
            fn kind(&self) -> &'static $crate::EventKind {
                #[derive(Clone, Copy)]
                enum Number { $($variant),+ }
                let number = match self { $(Self::$variant { .. } => Number::$variant),+ };
                &Self::KINDS[number as usize]
            }

            fn fields(&self, visit: &mut dyn FnMut(&'static str, &dyn ::std::fmt::Display)) {
                match self {
                    $(Self::$variant { $($field),* } => { $(visit(stringify!($field), $field);)* }),+
                }
            }
        }

        impl ::std::fmt::Display for $name<'_> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self { $(Self::$variant { $($field),* } => ::std::write!(f, $text)),+ }
            }
        }
    };
}

/// Control characters, line separators, and those that reverse the direction of text.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
