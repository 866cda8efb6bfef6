//! Progress: a line at the bottom of a terminal, or lines for a program.
//!
//! By default the line is shown on standard error if that is a terminal and standard output is none,
//! where it would be among the digests. Messages take its place for a moment (`say`).

use crate::engine::reorder::{Reorder, Tally};
use crate::json::{JsonName, put_line};
use crate::say;
use clap::ValueEnum;
use nix::poll::PollTimeout;
use overview::bytes;
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};
use telemetry::is_harmful;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Interval between updates; a shorter run has no line.
const INTERVAL: Duration = Duration::from_millis(500);

/// Columns where the terminal does not say how many it has.
const COLUMNS_DEFAULT: usize = 80;

/// The name of a file is shown in this many columns or more.
const NAME_COLUMNS_MIN: usize = 12;

/// Part of a new speed in the one that is shown, in percent: that of a moment jumps.
const NEW_SPEED_PERCENT: f64 = 30.0;

/// Form of the progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A line on standard error, if that is a terminal and standard output is none
    #[default]
    Auto,
    /// A line on standard error; one after the other if that is no terminal
    Always,
    /// None
    Never,
    /// One JSON object per line on standard error
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A line that the next one replaces.
    Line,
    Lines,
    Json,
}

/// Writes it from time to time.
#[derive(Debug)]
pub(crate) struct Progress {
    form: Form,
    started: Instant,
    due: Option<Instant>,
    last: (Instant, Tally),
    /// Bytes and files per second.
    speed: Option<(f64, f64)>,
}

impl Progress {
    pub(crate) fn start(mode: ProgressMode) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let form = match mode {
            ProgressMode::Auto if is_terminal && !io::stdout().is_terminal() => Some(Form::Line),
            ProgressMode::Auto | ProgressMode::Never => None,
            ProgressMode::Always if is_terminal => Some(Form::Line),
            ProgressMode::Always => Some(Form::Lines),
            ProgressMode::Json => Some(Form::Json),
        };
        let started = Instant::now();
        Self {
            due: form.map(|_| started + INTERVAL),
            form: form.unwrap_or(Form::Line),
            started,
            last: (started, Tally::default()),
            speed: None,
        }
    }

    /// Longest wait for events, if there is progress to write.
    pub(crate) fn timeout(&self) -> Option<PollTimeout> {
        self.due.map(poll_timeout)
    }

    /// Writes it, if it is time.
    pub(crate) fn show(&mut self, reorder: &Reorder, is_all_known: bool) {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            self.due = Some(now + INTERVAL);
            self.write(reorder, is_all_known, now, false);
        }
    }

    /// Writes the last one, where a program reads it, and leaves nothing on a terminal.
    pub(crate) fn end(&mut self, reorder: &Reorder) {
        say::clear();
        if self.due.take().is_some() && self.form == Form::Json {
            self.write(reorder, true, Instant::now(), true);
        }
    }

    fn write(&mut self, reorder: &Reorder, is_all_known: bool, now: Instant, is_over: bool) {
        let tally = reorder.tally();
        self.measure(tally, now);
        let name = reorder.current();
        let state =
            State { tally, is_all_known, speed: self.speed, elapsed: now - self.started, is_over };
        match self.form {
            Form::Line => say::replace(&state.line(name.as_deref(), columns())),
            Form::Lines => say::raw(&(state.line(name.as_deref(), usize::MAX) + "\n")),
            Form::Json => say::raw(&state.json(name.as_deref())),
        }
    }

    fn measure(&mut self, tally: Tally, now: Instant) {
        let (then, before) = std::mem::replace(&mut self.last, (now, tally));
        let seconds = (now - then).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let per_second = |now: u64, before: u64| as_float(now.saturating_sub(before)) / seconds;
        let new = (
            per_second(tally.bytes_done, before.bytes_done),
            per_second(tally.files_done, before.files_done),
        );
        let mix = |old: f64, new: f64| old + (new - old) * NEW_SPEED_PERCENT / 100.0;
        self.speed = Some(match self.speed {
            Some((bytes, files)) => (mix(bytes, new.0), mix(files, new.1)),
            None => new,
        });
    }
}

/// Columns of the terminal on standard error, now: it may have been resized.
fn columns() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    if columns == 0 { COLUMNS_DEFAULT } else { columns.into() }
}

#[expect(clippy::cast_precision_loss, reason = "a speed for people")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// Time until `due`, for poll(2).
pub(crate) fn poll_timeout(due: Instant) -> PollTimeout {
    let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// Progress of a run.
#[derive(Clone, Copy, Debug)]
struct State {
    tally: Tally,
    is_all_known: bool,
    speed: Option<(f64, f64)>,
    elapsed: Duration,
    is_over: bool,
}

/// The object that a program reads; its keys are in `docs/json.md`.
#[derive(Serialize)]
struct ProgressRecord<'a> {
    progress: &'static str,
    files: u64,
    files_done: u64,
    bytes: u64,
    bytes_done: u64,
    is_total_known: bool,
    elapsed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_ms: Option<u64>,
    /// The file that output waits for, as in other lines.
    #[serde(flatten)]
    name: Option<JsonName<'a>>,
}

