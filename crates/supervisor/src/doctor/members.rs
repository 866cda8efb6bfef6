//! Checks of a cluster that runs: its supervisor and its members, by their processes and files. What the
//! controller says of them is judged in `registry`.
//!
//! A member that is unhealthy for a reason that another check names is not reported a second time.

use super::answers::{Answers, NoReport, is_suspended};
use super::diagnosis::{CheckResult, Diagnosis};
use super::guest::GuestContext;
use super::remedy::{Commands, Remedy};
use super::report::plain;
use super::started::StartedCluster;
use crate::cluster::{ClusterReport, DatasetReport, MemberHealth, MemberPhase, MemberReport};
use crate::quote;
use crate::vm::{CONTROL_SOCKET, Layout};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Restarts within [`FLAPPING_S`] seconds that are too many.
const FLAPPING_RESTARTS: usize = 3;
const FLAPPING_S: u64 = 600;

/// A cluster with all answers.
#[derive(Debug)]
pub(super) struct RunningCluster<'a> {
    pub(super) answers: &'a Answers,
    pub(super) started: &'a StartedCluster,
    pub(super) layout: &'a Layout,
    pub(super) commands: &'a Commands,
    /// Where our programs are.
    pub(super) bin_dir: &'a Path,
    /// Digest of the image that a start would boot.
    pub(super) built_image: Option<String>,
}

