//! The state of a cluster as its supervisor knows it: the one source of everything that is shown or
//! checked. It travels as one line of JSON, whose keys `docs/ps.md` lists. A change of their meaning is a
//! new [`VERSION`].
//!
//! Not here: how it is shown (`show`).

use super::apply;
use super::context::Context;
use super::error::Error;
use super::fleet::Fleet;
use super::machine::{Machine, Phase};
use crate::exit;
use crate::vm::{Layout, Root, Share};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Version of the keys.
pub(crate) const VERSION: u32 = 1;

/// One cluster. What is unknown or does not apply is null.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ClusterReport {
    pub(crate) version: u32,
    pub(crate) state: ClusterState,
    /// Everything that keeps the cluster from being healthy.
    pub(crate) reasons: Vec<String>,
    pub(crate) kind: Option<ClusterKind>,
    pub(crate) run_dir: String,
    pub(crate) state_dir: Option<String>,
    /// Process of the supervisor.
    pub(crate) pid: Option<u32>,
    /// Start of the supervisor, in seconds since 1970.
    pub(crate) started: Option<u64>,
    /// Address of the supervisor's pages over HTTP.
    pub(crate) http: Option<String>,
    /// Accelerator of the VMs.
    pub(crate) accel: Option<String>,
    /// Command that is being executed, such as `restart worker1`.
    pub(crate) command: Option<String>,
    /// Differences between what runs and its files.
    pub(crate) drift: Vec<String>,
    pub(crate) datasets: Vec<DatasetReport>,
    /// The controller, then the workers.
    pub(crate) members: Vec<MemberReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClusterState {
    Healthy,
    Starting,
    /// It works, but something is missing or wrong.
    Degraded,
    /// Nobody answers clients.
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClusterKind {
    Vms,
    Local,
}

/// A directory that the workers see.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct DatasetReport {
    pub(crate) name: String,
    pub(crate) dir: String,
    /// `live` or `snapshot`.
    pub(crate) plane: String,
    /// `ok`, or what is wrong.
    pub(crate) state: String,
}

/// A VM, or a process of a cluster without VMs.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct MemberReport {
    pub(crate) name: String,
    /// `controller` or `worker`.
    pub(crate) role: String,
    pub(crate) phase: MemberPhase,
    pub(crate) health: MemberHealth,
    /// Why it is not healthy.
    pub(crate) reason: Option<String>,
    /// Begin of its phase, in seconds since 1970.
    pub(crate) since: u64,
    pub(crate) restarts: Restarts,
    /// Starts since the supervisor was started.
    #[serde(default)]
    pub(crate) boots: u32,
    /// Time of its last start until it was healthy, in milliseconds.
    pub(crate) boot_ms: Option<u64>,
    pub(crate) ports: Option<PortsReport>,
    /// Address of its pages over HTTP.
    pub(crate) http: Option<String>,
    /// Digest of the image that a VM boots.
    pub(crate) image: Option<String>,
    pub(crate) memory_mib: Option<u32>,
    /// Resident memory of its main process.
    pub(crate) resident_mib: Option<u64>,
    pub(crate) cpus: Option<u16>,
    /// Its main process: QEMU, or the controller or worker itself.
    pub(crate) pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberPhase {
    Stopped,
    Booting,
    Running,
    Stopping,
    Restarting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberHealth {
    Healthy,
    Unhealthy,
    /// It does not run, or has not answered yet.
    Unknown,
}

/// Ports of 127.0.0.1.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct PortsReport {
    pub(crate) ssh: u16,
    pub(crate) metrics: u16,
}

/// Restarts of a member since its cluster was started.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Restarts {
    pub(crate) count: u32,
    /// The same by [`RestartCause`]. Earlier supervisors of this version of the report leave it out.
    #[serde(default)]
    pub(crate) by_cause: [u32; RestartCause::ALL.len()],
    /// The latest, oldest first.
    pub(crate) last: Vec<Restart>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Restart {
    /// Seconds since 1970.
    pub(crate) time: u64,
    pub(crate) reason: String,
}

/// Kind of reason for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartCause {
    /// Its processes ended, or could not be started.
    Ended,
    /// It was not healthy.
    Unhealthy,
    /// Somebody requested it.
    Requested,
}

impl RestartCause {
    pub(crate) const ALL: [Self; 3] = [Self::Ended, Self::Unhealthy, Self::Requested];