impl State {
    /// Time that is left, once everything is listed. Lengths are known of files that were opened; the
    /// others count as files.
    fn eta(&self) -> Option<Duration> {
        let (bytes_speed, files_speed) = self.speed.filter(|_| self.is_all_known)?;
        let time = |total: u64, done: u64, speed: f64| match total.saturating_sub(done) {
            0 => Some(0.0),
            left => Some(as_float(left) / speed).filter(|seconds| seconds.is_finite()),
        };
        let Tally { files, bytes, files_done, bytes_done } = self.tally;
        let of_bytes = time(bytes, bytes_done, bytes_speed)?;
        // The last files may be long: then no file was done lately.
        let of_files = time(files, files_done, files_speed).unwrap_or(0.0);
        Duration::try_from_secs_f64(of_bytes.max(of_files)).ok()
    }

    /// One line of at most `columns` less one, as some terminals wrap after the last.
    fn line(&self, name: Option<&[u8]>, columns: usize) -> String {
        let Tally { files, bytes: total, files_done, bytes_done } = self.tally;
        let more = if self.is_all_known { "" } else { "+" };
        let mut parts = vec![
            format!("{} of {}{more}", bytes(bytes_done), bytes(total)),
            format!("{files_done} of {files}{more} files"),
        ];
        if let Some((speed, _)) = self.speed {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative"
            )]
            parts.push(format!("{}/s", bytes(speed as u64)));
        }
        parts.push(match self.eta() {
            Some(left) => format!("{} left", clock(left)),
            None => format!("{} elapsed", clock(self.elapsed)),
        });
        let room = columns.saturating_sub(1);
        while parts.len() > 1 && parts.join(", ").len() > room {
            parts.pop();
        }
        let mut line = parts.join(", ");
        line.truncate(room);
        let name_room = room.saturating_sub(line.len() + 2);
        if let Some(name) = name.filter(|_| name_room >= NAME_COLUMNS_MIN) {
            line += ", ";
            line += &end_of(name, name_room);
        }
        line
    }

    fn json(&self, name: Option<&[u8]>) -> String {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let Tally { files, bytes, files_done, bytes_done } = self.tally;
        let record = ProgressRecord {
            progress: if self.is_over { "end" } else { "now" },
            files,
            files_done,
            bytes,
            bytes_done,
            is_total_known: self.is_all_known,
            elapsed_ms: ms(self.elapsed),
            eta_ms: self.eta().map(ms),
            name: name.map(JsonName::new),
        };
        let mut line = Vec::new();
        put_line(&record, &mut line);
        String::from_utf8(line).expect("JSON is UTF-8")
    }
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The end of a name in so many columns.
fn end_of(name: &[u8], columns: usize) -> String {
    let shown = |c: char| if is_harmful(c) || c.is_control() { ' ' } else { c };
    let name: String = String::from_utf8_lossy(name).chars().map(shown).collect();
    if name.width() <= columns {
        return name;
    }
    let mut width = 1;
    let fits = |c: &char| {
        width += c.width().unwrap_or(0);
        width <= columns
    };
    let mut end: Vec<char> = name.chars().rev().take_while(fits).collect();
    // Marks that combine with a character that is cut off.
    while end.last().is_some_and(|c| c.width() == Some(0)) {
        end.pop();
    }
    ['…'].into_iter().chain(end.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(is_all_known: bool) -> State {
        let tally = Tally { files: 2_000, bytes: 64 << 20, files_done: 500, bytes_done: 16 << 20 };
        let speed = Some((8_388_608.0, 250.0));
        State { tally, is_all_known, speed, elapsed: Duration::from_secs(75), is_over: false }
    }

    #[test]
    fn the_line_has_done_total_speed_time_and_the_file() {
        let known = "16.0 MiB of 64.0 MiB, 500 of 2000 files, 8.0 MiB/s, 0:06 left";
        assert_eq!(state(true).line(None, 200), known);
        assert_eq!(state(true).line(Some(b"a/b"), 200), format!("{known}, a/b"));
        let growing = "16.0 MiB of 64.0 MiB+, 500 of 2000+ files, 8.0 MiB/s, 1:15 elapsed";
        assert_eq!(state(false).line(None, 200), growing);
    }

    #[test]
    fn a_line_never_fills_the_terminal_whatever_the_name_is() {
        let names =
            ["a/very/long/name/of/a/file".repeat(9), "漢字".repeat(60), "e\u{301}".repeat(99)];
        for name in names.iter().map(String::as_bytes).chain([&b"\xff\x1b[2J\n"[..]]) {
            for columns in 0..200 {
                let line = state(true).line(Some(name), columns);
                assert!(line.width() < columns.max(1), "{columns}: {line}");
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
        assert_eq!(end_of("漢字漢字".as_bytes(), 6), "…漢字");
        assert_eq!(end_of(b"abcdef", 4), "…def");
        assert_eq!(state(true).line(None, 24), "16.0 MiB of 64.0 MiB");
    }

    #[test]
    fn the_time_left_is_that_of_what_takes_longer() {
        let left = |tally, speed| State { tally, speed: Some(speed), ..state(true) }.eta();
        let tally = Tally { files: 10, bytes: 1000, files_done: 9, bytes_done: 500 };
        assert_eq!(left(tally, (100.0, 0.0)), Some(Duration::from_secs(5)));
        assert_eq!(left(tally, (100.0, 0.1)), Some(Duration::from_secs(10)));
        assert_eq!(left(tally, (0.0, 1.0)), None, "nothing moves");
    }
}
