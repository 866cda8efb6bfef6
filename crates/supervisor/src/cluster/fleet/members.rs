//! Members that come, go and change while a cluster runs, and what their VMs see of the datasets.

use super::{Fleet, IDLE_TICK};
use crate::cluster::context::Context;
use crate::cluster::control::Request;
use crate::cluster::description::Declared;
use crate::cluster::error::Error;
use crate::cluster::log::{LOG, MemberEvent};
use crate::cluster::machine::{Machine, Phase};
use crate::cluster::operation::{Operation, OperationStep};
use crate::cluster::ps::MemberReport;
use crate::cluster::targets;
use crate::deployment::Role;
use crate::vm::{self, Guest, Image, OPTIONS_FILE, Root, Share};
use std::path::Path;
use std::time::Instant;

/// Difference between a dataset and what a VM sees of it.
pub(in crate::cluster) struct StaleShare {
    pub(in crate::cluster) why: String,
    /// True if its files are missing or others, so that the VM restarts for it at once.
    pub(in crate::cluster) is_lost: bool,
}

impl Fleet {
    /// Numbers of the members called `names`, as far as there are any.
    pub(in crate::cluster) fn found(&self, names: &[String]) -> Vec<usize> {
        names.iter().filter_map(|name| self.find(name).ok()).collect()
    }

    pub(in crate::cluster) fn is_healthy(&self, i: usize) -> bool {
        self.machines[i].phase == Phase::Healthy
    }

    /// A worker that runs and is given work, as far as that is known.
    pub(in crate::cluster) fn can_be_drained(&self, i: usize) -> bool {
        let member = &self.machines[i].member;
        member.role == Role::Worker && self.is_healthy(i) && self.watch.is_in_service(member)
    }

    /// A worker that runs, and has not found the controller again.
    pub(in crate::cluster) fn away_from_controller(&self) -> Option<usize> {
        let is_away = |i: &usize| {
            let Machine { member, phase, .. } = &self.machines[*i];
            *phase == Phase::Healthy && self.watch.judge(member) != Some(Ok(()))
        };
        (1..self.machines.len()).find(is_away)
    }

    /// An error if workers would wait for a controller that nobody starts.
    pub(in crate::cluster) fn require_controller(&self, names: &[String]) -> Result<(), Error> {
        let controller = &self.machines[0];
        if controller.phase != Phase::Down || names.is_empty() {
            return Ok(());
        }
        let (names, controller) = (names.join(", "), &controller.member.name);
        Err(Error::Refused(format!(
            "{names}: no worker works while the {controller} is stopped; scripts/start.sh {controller} \
             starts it"
        )))
    }

    /// A member and its state, for a person.
    pub(in crate::cluster) fn told(&self, i: usize) -> String {
        let report = MemberReport::of(self, i);
        format!("{}: {}", report.name, report.state())
    }

    /// Writes what Prometheus scrapes; a cluster works without it.
    pub(in crate::cluster) fn write_targets(&self) {
        let members = self.machines.iter().map(|machine| &machine.member).enumerate();
        let members = members.map(|(i, member)| {
            (self.context.http(i, member), member.name.as_str(), member.role.name())
        });
        let all = [(self.http.clone(), "supervisor", "supervisor")].into_iter().chain(members);
        let run_dir = self.context.layout().run();
        if let Err(error) = targets::write(run_dir, all) {
            let path = targets::path(run_dir);
            LOG.log(&MemberEvent::NotWritten { path: &path.display(), error: &error });
        }
    }

    /// Writes what others read of the members, and of those called `more`, which are to come.
    pub(in crate::cluster) fn publish(&mut self, more: &[String]) -> Result<(), Error> {
        self.write_targets();
        let Context::Vms(context, guests) = &self.context else { return Ok(()) };
        let workers = guests.iter().filter(|guest| guest.vm.role == Role::Worker);
        let mut names: Vec<&str> = workers.map(|guest| &*guest.vm.name).collect();
        names.extend(more.iter().map(String::as_str));
        vm::worker_tokens(&context.layout, &names)?;
        vm::publish(context, guests)?;
        let live = |share: &Share| match &share.root {
            Root::Directory(dir) | Root::Snapshot(dir) => Some(dir.clone()),
            Root::Members(_) => None,
        };
        let dirs: Vec<_> = context.shares.iter().filter_map(live).collect();
        self.sight.follow(&dirs);
        Ok(())
    }

