//! The log of a program: which events become lines, and where those go.

use crate::dropped::DropReason;
use crate::render::{self, LogOrigin};
use crate::syslog::Collector;
use crate::writer::{Outlet, Writer};
use crate::{Event, EventKind, LineFormat, SyslogTarget, events};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Lines per event and second; a worker that is never left connected writes 40 (one per 25 ms).
pub const LINES_MAX: u32 = 50;
const PERIOD: Duration = Duration::from_secs(1);
/// Time that the last events of a process have.
const FLUSH_LIMIT: Duration = Duration::from_millis(200);

events! {
    /// Events of a log itself, which every program has.
    #[derive(Debug)]
    pub enum LogEvent<'a> {
        Warning Suppressed { of: &'a str, lines: u32 }
            => "{lines} more lines of {of} within a second were suppressed",
        Warning LinesLost { lines: u64 } => "{lines} more lines were dropped, as nobody took them",
    }
}

/// The log of one program, for all of its threads.
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    /// Lines begin with the time.
    has_time: AtomicBool,
    state: Mutex<LogState>,
    structured: OnceLock<Structured>,
    stderr: Writer,
}

/// State of a log that was configured.
#[derive(Debug)]
struct Structured {
    format: LineFormat,
    origin: LogOrigin,
    syslog: OnceLock<Writer>,
}

#[derive(Debug)]
struct LogState {
    period_start: Option<Instant>,
    /// Lines of this period, written or not, by event.
    lines: Vec<(&'static EventKind, u32)>,
    last_change: String,
}

impl Log {
    /// A log whose lines start with the name of the program.
    #[must_use]
    pub const fn new(program: &'static str) -> Self {
        let state = LogState { period_start: None, lines: Vec::new(), last_change: String::new() };
        Self {
            program,
            has_time: AtomicBool::new(false),
            state: Mutex::new(state),
            structured: OnceLock::new(),
            stderr: Writer::new(Outlet::Stderr, false),
        }
    }

    /// Writes lines of `format` on standard error, and the same events to `syslog`. To be called once,
    /// before a sandbox is entered.
    ///
    /// # Errors
    /// There is no way to the collector: its name is unknown, or the directory of its socket is not there.
    pub fn configure(&self, format: LineFormat, syslog: &SyslogTarget) -> io::Result<()> {
        let collector = Collector::open(syslog)?;
        let writer = collector.map(|collector| Writer::new(Outlet::Syslog(collector), true));
        let syslog = writer.map_or_else(OnceLock::new, OnceLock::from);
        let origin = LogOrigin::of_process(self.program);
        // A second call changes nothing.
        let _ = self.structured.set(Structured { format, origin, syslog });
        Ok(())
    }

    /// Writes the time before each line of text from now on: for a file, which nobody else stamps.
    pub fn stamp(&self) {
        self.has_time.store(true, Ordering::Relaxed);
    }

    /// Keeps events back until [`Self::write_in_background`] or [`Self::flush`].
    pub fn hold(&self) {
        self.stderr.hold();
    }

