//! Values of keys: durations, rates, windows of the day, names.

use crate::NAME_LEN_MAX;
use ipc_proto::limits::STEP_NAME_LEN_MAX;
use std::fmt;
use std::time::Duration;

/// Units of a duration, in seconds, the largest first.
const DURATION_UNITS: [(char, u64); 5] =
    [('w', 7 * 86_400), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

const RATE_UNITS: [(char, u64); 4] =
    [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

const DAY_MINUTES: u16 = 24 * 60;

/// Hours of every day, in local time; a window may include midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daily {
    /// First minute, of 0 to 1439.
    from: u16,
    /// The minute after the last one, of 1 to 1440.
    to: u16,
}

/// A number of units, or several added up: `90s`, `1h30m`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (mut seconds, mut rest, mut units) = (0_u64, text, DURATION_UNITS.iter());
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        // The largest unit first, and none twice.
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(number.checked_mul(*factor)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(Duration::from_secs(seconds))
}

/// A duration as it is written in a file.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS {
        if rest >= factor {
            text += &format!("{}{unit}", rest / factor);
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Bytes per second: a number, and perhaps a unit.
#[must_use]
pub fn rate(text: &str) -> Option<u64> {
    let unit = RATE_UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
    let (number, factor) = unit.map_or((text, 1), |(_, factor)| (&text[..text.len() - 1], *factor));
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|rate| *rate > 0)
}

/// A rate as it is written in a file.
#[must_use]
pub fn rate_text(rate: u64) -> String {
    match RATE_UNITS.iter().find(|(_, factor)| rate.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", rate / factor),
        None => rate.to_string(),
    }
}

impl Daily {
    /// `HH:MM-HH:MM`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (clock_minute(from)?, clock_minute(to)?);
        (from < DAY_MINUTES && to > 0 && from != to).then_some(Self { from, to })
    }

    /// Returns true in the minute `minute` of the day.
    #[must_use]
    pub fn contains(self, minute: u16) -> bool {
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

impl fmt::Display for Daily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(|at| format!("{:02}:{:02}", at / 60, at % 60));
        write!(f, "{from}-{to}")
    }
}

fn clock_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_plain = matches!(text.len(), 1 | 2) && text.bytes().all(|c| c.is_ascii_digit());
        is_plain.then(|| text.parse::<u16>().ok())?
    };
    let (hour, minute) = (number(hour)?, number(minute).filter(|_| minute.len() == 2)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= DAY_MINUTES).then_some(at)
}

/// Letters, digits, `-` and `_`, and dots inside.
pub(crate) fn name(text: &str) -> Option<&str> {
    name_within(text, NAME_LEN_MAX)
}

/// The same of a task, in front of which are the groups that it is in.
pub(crate) fn task_name(text: &str) -> Option<&str> {
    name_within(text, STEP_NAME_LEN_MAX)
}

fn name_within(text: &str, len_max: usize) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..=len_max).contains(&text.len())
        && text.chars().all(is_plain)
        && !text.starts_with(['-', '.'])
        && !text.ends_with('.')
        && !text.contains("..");
    is_name.then_some(text)
}

/// A path below a dataset: relative, without `..`.
pub(crate) fn is_inside(path: &str) -> bool {
    path.len() <= ipc_proto::limits::PATH_LEN_MAX
        && !path.contains('\0')
        && (path.is_empty() || !path.split('/').any(|part| matches!(part, "" | "." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("1h30m", 5_400), ("2w", 1_209_600), ("1d12h", 129_600)]
        {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
            let written = duration_text(Duration::from_secs(seconds));
            assert_eq!(duration(&written), duration(text), "{text} is written as {written}");
        }
        for text in
            ["", "5", "m", "5 m", "-5m", "1m1h", "1h1h", "1.5h", "99999999999999999999w", "5µs"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn rates_are_read_and_written() {
        for (text, bytes, written) in [
            ("200M", 200 << 20, "200M"),
            ("1024K", 1 << 20, "1M"),
            ("1", 1, "1"),
            ("3G", 3 << 30, "3G"),
        ] {
            assert_eq!(rate(text), Some(bytes), "{text}");
            assert_eq!(rate_text(bytes), written);
        }
        for text in ["", "0", "M", "-1", "1.5M", "200m", "200MB", "99999999999T"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    #[test]
    fn a_window_may_include_midnight() {
        let night = Daily::parse("22:00-06:00").unwrap();
        for (hour, minute, want) in
            [(21, 59, false), (22, 0, true), (0, 0, true), (5, 59, true), (6, 0, false)]
        {
            assert_eq!(night.contains(hour * 60 + minute), want, "{hour}:{minute:02}");
        }
        assert_eq!(night.to_string(), "22:00-06:00");
        assert_eq!(Daily::parse("8:00-24:00").unwrap().to_string(), "08:00-24:00");
        for text in [
            "",
            "22-6",
            "22:00",
            "22:00-22:00",
            "24:00-06:00",
            "22:60-06:00",
            "+2:00-06:00",
            "2:0-3:00",
        ] {
            assert_eq!(Daily::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_stays_inside_its_dataset() {
        for path in ["", "a", "a/b", "a/..b", ".hidden"] {
            assert!(is_inside(path), "{path}");
        }
        for path in ["/a", "..", "a/../b", "./a", "a//b", "a/", "a\0"] {
            assert!(!is_inside(path), "{path}");
        }
    }
}