    /// Makes a VM what `guest` says, from its next boot on.
    pub(in crate::cluster) fn put(
        &mut self,
        guest: Guest,
        image: Option<Image>,
    ) -> Result<(), Error> {
        let i = self.find(&guest.vm.name)?;
        let machine = &mut self.machines[i];
        machine.member = guest.vm.member();
        if let Some(image) = image {
            machine.image = Some(image);
        }
        if let Context::Vms(_, guests) = &mut self.context {
            let mounted = std::mem::take(&mut guests[i].mounted);
            // What runs has mounted what it had; what is down will mount all.
            let is_down = machine.phase == Phase::Down;
            let fresh = if is_down { guest.mounted.clone() } else { mounted };
            guests[i] = Guest { mounted: fresh, ..guest };
        }
        self.members_changed();
        self.publish(&[])
    }

    /// Makes `options` those that count.
    pub(in crate::cluster) fn declare(&mut self, options: Declared) {
        self.description.follow(Some(options.clone()));
        let path = self.context.layout().file(OPTIONS_FILE);
        if let Err(error) = std::fs::write(&path, options.to_line()) {
            LOG.log(&MemberEvent::NotWritten { path: &path.display(), error: &error });
        }
        self.declared = Some(options);
    }

    /// Has those watched that are members now.
    pub(in crate::cluster) fn members_changed(&mut self) {
        let members: Vec<_> = self.machines.iter().map(|machine| machine.member.clone()).collect();
        if let Err(error) = self.watch.follow(&members) {
            LOG.log(&MemberEvent::Unwatched { error: &error });
        }
    }

    /// Datasets that member number `i` does not see as they are now.
    pub(in crate::cluster) fn stale(&self, i: usize) -> Vec<StaleShare> {
        let Context::Vms(context, guests) = &self.context else { return Vec::new() };
        let stale = |share: &Share| {
            let (name, dir) = (&share.name, share.root.dir()?);
            let mounted = guests[i].mounted.iter().find(|(number, _)| *number == share.number);
            let found = self.sight.at(dir)?;
            let lost = |what: &str| {
                let why = format!("dataset {name}: {} {what}", dir.display());
                Some(StaleShare { why, is_lost: true })
            };
            match (mounted, &share.root) {
                (None, _) => lost("is there now"),
                (Some((_, before)), Root::Directory(_)) if found.replaces(before) => {
                    lost("was replaced")
                }
                (Some((_, before)), Root::Directory(_)) => {
                    let why = format!(
                        "dataset {name}: {} was mounted after its start",
                        found.new_mount(before)?.display()
                    );
                    Some(StaleShare { why, is_lost: false })
                }
                (Some(_), Root::Snapshot(_) | Root::Members(_)) => None,
            }
        };
        let known = |share: &&Share| !context.leaving.contains(&share.number);
        guests[i].shares.iter().filter(known).filter_map(stale).collect()
    }

    /// The fault of a dataset, for a person.
    pub(in crate::cluster) fn fault_of(&self, share: &Share) -> Option<String> {
        let is_there = |dir: &Path| self.sight.at(dir).is_some();
        match &share.root {
            Root::Directory(dir) if !is_there(dir) => Some(format!("{} is missing", dir.display())),
            Root::Snapshot(dir) if self.lacks_snapshot(share) => {
                Some(format!("{} was missing when it was to be copied", dir.display()))
            }
            Root::Directory(_) | Root::Snapshot(_) | Root::Members(_) => None,
        }
    }

    fn lacks_snapshot(&self, share: &Share) -> bool {
        let Context::Vms(_, guests) = &self.context else { return false };
        let mut having = guests.iter().filter(|guest| guest.shares.contains(share));
        having.any(|guest| !guest.mounted.iter().any(|(number, _)| *number == share.number))
    }

    /// Restarts workers, one after the other, whose datasets are in other directories than when they
    /// booted: a file server keeps to the one that it was started for, and QEMU to its file server.
    pub(super) fn look_at_datasets(&mut self) {
        if !self.is_ready || self.is_ending || self.datasets_checked.elapsed() < IDLE_TICK {
            return;
        }
        self.datasets_checked = Instant::now();
        if !self.operations.is_empty() {
            return;
        }
        let mut steps = Vec::new();
        for i in (1..self.machines.len()).filter(|&i| self.is_healthy(i)) {
            let member = self.machines[i].member.name.clone();
            let lost: Vec<_> = self.stale(i).into_iter().filter(|stale| stale.is_lost).collect();
            for stale in &lost {
                LOG.log(&MemberEvent::Stale { member: &member, why: &stale.why });
            }
            if !lost.is_empty() {
                steps.extend(OperationStep::renew(&member, Box::new(|_| Ok(()))));
            }
        }
        if !steps.is_empty() {
            self.operate(Operation::new(Request::internal("datasets"), steps));
        }
    }
}