    /// Starts a thread per outlet, so that nobody who logs waits. `prepare` is called in each, with the
    /// directory of the collector's socket in the one that needs it: a sandbox that hides paths makes it
    /// that thread's working directory. It is the only place to have the descriptor.
    ///
    /// # Errors
    /// The system refused a thread, or `prepare` failed.
    pub fn write_in_background(
        &'static self,
        prepare: impl Fn(Option<File>) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<()> {
        let prepare = Arc::new(prepare);
        let report = |lines| self.line(&LogEvent::LinesLost { lines });
        let own = Arc::clone(&prepare);
        self.stderr.start("log", move || own(None), || self.watch_suppressed(), report)?;
        self.start_syslog(move |syslog| prepare(syslog.enter_directory()))
    }

    /// Starts the thread for the collector alone, in a process that keeps its paths.
    ///
    /// # Errors
    /// The system refused a thread.
    pub fn send_in_background(&'static self) -> io::Result<()> {
        self.start_syslog(|_| Ok(()))
    }

    /// Sends events to another collector from now on, or to none: for a process that keeps its paths.
    ///
    /// # Errors
    /// There is no way to the collector, and the one of before stays; or the system refused a thread.
    pub fn turn_to(&'static self, target: &SyslogTarget) -> io::Result<()> {
        if self.structured.get().is_none() {
            self.configure(LineFormat::Text, &SyslogTarget::Off)?;
        }
        let collector = Collector::open(target)?;
        let Some(structured) = self.structured.get() else { return Ok(()) };
        match (structured.syslog.get(), collector) {
            (Some(syslog), collector) => syslog.turn_to(collector.into()),
            (None, None) => {}
            (None, Some(collector)) => {
                let _ = structured.syslog.set(Writer::new(Outlet::Syslog(collector), true));
                self.send_in_background()?;
            }
        }
        Ok(())
    }

    fn start_syslog(
        &'static self,
        prepare: impl FnOnce(&Writer) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let Some(structured) = self.structured.get() else { return Ok(()) };
        let Structured { origin, syslog, .. } = structured;
        let Some(syslog) = syslog.get() else { return Ok(()) };
        let report = |lines| render::rfc5424(origin, &LogEvent::LinesLost { lines });
        syslog.start("syslog", move || prepare(syslog), || None, report)
    }

    /// Waits until all events are written, but no longer than a moment: to be called before the process
    /// ends.
    pub fn flush(&self) {
        self.write_suppressed(Instant::now(), true);
        self.stderr.flush(FLUSH_LIMIT);
        if let Some(syslog) = self.syslog() {
            syslog.flush(FLUSH_LIMIT);
        }
    }

    /// Writes an event, unless there were too many of its kind within the last second.
    pub fn log(&self, event: &impl Event) {
        if self.admits(Instant::now(), event.kind()) {
            self.write(event);
        }
    }

    /// Writes an event, unless it reads as the one before that came this way.
    pub fn log_change(&self, event: &impl Event) {
        let text = render::text(self.program, None, event);
        let mut state = self.state();
        if state.last_change != text {
            state.last_change = text;
            drop(state);
            self.log(event);
        }
    }

    fn syslog(&self) -> Option<&Writer> {
        self.structured.get().and_then(|structured| structured.syslog.get())
    }

    fn write(&self, event: &dyn Event) {
        self.stderr.write(self.line(event));
        if let Some(Structured { origin, syslog, .. }) = self.structured.get()
            && let Some(syslog) = syslog.get()
        {
            syslog.write(render::rfc5424(origin, event));
        }
    }

    /// The line for standard error.
    fn line(&self, event: &dyn Event) -> String {
        let time = SystemTime::now();
        match self.structured.get() {
            Some(Structured { format: LineFormat::Logfmt, origin, .. }) => {
                render::logfmt(origin, time, event)
            }
            Some(Structured { format: LineFormat::Json, origin, .. }) => {
                render::json(origin, time, event)
            }
            Some(Structured { format: LineFormat::Text, .. }) | None => {
                let time = self.has_time.load(Ordering::Relaxed).then_some(time);
                render::text(self.program, time, event)
            }
        }
    }

    /// Counts an event; false if it is one too many.
    fn admits(&self, now: Instant, kind: &'static EventKind) -> bool {
        self.write_suppressed(now, false);
        let mut state = self.state();
        let counted = state.lines.iter_mut().find(|(counted, _)| counted.name == kind.name);
        let lines = match counted {
            Some((_, lines)) => {
                *lines = lines.saturating_add(1);
                *lines
            }
            None => {
                state.lines.push((kind, 1));
                1
            }
        };
        let is_admitted = lines <= LINES_MAX;
        if !is_admitted {
            DropReason::Rate.count(1);
        }
        is_admitted
    }

    /// Begins another period if one is over or at its `end`, and returns what was suppressed in that.
    fn next_period(&self, now: Instant, end: bool) -> Vec<LogEvent<'static>> {
        let mut state = self.state();
        let is_over = |start| now.duration_since(start) >= PERIOD;
        if !end && state.period_start.is_some_and(|start| !is_over(start)) {
            return Vec::new();
        }
        state.period_start = Some(now);
        let counts = state.lines.drain(..);
        let beyond = counts.map(|(kind, lines)| (kind.name, lines.saturating_sub(LINES_MAX)));
        let beyond = beyond.filter(|(_, lines)| *lines > 0);
        beyond.map(|(of, lines)| LogEvent::Suppressed { of, lines }).collect()
    }

    fn write_suppressed(&self, now: Instant, end: bool) {
        for event in self.next_period(now, end) {
            self.write(&event);
        }
    }

    /// Writes what was suppressed once its second is over; returns when that is.
    fn watch_suppressed(&self) -> Option<Duration> {
        let now = Instant::now();
        self.write_suppressed(now, false);
        let state = self.state();
        let is_pending = state.lines.iter().any(|(_, lines)| *lines > LINES_MAX);
        let start = state.period_start.filter(|_| is_pending)?;
        Some((start + PERIOD).saturating_duration_since(now))
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    events! {
        #[derive(Debug)]
        enum Noise<'a> {
            Error Quarantined { worker: &'a str } => "worker {worker} is given no more work",
            Warning Refused { uid: u32 } => "peer refused: uid {uid}",
        }
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_hides_no_quarantine() {
        let (log, start) = (Log::new("test"), Instant::now());
        let [quarantined, refused] = Noise::KINDS else { panic!("two kinds") };
        for period in 0..3 {
            let now = start + PERIOD * period;
            let counts = log.next_period(now, false);
            let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
            let want = "950 more lines of Refused within a second were suppressed";
            assert_eq!(counts, vec![want; usize::from(period > 0)], "period {period}");
            let admitted = (0..1000).filter(|_| log.admits(now, refused)).count();
            assert_eq!(admitted, LINES_MAX as usize, "period {period}");
            let quarantine = Noise::Quarantined { worker: "liar" };
            assert_eq!(quarantine.kind().name, quarantined.name);
            assert!(log.admits(now, quarantined));
        }
        assert!(DropReason::Rate.lines() >= 3 * 950);
        assert_eq!(log.next_period(start, true).len(), 1, "the end of a process does not wait");
    }

    #[test]
    fn a_stamped_line_begins_with_its_time() {
        let log = Log::new("test");
        log.stamp();
        let line = log.line(&Noise::Refused { uid: 7 });
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!((time.len(), rest), (20, "test: warning: peer refused: uid 7\n"), "{line}");
    }

    #[test]
    fn a_change_is_logged_once() {
        let log = Log::new("test");
        let logged = |uid| {
            let lines = |log: &Log| log.state().lines.iter().map(|(_, lines)| *lines).sum::<u32>();
            let before = lines(&log);
            log.log_change(&Noise::Refused { uid });
            lines(&log) - before
        };
        assert_eq!([1, 1, 2, 1].map(logged), [1, 0, 1, 1]);
    }

    #[test]
    fn every_log_has_the_documented_events_of_its_own() {
        crate::assert_documented("Every program", LogEvent::KINDS);
    }
}
