//! Everything that the doctor can find wrong, and the results of its checks.

use super::remedy::Remedy;

/// Outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Nothing to do.
    Ok,
    /// The cluster works or can start, but somebody should look.
    Warning,
    /// The cluster, or a part of it, does not work.
    Failure,
}

impl Severity {
    /// Its word in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warn",
            Self::Failure => "fail",
        }
    }
}

/// One line of the doctor's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckResult {
    /// None if nothing is wrong.
    pub(super) diagnosis: Option<Diagnosis>,
    /// Part of the host or cluster that was checked, such as `worker1`.
    pub(super) subject: String,
    /// Finding, for people.
    pub(super) text: String,
    pub(super) remedy: Option<Remedy>,
}

impl CheckResult {
    /// A check that found nothing wrong.
    pub(super) fn ok(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { diagnosis: None, subject: subject.into(), text: text.into(), remedy: None }
    }

    pub(super) fn severity(&self) -> Severity {
        self.diagnosis.map_or(Severity::Ok, Diagnosis::severity)
    }
}

/// Defines [`Diagnosis`] with its table: severity, variant, name, meaning and kind of remedy.
macro_rules! diagnoses {
    ($($severity:ident $variant:ident $name:literal: $meaning:literal => $remedy:literal,)+) => {
        /// A fault that the doctor knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Diagnosis { $($variant),+ }

        impl Diagnosis {
            /// All of them, in the order of docs/doctor.md.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$variant),+];

            pub(super) const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),+ }
            }

            /// Its name in JSON, which does not change.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The fault and the remedy in a few words.
            #[cfg(test)]
            const fn meaning(self) -> [&'static str; 2] {
                match self { $(Self::$variant => [$meaning, $remedy]),+ }
            }
        }
    };
}