    /// The value of its label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Unhealthy => "unhealthy",
            Self::Requested => "requested",
        }
    }
}

impl Restarts {
    /// Number of restarts whose reasons are kept.
    const LAST_MAX: usize = 8;

    pub(crate) fn record(&mut self, cause: RestartCause, reason: &str) {
        self.count = self.count.saturating_add(1);
        let of_cause = &mut self.by_cause[cause as usize];
        *of_cause = of_cause.saturating_add(1);
        if self.last.len() == Self::LAST_MAX {
            self.last.remove(0);
        }
        self.last.push(Restart { time: unix(SystemTime::now()), reason: reason.to_owned() });
    }
}

impl ClusterReport {
    /// The cluster of a supervisor that has started its members.
    pub(super) fn of(fleet: &Fleet) -> Self {
        let layout = fleet.context.layout();
        let (kind, accel, shares) = match &fleet.context {
            Context::Vms(context, _) => {
                (ClusterKind::Vms, Some(context.accel.name().to_owned()), &context.shares[..])
            }
            Context::Local(..) => (ClusterKind::Local, None, &[][..]),
        };
        let mut report = Self {
            started: Some(unix(fleet.started)),
            http: Some(fleet.http.to_string()),
            accel,
            command: fleet.commands(),
            drift: apply::drift(fleet),
            datasets: shares.iter().flat_map(|share| DatasetReport::of(fleet, share)).collect(),
            members: (0..fleet.machines.len()).map(|i| MemberReport::of(fleet, i)).collect(),
            ..Self::preparing(kind, layout)
        };
        let is_wrong = |dataset: &&DatasetReport| dataset.state != DatasetReport::OK;
        let datasets = report.datasets.iter().filter(is_wrong);
        report.reasons = report.members.iter().filter_map(MemberReport::fault).collect();
        report.reasons.extend(datasets.map(|set| format!("dataset {}: {}", set.name, set.state)));
        report.state = match report.members[0].health {
            _ if !fleet.is_ready => ClusterState::Starting,
            MemberHealth::Healthy if report.reasons.is_empty() => ClusterState::Healthy,
            MemberHealth::Healthy => ClusterState::Degraded,
            MemberHealth::Unhealthy if fleet.machines[0].phase == Phase::Healthy => {
                ClusterState::Degraded
            }
            MemberHealth::Unhealthy | MemberHealth::Unknown => ClusterState::Down,
        };
        report
    }

    /// A cluster of this process whose members have not been started yet.
    pub(super) fn preparing(kind: ClusterKind, layout: &Layout) -> Self {
        Self {
            state: ClusterState::Starting,
            reasons: vec!["the start is being prepared".to_owned()],
            kind: Some(kind),
            state_dir: (kind == ClusterKind::Vms).then(|| text(layout.state())),
            pid: Some(std::process::id()),
            ..Self::down(layout.run(), String::new())
        }
    }

    /// A place where nothing runs.
    pub(super) fn down(run_dir: &Path, reason: String) -> Self {
        Self {
            version: VERSION,
            state: ClusterState::Down,
            reasons: vec![reason],
            kind: None,
            run_dir: text(run_dir),
            state_dir: None,
            pid: None,
            started: None,
            http: None,
            accel: None,
            command: None,
            drift: Vec::new(),
            datasets: Vec::new(),
            members: Vec::new(),
        }
    }

    pub(super) fn member(&self, name: &str) -> Option<&MemberReport> {
        self.members.iter().find(|member| member.name == name)
    }

    pub(super) fn no_such_member(&self, name: &str) -> Error {
        let names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
        Error::NoSuchMember { name: name.to_owned(), names: names.join(", ") }
    }

    /// One line, without its end.
    pub(super) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("no key is computed and no number is not finite")
    }

    /// Exit status for monitoring.
    pub(super) const fn exit_status(&self) -> u8 {
        match self.state {
            ClusterState::Healthy => 0,
            ClusterState::Starting | ClusterState::Degraded => exit::FAILED,
            ClusterState::Down => exit::NOT_RUNNING,
        }
    }
}

impl DatasetReport {
    const OK: &str = "ok";

