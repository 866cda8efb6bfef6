//! One line for each thing an operator should know, on standard error.
//!
//! Invariant: a peer cannot flood it. Beyond [`LINES_MAX`] lines a [`PERIOD`] the rest is counted,
//! and the count is said. Control characters are escaped, so that no peer forges a line.

use super::clock::Clock;
use std::cell::Cell;
use std::io::Write;
use std::time::Duration;

const LINES_MAX: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Log {
    clock: Clock,
    period_start: Cell<Duration>,
    lines: Cell<u32>,
}

impl Log {
    pub(super) fn new() -> Self {
        let clock = Clock::start();
        Self { clock, period_start: Cell::new(Duration::ZERO), lines: Cell::new(0) }
    }

    pub(super) fn line(&self, text: &str) {
        let now = self.clock.now();
        if now - self.period_start.get() >= PERIOD {
            let dropped = self.lines.get().saturating_sub(LINES_MAX);
            self.period_start.set(now);
            self.lines.set(0);
            if dropped > 0 {
                write(&format!("{dropped} more lines in the second before"));
            }
        }
        self.lines.set(self.lines.get() + 1);
        if self.lines.get() <= LINES_MAX {
            write(text);
        }
    }
}

fn write(text: &str) {
    let safe: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    // A log that cannot be written must not stop the service.
    let _ = writeln!(std::io::stderr(), "hashcluster-controller: {safe}");
}