diagnoses! {
    // The host.
    Warning RootUser "root-user":
        "the doctor, and so the cluster, runs as root" => "a user of its own",
    Failure OwnProgramMissing "own-program-missing":
        "a program of the project is not built, or has another version" => "`cargo xtask build`",
    Failure ProgramMissing "program-missing":
        "a program of the host is missing" => "`apt-get install` its package",
    Failure SetupFailed "setup-failed":
        "what VMs need cannot be found out" => "`run.sh --dry-run` shows it all",
    Warning DaemonMissing "daemon-missing":
        "a daemon of VMs is not built yet" => "`qemu/tools.sh`",
    Failure DaemonBroken "daemon-broken":
        "a daemon of VMs does not run" => "remove it, then `qemu/tools.sh`; or reinstall its package",
    Warning KvmMissing "kvm-missing":
        "there is no `/dev/kvm`: VMs are slow" => "virtualisation in the firmware, or `--accel tcg`",
    Warning KvmDenied "kvm-denied":
        "this user may not open `/dev/kvm`: VMs are slow" => "`usermod -aG kvm`",
    Warning KvmBroken "kvm-broken":
        "`/dev/kvm` opens but ran no guest" => "`rm` the cached result for another try",
    Warning NamespacesDenied "namespaces-denied":
        "no mount namespace: files of `sum` are sent as bytes" => "the `sysctl` that forbids it",
    Failure DatasetsUnshareable "datasets-unshareable":
        "no mount namespace, and the cluster has live datasets" => "that `sysctl`, or `--snapshot`",
    Warning FewDescriptors "few-descriptors":
        "the hard limit of open files is low" => "a higher limit for this user",
    Failure ClockBehind "clock-behind":
        "the host's clock is before the build of this program" => "set the clock",
    // The files.
    Failure ConfigInvalid "config-invalid":
        "`ports.conf`, `cluster.toml` or an option is refused" => "correct the line that is named",
    Failure DatasetUnusable "dataset-unusable":
        "the directory of a dataset is missing or cannot be read" => "restore it, or remove the dataset",
    Warning ImageMissing "image-missing":
        "there is no VM image yet" => "`qemu/dev-image.sh`, or `kas build`",
    Failure ImageDamaged "image-damaged":
        "an image is incomplete, or its files do not match `image.txt`" => "build it again",
    // The directories.
    Failure RunDirUnusable "run-dir-unusable":
        "the run directory is none, a link, another user's, or its path is too long"
        => "another `--runtime-dir`",
    Failure RunDirExposed "run-dir-exposed":
        "others may enter the run directory" => "`chmod 700`",
    Warning Leftovers "leftovers":
        "files of a cluster that was killed" => "`scripts/stop.sh`",
    Failure ForeignFiles "foreign-files":
        "files that a start would refuse, and no cluster" => "`rm`, or another `--runtime-dir`",
    Failure StateExposed "state-exposed":
        "others may read a key, a token or a disk, or write to it" => "`chmod`",
    Failure StateForeign "state-foreign":
        "a key, a token or a disk belongs to somebody else" => "`chown` after a look inside",
    Failure StateLocked "state-locked":
        "another cluster uses the state directory" => "stop it, or another `--state-dir`",
    Failure DiskDamaged "disk-damaged":
        "the controller's disk is damaged" => "`e2fsck`, or a new disk",
    // Room.
    Failure PortTaken "port-taken":
        "a port of a VM is in use" => "end its holder, or another port",
    Failure MemoryShort "memory-short":
        "the VMs may take more memory than is available" => "less `memory`, or fewer VMs",
    Warning MemoryLow "memory-low":
        "the host is nearly out of memory" => "end other programs, or stop workers",
    Failure NotWritable "not-writable":
        "a directory of the cluster cannot be written" => "`chown`, or another directory",
    Warning SpaceLow "space-low":
        "a directory of the cluster has little free space" => "make room",
    Failure SpaceShort "space-short":
        "a directory of the cluster has no free space, or no free inodes" => "make room",
    // The cluster.
    Failure SupervisorSilent "supervisor-silent":
        "the supervisor does not answer" => "stop the cluster and start it again",
    Failure ProcessSuspended "process-suspended":
        "a signal has stopped the supervisor or a member" => "`kill -CONT`",
    Warning Busy "busy":
        "the cluster starts, stops, or is at a command" => "ask again after it",
    Failure StateLost "state-lost":
        "keys, disk or image of a running VM are gone: it would not start again"
        => "stop the cluster and start it again",
    Warning Drift "drift":
        "what runs differs from the files" => "`run.sh` with the options of the start",
    Warning MemberStopped "member-stopped":
        "a VM or process is stopped" => "`scripts/start.sh`, the controller first",
    Failure MemberRestarting "member-restarting":
        "a member ends again and again; the reason is told" => "`scripts/logs.sh`",
    Failure MemberUnhealthy "member-unhealthy":
        "a member runs and does not pass its check" => "`scripts/restart.sh`",
    Warning Flapping "flapping":
        "a healthy member was restarted three times within ten minutes" => "`scripts/logs.sh`",
    Failure SocketMissing "socket-missing":
        "a socket of a member is missing" => "`scripts/restart.sh`",
    Failure SocketUnusable "socket-unusable":
        "the mode of a socket keeps its owner out" => "`chmod`",
    Warning PidfileWrong "pidfile-wrong":
        "a pidfile does not name the process of its VM" => "write the right one",
    Failure ControllerSilent "controller-silent":
        "the controller runs and does not answer clients" => "`scripts/restart.sh controller`",
    Failure ClientRefused "client-refused":
        "the controller refuses clients, or the files that lead to it are wrong"
        => "stop the cluster and start it again",
    Failure WorkerMissing "worker-missing":
        "a worker runs and the controller does not know it" => "`scripts/restart.sh`",
    Failure WorkerSuspended "worker-suspended":
        "a worker missed too many deadlines" => "`scripts/restart.sh`",
    Failure WorkerQuarantined "worker-quarantined":
        "a worker returned a wrong digest" => "`hashctl release`",
    Failure VersionMismatch "version-mismatch":
        "programs have different versions, or no common protocol" => "build, then `scripts/deploy.sh`",
    Failure ImageMismatch "image-mismatch":
        "VMs boot different images" => "`scripts/deploy.sh`",
    Warning ImageOld "image-old":
        "the VMs boot another image than the one built last" => "`scripts/deploy.sh`",
    // Metrics and monitoring.
    Warning MetricsSilent "metrics-silent":
        "a member runs and its metrics page does not answer" => "end who has its port, `scripts/restart.sh`",
    Warning MonitoringDown "monitoring-down":
        "a monitoring program was started and does not run" => "`scripts/monitoring.sh up`",
    Warning MonitoringSilent "monitoring-silent":
        "a monitoring program runs and does not answer" => "`scripts/monitoring.sh` down and up",
    // Inside the VMs.
    Failure HostKey "host-key":
        "the host key of a VM is not the pinned one" => "`scripts/restart.sh`",
    Failure SshSilent "ssh-silent":
        "a VM does not answer over SSH" => "`scripts/restart.sh`",
    Failure ServiceDown "service-down":
        "a service of a VM does not run" => "`sv start` in it",
    Failure DiskReadOnly "disk-read-only":
        "the controller's disk has become read-only" => "`scripts/restart.sh`",
    Failure DatasetUnmounted "dataset-unmounted":
        "a worker VM does not see a dataset" => "`scripts/restart.sh`",
    Warning GuestNearlyFull "guest-nearly-full":
        "a VM has little memory or space" => "`du` in it, or more `memory`",
    Failure GuestFull "guest-full":
        "a VM is out of memory or space" => "`du` in it, or more `memory`",
    Warning GuestClock "guest-clock":
        "the clock of a VM is not the host's" => "`scripts/restart.sh`",
    Warning LoggedErrors "logged-errors":
        "a program of the cluster logged errors or warnings lately" => "`scripts/logs.sh`",
    Warning GuestSilent "guest-silent":
        "a part of a VM's report is missing" => "`scripts/logs.sh`",
}

impl Diagnosis {
    /// This fault of `subject`.
    pub(super) fn of(
        self,
        subject: impl Into<String>,
        text: impl Into<String>,
        remedy: Remedy,
    ) -> CheckResult {
        CheckResult {
            diagnosis: Some(self),
            subject: subject.into(),
            text: text.into(),
            remedy: Some(remedy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_document_lists_every_diagnosis_and_no_other() {
        let document = include_str!("../../../../docs/doctor.md");
        let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
        let want: Vec<String> = Diagnosis::ALL
            .iter()
            .map(|diagnosis| {
                let ([fault, remedy], severity) = (diagnosis.meaning(), diagnosis.severity());
                format!("| `{}` | {} | {fault} | {remedy} |", diagnosis.name(), severity.name())
            })
            .collect();
        assert_eq!(rows, want, "the table should be\n{}\n", want.join("\n"));
    }

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = Diagnosis::ALL.iter().map(|diagnosis| diagnosis.name()).collect();
        assert_eq!(names.len(), Diagnosis::ALL.len());
    }
}