    /// The directories of a share: one, unless it shows the paths of a command.
    fn of(fleet: &Fleet, share: &Share) -> Vec<Self> {
        let state = fleet.fault_of(share).unwrap_or_else(|| Self::OK.to_owned());
        let (dirs, plane) = match &share.root {
            Root::Directory(dir) => (std::slice::from_ref(dir), "live"),
            Root::Members(paths) => (&paths[..], "live"),
            Root::Snapshot(dir) => (std::slice::from_ref(dir), "snapshot"),
        };
        let report = |dir| Self {
            name: share.name.clone(),
            dir: text(dir),
            plane: plane.to_owned(),
            state: state.clone(),
        };
        dirs.iter().map(|dir| report(dir)).collect()
    }
}

impl MemberReport {
    pub(super) fn of(fleet: &Fleet, i: usize) -> Self {
        let machine = &fleet.machines[i];
        let vm = match &fleet.context {
            Context::Vms(_, guests) => Some(&guests[i].vm),
            Context::Local(..) => None,
        };
        let pid = machine.main_id().and_then(|id| fleet.supervisor.pid(id));
        let (phase, health) = condition(machine);
        let reason = match phase {
            _ if health == MemberHealth::Healthy => None,
            MemberPhase::Running if machine.failures == 0 => machine.trouble.as_ref(),
            MemberPhase::Booting | MemberPhase::Running => Some(&machine.why),
            MemberPhase::Restarting => Some(&machine.last_end),
            MemberPhase::Stopped | MemberPhase::Stopping => None,
        };
        Self {
            name: machine.member.name.clone(),
            role: machine.member.role.name().to_owned(),
            phase,
            health,
            reason: reason.filter(|reason| !reason.is_empty()).cloned(),
            since: unix(wall_clock(machine.since)),
            restarts: machine.restarts.clone(),
            boots: machine.boots,
            boot_ms: machine
                .boot_time
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            http: Some(fleet.context.http(i, &machine.member).to_string()),
            ports: vm.map(|vm| PortsReport { ssh: vm.ssh_port, metrics: vm.metrics_port }),
            image: machine.image.as_ref().map(|image| image.digest.clone()),
            memory_mib: vm.map(|vm| vm.memory_mib),
            resident_mib: pid.and_then(resident_mib),
            cpus: vm.map(|vm| vm.cpus),
            pid,
        }
    }

    /// Its state in a word.
    pub(crate) const fn state(&self) -> &'static str {
        match (self.phase, self.health) {
            (MemberPhase::Stopped, _) => "stopped",
            (MemberPhase::Booting, _) => "booting",
            (MemberPhase::Running, MemberHealth::Healthy) => "healthy",
            (MemberPhase::Running, _) => "unhealthy",
            (MemberPhase::Stopping, _) => "stopping",
            (MemberPhase::Restarting, _) => "restarting",
        }
    }

    /// Description of its fault.
    fn fault(&self) -> Option<String> {
        if self.health == MemberHealth::Healthy {
            return None;
        }
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}"));
        Some(format!("{} is {}{}", self.name, self.state(), reason.unwrap_or_default()))
    }
}

/// Phase and health of a member.
pub(super) fn condition(machine: &Machine) -> (MemberPhase, MemberHealth) {
    match machine.phase {
        Phase::Down => (MemberPhase::Stopped, MemberHealth::Unknown),
        Phase::Daemons { .. } | Phase::Booting => (MemberPhase::Booting, MemberHealth::Unknown),
        Phase::Healthy if machine.failures > 0 || machine.trouble.is_some() => {
            (MemberPhase::Running, MemberHealth::Unhealthy)
        }
        Phase::Healthy => (MemberPhase::Running, MemberHealth::Healthy),
        Phase::Ending { again: false, .. } => (MemberPhase::Stopping, MemberHealth::Unknown),
        Phase::Ending { again: true, .. } | Phase::Resting { .. } => {
            (MemberPhase::Restarting, MemberHealth::Unhealthy)
        }
    }
}

