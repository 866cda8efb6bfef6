//! The difference between a cluster that runs and its description: which VMs and datasets come, go or
//! change, and why. Pure: what runs and what is wanted in, changes out.

use super::plan::Guest;
use super::share::{Root, Share};
use crate::deployment::{Role, Vm};
use crate::quote;
use std::fmt::Display;

/// The cluster that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningVms<'a> {
    /// The controller first.
    pub(crate) guests: &'a [Guest],
    pub(crate) shares: &'a [Share],
    /// Digest of the image of each guest.
    pub(crate) images: &'a [String],
    /// Why a guest does not see what is there now, for each guest.
    pub(crate) stale: &'a [Vec<String>],
}

/// The cluster that is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedVms<'a> {
    /// The controller first.
    pub(crate) vms: &'a [Vm],
    /// Their numbers do not matter.
    pub(crate) shares: &'a [Share],
    /// Digest of the image, if it is known.
    pub(crate) image: Option<&'a str>,
}

/// Changes that lead from one to the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VmChanges {
    /// Workers that are new.
    pub(crate) added: Vec<Guest>,
    /// VMs that have to restart, the controller last.
    pub(crate) changed: Vec<Guest>,
    /// VMs that only get other settings of their supervision.
    pub(crate) retuned: Vec<Guest>,
    /// Names of workers that are to go.
    pub(crate) removed: Vec<String>,
    /// VMs that have a port that another one is to have, and so stop before that starts.
    pub(crate) first_down: Vec<String>,
    pub(crate) shares_added: Vec<Share>,
    /// Numbers of shares that are to go.
    pub(crate) shares_removed: Vec<usize>,
    /// All of it for a person, one line each.
    pub(crate) lines: Vec<String>,
}

impl VmChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Compares what runs with what is wanted.
    ///
    /// # Errors
    /// Changes that no running cluster can take, for a person.
    pub(crate) fn between(running: RunningVms<'_>, wanted: WantedVms<'_>) -> Result<Self, String> {
        let mut changes = Self::default();
        let shares = changes.compare_shares(running, wanted.shares);
        let role_of = |name: &str| {
            let guest = running.guests.iter().find(|guest| guest.vm.name == name);
            guest.map(|guest| guest.vm.role)
        };
        let controller = &running.guests[0].vm.name;
        if wanted.vms[0].name != *controller {
            return Err(format!(
                "the controller is called {controller}, not {}: a running one cannot be renamed, as its \
                 disk has its name; scripts/stop.sh stops the cluster, ./run.sh starts the new one",
                wanted.vms[0].name
            ));
        }
        let mut guests = running.guests.to_vec();
        for vm in wanted.vms {
            if role_of(&vm.name).is_some_and(|role| role != vm.role) {
                return Err(format!(
                    "{} cannot become a {} while it runs",
                    vm.name,
                    vm.role.name()
                ));
            }
            if role_of(&vm.name).is_none() {
                let guest = Guest::new(vm, &guests, &shares);
                changes.lines.push(format!("+ {}: {}", vm.name, summary(vm)));
                guests.push(guest.clone());
                changes.added.push(guest);
            }
        }
        let known = running.guests.iter().zip(running.images).zip(running.stale);
        for ((guest, image), stale) in known {
            let Some(vm) = wanted.vms.iter().find(|vm| vm.name == guest.vm.name) else {
                changes.lines.push(format!("- {}", guest.vm.name));
                changes.removed.push(guest.vm.name.clone());
                continue;
            };
            let fresh = Guest::with_cid(vm, guest.cid, &shares);
            let mut why = reasons(guest, &fresh);
            if let Some(wanted) = wanted.image.filter(|wanted| *wanted != image) {
                why.push(format!("image {} -> {}", short(image), short(wanted)));
            }
            why.extend(stale.iter().cloned());
            if !why.is_empty() {
                let end = match vm.role {
                    Role::Controller => "restarts last, clients lose their connections",
                    Role::Worker => "restarts",
                };
                changes.lines.push(format!("~ {}: {}; {end}", vm.name, why.join(", ")));
                changes.changed.push(fresh);
            } else if guest.vm.health != vm.health {
                changes.lines.push(format!("~ {}: health; without a restart", vm.name));
                changes.retuned.push(fresh);
            }
        }
        changes.changed.sort_by_key(|guest| guest.vm.role == Role::Controller);
        changes.find_first_down(running);
        Ok(changes)
    }

    /// The wanted shares with numbers: those that are there already keep theirs.
    fn compare_shares(&mut self, running: RunningVms<'_>, wanted: &[Share]) -> Vec<Share> {
        let mut taken: Vec<usize> = running.shares.iter().map(|share| share.number).collect();
        let mut shares = Vec::new();
        for share in wanted {
            let before = running.shares.iter().find(|known| known.name == share.name);
            if let Some(before) = before.filter(|before| before.is_same(share)) {
                shares.push(before.clone());
                continue;
            }
            let free = (0..).find(|number| !taken.contains(number));
            let number = free.expect("there are more numbers than shares");
            taken.push(number);
            let share = Share { number, ..share.clone() };
            let sign = if before.is_some() { '~' } else { '+' };
            self.lines.push(format!("{sign} dataset {}: {}", share.name, described(&share)));
            self.shares_added.push(share.clone());
            shares.push(share);
        }
        for share in running.shares {
            if shares.iter().any(|kept| kept.number == share.number) {
                continue;
            }
            self.shares_removed.push(share.number);
            if !shares.iter().any(|kept| kept.name == share.name) {
                self.lines.push(format!(
                    "- dataset {}: neither in cluster.toml nor given with --dataset",
                    share.name
                ));
            }
        }
        shares
    }

    /// A port can be had only when whoever has it has ended.
    fn find_first_down(&mut self, running: RunningVms<'_>) {
        let wanted: Vec<(&str, [u16; 2])> =
            self.added.iter().chain(&self.changed).map(|guest| ports(&guest.vm)).collect();
        let blocks = |guest: &&Guest| {
            let (name, own) = ports(&guest.vm);
            wanted
                .iter()
                .any(|(other, ports)| *other != name && ports.iter().any(|port| own.contains(port)))
        };
        let names = running.guests.iter().filter(blocks).map(|guest| guest.vm.name.clone());
        self.first_down = names.collect();
    }
}