impl RunningCluster<'_> {
    /// Everything that can be said of the cluster.
    pub(super) fn check(&self) -> Vec<CheckResult> {
        let report = match &self.answers.report {
            Ok(report) => report,
            Err(silence) => return vec![self.silent(silence)],
        };
        let pid = self.started.pid;
        let mut results = vec![CheckResult::ok("supervisor", format!("pid {pid} answers"))];
        if let Some(command) = &report.command {
            results.push(self.busy("supervisor", format!("is at a command: {command}")));
        }
        let lost = self.lost_files(report);
        results.extend(lost.iter().cloned());
        results.extend(self.drift(report));
        results.extend(self.datasets(report));
        let restart = |name: &str| match lost.is_some() {
            // A VM that is stopped would not come back.
            true => self.commands.start_again(),
            false => self.commands.script("restart", &[name]),
        };
        let controller_lives =
            report.members.first().is_some_and(|it| it.health == MemberHealth::Healthy);
        for member in &report.members {
            let mut own = self.processes(member, &restart);
            own.extend(self.guest(member, &restart));
            own.extend(self.registration(member, &restart));
            let is_explained = own.iter().any(is_cause);
            let follows = member.role == "worker" && !controller_lives;
            let state = self.state(member, report, &restart);
            // An unhealthy member is told once, and workers of a dead controller not at all.
            let is_told = state.diagnosis == Some(Diagnosis::MemberUnhealthy);
            if !(is_told && (is_explained || follows)) {
                results.push(state);
            }
            let restart = restart(&member.name);
            if !is_explained && !member.pid.is_some_and(is_suspended) {
                own.extend(self.member_page(member, &restart));
            }
            results.extend(own);
        }
        results.extend(self.supervisor_page(report));
        results.extend(self.controller(controller_lives, &restart, &results));
        results.extend(self.strangers_in_quarantine(report));
        results.extend(self.versions(report));
        results.extend(self.images(report));
        // What a fault above made them log is no fault of its own.
        if results.iter().all(|result| result.diagnosis.is_none()) {
            let logs: Vec<_> = report.members.iter().filter_map(|it| self.own_log(it)).collect();
            results.extend(logs);
        }
        results
    }

    fn silent(&self, silence: &NoReport) -> CheckResult {
        let (pid, again) = (self.started.pid, self.commands.start_again());
        match silence {
            NoReport::Suspended => {
                let remedy = Remedy::run(format!("kill -CONT {pid}"));
                let text = format!("pid {pid} is stopped by a signal");
                Diagnosis::ProcessSuspended.of("supervisor", text, remedy)
            }
            NoReport::NoSocket(error) => {
                let path = self.layout.file(CONTROL_SOCKET);
                let text = format!("pid {pid}: {}: {error}", path.display());
                Diagnosis::SupervisorSilent.of("supervisor", text, Remedy::run(again))
            }
            NoReport::Mute(why) => {
                let text = format!("pid {pid} does not answer: {why}");
                Diagnosis::SupervisorSilent.of("supervisor", text, Remedy::run(again))
            }
        }
    }

    fn busy(&self, subject: &str, text: String) -> CheckResult {
        let remedy = Remedy::run(self.commands.script("doctor", &[])).note("after it");
        Diagnosis::Busy.of(subject, text, remedy)
    }

    /// Files without which a VM that is stopped cannot start again.
    fn lost_files(&self, report: &ClusterReport) -> Option<CheckResult> {
        if self.started.is_local {
            return None;
        }
        let layout = self.layout;
        let mut paths: Vec<PathBuf> =
            vec![layout.ssh_key(), layout.ssh_key().with_extension("pub")];
        for member in &report.members {
            paths.push(layout.host_key(&member.name));
            if member.role == "controller" {
                paths.push(layout.state_disk(&member.name));
            }
            paths.extend(member.image.iter().map(|digest| layout.image(digest)));
        }
        let lost: BTreeSet<&PathBuf> = paths.iter().filter(|path| !path.exists()).collect();
        let first = lost.first()?;
        let more = match lost.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let text =
            format!("{}{more} is gone, without which a VM does not start again", first.display());
        let remedy = Remedy::run(self.commands.start_again()).note("makes new keys and disks");
        Some(Diagnosis::StateLost.of("state directory", text, remedy))
    }

    fn drift(&self, report: &ClusterReport) -> Vec<CheckResult> {
        let result = |text: &String| {
            Diagnosis::Drift.of("files", plain(text), Remedy::run(self.commands.start()))
        };
        report.drift.iter().map(result).collect()
    }

    fn datasets(&self, report: &ClusterReport) -> Vec<CheckResult> {
        let faulty = report.datasets.iter().filter(|dataset| dataset.state != "ok");
        let result = |dataset: &DatasetReport| {
            let text =
                plain(&format!("dataset {}, {}: {}", dataset.name, dataset.dir, dataset.state));
            let remedy = Remedy::say("make the directory available again; is its disk mounted?");
            Diagnosis::DatasetUnusable.of("datasets", text, remedy)
        };
        faulty.map(result).collect()
    }

    /// Phase and health as the supervisor knows them.
    fn state(
        &self,
        member: &MemberReport,
        report: &ClusterReport,
        restart: &dyn Fn(&str) -> String,
    ) -> CheckResult {
        let name = member.name.as_str();
        let reason = plain(member.reason.as_deref().unwrap_or("no reason is known"));
        match (member.phase, member.health) {
            (MemberPhase::Running, MemberHealth::Healthy) => {
                let recent = self.recent_restarts(member);
                if recent.len() < FLAPPING_RESTARTS {
                    return CheckResult::ok(name, "healthy");
                }
                let last = recent.last().copied().unwrap_or_default();
                let text =
                    format!("restarted {} times within ten minutes: {}", recent.len(), plain(last));
                Diagnosis::Flapping.of(
                    name,
                    text,
                    Remedy::run(self.commands.script("logs", &[name])),
                )
            }
            (MemberPhase::Stopped, _) => {
                // A worker does not become healthy without its controller.
                let is_down = |it: &&MemberReport| it.phase == MemberPhase::Stopped;
                let mut names: Vec<&str> = report
                    .members
                    .iter()
                    .take(1)
                    .filter(is_down)
                    .map(|it| it.name.as_str())
                    .collect();
                if !names.contains(&name) {
                    names.push(name);
                }
                let remedy = Remedy::run(self.commands.script("start", &names));
                Diagnosis::MemberStopped.of(name, "stopped", remedy)
            }
            (MemberPhase::Booting | MemberPhase::Stopping, _) => {
                self.busy(name, member.state().to_owned())
            }
            (MemberPhase::Restarting, _) => {
                let text =
                    format!("does not stay up: {reason}; {} restarts", member.restarts.count);
                let remedy =
                    Remedy::run(self.commands.script("logs", &[name])).note("says what it wrote");
                Diagnosis::MemberRestarting.of(name, text, remedy)
            }
            (MemberPhase::Running, _) => {
                Diagnosis::MemberUnhealthy.of(name, reason, Remedy::run(restart(name)))
            }
        }
    }

    /// Reasons of the latest restarts.
    fn recent_restarts<'m>(&self, member: &'m MemberReport) -> Vec<&'m str> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let recent = member.restarts.last.iter().filter(|it| it.time + FLAPPING_S > now);
        recent.map(|restart| restart.reason.as_str()).collect()
    }

    /// The member's process, its pidfile and its sockets.
    fn processes(
        &self,
        member: &MemberReport,
        restart: &dyn Fn(&str) -> String,
    ) -> Vec<CheckResult> {
        let (name, layout) = (member.name.as_str(), self.layout);
        let Some(pid) = member.pid.filter(|_| member.phase == MemberPhase::Running) else {
            return Vec::new();
        };
        if is_suspended(pid) {
            let text = format!("its process {pid} is stopped by a signal");
            let remedy = Remedy::run(format!("kill -CONT {pid}"));
            return vec![Diagnosis::ProcessSuspended.of(name, text, remedy)];
        }
        let mut results = Vec::new();
        let sockets: &[&str] = match (self.started.is_local, member.role.as_str()) {
            (true, "controller") => &["client.sock", "worker.sock"],
            (true, _) => &[],
            (false, _) => &["qmp", "vsock"],
        };
        for socket in sockets {
            let path = match self.started.is_local {
                true => layout.file(socket),
                false => layout.of_vm(name, socket),
            };
            results.extend(socket_fault(name, &path, restart(name)));
        }
        if !self.started.is_local {
            results.extend(self.pidfile(name, pid));
        }
        results
    }

    fn pidfile(&self, name: &str, pid: u32) -> Option<CheckResult> {
        let path = self.layout.of_vm(name, "pid");
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.trim().parse() == Ok(pid) {
            return None;
        }
        let what = format!("{} does not name its process {pid}", path.display());
        let remedy = Remedy::run(format!("echo {pid} >{}", quote::path(&path)));
        Some(Diagnosis::PidfileWrong.of(name, what, remedy))
    }

    fn guest(&self, member: &MemberReport, restart: &dyn Fn(&str) -> String) -> Vec<CheckResult> {
        let name = member.name.as_str();
        let Some(guest) = self.answers.guests.get(name) else { return Vec::new() };
        // One that is suspended cannot answer, and ssh takes no key that others can read: `place` says so.
        let is_exposed = |data: fs::Metadata| data.permissions().mode() & 0o077 != 0;
        let has_key = !fs::metadata(self.layout.ssh_key()).is_ok_and(is_exposed);
        if !has_key || member.pid.is_some_and(is_suspended) {
            return Vec::new();
        }
        let path = self.layout.file("settings").join(name).join("datasets");
        let datasets = fs::read_to_string(path).unwrap_or_default();
        let first = |line: &str| line.split(' ').next().map(str::to_owned);
        let context = GuestContext {
            name,
            role: &member.role,
            datasets: datasets.lines().filter_map(first).collect(),
            restart: restart(name),
            ssh: self.commands.script("ssh", &[name]),
            logs: self.commands.script("logs", &[name]),
        };
        guest.check(&context, self.layout)
    }
}

/// True for a fault that explains why a member is unhealthy.
pub(super) fn is_cause(result: &CheckResult) -> bool {
    result.severity() == super::diagnosis::Severity::Failure
}

/// A socket that is missing, or that its owner cannot use.
fn socket_fault(name: &str, path: &Path, restart: String) -> Option<CheckResult> {
    let Some(metadata) = fs::metadata(path).ok().filter(|data| data.file_type().is_socket()) else {
        let text = format!("there is no socket {}", path.display());
        return Some(Diagnosis::SocketMissing.of(name, text, Remedy::run(restart)));
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o600 == 0o600 {
        return None;
    }
    let text = format!("{} has mode {mode:04o} and cannot be used", path.display());
    let remedy = Remedy::run(format!("chmod u+rw {}", quote::path(path)));
    Some(Diagnosis::SocketUnusable.of(name, text, remedy))
}
