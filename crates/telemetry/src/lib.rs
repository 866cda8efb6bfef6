//! Log events of the programs, one line each, `PROGRAM: [LEVEL: ]MESSAGE`, on standard error; metrics, and
//! the listener that serves them (feature `http`).
//!
//! A program defines its events with [`events!`] and writes them through one [`Log`].
//!
//! Invariants:
//! - an event is one line of at most [`LINE_LEN_MAX`] bytes, whatever words of a peer it contains;
//! - nobody who logs waits for whoever reads, once [`Log::write_in_background`] was called;
//! - a flood of one level does not hide another: each has [`LINES_MAX`] lines per second, and the
//!   lines beyond it are counted and the count is logged.

pub mod dropped;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
pub mod metrics;
#[cfg(feature = "http")]
pub mod process;
mod utc;
mod writer;

use dropped::DropReason;
use std::fmt::{self, Display, Write as _};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
pub use utc::utc;
use writer::Writer;

/// Bytes of a line with its newline, as many as a pipe takes in one piece (`PIPE_BUF`).
pub const LINE_LEN_MAX: usize = 4096;
/// Lines per level and second; a worker that is never left connected writes 40 (one per 25 ms).
pub const LINES_MAX: u32 = 50;
const PERIOD: Duration = Duration::from_secs(1);
/// Time that the last events of a process have.
const FLUSH_LIMIT: Duration = Duration::from_millis(200);

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
    const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Info];

    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Something that an operator should know; its `Display` is the message.
pub trait Event: Display {
    /// Severity.
    fn level(&self) -> Level;
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

        impl $crate::Event for $name<'_> {
            fn level(&self) -> $crate::Level {
                match self { $(Self::$variant { .. } => $crate::Level::$level),+ }
            }
        }

        impl ::std::fmt::Display for $name<'_> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self { $(Self::$variant { $($field),* } => ::std::write!(f, $text)),+ }
            }
        }
    };
}

/// The log of one program, for all of its threads.
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    /// Lines begin with the time.
    has_time: AtomicBool,
    state: Mutex<State>,
    writer: Writer,
}

#[derive(Debug)]
struct State {
    period_start: Option<Instant>,
    /// Lines of this period, written or not, by level.
    lines: [u32; Level::ALL.len()],
    last_change: String,
}

impl Log {
    /// A log whose lines start with the name of the program.
    #[must_use]
    pub const fn new(program: &'static str) -> Self {
        let lines = [0; Level::ALL.len()];
        let state = State { period_start: None, lines, last_change: String::new() };
        let has_time = AtomicBool::new(false);
        Self { program, has_time, state: Mutex::new(state), writer: Writer::new() }
    }

    /// Writes the time before each line from now on: for a file, which nobody else stamps.
    pub fn stamp(&self) {
        self.has_time.store(true, Ordering::Relaxed);
    }

    /// Keeps events back until [`Self::write_in_background`] or [`Self::flush`].
    pub fn hold(&self) {
        self.writer.hold();
    }

    /// Starts a thread that writes, so that nobody who logs waits; `prepare` is called in it.
    ///
    /// # Errors
    /// The system refused a thread.
    pub fn write_in_background(
        &'static self,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        self.writer.start(prepare)
    }

    /// Waits until all events are written, but no longer than a moment: to be called before the process
    /// ends.
    pub fn flush(&self) {
        self.writer.flush(FLUSH_LIMIT);
    }

    /// Writes an event, unless there were too many of its level within the last second.
    pub fn log(&self, event: &impl Event) {
        let text = self.text(Instant::now(), event);
        self.writer.write(text, |dropped| {
            let message = format_args!("{dropped} more lines were dropped, as nobody took them");
            self.line(Level::Warning, &message)
        });
    }

    /// Writes an event, unless it reads as the one before that came this way.
    pub fn log_change(&self, event: &impl Event) {
        let line = self.line(event.level(), event);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last_change != line {
            state.last_change = line;
            drop(state);
            self.log(event);
        }
    }