fn ports(vm: &Vm) -> (&str, [u16; 2]) {
    (&vm.name, [vm.ssh_port, vm.metrics_port])
}

/// Why a VM has to restart to become `fresh`.
fn reasons(guest: &Guest, fresh: &Guest) -> Vec<String> {
    let (old, new) = (&guest.vm, &fresh.vm);
    let mut why = Vec::new();
    let mut differs = |what: &str, old: &dyn Display, new: &dyn Display| {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            why.push(format!("{what} {old} -> {new}"));
        }
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    differs("SSH port", &old.ssh_port, &new.ssh_port);
    differs("metrics port", &old.metrics_port, &new.metrics_port);
    differs("memory", &mib(old.memory_mib), &mib(new.memory_mib));
    differs("CPUs", &old.cpus, &new.cpus);
    let cpuset = |vm: &Vm| or_none(vm.cpuset.as_ref().map(crate::deployment::CpuSet::as_arg));
    differs("cpuset", &cpuset(old), &cpuset(new));
    let memlock = |vm: &Vm| or_none(vm.memlock_kib.map(|kib| format!("{kib}K")));
    differs("memlock", &memlock(old), &memlock(new));
    let flags = |vm: &Vm| or_none(Some(vm.args.join(" ")).filter(|args| !args.is_empty()));
    differs("flags", &flags(old), &flags(new));
    for share in &fresh.shares {
        match guest.shares.iter().find(|had| had.name == share.name) {
            None => why.push(format!("dataset {} added", share.name)),
            Some(had) if had.is_same(share) => {}
            Some(_) => why.push(format!("dataset {} changed", share.name)),
        }
    }
    for share in &guest.shares {
        if !fresh.shares.iter().any(|kept| kept.name == share.name) {
            why.push(format!("dataset {} removed", share.name));
        }
    }
    why
}

fn summary(vm: &Vm) -> String {
    let Vm { ssh_port, metrics_port, memory_mib, cpus, .. } = vm;
    let cpus = if *cpus == 1 { "1 CPU".to_owned() } else { format!("{cpus} CPUs") };
    format!("SSH {ssh_port}, metrics {metrics_port}, {}, {cpus}", mib(*memory_mib))
}

fn mib(mib: u32) -> String {
    format!("{mib}M")
}

/// Enough of a digest to tell two apart.
fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

