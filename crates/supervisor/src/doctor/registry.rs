//! Checks of the controller by its own status, of the workers that it knows, and of versions and images.

use super::answers::{NoStatus, is_suspended};
use super::diagnosis::{CheckResult, Diagnosis};
use super::guest::GuestReport;
use super::members::{RunningCluster, is_cause};
use super::remedy::Remedy;
use super::report::plain;
use crate::cluster::{ClusterReport, MemberPhase, MemberReport};
use crate::quote;
use ipc_proto::message::{QuarantineStatus, Status, WorkerHealth};
use std::collections::{BTreeMap, BTreeSet};

impl RunningCluster<'_> {
    /// The controller knows the worker and gives it work.
    pub(super) fn registration(
        &self,
        member: &MemberReport,
        restart: &dyn Fn(&str) -> String,
    ) -> Option<CheckResult> {
        let (name, Ok(status)) = (member.name.as_str(), &self.answers.controller) else {
            return None;
        };
        let is_running = member.phase == MemberPhase::Running;
        if member.role != "worker" || !is_running || member.pid.is_some_and(is_suspended) {
            return None;
        }
        let services = self.answers.guests.get(name).map(GuestReport::service_is_down);
        if services == Some(true) {
            return None;
        }
        match status.workers.iter().find(|worker| worker.name == name).map(|worker| worker.health) {
            Some(WorkerHealth::Ready) => {
                Some(CheckResult::ok(name, "connected to the controller, ready"))
            }
            Some(WorkerHealth::Draining) => {
                Some(CheckResult::ok(name, "connected to the controller, drained"))
            }
            Some(WorkerHealth::Quarantined) => Some(self.quarantined(name, row_of(status, name))),
            Some(WorkerHealth::Suspended) => {
                let text = "missed too many deadlines, and gets no work until it connects again";
                Some(Diagnosis::WorkerSuspended.of(name, text, Remedy::run(restart(name))))
            }
            None => {
                let text = "not connected to the controller";
                Some(Diagnosis::WorkerMissing.of(name, text, Remedy::run(restart(name))))
            }
        }
    }

    pub(super) fn controller(
        &self,
        lives: bool,
        restart: &dyn Fn(&str) -> String,
        so_far: &[CheckResult],
    ) -> Option<CheckResult> {
        let subject = "controller";
        let refusal = match &self.answers.controller {
            Ok(status) => {
                let up_s = status.uptime_ms / 1000;
                return Some(CheckResult::ok(subject, format!("answers, up {up_s} s")));
            }
            Err(refusal) => refusal,
        };
        match refusal {
            NoStatus::Version(text) => {
                let remedy = Remedy::run(self.renew());
                Some(Diagnosis::VersionMismatch.of(subject, plain(text), remedy))
            }
            NoStatus::Denied(text) => {
                let remedy = Remedy::run(self.commands.start_again());
                Some(Diagnosis::ClientRefused.of(subject, plain(text), remedy))
            }
            NoStatus::Exposed => None,
            // The supervisor says why, or another check does.
            NoStatus::Mute(_)
                if !lives || so_far.iter().any(|it| it.subject == subject && is_cause(it)) =>
            {
                None
            }
            NoStatus::Mute(text) => {
                let text = format!("does not answer: {}", plain(text));
                Some(Diagnosis::ControllerSilent.of(subject, text, Remedy::run(restart(subject))))
            }
        }
    }

    /// Workers that returned a wrong digest and are no members.
    pub(super) fn strangers_in_quarantine(&self, report: &ClusterReport) -> Vec<CheckResult> {
        let Ok(status) = &self.answers.controller else { return Vec::new() };
        let is_member = |name: &str| report.members.iter().any(|member| member.name == name);
        let rows = status.quarantined.iter().filter(|row| !is_member(&row.worker));
        rows.map(|row| self.quarantined(&row.worker, Some(row))).collect()
    }

    fn quarantined(&self, name: &str, row: Option<&QuarantineStatus>) -> CheckResult {
        let text = row.map_or_else(String::new, |row| {
            format!(" for {} s: {}", row.age_ms / 1000, plain(&row.reason))
        });
        let command = format!(
            "{} release --runtime-dir {} {}",
            quote::path(&self.bin_dir.join("hashctl")),
            quote::path(self.layout.run()),
            quote::shell(name.as_ref())
        );
        let remedy = Remedy::run(command).note("once its wrong digest is explained");
        Diagnosis::WorkerQuarantined.of(plain(name), format!("in quarantine{text}"), remedy)
    }

    /// Versions of hashctl, the controller, the workers, and the programs in the images.
    pub(super) fn versions(&self, report: &ClusterReport) -> Option<CheckResult> {
        let status = self.answers.controller.as_ref().ok()?;
        let ours = env!("CARGO_PKG_VERSION");
        let mut found: BTreeMap<String, &str> = BTreeMap::new();
        found.insert("controller".to_owned(), &status.software);
        for worker in &status.workers {
            found.insert(worker.name.clone(), &worker.software);
        }
        for member in &report.members {
            let guest = self.answers.guests.get(&member.name).and_then(GuestReport::version);
            found.extend(guest.map(|version| (format!("image of {}", member.name), version)));
        }
        let differing: Vec<String> = found
            .iter()
            .filter(|(_, version)| **version != ours)
            .map(|(who, version)| plain(&format!("{who} {version}")))
            .collect();
        if differing.is_empty() {
            return Some(CheckResult::ok("versions", format!("all {ours}")));
        }
        let text = format!("ours is {ours}; {}", differing.join(", "));
        Some(Diagnosis::VersionMismatch.of("versions", text, Remedy::run(self.renew())))
    }

    /// Puts the programs of the last build into the cluster.
    fn renew(&self) -> String {
        let build = self.commands.at_root("cargo xtask build");
        match self.started.is_local {
            true => format!("{build} && {}", self.commands.start_again()),
            false => format!("{build} && {}", self.commands.script("deploy", &[])),
        }
    }

    pub(super) fn images(&self, report: &ClusterReport) -> Option<CheckResult> {
        let booted = report.members.iter().filter_map(|it| it.image.as_deref());
        let said = self.answers.guests.values().filter_map(GuestReport::image);
        let digests: BTreeSet<&str> = booted.chain(said).collect();
        let deploy = Remedy::run(self.commands.script("deploy", &[]));
        let first = digests.first()?;
        if digests.len() > 1 {
            let list = plain(&digests.iter().copied().collect::<Vec<_>>().join(" and "));
            return Some(Diagnosis::ImageMismatch.of("images", format!("VMs run {list}"), deploy));
        }
        match &self.built_image {
            Some(built) if built != first => {
                let text = format!("VMs run {}, built last is {built}", plain(first));
                Some(Diagnosis::ImageOld.of("images", text, deploy))
            }
            _ => Some(CheckResult::ok("images", format!("all VMs run {}", plain(first)))),
        }
    }
}

fn row_of<'s>(status: &'s Status, name: &str) -> Option<&'s QuarantineStatus> {
    status.quarantined.iter().find(|row| row.worker == name)
}
