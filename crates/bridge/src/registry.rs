//! Reports of hosts about themselves, for whoever asks the broker.
//!
//! A program reports every [`REPORT_INTERVAL`] and when it leaves; the broker keeps the last report of each. Their
//! age is by the broker's clock, so that the clocks of hosts may differ. Invariant: what [`HostReport::decode`]
//! returns keeps the limits, whoever wrote it.

use crate::config::is_host_name;
use crate::shard::{DatasetKey, WrongMessage, to_json};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Interval of reports.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// A host whose last report is older than this is lost: three are missing.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(35);

/// Most bytes of a report.
pub const REPORT_LEN_MAX: usize = 16 << 10;

/// Most datasets in a report; others are left out.
pub const REPORT_DATASETS_MAX: usize = 256;

/// Longest version in a report, in bytes.
const VERSION_LEN_MAX: usize = 64;

/// Difference between two clocks from which on it is shown: more than a report may be under way.
const SKEW_MIN_S: u64 = 5;

/// State of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// It takes shards.
    Serving,
    /// It has a job.
    Submitting,
    /// It finishes the shards that it holds, and takes no more.
    Leaving,
    /// It ended by itself.
    Left,
}

impl HostState {
    fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Submitting => "submitting",
            Self::Leaving => "leaving",
            Self::Left => "left",
        }
    }
}

/// Report of a program on a host about itself. Counts are since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Name of the host.
    pub host: String,
    /// Names of its datasets, or of that of its job.
    pub datasets: Vec<String>,
    /// Its version.
    pub version: String,
    /// Its state.
    pub state: HostState,
    /// Its clock, in seconds since 1970.
    pub clock: u64,
    /// Shards that it holds, or that it has with the broker.
    pub held: u64,
    /// Most of these; of a job, all of its shards.
    pub held_max: u64,
    /// Shards that it answered, or that have a result.
    pub done: u64,
    /// Shards that it gave back, or published again.
    pub returned: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of the files of the shards that are done.
    pub bytes: u64,
}

/// The name of a host as a part of a subject of the broker, which has dots between its parts.
#[must_use]
pub fn host_token(host: &str) -> String {
    host.replace('.', "=")
}

impl HostReport {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// The report in a message below the [token](host_token) `host`.
    ///
    /// # Errors
    /// See [`WrongMessage`].
    pub fn decode(body: &[u8], host: &str) -> Result<Self, WrongMessage> {
        if body.len() > REPORT_LEN_MAX {
            return Err(WrongMessage::Limit("length"));
        }
        let report: Self = serde_json::from_slice(body).map_err(WrongMessage::Json)?;
        if host_token(&report.host) != host || !is_host_name(&report.host) {
            return Err(WrongMessage::Limit("host"));
        }
        let is_plain = |c: char| c.is_ascii_graphic();
        if report.version.len() > VERSION_LEN_MAX || !report.version.chars().all(is_plain) {
            return Err(WrongMessage::Limit("version"));
        }
        let is_name = |name: &String| DatasetKey::new(name, "x").is_ok();
        if report.datasets.len() > REPORT_DATASETS_MAX || !report.datasets.iter().all(is_name) {
            return Err(WrongMessage::Limit("datasets"));
        }
        Ok(report)
    }
}

/// A report with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenHost {
    /// The report.
    pub report: HostReport,
    /// Its time by the broker's clock, in seconds since 1970.
    pub at: u64,
    /// Its age by that clock, in seconds.
    pub age: u64,
}

