//! When a schedule is due: cron expressions in a time zone, and intervals.
//!
//! Instants are seconds since 1970 in UTC. Around a change of the clocks, expressions follow Vixie cron, as
//! `croner` implements it:
//!
//! - *fixed* expressions, whose minute and hour are one number each, are due once per day that they
//!   name: in a repeated hour the first time only; at a time that is skipped, at the first instant
//!   after the gap;
//! - all others follow the clock on the wall: what is skipped is not due, and what is repeated is due
//!   twice.
//!
//! Intervals count from 1970-01-01T00:00Z, whatever the time zone: no clock change affects them, and
//! nothing has to be remembered.

use crate::model::Schedule;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};
use std::sync::OnceLock;
use std::time::Duration;

/// Longest cron expression, in bytes.
const EXPRESSION_LEN_MAX: usize = 256;

/// Cron's names for frequent expressions.
const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// A point from which every expression that is ever due has a next instant: 2026-01-01.
const EPOCH_OF_CHECKS: i64 = 1_767_225_600;

/// When a schedule is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// At the instants of any of these cron expressions.
    At(Vec<CronExpression>),
    /// At multiples of an interval since 1970.
    Every(Duration),
}

// Expressions hold no floating point: equality is total.
impl Eq for Trigger {}

/// A cron expression of five fields, or a nickname, that is due at some time.
#[derive(Clone, Debug)]
pub struct CronExpression {
    text: String,
    cron: Cron,
}

impl PartialEq for CronExpression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A time zone by its name in the IANA database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The zone called `name`; none if there is none of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        static DATABASE: OnceLock<TimeZoneDatabase> = OnceLock::new();
        if name.eq_ignore_ascii_case("UTC") {
            return Some(Self::utc());
        }
        DATABASE.get_or_init(TimeZoneDatabase::bundled).get(name).ok().map(Self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Minute of the local day at an instant.
    #[must_use]
    pub fn minute_of_day(&self, at: i64) -> u16 {
        let minute = |at: Zoned| {
            u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs())
        };
        self.local(at).map_or(0, minute)
    }

    /// Local date at an instant, moved by `days`, as `2026-11-27`.
    #[must_use]
    pub fn date(&self, at: i64, days: i32) -> String {
        let date = self
            .local(at)
            .and_then(|at| at.date().checked_add(jiff::Span::new().try_days(days).ok()?).ok());
        date.map(|date| date.to_string()).unwrap_or_default()
    }

    fn local(&self, at: i64) -> Option<Zoned> {
        Some(Timestamp::from_second(at).ok()?.to_zoned(self.0.clone()))
    }
}

/// An instant as local time with its offset, `2026-03-29T03:00:00+02:00`; its number if no calendar has it.
#[must_use]
pub fn local_text(zone: &Zone, at: i64) -> String {
    let text = |at: Zoned| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    zone.local(at).map_or_else(|| format!("@{at}"), text)
}

/// An instant in UTC, `2026-11-27T21:00:00Z`; its number if no calendar has it.
#[must_use]
pub fn utc_text(at: i64) -> String {
    Timestamp::from_second(at).map_or_else(|_| format!("@{at}"), |at| at.to_string())
}

/// An instant of RFC 3339 (`2026-03-29T01:00:00Z`), a local time or date in `zone`, or `@SECONDS`.
#[must_use]
pub fn instant(text: &str, zone: &Zone) -> Option<i64> {
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds = seconds.parse().ok()?;
        return Timestamp::from_second(seconds).is_ok().then_some(seconds);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_second());
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    Some(zone.0.to_timestamp(local).ok()?.as_second())
}

impl CronExpression {
    /// # Errors
    /// The reason, in words for the file's author.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        if text.len() > EXPRESSION_LEN_MAX {
            return Err(format!("longer than {EXPRESSION_LEN_MAX} bytes"));
        }
        let fields = text.split(' ').count();
        if text.starts_with('@') {
            if !NICKNAMES.contains(&text.as_str()) {
                return Err(format!("unknown nickname; there are {}", NICKNAMES.join(", ")));
            }
        } else if fields != 5 {
            let names = "minute, hour, day of month, month, day of week";
            return Err(format!("{fields} fields instead of five: {names}"));
        }
        if text.split(' ').any(|field| field.split(',').any(str::is_empty)) {
            return Err("an empty item in a list".into());
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let cron = parser.build().parse(&text).map_err(|error| reason(&error))?;
        let expression = Self { text, cron };
        match expression.next_after(&Zone::utc(), EPOCH_OF_CHECKS) {
            Some(_) => Ok(expression),
            None => Err("is never due".into()),
        }
    }

    /// The expression, with single spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn next_after(&self, zone: &Zone, after: i64) -> Option<i64> {
        let next = self.cron.find_next_occurrence(&zone.local(after)?, false).ok()?;
        Some(next.timestamp().as_second())
    }

    fn last_until(&self, zone: &Zone, until: i64) -> Option<i64> {
        let last = self.cron.find_previous_occurrence(&zone.local(until)?, true).ok()?;
        Some(last.timestamp().as_second())
    }
}

/// The parser's words without its prefixes and full stop.
fn reason(error: &croner::errors::CronError) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason);
    let text = text.trim_end_matches('.').replace(char::is_control, " ");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl Trigger {
    /// The first instant later than `after`; none beyond the calendar's end.
    #[must_use]
    pub fn next_after(&self, zone: &Zone, after: i64) -> Option<i64> {
        match self {
            Self::At(expressions) => {
                expressions.iter().filter_map(|at| at.next_after(zone, after)).min()
            }
            Self::Every(interval) => {
                let interval = i64::try_from(interval.as_secs()).ok().filter(|&every| every > 0)?;
                after.div_euclid(interval).checked_add(1)?.checked_mul(interval)
            }
        }
    }

    /// The last instant not later than `until`.
    #[must_use]
    pub fn last_until(&self, zone: &Zone, until: i64) -> Option<i64> {
        match self {
            Self::At(expressions) => {
                expressions.iter().filter_map(|at| at.last_until(zone, until)).max()
            }
            Self::Every(interval) => {
                let interval = i64::try_from(interval.as_secs()).ok().filter(|&every| every > 0)?;
                Some(until - until.rem_euclid(interval))
            }
        }
    }
}

impl Schedule {
    /// The first due time later than `after`, jitter included; none if it runs only by hand.
    #[must_use]
    pub fn next_after(&self, after: i64) -> Option<i64> {
        let delay = self.delay();
        self.trigger.as_ref()?.next_after(&self.zone, after.checked_sub(delay)?)?.checked_add(delay)
    }

    /// The last due time not later than `until`, jitter included.
    #[must_use]
    pub fn last_until(&self, until: i64) -> Option<i64> {
        let delay = self.delay();
        self.trigger.as_ref()?.last_until(&self.zone, until.checked_sub(delay)?)?.checked_add(delay)
    }

    /// Seconds by which the jitter delays each due time: 0 to `jitter`, from the name.
    #[must_use]
    pub fn delay(&self) -> i64 {
        // FNV-1a (64 bits): spreads names, and is the same on every machine and in every version.
        let hash = self.name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let seconds = (hash ^ (hash >> 32)) % self.jitter.as_secs().saturating_add(1).max(1);
        i64::try_from(seconds).unwrap_or(0)
    }
}
