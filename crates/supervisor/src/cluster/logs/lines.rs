//! Which lines of a log are shown, and how.

use crate::supervise::log::BOOT;
use std::collections::VecDeque;
use std::time::SystemTime;
use telemetry::{is_harmful, utc};

/// Lines that are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) since: Option<SystemTime>,
    /// 0 is the present life of a VM, -1 the one before.
    pub(super) boot: Option<i32>,
    /// Lines at the end.
    pub(super) last: usize,
}

impl Wanted {
    pub(super) fn of(&self, lines: Vec<String>) -> VecDeque<String> {
        let mut lines = match self.boot {
            Some(boot) => of_boot(lines, boot),
            None => lines,
        };
        if let Some(since) = self.since {
            lines = since_time(lines, &utc(since));
        }
        lines.drain(..lines.len().saturating_sub(self.last));
        lines.into()
    }
}

/// The lines of one life of a VM.
fn of_boot(lines: Vec<String>, boot: i32) -> Vec<String> {
    let starts: Vec<usize> = (0..lines.len()).filter(|&i| is_boot(&lines[i])).collect();
    let back = usize::try_from(boot.unsigned_abs()).unwrap_or(usize::MAX);
    let from = match starts.len().checked_sub(back + 1) {
        Some(number) => starts[number],
        // What is before the first start that is in the log.
        None if back == starts.len() => 0,
        None => return Vec::new(),
    };
    let to = starts.iter().copied().find(|&start| start > from).unwrap_or(lines.len());
    lines.into_iter().take(to).skip(from).collect()
}

/// True for the mark of a boot. What a guest writes comes behind a time of its own line, or without one.
fn is_boot(line: &str) -> bool {
    time_of(line).is_some_and(|time| line[time.len()..].strip_prefix(' ') == Some(BOOT))
}

/// Lines of `since` and later; one without a time has that of the line before it.
fn since_time(lines: Vec<String>, since: &str) -> Vec<String> {
    let mut is_late = false;
    let mut judge = |line: &String| {
        if let Some(time) = time_of(line).map(str::to_owned).or_else(|| syslog_time(line, since)) {
            is_late = *time >= *since;
        }
        is_late
    };
    lines.into_iter().filter(|line| judge(line)).collect()
}

/// The time in UTC at the begin of a line.
pub(super) fn time_of(line: &str) -> Option<&str> {
    let time = line.get(.."2026-11-27T11:00:00Z".len())?;
    let is_good = |(i, byte): (usize, u8)| match i {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        19 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    time.bytes().enumerate().all(is_good).then_some(time)
}

/// The same of BusyBox syslogd, `Nov 27 11:00:00`, which leaves out the year: in that of `since`, or in the one
/// after it where that is nearer.
fn syslog_time(line: &str, since: &str) -> Option<String> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (month, rest) = line.split_at_checked(3)?;
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? / 3 + 1;
    let (day, clock) = rest.get(..13)?.split_at_checked(4)?;
    let day: u32 = day.trim().parse().ok()?;
    let (year, since_month) =
        (since.get(..4)?.parse::<u32>().ok()?, since.get(5..7)?.parse().ok()?);
    // A log of half a year ago is none of last January.
    let year = if month + 6 < since_month { year + 1 } else { year };
    let time = format!("{year}-{month:02}-{day:02}T{}Z", clock.trim());
    time_of(&time).filter(|whole| whole.len() == time.len()).map(str::to_owned)
}

/// A line without what would move a terminal.
pub(super) fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let plain = |c: char| if is_harmful(c) && c != '\t' { '?' } else { c };
    String::from_utf8_lossy(line).chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn select(selection: Wanted, lines: &[&str]) -> Vec<String> {
        selection.of(lines.iter().map(|line| (*line).to_owned()).collect()).into()
    }

    const ALL: Wanted = Wanted { since: None, boot: None, last: usize::MAX };

    #[test]
    fn a_boot_is_counted_back_from_the_present_one() {
        let mark = |time: &str| format!("{time} {BOOT}");
        let (first, second) = (mark("2026-11-27T11:00:00Z"), mark("2026-11-27T12:00:00Z"));
        let lines = ["lost", &first, "a", "b", &second, "c"];
        for (boot, want) in
            [(0, &[&second[..], "c"][..]), (-1, &[&first, "a", "b"]), (-2, &["lost"]), (-3, &[])]
        {
            assert_eq!(select(Wanted { boot: Some(boot), ..ALL }, &lines), want, "{boot}");
        }
    }

    #[test]
    fn lines_since_a_time_keep_those_without_one_behind_them() {
        let since = Some(UNIX_EPOCH + Duration::from_secs(1_795_777_200));
        let lines = ["early", "2026-11-27T10:59:59Z a", "b", "2026-11-27T11:00:00Z c", "d"];
        assert_eq!(select(Wanted { since, ..ALL }, &lines), lines[3..]);
        assert_eq!(select(Wanted { last: 2, ..ALL }, &lines), lines[3..]);
    }

    #[test]
    fn a_guest_forges_no_boot_and_no_line_ends_a_selection() {
        let forged = format!("2026-11-27T11:30:00Z 2026-11-27T11:30:00Z {BOOT}");
        let mark = format!("2026-11-27T11:00:00Z {BOOT}");
        let hostile = ["é", "9999-99-99T99:99:99", "2026-11-27T11:00:00é", "Nov", "Nov 27 é", BOOT];
        let lines: Vec<&str> = [&mark[..], &forged].into_iter().chain(hostile).collect();
        assert_eq!(select(Wanted { boot: Some(0), ..ALL }, &lines), lines);
        let since = Some(UNIX_EPOCH + Duration::from_secs(1_795_777_200));
        assert_eq!(select(Wanted { since, ..ALL }, &lines), lines);
    }

    #[test]
    fn lines_of_syslogd_are_told_apart_by_their_times() {
        let since = "2026-11-27T11:00:00Z";
        for (line, want) in [
            ("Nov 27 11:00:00 w daemon.info x: y", Some("2026-11-27T11:00:00Z")),
            ("Nov  1 01:02:03 w", Some("2026-11-01T01:02:03Z")),
            ("Jan  2 01:02:03 w", Some("2027-01-02T01:02:03Z")),
            ("ovD 27 11:00:00 w", None),
            ("Nov 2x 11:00:00 w", None),
            ("Nov 27 1x:00:00 w", None),
        ] {
            assert_eq!(syslog_time(line, since).as_deref(), want, "{line}");
        }
        let lines = ["Nov 27 10:59:59 w a", "Nov 27 11:00:01 w b"];
        let since = Some(UNIX_EPOCH + Duration::from_secs(1_795_777_200));
        assert_eq!(select(Wanted { since, ..ALL }, &lines), lines[1..]);
    }

    #[test]
    fn a_line_moves_no_terminal() {
        assert_eq!(printable(b"\x1b[2Ja\tb\xff\xc2\x9b\r"), "?[2Ja\tb\u{fffd}?");
    }
}