impl SeenHost {
    /// The state, or that it is lost.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let silent = self.age > SILENCE_LIMIT.as_secs();
        if silent && self.report.state != HostState::Left {
            "lost"
        } else {
            self.report.state.word()
        }
    }

    /// Seconds by which the host's clock is ahead of the broker's.
    #[must_use]
    pub fn skew(&self) -> i64 {
        self.report.clock.cast_signed().saturating_sub(self.at.cast_signed())
    }

    /// The object of `hosts --json`.
    #[must_use]
    pub fn object(&self) -> serde_json::Value {
        serde_json::json!({
            "host": self.report.host,
            "state": self.state(),
            "held": self.report.held,
            "held_max": self.report.held_max,
            "done": self.report.done,
            "returned": self.report.returned,
            "dead": self.report.dead,
            "bytes": self.report.bytes,
            "seen_s": self.age,
            "clock_ahead_s": self.skew(),
            "version": self.report.version,
            "datasets": self.report.datasets,
        })
    }

    fn row(&self) -> [String; 10] {
        let report = &self.report;
        let clock = match self.skew() {
            skew if skew.unsigned_abs() < SKEW_MIN_S => "ok".to_owned(),
            skew => format!("{skew:+}s"),
        };
        [
            report.host.clone(),
            self.state().to_owned(),
            format!("{}/{}", report.held, report.held_max),
            report.done.to_string(),
            report.returned.to_string(),
            report.dead.to_string(),
            overview::bytes(report.bytes),
            overview::age(Duration::from_secs(self.age)),
            clock,
            report.datasets.join(","),
        ]
    }
}

const HEADINGS: [&str; 10] =
    ["HOST", "STATE", "SHARDS", "DONE", "RETURNED", "DEAD", "BYTES", "SEEN", "CLOCK", "DATASETS"];

/// A table of hosts, for people.
#[must_use]
pub fn host_table(hosts: &[SeenHost]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(hosts.iter().map(SeenHost::row));
    let mut widths = [0; 10];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |row: &[String; 10]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> HostReport {
        HostReport {
            host: "h1".to_owned(),
            datasets: vec!["photos".to_owned()],
            version: "0.1.0".to_owned(),
            state: HostState::Serving,
            clock: 1_000_600,
            held: 2,
            held_max: 4,
            done: 118,
            returned: 1,
            dead: 0,
            bytes: 7_900_000_000,
        }
    }

    #[test]
    fn a_report_travels_and_whoever_lies_about_its_host_is_refused() {
        let report = report();
        assert_eq!(HostReport::decode(&report.encode(), "h1").unwrap(), report);
        assert!(HostReport::decode(&report.encode(), "h2").is_err());
        let report = HostReport { host: "h1.example.net".to_owned(), ..report };
        assert_eq!(HostReport::decode(&report.encode(), "h1=example=net").unwrap(), report);
        assert!(HostReport::decode(&report.encode(), "h1").is_err());
    }

    #[test]
    fn reports_that_would_garble_a_terminal_or_fill_memory_are_refused() {
        let changed = |change: fn(&mut HostReport)| {
            let mut report = report();
            change(&mut report);
            HostReport::decode(&report.encode(), &report.host).map_err(|e| e.to_string())
        };
        let limit = |what| Err(format!("{what}: beyond its limit, or not of its form"));
        assert_eq!(changed(|r| r.host = "\u{1b}[2J".to_owned()), limit("host"));
        assert_eq!(changed(|r| r.version = "1\n2".to_owned()), limit("version"));
        assert_eq!(changed(|r| r.version = "1".repeat(65)), limit("version"));
        assert_eq!(changed(|r| r.datasets = vec!["a b".to_owned()]), limit("datasets"));
        assert_eq!(changed(|r| r.datasets = vec!["a".to_owned(); 257]), limit("datasets"));
        assert_eq!(changed(|r| r.datasets = vec!["a".repeat(32); 1000]), limit("length"));
        assert!(HostReport::decode(b"{}", "h1").is_err());
    }

    #[test]
    fn a_silent_host_is_lost_and_a_clock_that_is_off_is_shown() {
        let seen = |age, clock, state| SeenHost {
            report: HostReport { clock, state, ..report() },
            at: 1_000_000,
            age,
        };
        let hosts = [
            seen(35, 1_000_000, HostState::Serving),
            seen(36, 1_000_600, HostState::Submitting),
            seen(36, 999_000, HostState::Left),
        ];
        assert_eq!(
            host_table(&hosts),
            "HOST  STATE    SHARDS  DONE  RETURNED  DEAD  BYTES    SEEN  CLOCK   DATASETS\n\
             h1    serving  2/4     118   1         0     7.3 GiB  35 s  ok      photos\n\
             h1    lost     2/4     118   1         0     7.3 GiB  36 s  +600s   photos\n\
             h1    left     2/4     118   1         0     7.3 GiB  36 s  -1000s  photos\n"
        );
    }
}