fn described(share: &Share) -> String {
    let (kind, dir) = match &share.root {
        Root::Directory(dir) => ("live", quote::path(dir)),
        Root::Snapshot(dir) => ("a snapshot of", quote::path(dir)),
        Root::Members(_) => ("paths of a command", String::new()),
    };
    let threads = share.io_threads.map(|threads| format!(", read by {threads} at once"));
    format!("{kind} {dir}{}", threads.unwrap_or_default()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::good;

    /// Shares from `NAME=DIR`, or `NAME:DIR` for a snapshot.
    fn shares(text: &str) -> Vec<Share> {
        let share = |(number, word): (usize, &str)| {
            let at = word.find(['=', ':']).unwrap();
            let dir = word[at + 1..].into();
            let root = match word.as_bytes()[at] {
                b'=' => Root::Directory(dir),
                _ => Root::Snapshot(dir),
            };
            Share { name: word[..at].to_owned(), root, io_threads: None, number }
        };
        text.split_whitespace().enumerate().map(share).collect()
    }

    /// A cluster: lines of `ports.conf` with `;` between them, `cluster.toml`, shares, and an image.
    type Case = (&'static str, &'static str, &'static str, &'static str);

    fn vms((ports, config, text, _): Case) -> (Vec<Vm>, Vec<Share>) {
        let shares = shares(text);
        let mut vms = good(&ports.replace(';', "\n"), config).vms;
        for vm in vms.iter_mut().filter(|vm| vm.role == Role::Worker) {
            vm.datasets = shares.iter().map(|share| share.name.clone()).collect();
        }
        (vms, shares)
    }

    fn between(old: Case, new: Case, stale: &[&str]) -> Result<VmChanges, String> {
        let ((old_vms, old_shares), (new_vms, new_shares)) = (vms(old), vms(new));
        let guests = Guest::all(&old_vms, &old_shares);
        let images = vec![old.3.to_owned(); guests.len()];
        let stale: Vec<Vec<String>> = (0..guests.len())
            .map(|i| stale.get(i).filter(|why| !why.is_empty()).map(|why| (*why).to_owned()))
            .map(|why| why.into_iter().collect())
            .collect();
        let running =
            RunningVms { guests: &guests, shares: &old_shares, images: &images, stale: &stale };
        let wanted = WantedVms { vms: &new_vms, shares: &new_shares, image: Some(new.3) };
        VmChanges::between(running, wanted)
    }

    #[track_caller]
    fn check(old: Case, new: Case, want: &[&str]) -> VmChanges {
        let changes = between(old, new, &[]).unwrap();
        assert_eq!(changes.lines, want);
        assert_eq!(changes.is_empty(), want.is_empty());
        changes
    }

    const ONE: Case = ("2220;2221", "", "a=/a", "sha256:1");
    const TWO: Case = ("2220;2221;2222", "", "a=/a", "sha256:1");

    #[test]
    fn what_is_the_same_is_no_difference() {
        check(ONE, ONE, &[]);
        check(ONE, ("2220\n# more\n\n2221", "[defaults]\nmemory = '192M'\n", ONE.2, ONE.3), &[]);
    }

    #[test]
    fn workers_come_and_go_without_a_restart_of_others() {
        let more = check(ONE, TWO, &["+ worker2: SSH 2222, metrics 3222, 192M, 1 CPU"]);
        assert_eq!((more.added.len(), more.changed.len(), more.added[0].cid), (1, 0, 5));
        assert_eq!(more.added[0].shares.len(), 1, "it has the datasets of its cluster");
        let less = check(TWO, ONE, &["- worker2"]);
        assert_eq!((less.removed, less.changed), (vec!["worker2".to_owned()], vec![]));
        let other = check(
            ("2220;2221;2222 host=b", "", "", "x"),
            ("2220;2221;2222 host=c", "", "", "x"),
            &["+ c: SSH 2222, metrics 3222, 192M, 1 CPU", "- b"],
        );
        assert_eq!(other.first_down, ["b"], "it has the port that the new one wants");
        assert_eq!(other.added[0].cid, 6, "the old one may still run");
    }

    #[test]
    fn each_setting_restarts_its_vm_and_no_other() {
        for (config, want) in [
            ("[vm.worker1]\nmemory = '256M'", "~ worker1: memory 192M -> 256M; restarts"),
            ("[vm.worker1]\ncpus = 2", "~ worker1: CPUs 1 -> 2; restarts"),
            ("[vm.worker1]\ncpuset = '0'", "~ worker1: cpuset none -> 0; restarts"),
            ("[vm.worker1]\nmemlock = '64M'", "~ worker1: memlock none -> 65536K; restarts"),
            ("[vm.worker1]\nthreads = 3", "~ worker1: flags none -> --threads 3; restarts"),
            ("[vm.worker1]\nmetrics_port = 9464", "~ worker1: metrics port 3221 -> 9464; restarts"),
            ("[vm.worker1.health]\nretries = 9", "~ worker1: health; without a restart"),
            (
                "[vm.controller]\ncross_check = '1/9'",
                "~ controller: flags none -> --cross-check 1/9; restarts last, clients lose their \
                 connections",
            ),
        ] {
            let changes = check(TWO, (TWO.0, config, TWO.2, TWO.3), &[want]);
            let changed = changes.changed.len() + changes.retuned.len();
            assert_eq!((changed, changes.added.len()), (1, 0), "{config}");
            check((TWO.0, config, TWO.2, TWO.3), (TWO.0, config, TWO.2, TWO.3), &[]);
        }
    }

    #[test]
    fn the_controller_restarts_last() {
        let wanted = ("2220;2221;2222", "[defaults]\nmemory = '256M'", "a=/a", "sha256:1");
        let names = |changes: &VmChanges| -> Vec<String> {
            changes.changed.iter().map(|guest| guest.vm.name.clone()).collect()
        };
        let changes = between(TWO, wanted, &[]).unwrap();
        assert_eq!(names(&changes), ["worker1", "worker2", "controller"]);
        let rolled = between(TWO, (TWO.0, "", TWO.2, "sha256:2"), &[]).unwrap();
        assert_eq!(names(&rolled), ["worker1", "worker2", "controller"]);
        assert_eq!(rolled.lines[1], "~ worker1: image sha256:1 -> sha256:2; restarts");
    }

    #[test]
    fn ports_that_are_exchanged_are_free_before_they_are_taken() {
        let swapped = ("2220;2222;2221", "", "a=/a", "sha256:1");
        let changes = between(TWO, swapped, &[]).unwrap();
        assert_eq!(changes.first_down, ["worker1", "worker2"]);
        let moved = between(TWO, ("2220;2221;2223", "", "a=/a", "sha256:1"), &[]).unwrap();
        assert!(moved.first_down.is_empty());
        assert_eq!(
            moved.lines,
            ["~ worker2: SSH port 2222 -> 2223, metrics port 3222 -> 3223; restarts"]
        );
    }

    #[test]
    fn datasets_come_go_and_change_with_numbers_of_their_own() {
        let added = check(
            ONE,
            (ONE.0, "", "a=/a b=/b", ONE.3),
            &["+ dataset b: live /b", "~ worker1: dataset b added; restarts"],
        );
        assert_eq!(added.shares_added.iter().map(|share| share.number).collect::<Vec<_>>(), [1]);
        assert!(added.shares_removed.is_empty());
        let removed = check(
            (ONE.0, "", "a=/a b=/b", ONE.3),
            (ONE.0, "", "b=/b", ONE.3),
            &[
                "- dataset a: neither in cluster.toml nor given with --dataset",
                "~ worker1: dataset a removed; restarts",
            ],
        );
        assert_eq!(removed.shares_removed, [0]);
        assert_eq!(removed.changed[0].shares[0].number, 1, "b keeps its number");
        let moved = check(
            ONE,
            (ONE.0, "", "a=/c", ONE.3),
            &["~ dataset a: live /c", "~ worker1: dataset a changed; restarts"],
        );
        assert_eq!((moved.shares_added[0].number, moved.shares_removed), (1, vec![0]));
        check(
            ONE,
            (ONE.0, "", "a:/a", ONE.3),
            &["~ dataset a: a snapshot of /a", "~ worker1: dataset a changed; restarts"],
        );
    }

    #[test]
    fn a_vm_that_does_not_see_what_is_there_restarts() {
        let changes = between(TWO, TWO, &["", "dataset a: /a was replaced"]).unwrap();
        assert_eq!(changes.lines, ["~ worker1: dataset a: /a was replaced; restarts"]);
    }

    #[test]
    fn what_cannot_change_while_it_runs_is_an_error_that_names_it() {
        let error = between(ONE, ("2220 host=c;2221", "", "a=/a", "sha256:1"), &[]).unwrap_err();
        assert!(error.starts_with("the controller is called controller, not c: "), "{error}");
        let error = between(
            ("2220 host=c;2221 host=w", "", "", "x"),
            ("2221 host=c;2222 host=d;2223 host=w", "", "", "x"),
            &[],
        );
        assert!(error.is_ok(), "{error:?}");
    }
}
