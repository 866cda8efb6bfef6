//! `ps`: asks a supervisor for its report and shows that, as a table for people or as JSON.

use super::control;
use super::error::Error;
use super::ps::{ClusterKind, ClusterReport, ClusterState, MemberPhase, VERSION};
use crate::columns;
use crate::exit;
use crate::run_dir;
use crate::running::{self, Running};
use crate::say::{indented, say};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Shows the cluster of a run directory; its state is the exit status.
pub(crate) fn ps(asked: Option<&Path>, json: bool) -> Result<ExitCode, Error> {
    let run_dir = run_dir::or_default(asked);
    let report = report_of(&run_dir)?;
    show(&report, json, "")?;
    Ok(ExitCode::from(report.exit_status()))
}

/// Prints the run directory that commands use.
pub(crate) fn print_run_dir(asked: Option<&Path>) -> Result<ExitCode, Error> {
    let run_dir = run_dir::or_default(asked);
    let printed = writeln!(io::stdout().lock(), "{}", run_dir.display());
    printed.map_err(Error::step("write to stdout")).map(|()| ExitCode::SUCCESS)
}

/// Shows all clusters of this user on this host.
pub(crate) fn ps_all(json: bool) -> Result<ExitCode, Error> {
    let mut worst = None;
    for running in running::all() {
        let report = match report_of(&running.run_dir) {
            // Another may have its place.
            Ok(report) if report.pid == Some(running.pid) => report,
            Ok(_) | Err(_) => ClusterReport {
                pid: Some(running.pid),
                ..ClusterReport::down(&running.run_dir, not_reached(&running).to_owned())
            },
        };
        let head = match json {
            true => String::new(),
            false => format!("{} (pid {})\n", report.run_dir, running.pid),
        };
        show(&report, json, &head)?;
        worst = worst.max(Some(report.exit_status()));
    }
    let Some(worst) = worst else {
        say("no cluster of this user runs on this host; ./run.sh starts one");
        return Ok(ExitCode::from(exit::NOT_RUNNING));
    };
    Ok(ExitCode::from(worst))
}

/// Why a supervisor that runs gives no report.
const fn not_reached(running: &Running) -> &'static str {
    match running.is_lost {
        true => {
            "its run directory was removed: it is stopping; `hashcluster-vm stop --all` waits for it"
        }
        false => "its supervisor does not answer",
    }
}

fn show(report: &ClusterReport, json: bool, head: &str) -> Result<(), Error> {
    let text = if json { report.to_line() + "\n" } else { head.to_owned() + &table(report) };
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::step("write to stdout"))?;
    if !json {
        explain(report);
    }
    Ok(())
}

/// An error unless the VM `name` runs or boots.
pub(crate) fn require_vm(run_dir: &Path, name: &str) -> Result<(), Error> {
    let report = report_of(run_dir)?;
    if report.pid.is_none() {
        return Err(Error::NotRunning { run_dir: run_dir.to_owned() });
    }
    if report.kind == Some(ClusterKind::Local) {
        return Err(Error::NoVms { run_dir: run_dir.to_owned() });
    }
    match report.member(name) {
        None => Err(report.no_such_member(name)),
        Some(member) => match member.phase {
            MemberPhase::Running | MemberPhase::Booting => Ok(()),
            MemberPhase::Stopped | MemberPhase::Stopping | MemberPhase::Restarting => {
                Err(Error::NotUp { name: name.to_owned(), state: member.state() })
            }
        },
    }
}

/// Shows a cluster that has just been started, or found.
pub(super) fn print_table(run_dir: &Path) -> Result<(), Error> {
    let report = report_of(run_dir)?;
    let text = table(&report);
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::step("write to stdout"))
}

/// The report of the cluster in `run_dir`; where none runs, one that says so.
pub(super) fn report_of(run_dir: &Path) -> Result<ClusterReport, Error> {
    let lines = match control::ask(run_dir, "ps") {
        Ok(lines) => lines,
        Err(error @ Error::NotRunning { .. }) => {
            return Ok(ClusterReport::down(run_dir, error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let read = lines.first().map(|line| serde_json::from_str::<ClusterReport>(line));
    match read {
        Some(Ok(report)) if report.version == VERSION => Ok(report),
        _ => Err(Error::Refused(format!(
            "the supervisor of {} is of another version; scripts/stop.sh stops its cluster",
            run_dir.display()
        ))),
    }
}

/// Says why a cluster is not healthy, on stderr.
fn explain(report: &ClusterReport) {
    let what = match report.state {
        ClusterState::Healthy => "",
        ClusterState::Starting => "the cluster is starting",
        ClusterState::Degraded => "the cluster is degraded",
        ClusterState::Down if report.pid.is_none() => {
            return report.reasons.iter().for_each(say);
        }
        ClusterState::Down => "the cluster is down",
    };
    if !what.is_empty() {
        say(format_args!("{what}:"));
        report.reasons.iter().for_each(indented);
    }
    if !report.drift.is_empty() {
        say("what runs is not what its files say:");
        report.drift.iter().for_each(indented);
    }
}

/// One line per member below a line of headings; empty if there is no member.
fn table(report: &ClusterReport) -> String {
    if report.members.is_empty() {
        return String::new();
    }
    let mut rows = vec![
        ["NAME", "ROLE", "STATE", "UP", "RESTARTS", "MEMORY", "IMAGE", "SSH", "METRICS"]
            .map(str::to_owned),
    ];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    for member in &report.members {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        rows.push([
            member.name.clone(),
            member.role.clone(),
            member.state().to_owned(),
            match member.phase == MemberPhase::Stopped {
                true => "-".to_owned(),
                false => duration(now.saturating_sub(member.since)),
            },
            member.restarts.count.to_string(),
            or_dash(member.resident_mib.map(|mib| format!("{mib}M"))),
            or_dash(member.image.as_ref().map(|image| image.chars().take(19).collect())),
            or_dash(member.ports.as_ref().map(|ports| format!("127.0.0.1:{}", ports.ssh))),
            or_dash(member.http.clone()),
        ]);
    }
    columns::aligned(&rows)
}

/// A duration in its two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m{}s", seconds % 60),
        () if days == 0 => format!("{hours}h{}m", minutes % 60),
        () => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_short_and_exact_to_its_second_unit() {
        let cases = [(0, "0s"), (59, "59s"), (60, "1m0s"), (3599, "59m59s"), (3600, "1h0m")];
        for (seconds, want) in cases.into_iter().chain([(90_000, "1d1h"), (172_799, "1d23h")]) {
            assert_eq!(duration(seconds), want);
        }
    }
}
