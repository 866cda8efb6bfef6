//! Checks inside the VMs, by what each says of itself over SSH. What it says is matched against a
//! strict pattern before anything is done with it (`vm::facts`).

use super::ask::{ProgramAnswer, ask};
use super::diagnosis::{CheckResult, Diagnosis};
use super::remedy::Remedy;
use super::report::plain;
use crate::vm::{self, Layout, SSH_CONFIG};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Script that runs in a VM.
const SCRIPT: &str = include_str!("../../../../scripts/lib/guest-report");

/// Time limit for its report; a VM without KVM takes half a second.
const REPORT_LIMIT: Duration = Duration::from_secs(8);

/// Difference of two clocks that is not noticed, in seconds.
const CLOCK_TOLERANCE_S: u64 = 2;

/// Available part of a VM's memory or space that is little, and that is too little, in percent.
const LITTLE_PERCENT: u64 = 15;
const TOO_LITTLE_PERCENT: u64 = 5;

/// Report of a VM about itself.
#[derive(Debug, Default)]
pub(super) struct GuestReport {
    /// Lines that [`vm::facts`] let through.
    facts: Vec<String>,
    /// Why there is no report.
    error: Option<String>,
    /// The host's time before the question and after the answer, in seconds since 1970.
    asked: [u64; 2],
}

/// Asks all VMs concurrently.
pub(super) fn ask_all(layout: &Layout, names: &[&str]) -> BTreeMap<String, GuestReport> {
    thread::scope(|scope| {
        let asked: Vec<_> =
            names.iter().map(|&name| (name, scope.spawn(move || ask_one(layout, name)))).collect();
        let reports = asked
            .into_iter()
            .map(|(name, thread)| (name.to_owned(), thread.join().unwrap_or_default()));
        reports.collect()
    })
}

fn ask_one(layout: &Layout, name: &str) -> GuestReport {
    let config = layout.file(SSH_CONFIG);
    let args =
        [OsStr::new("-F"), config.as_os_str(), "--".as_ref(), name.as_ref(), "sh -s".as_ref()];
    let before = now_s();
    let answer = ask("ssh", args, SCRIPT.as_bytes(), REPORT_LIMIT);
    let asked = [before, now_s()];
    match answer {
        Ok(answer) if answer.succeeded() => {
            let facts = vm::facts(&answer.stdout).into_iter().map(str::to_owned).collect();
            GuestReport { facts, error: None, asked }
        }
        Ok(answer) => GuestReport { facts: Vec::new(), error: Some(why(&answer)), asked },
        Err(error) => GuestReport { facts: Vec::new(), error: Some(error.to_string()), asked },
    }
}