fn resident_mib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn wall_clock(instant: Instant) -> SystemTime {
    SystemTime::now().checked_sub(instant.elapsed()).unwrap_or(UNIX_EPOCH)
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};

    /// A cluster in which every key has a value.
    fn full() -> ClusterReport {
        let mut restarts = Restarts::default();
        restarts.record(RestartCause::Ended, "failed: QEMU (pid 7) was killed by SIGKILL");
        ClusterReport {
            kind: Some(ClusterKind::Vms),
            state_dir: Some("/state".into()),
            pid: Some(1),
            started: Some(2),
            http: Some("unix:/run/supervisor.http".into()),
            accel: Some("tcg".into()),
            command: Some("restart worker1".into()),
            drift: vec!["ports.conf: worker2 is missing".into()],
            datasets: vec![DatasetReport {
                name: "a".into(),
                dir: "/a".into(),
                plane: "live".into(),
                state: DatasetReport::OK.into(),
            }],
            members: vec![MemberReport {
                name: "controller".into(),
                role: "controller".into(),
                phase: MemberPhase::Running,
                health: MemberHealth::Unhealthy,
                reason: Some("timeout".into()),
                since: 3,
                restarts,
                boots: 1,
                boot_ms: Some(2370),
                http: Some("127.0.0.1:3220".into()),
                ports: Some(PortsReport { ssh: 2220, metrics: 3220 }),
                image: Some("sha256:abc".into()),
                memory_mib: Some(192),
                resident_mib: Some(100),
                cpus: Some(1),
                pid: Some(7),
            }],
            ..ClusterReport::down(Path::new("/run"), "why".into())
        }
    }

    /// Adds the paths of all keys below `value`, with their types.
    fn keys(path: &str, value: &Value, found: &mut BTreeMap<String, &'static str>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if !path.is_empty() && !path.ends_with("[]") {
            found.insert(path.to_owned(), kind);
        }
        let dot = if path.is_empty() { "" } else { "." };
        match value {
            Value::Object(object) => {
                object
                    .iter()
                    .for_each(|(key, value)| keys(&format!("{path}{dot}{key}"), value, found));
            }
            Value::Array(values) => {
                values.iter().for_each(|value| keys(&format!("{path}[]"), value, found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_key_is_documented_with_its_type() {
        let text = include_str!("../../../../docs/ps.md");
        let rows = text.lines().filter(|line| line.starts_with("| `"));
        let documented: BTreeMap<String, &str> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                (cells[1].trim_matches('`').to_owned(), cells[2])
            })
            .collect();
        let mut found = BTreeMap::new();
        keys("", &serde_json::from_str(&full().to_line()).unwrap(), &mut found);
        assert_eq!(documented, found);
    }

    #[test]
    fn every_word_of_a_state_is_documented() {
        let text = include_str!("../../../../docs/ps.md");
        let word = |value: Value| value.as_str().unwrap().to_owned();
        let mut words = BTreeSet::new();
        use ClusterState::{Degraded, Down, Healthy, Starting};
        for state in [Healthy, Starting, Degraded, Down] {
            words.insert(word(serde_json::to_value(state).unwrap()));
        }
        use MemberPhase::{Booting, Restarting, Running, Stopped, Stopping};
        for phase in [Stopped, Booting, Running, Stopping, Restarting] {
            words.insert(word(serde_json::to_value(phase).unwrap()));
        }
        for health in [MemberHealth::Healthy, MemberHealth::Unhealthy, MemberHealth::Unknown] {
            words.insert(word(serde_json::to_value(health).unwrap()));
        }
        for word in words {
            assert!(text.contains(&format!("`{word}`")), "{word}");
        }
    }

    #[test]
    fn a_report_is_one_line_whatever_the_names_are() {
        let mut report = full();
        report.run_dir = "/a\nb\u{1b}[2J\"".into();
        let line = report.to_line();
        assert!(!line.contains(['\n', '\u{1b}']), "{line}");
        let read: ClusterReport = serde_json::from_str(&line).unwrap();
        assert_eq!(read.run_dir, report.run_dir);
    }

    #[test]
    fn a_reader_ignores_keys_that_it_does_not_know() {
        let line = full().to_line().replacen('{', "{\"new\":{\"a\":1},", 1);
        assert!(serde_json::from_str::<ClusterReport>(&line).is_ok());
    }

    #[test]
    fn the_latest_restarts_are_kept_and_all_are_counted() {
        let mut restarts = Restarts::default();
        for i in 0..20 {
            restarts.record(RestartCause::Requested, &i.to_string());
        }
        let kept: Vec<&str> = restarts.last.iter().map(|restart| restart.reason.as_str()).collect();
        assert_eq!(
            (restarts.count, kept),
            (20, vec!["12", "13", "14", "15", "16", "17", "18", "19"])
        );
    }
}
