//! The metrics of the supervisor, from the report that `ps` shows.

use super::ps::{ClusterReport, MemberReport, RestartCause};
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;
use telemetry::metrics::Metrics;
use telemetry::metrics_table;
use telemetry::process::{COMMON, Host};

metrics_table! {
    /// All metrics of a supervisor, besides those of every program (`docs/metrics.md`).
    pub(super) ALL;
    STATE Gauge "hashcluster_supervisor_member_state" ["vm", "state"]
        "1 for the state that a member is in: stopped, booting, healthy, unhealthy, stopping or restarting; 0 for the others.";
    BOOTS Counter "hashcluster_supervisor_boots_total" ["vm"] "Starts of a member.";
    BOOT_TIME Gauge "hashcluster_supervisor_boot_duration_seconds" ["vm"]
        "Time of the last start of a member until it was healthy.";
    RESTARTS Counter "hashcluster_supervisor_restarts_total" ["vm", "reason"]
        "Restarts of a member: its processes ended or could not be started, it was unhealthy, or somebody requested it.";
    MEMORY Gauge "hashcluster_supervisor_member_memory_bytes" ["vm"]
        "Resident memory of a member's main process, in steps of 1 MiB.";
    METRICS_UP Gauge "hashcluster_supervisor_metrics_up" ["vm"]
        "1 if a member's own page answers, else 0: it is down, or its port is taken.";
    SECRET Gauge "hashcluster_supervisor_secret_created_timestamp_seconds" ["secret"]
        "Time at which a key of the cluster was made, in seconds since 1970.";
    STATE_SIZE Gauge "hashcluster_state_directory_size_bytes" []
        "Size of the file system of the state directory; 0 without one.";
    STATE_AVAILABLE Gauge "hashcluster_state_directory_available_bytes" []
        "Space left for this user on it.";
}

/// States of a member, as [`MemberReport::state`] names them.
const STATES: [&str; 6] = ["stopped", "booting", "healthy", "unhealthy", "stopping", "restarting"];

/// The metrics with what they are read from.
#[derive(Debug)]
pub(super) struct SupervisorMetrics {
    metrics: Metrics,
    host: Host,
}

impl SupervisorMetrics {
    pub(super) fn new() -> Self {
        let host = Host::open(env!("CARGO_PKG_VERSION"), "");
        Self { metrics: Metrics::new(&[COMMON, ALL]), host }
    }

    /// The page; `up` says of each member if its own page answers.
    pub(super) fn render(&self, report: &ClusterReport, up: &[(String, bool)]) -> String {
        self.host.set(&self.metrics);
        report.members.iter().for_each(|member| self.set_member(member));
        for (name, is_up) in up {
            self.metrics.set_count(&METRICS_UP, &[name], (*is_up).into());
        }
        if let Some(state) = report.state_dir.as_deref().map(Path::new) {
            self.set_state(state);
        }
        self.metrics.render()
    }

    fn set_member(&self, member: &MemberReport) {
        let (metrics, name) = (&self.metrics, member.name.as_str());
        for state in STATES {
            metrics.set_count(&STATE, &[name, state], (state == member.state()).into());
        }
        metrics.set_count(&BOOTS, &[name], member.boots.into());
        if let Some(boot_ms) = member.boot_ms {
            let seconds = std::time::Duration::from_millis(boot_ms).as_secs_f64();
            metrics.set(&BOOT_TIME, &[name], seconds);
        }
        for cause in RestartCause::ALL {
            let count = member.restarts.by_cause[cause as usize];
            metrics.set_count(&RESTARTS, &[name, cause.name()], count.into());
        }
        let resident = member.resident_mib.unwrap_or(0);
        metrics.set_count(&MEMORY, &[name], resident << 20);
    }

    fn set_state(&self, state: &Path) {
        if let Ok(stat) = nix::sys::statvfs::statvfs(state) {
            let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
            self.metrics.set_count(&STATE_SIZE, &[], bytes(stat.blocks()));
            self.metrics.set_count(&STATE_AVAILABLE, &[], bytes(stat.blocks_available()));
        }
        let made = |path: &Path| {
            let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
            modified.duration_since(UNIX_EPOCH).ok()
        };
        if let Some(made) = made(&state.join("ssh").join("id_ed25519")) {
            self.metrics.set(&SECRET, &["ssh_key"], made.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ps::Restarts;
    use crate::cluster::{MemberHealth, MemberPhase};
    use telemetry::metrics::{Metric, rows_below};

    #[test]
    fn every_metric_has_its_row_in_the_document() {
        let document = include_str!("../../../../docs/metrics.md");
        let want: Vec<String> = ALL.iter().copied().map(Metric::row).collect();
        assert_eq!(rows_below(document, "## Metrics of the supervisor"), want);
    }

    fn member() -> MemberReport {
        MemberReport {
            name: "w1".into(),
            role: "worker".into(),
            phase: MemberPhase::Booting,
            health: MemberHealth::Unknown,
            reason: None,
            since: 0,
            restarts: Restarts::default(),
            boots: 1,
            boot_ms: None,
            ports: None,
            http: None,
            image: None,
            memory_mib: None,
            resident_mib: None,
            cpus: None,
            pid: None,
        }
    }

    #[test]
    fn every_metric_moves_with_what_it_is_of() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = SupervisorMetrics::new();
        let mut report = ClusterReport::down(dir.path(), String::new());
        report.members = vec![member()];
        let before = metrics.render(&report, &[("w1".into(), false)]);

        fs::create_dir(dir.path().join("ssh")).unwrap();
        fs::write(dir.path().join("ssh/id_ed25519"), "key").unwrap();
        report.state_dir = dir.path().to_str().map(str::to_owned);
        let member = &mut report.members[0];
        (member.phase, member.health) = (MemberPhase::Running, MemberHealth::Healthy);
        (member.boots, member.boot_ms, member.resident_mib) = (2, Some(2_500), Some(3));
        for cause in RestartCause::ALL {
            member.restarts.record(cause, "why");
        }
        let after = metrics.render(&report, &[("w1".into(), true)]);
        for metric in ALL {
            let lines = |page: &str| -> Vec<String> {
                let of_it = |line: &&str| line.starts_with(metric.name);
                page.lines().filter(of_it).map(str::to_owned).collect()
            };
            assert_ne!(lines(&before), lines(&after), "{}", metric.name);
        }
        let has =
            |line: &str| assert!(after.lines().any(|found| found == line), "{line} in {after}");
        has("hashcluster_supervisor_member_state{vm=\"w1\",state=\"healthy\"} 1");
        has("hashcluster_supervisor_member_state{vm=\"w1\",state=\"booting\"} 0");
        has("hashcluster_supervisor_boot_duration_seconds{vm=\"w1\"} 2.5");
        has("hashcluster_supervisor_member_memory_bytes{vm=\"w1\"} 3145728");
        for cause in ["ended", "unhealthy", "requested"] {
            has(&format!(
                "hashcluster_supervisor_restarts_total{{vm=\"w1\",reason=\"{cause}\"}} 1"
            ));
        }
    }
}