fn why(answer: &ProgramAnswer) -> String {
    match (answer.timed_out(), answer.last_words()) {
        (true, _) => format!("no answer within {} s", REPORT_LIMIT.as_secs()),
        (false, words) if words.is_empty() => "ssh failed without a word".to_owned(),
        (false, words) => words,
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// One VM, and the commands that help it.
#[derive(Debug)]
pub(super) struct GuestContext<'a> {
    pub(super) name: &'a str,
    pub(super) role: &'a str,
    /// Names of the datasets that it is to see.
    pub(super) datasets: Vec<String>,
    /// Restarts it.
    pub(super) restart: String,
    /// Runs a command line in it, which is appended.
    pub(super) ssh: String,
    pub(super) logs: String,
}

impl GuestReport {
    /// The values of the lines with this key.
    fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
        let lines =
            self.facts.iter().filter_map(move |line| line.strip_prefix(key)?.strip_prefix(' '));
        lines.map(|line| line.split(' ').collect())
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.values(key).next()?.first()?.parse().ok()
    }

    /// The version of the program of its role.
    pub(super) fn version(&self) -> Option<&str> {
        self.values("version").next()?.get(1).copied()
    }

    /// The digest of its image.
    pub(super) fn image(&self) -> Option<&str> {
        self.values("image").next()?.first().copied()
    }

    /// True if the VM says that a service does not run.
    pub(super) fn service_is_down(&self) -> bool {
        self.values("service").any(|values| values.get(1) != Some(&"run"))
    }

    /// Everything that can be said of the VM.
    pub(super) fn check(&self, vm: &GuestContext<'_>, layout: &Layout) -> Vec<CheckResult> {
        if let Some(error) = &self.error {
            return vec![unreachable(error, vm, layout)];
        }
        let mut results = vec![CheckResult::ok(vm.name, "SSH answers with the pinned host key")];
        results.extend(self.services(vm));
        results.extend(self.mounts(vm));
        results.push(self.memory(vm));
        results.extend(self.space(vm));
        results.push(self.clock(vm));
        results.push(self.trouble(vm));
        results
    }

    fn services(&self, vm: &GuestContext<'_>) -> Vec<CheckResult> {
        let wanted = format!("hashcluster-{}", vm.role);
        let (mut running, mut faults) = (Vec::new(), Vec::new());
        for values in self.values("service") {
            let [service, state, seconds] = values[..] else { continue };
            if state == "run" {
                running.push(service);
                continue;
            }
            let text = format!("service {service} is {state} for {seconds} s");
            let remedy = Remedy::run(format!("{} sv start {service}", vm.ssh));
            faults.push(Diagnosis::ServiceDown.of(vm.name, text, remedy));
        }
        if faults.is_empty() && !running.contains(&wanted.as_str()) {
            let remedy = Remedy::run(&vm.restart);
            let text = format!("service {wanted} is not there");
            faults.push(Diagnosis::ServiceDown.of(vm.name, text, remedy));
        }
        if faults.is_empty() {
            faults.push(CheckResult::ok(vm.name, format!("services {}", running.join(", "))));
        }
        faults
    }

    /// The controller's disk can be written, and all datasets are there.
    fn mounts(&self, vm: &GuestContext<'_>) -> Vec<CheckResult> {
        let mounts: BTreeMap<&str, &str> = self
            .values("mount")
            .filter_map(|values| Some((*values.first()?, *values.get(1)?)))
            .collect();
        let mut faults = Vec::new();
        if mounts.get("/var/lib/hashcluster") == Some(&"ro") {
            let remedy = Remedy::run(&vm.restart).note("its disk is checked at the boot");
            faults.push(Diagnosis::DiskReadOnly.of(
                vm.name,
                "its disk has become read-only",
                remedy,
            ));
        }
        let missing =
            vm.datasets.iter().filter(|name| !mounts.contains_key(&*format!("/data/{name}")));
        faults.extend(missing.map(|name| {
            let text = format!("dataset {name} is not mounted");
            Diagnosis::DatasetUnmounted.of(vm.name, text, Remedy::run(&vm.restart))
        }));
        faults
    }

    fn memory(&self, vm: &GuestContext<'_>) -> CheckResult {
        let remedy = Remedy::say(format!(
            "a larger memory below [vm.{}] in cluster.toml, then ./run.sh",
            vm.name
        ));
        let values = self.values("memory").next().unwrap_or_default();
        let [Some(total), Some(available)] = [0, 1].map(|i| number(&values, i)) else {
            return silent(vm, "memory");
        };
        let text = format!("memory: {} of {} MiB available", available / 1024, total / 1024);
        level(vm.name, text, 100 * available / total.max(1), remedy)
    }

    fn space(&self, vm: &GuestContext<'_>) -> Vec<CheckResult> {
        let check = |values: Vec<&str>| {
            let (total, available) = (number(&values, 1)?, number(&values, 2)?);
            let percent = 100 * available / total.max(1);
            let text = format!("{}: {} % in use", values[0], 100 - percent);
            // The pipe is the host's: what du prints is sorted here.
            let remedy = format!("{} du -axk {} | sort -n | tail", vm.ssh, values[0]);
            Some(level(vm.name, text, percent, Remedy::run(remedy).note("says by what")))
        };
        self.values("space").filter_map(check).collect()
    }

    /// The clock was read between the question and the answer.
    fn clock(&self, vm: &GuestContext<'_>) -> CheckResult {
        let Some(clock) = self.number("clock") else { return silent(vm, "clock") };
        let [before, after] = self.asked;
        let apart = clock.saturating_sub(after).max(before.saturating_sub(clock));
        if apart <= CLOCK_TOLERANCE_S {
            return CheckResult::ok(vm.name, "clock: the host's");
        }
        let remedy = Remedy::run(&vm.restart).note("it takes the host's time at its boot");
        Diagnosis::GuestClock.of(vm.name, format!("clock: {apart} s from the host's"), remedy)
    }

    fn trouble(&self, vm: &GuestContext<'_>) -> CheckResult {
        match self.number("trouble") {
            None => silent(vm, "log"),
            Some(0) => CheckResult::ok(vm.name, "log: no error within ten minutes"),
            Some(count) => {
                let text = format!("log: {count} errors and warnings within ten minutes");
                Diagnosis::LoggedErrors.of(vm.name, text, Remedy::run(&vm.logs))
            }
        }
    }
}

