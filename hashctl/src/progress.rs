//! The progress line at the bottom of a terminal.
//!
//! It is shown on standard error if that is a terminal and standard output is none, where the line
//! would be among the digests. Messages take its place for a moment (`say`).

use crate::engine::reorder::Tally;
use crate::say;
use crate::size::bytes;
use nix::poll::PollTimeout;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Interval between updates; a shorter run has no line.
const INTERVAL: Duration = Duration::from_millis(500);

/// Writes the line from time to time.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    due: Option<Instant>,
}

impl Progress {
    pub(crate) fn start() -> Self {
        let is_seen = io::stderr().is_terminal() && !io::stdout().is_terminal();
        let started = Instant::now();
        Self { started, due: is_seen.then(|| started + INTERVAL) }
    }

    /// Longest wait for events, if the line is shown.
    pub(crate) fn timeout(&self) -> Option<PollTimeout> {
        self.due.map(poll_timeout)
    }

    /// Writes the line, if it is time.
    pub(crate) fn show(&mut self, tally: Tally, is_all_known: bool) {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            self.due = Some(now + INTERVAL);
            say::replace(&line(tally, is_all_known, now.duration_since(self.started)));
        }
    }
}

/// Time until `due`, for poll(2).
pub(crate) fn poll_timeout(due: Instant) -> PollTimeout {
    let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

fn line(tally: Tally, is_all_known: bool, elapsed: Duration) -> String {
    let Tally { files, bytes: total, files_done, bytes_done } = tally;
    let more = if is_all_known { "" } else { "+" };
    let ms = elapsed.as_millis().max(1);
    let rate = u64::try_from(u128::from(bytes_done) * 1000 / ms).unwrap_or(u64::MAX);
    format!(
        "{files_done} of {files}{more} files, {} of {}{more}, {}/s, {} s elapsed",
        bytes(bytes_done),
        bytes(total),
        bytes(rate),
        elapsed.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_line_has_done_total_and_rate() {
        let tally = Tally { files: 2_000, bytes: 64 << 20, files_done: 500, bytes_done: 16 << 20 };
        let known = line(tally, true, Duration::from_secs(2));
        assert_eq!(known, "500 of 2000 files, 16.0 MiB of 64.0 MiB, 8.0 MiB/s, 2 s elapsed");
        let growing = line(Tally::default(), false, Duration::ZERO);
        assert_eq!(growing, "0 of 0+ files, 0 B of 0 B+, 0 B/s, 0 s elapsed");
    }
}
