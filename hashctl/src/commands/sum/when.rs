//! Points in time, as `--newer-than` takes them: an age (`90d`, `12h`), a date of UTC, seconds since
//! 1970 (`@N`), or a file, whose last modification counts.

use crate::lists::quote::quote;
use crate::say::io_text;
use std::ffi::OsStr;
use std::fs::metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

const NS: i128 = 1_000_000_000;
const DAY_S: i128 = 24 * 60 * 60;

/// The time in nanoseconds since 1970.
///
/// # Errors
/// Words for a value that is nothing of this.
pub(super) fn parse(text: &OsStr) -> Result<i128, String> {
    let known = text.to_str().and_then(|text| {
        let seconds = || Some(text.strip_prefix('@')?.parse::<i64>().ok()?.into());
        seconds().or_else(|| date(text)).or_else(|| Some(now_s() - age(text)?))
    });
    if let Some(seconds) = known {
        return Ok(seconds * NS);
    }
    let name = quote(text.as_bytes());
    match metadata(text) {
        Ok(metadata) => Ok(i128::from(metadata.mtime()) * NS + i128::from(metadata.mtime_nsec())),
        Err(error) => Err(format!(
            "{name}: no age (90d), date (2026-01-31) or @SECONDS, and no file: {}",
            io_text(&error)
        )),
    }
}

fn now_s() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().into())
}

/// Seconds of `90d`, `12h` and so on.
fn age(text: &str) -> Option<i128> {
    let unit_s = match text.bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 60 * 60,
        b'd' => DAY_S,
        b'w' => 7 * DAY_S,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    Some(i128::from(number) * unit_s)
}

/// Seconds since 1970 at the start of a day, `2026-01-31`.
fn date(text: &str) -> Option<i128> {
    let mut parts = text.split('-');
    let mut part = |len| parts.next().filter(|part| part.len() == len)?.parse::<u16>().ok();
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && parts.next().is_none();
    if !is_date {
        return None;
    }
    // Days of the proleptic Gregorian calendar, of years that start in March.
    let (year, month) = match month {
        3.. => (i128::from(year), i128::from(month) - 3),
        _ => (i128::from(year) - 1, i128::from(month) + 9),
    };
    let days_of_year = (153 * month + 2) / 5 + i128::from(day) - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some((365 * year + leap_days + days_of_year - 719_468) * DAY_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_since_1970() {
        for (text, want) in [
            ("1970-01-01", Some(0)),
            ("1970-03-01", Some(59 * DAY_S)),
            ("2000-02-29", Some(951_782_400)),
            ("2026-11-27", Some(1_795_737_600)),
            ("1969-12-31", Some(-DAY_S)),
            ("2026-13-01", None),
            ("2026-1-1", None),
            ("2026-01-01-01", None),
        ] {
            assert_eq!(date(text), want, "{text}");
        }
    }

    #[test]
    fn a_time_is_an_age_a_date_seconds_or_a_file() {
        let at = |text: &str| parse(OsStr::new(text));
        assert_eq!(at("@12"), Ok(12 * NS));
        assert_eq!(at("@-1"), Ok(-NS));
        assert_eq!(at("1970-01-02"), Ok(DAY_S * NS));
        let age = now_s() * NS - at("2d").unwrap();
        assert!((2 * DAY_S * NS..(2 * DAY_S + 60) * NS).contains(&age), "{age}");
        assert!(at("/").is_ok());
        let error = at("no such").unwrap_err();
        assert!(error.starts_with("'no such': no age (90d)"), "{error}");
    }
}
