//! Checks of what watches a cluster: the metrics pages of its members, the monitoring programs that were
//! started beside it, and what the members of a cluster of processes logged.
//!
//! Not here: the logs of VMs, which `guest` asks for.

use super::diagnosis::{CheckResult, Diagnosis};
use super::members::RunningCluster;
use super::remedy::{Commands, Remedy};
use super::room;
use crate::cluster::{ClusterReport, MemberHealth, MemberReport, page_answers};
use crate::monitoring::{self, MonitoringSite, SPACE_SHORT_MIB, ServiceState};
use crate::supervise::log;
use std::path::Path;
use telemetry::http::HttpAddress;
use telemetry::port_holder;

/// Bytes at the end of a member's log that are read.
const LOG_LEN_MAX: u64 = 256 << 10;

/// The monitoring that was started for the cluster in `run_dir` and not stopped.
pub(super) fn monitoring(run_dir: &Path, commands: &Commands) -> Vec<CheckResult> {
    let Some((site, started)) = MonitoringSite::started_in(run_dir) else { return Vec::new() };
    let command = |word| commands.monitoring(word, &site.files, &site.settings);
    let services = monitoring::services(&site, started).into_iter();
    let mut results: Vec<CheckResult> = services
        .map(|(name, port, state)| match state {
            ServiceState::Ready => {
                CheckResult::ok("monitoring", format!("{name} is ready at 127.0.0.1:{port}"))
            }
            ServiceState::Starting => {
                let text = format!("{name} runs and does not answer at 127.0.0.1:{port}");
                let again = format!("{} && {}", command("down"), command("up"));
                let remedy = Remedy::run(again).note("unless it was started a moment ago");
                Diagnosis::MonitoringSilent.of("monitoring", text, remedy)
            }
            ServiceState::Down => {
                let text = format!("{name} was started and does not run");
                Diagnosis::MonitoringDown.of("monitoring", text, Remedy::run(command("up")))
            }
        })
        .collect();
    results.push(room::space("monitoring's data", &site.data, SPACE_SHORT_MIB));
    results
}

impl RunningCluster<'_> {
    /// The metrics of the supervisor can be read.
    pub(super) fn supervisor_page(&self, report: &ClusterReport) -> Option<CheckResult> {
        page("supervisor", report.http.as_deref()?, report.pid, &self.commands.start_again())
    }

    /// The metrics of a member that is healthy can be read.
    pub(super) fn member_page(&self, member: &MemberReport, restart: &str) -> Option<CheckResult> {
        let is_up = member.health == MemberHealth::Healthy;
        let address = member.http.as_deref().filter(|_| is_up)?;
        page(&member.name, address, member.pid, restart)
    }

    /// Errors and warnings in the log of a process since it last began to work. Its lines have no times.
    pub(super) fn own_log(&self, member: &MemberReport) -> Option<CheckResult> {
        if !self.started.is_local {
            return None;
        }
        let name = member.name.as_str();
        let (bytes, _) = log::since(&self.layout.log(name), 0, LOG_LEN_MAX).ok()?;
        let text = log::plain(&bytes);
        let Some((count, last)) = troubles(&text) else {
            return Some(CheckResult::ok(name, "log: no error since its start"));
        };
        let text = format!("log: {count} errors and warnings since its start, the last: {last}");
        let remedy = Remedy::run(self.commands.script("logs", &[name]));
        Some(Diagnosis::LoggedErrors.of(name, text, remedy))
    }
}

/// Asks for a page, whose process is `own`.
fn page(name: &str, address: &str, own: Option<u32>, restart: &str) -> Option<CheckResult> {
    let parsed: HttpAddress = address.parse().ok()?;
    if page_answers(&parsed) {
        return Some(CheckResult::ok(name, format!("its metrics answer at {address}")));
    }
    let holder = match &parsed {
        HttpAddress::Tcp(address) => port_holder::find(address.port()),
        HttpAddress::Unix(_) => None,
    };
    let text = format!("its metrics do not answer at {address}");
    Some(match holder.filter(|holder| Some(holder.pid()) != own) {
        Some(holder) => {
            let remedy = Remedy::run(format!("kill {} && {restart}", holder.pid()));
            let text = format!("{text}, where {holder} listens");
            Diagnosis::MetricsSilent.of(name, text, remedy.note("ends the holder of its port"))
        }
        None => Diagnosis::MetricsSilent.of(name, text, Remedy::run(restart)),
    })
}

/// Number of errors and warnings since the program began to work, and the last of them.
fn troubles(text: &str) -> Option<(usize, &str)> {
    let mut found = Vec::new();
    for line in text.lines() {
        // Behind the name of the program, and the time where there is one.
        let Some((_, said)) = line.split_once("hashcluster-") else { continue };
        let Some((_, said)) = said.split_once(": ") else { continue };
        if said.starts_with("listens on ") || said.starts_with("connected to ") {
            found.clear();
        }
        if said.starts_with("error: ") || said.starts_with("warning: ") {
            found.push(said);
        }
    }
    Some((found.len(), *found.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_and_warnings_since_the_last_start_count() {
        let early = "hashcluster-worker: error: early\n";
        let start = "hashcluster-worker: connected to the controller at /x\n";
        let late = "2026-11-27T11:00:00Z hashcluster-worker: warning: late\nerror: not ours\n";
        assert_eq!(troubles(&[early, start].concat()), None);
        assert_eq!(troubles(&[early, start, late].concat()), Some((1, "warning: late")));
        assert_eq!(troubles(early), Some((1, "error: early")));
        assert_eq!(troubles("hashcluster-worker: says error: x\n"), None);
    }
}