fn number(values: &[&str], at: usize) -> Option<u64> {
    values.get(at)?.parse().ok()
}

/// A VM that answers and leaves a line of its report out.
fn silent(vm: &GuestContext<'_>, what: &str) -> CheckResult {
    Diagnosis::GuestSilent.of(vm.name, format!("{what}: not reported"), Remedy::run(&vm.logs))
}

fn level(name: &str, text: String, percent: u64, remedy: Remedy) -> CheckResult {
    match percent {
        0..TOO_LITTLE_PERCENT => Diagnosis::GuestFull.of(name, text, remedy),
        TOO_LITTLE_PERCENT..LITTLE_PERCENT => Diagnosis::GuestNearlyFull.of(name, text, remedy),
        _ => CheckResult::ok(name, text),
    }
}

fn unreachable(error: &str, vm: &GuestContext<'_>, layout: &Layout) -> CheckResult {
    let pinned = fs::read_to_string(layout.file("known_hosts")).unwrap_or_default();
    let is_pinned =
        pinned.lines().any(|line| line.starts_with(&format!("hashcluster-{} ", vm.name)));
    let remedy = Remedy::run(&vm.restart);
    if !is_pinned || error.contains("Host key verification failed") {
        let text = "SSH: its host key is not the one in known_hosts";
        return Diagnosis::HostKey.of(vm.name, text, remedy);
    }
    Diagnosis::SshSilent.of(vm.name, format!("SSH: {}", plain(error)), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const GOOD: &str = "service hashcluster-controller run 7\nservice sshd run 7\nuptime 9\nclock 100\n\
        memory 1000 500\nspace /run 100 90\nmount /var/lib/hashcluster rw\nmount /data/a ro\n\
        trouble 0\nversion hashcluster-controller 0.1.0\nimage sha256:abc\n";

    fn check(text: &str) -> Vec<Diagnosis> {
        let facts = vm::facts(text.as_bytes()).into_iter().map(str::to_owned).collect();
        let report = GuestReport { facts, error: None, asked: [99, 101] };
        let vm = GuestContext {
            name: "controller",
            role: "controller",
            datasets: vec!["a".to_owned()],
            restart: "restart".to_owned(),
            ssh: "ssh controller".to_owned(),
            logs: "logs".to_owned(),
        };
        let results = report.check(&vm, &Layout::new(Path::new("/no/such"), None));
        results.into_iter().filter_map(|result| result.diagnosis).collect()
    }

    #[test]
    fn each_fault_in_a_vm_is_named_and_nothing_else() {
        assert_eq!(check(GOOD), []);
        for (old, new, want) in [
            ("sshd run 7", "sshd down 7", Diagnosis::ServiceDown),
            ("service hashcluster-controller run 7\n", "", Diagnosis::ServiceDown),
            ("clock 100", "clock 90", Diagnosis::GuestClock),
            ("clock 100", "clock 110", Diagnosis::GuestClock),
            ("clock 100", "clock x", Diagnosis::GuestSilent),
            ("memory 1000 500", "memory 1000 149", Diagnosis::GuestNearlyFull),
            ("memory 1000 500", "memory 1000 49", Diagnosis::GuestFull),
            ("space /run 100 90", "space /run 100 4", Diagnosis::GuestFull),
            ("hashcluster rw", "hashcluster ro", Diagnosis::DiskReadOnly),
            ("/data/a", "/data/b", Diagnosis::DatasetUnmounted),
            ("trouble 0", "trouble 3", Diagnosis::LoggedErrors),
        ] {
            assert_eq!(check(&GOOD.replace(old, new)), [want], "{new:?}");
        }
    }
}
