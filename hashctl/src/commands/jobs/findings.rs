//! Findings of a durable audit, as `hashctl audit` prints them.

use super::session::{JobSession, nonsense};
use super::text;
use crate::config::Config;
use crate::engine::function::Function;
use crate::exit::Exit;
use crate::output::{Format, Out};
use crate::problem::Problem;
use crate::say::{io_text, say};
use crate::trees::finding::{Finding, FindingFormat, FindingLine};
use crate::trees::format::TreeFormat;
use crate::trees::report::{FindingReport, FindingSeverity};
use ipc_proto::Algorithms;
use ipc_proto::limits::FRAME_NAMES_MAX;
use ipc_proto::message::{AuditFinding, AuditRow, JobRow, JobState, ServiceReply, ServiceRequest};
use std::io;

impl From<AuditFinding> for Finding {
    fn from(finding: AuditFinding) -> Self {
        match finding {
            AuditFinding::Matched => Self::Matched,
            AuditFinding::Modified => Self::Modified,
            AuditFinding::Older => Self::Older,
            AuditFinding::Rotted => Self::Rotted,
            AuditFinding::Moved => Self::Moved,
            AuditFinding::Copied => Self::Copied,
            AuditFinding::New => Self::New,
            AuditFinding::Missing => Self::Missing,
            AuditFinding::Unreadable => Self::Unreadable,
            AuditFinding::Changed => Self::Changed,
        }
    }
}

/// Prints the findings of an audit that has ended; true if it is done and nothing differs.
pub(super) fn print(
    config: &Config,
    session: &mut JobSession<'_>,
    row: &JobRow,
    Format { json, zero, .. }: Format,
) -> Result<bool, Exit> {
    let failed = |error: &io::Error| {
        say(format_args!("{}: {}", config.output, io_text(error)));
        Exit::Failure
    };
    if row.state != JobState::Done {
        say(format_args!("job {}: {}", row.id, text::outcome(row)));
        return Ok(false);
    }
    let mut out = Out::new(config.stdio.has_stdout);
    let tree = TreeFormat { quiet: false, zero, json };
    let mut report = FindingReport::new(FindingFormat { only: Vec::new(), tree });
    report.add_matched(row.findings.map_or(0, |counts| counts.of(AuditFinding::Matched)));
    let (job, limit) = (row.id, u16::try_from(FRAME_NAMES_MAX).unwrap_or(u16::MAX));
    let mut from = 0;
    loop {
        let ServiceReply::Findings { rows, more } =
            session.ask(&ServiceRequest::Findings { job, from, limit })?
        else {
            return Err(nonsense());
        };
        from += rows.len() as u64;
        for found in &rows {
            put(&mut report, found, &mut out).map_err(|e| failed(&e))?;
        }
        if !more {
            break;
        }
    }
    let summary = report.summary(&[], "", &mut out);
    summary.and_then(|()| out.flush()).map_err(|error| failed(&error))?;
    Ok(report.is_ok)
}

fn put(report: &mut FindingReport, row: &AuditRow, out: &mut Out) -> io::Result<()> {
    let digest = row.algorithm.filter(|_| !row.digest.is_empty());
    let digest =
        digest.map(|algorithm| (Function::from(Algorithms::from(algorithm)), &row.digest[..]));
    let expected = (!row.expected.is_empty()).then_some(&row.expected[..]);
    let error = row.failure.map(|failure| Problem::Failure(failure).to_string());
    let is_here = !matches!(row.finding, AuditFinding::Missing | AuditFinding::Unreadable);
    let line = FindingLine {
        from: (!row.from.is_empty()).then_some(&row.from[..]),
        size: is_here.then_some(row.size),
        digest,
        expected,
        error: error.as_deref(),
        ..FindingLine::new(row.finding.into(), &row.name)
    };
    report.put(line, FindingSeverity::Failure, out)
}