    /// The lines of an event, and of counts that are due.
    fn text(&self, now: Instant, event: &impl Event) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        if state.period_start.is_none_or(|start| now.duration_since(start) >= PERIOD) {
            state.period_start = Some(now);
            for (level, lines) in Level::ALL.into_iter().zip(&mut state.lines) {
                let dropped = std::mem::take(lines).saturating_sub(LINES_MAX);
                if dropped > 0 {
                    let name = level.name();
                    let message = format_args!("{dropped} more lines of level {name} were dropped");
                    text += &self.line(level, &message);
                }
            }
        }
        let lines = &mut state.lines[event.level() as usize];
        *lines = lines.saturating_add(1);
        if *lines <= LINES_MAX {
            text += &self.line(event.level(), event);
        } else {
            DropReason::Rate.count(1);
        }
        text
    }

    fn line(&self, level: Level, message: &dyn Display) -> String {
        let program = self.program;
        let mut line = Line(String::new());
        if self.has_time.load(Ordering::Relaxed) {
            line.0 = utc(SystemTime::now()) + " ";
        }
        let written = match level {
            Level::Info => write!(line, "{program}: {message}"),
            Level::Error | Level::Warning => write!(line, "{program}: {}: {message}", level.name()),
        };
        if written.is_err() {
            line.0.push('…');
        }
        line.0.push('\n');
        line.0
    }
}

/// A line that is written: escapes what would forge another or confuse a terminal, and fails when
/// it is full.
struct Line(String);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Room for the ellipsis, the newline and the longest escape, `\u{10ffff}`.
        const TEXT_LEN_MAX: usize = LINE_LEN_MAX - 3 - 1 - 10;
        for c in text.chars() {
            if self.0.len() > TEXT_LEN_MAX {
                return Err(fmt::Error);
            }
            if is_harmful(c) {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

/// Control characters, line separators, and those that reverse the direction of text.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    events! {
        enum Sample<'a> {
            Error Quarantined { worker: &'a str } => "worker {worker} is given no more work",
            Warning Refused { uid: u32 } => "peer refused: uid {uid}",
            Info Stops {} => "stops",
        }
    }

    fn written(log: &Log, now: Instant, event: &Sample<'_>) -> String {
        log.text(now, event)
    }

    #[track_caller]
    fn check(event: &Sample<'_>, want: &str) {
        assert_eq!(written(&Log::new("test"), Instant::now(), event), want);
    }

    #[test]
    fn a_line_names_the_program_and_all_levels_but_info() {
        check(&Sample::Stops {}, "test: stops\n");
        check(&Sample::Refused { uid: 7 }, "test: warning: peer refused: uid 7\n");
        let want = "test: error: worker w1 is given no more work\n";
        check(&Sample::Quarantined { worker: "w1" }, want);
    }

    #[test]
    fn words_of_a_peer_forge_no_line_and_reach_no_terminal() {
        let worker = "w\ntest: stops\r\u{1b}[2J\u{9b}\u{2028}\u{202e}é\\";
        let want = "test: error: worker w\\ntest: stops\\r\\u{1b}[2J\\u{9b}\\u{2028}\\u{202e}é\\ \
                    is given no more work\n";
        check(&Sample::Quarantined { worker }, want);
    }

    #[test]
    fn a_line_is_cut_at_its_limit() {
        for long in ["x", "é", "\u{1b}", "\u{10ffff}", "\u{202e}"].map(|c| c.repeat(100_000)) {
            let line =
                written(&Log::new("test"), Instant::now(), &Sample::Quarantined { worker: &long });
            assert!(line.len() <= LINE_LEN_MAX, "{}", line.len());
            assert!(line.len() > LINE_LEN_MAX - 30 && line.ends_with("…\n"), "{line}");
        }
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_hides_no_quarantine() {
        let (log, start) = (Log::new("test"), Instant::now());
        for period in 0..3 {
            let now = start + PERIOD * period;
            let refusals = (0..1000).map(|uid| written(&log, now, &Sample::Refused { uid }));
            let text: String = refusals.collect();
            assert_eq!(text.matches("refused").count(), LINES_MAX as usize, "period {period}");
            let count = "test: warning: 950 more lines of level warning were dropped\n";
            assert_eq!(text.starts_with(count), period > 0, "{text}");
            let quarantine = written(&log, now, &Sample::Quarantined { worker: "liar" });
            assert_eq!(quarantine, "test: error: worker liar is given no more work\n");
        }
    }

    #[test]
    fn a_stamped_line_begins_with_its_time() {
        let log = Log::new("test");
        log.stamp();
        let line = written(&log, Instant::now(), &Sample::Stops {});
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!((time.len(), rest), (20, "test: stops\n"), "{line}");
    }

    #[test]
    fn a_change_is_logged_once() {
        let log = Log::new("test");
        let logged = |uid| {
            let lines = |log: &Log| log.state.lock().unwrap().lines[Level::Warning as usize];
            let before = lines(&log);
            log.log_change(&Sample::Refused { uid });
            lines(&log) - before
        };
        assert_eq!([1, 1, 2, 1].map(logged), [1, 0, 1, 1]);
    }
}
