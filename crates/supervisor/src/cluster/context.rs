//! The difference between VMs and processes: which processes a member consists of, and how
//! it is asked to stop.

use super::error::Error;
use super::machine::Unit;
use super::pages;
use crate::deployment::Member;
use crate::local::LocalContext;
use crate::supervise::{ProgramId, Supervisor};
use crate::vm::{self, ClusterContext, Guest, Image, Layout, Sight};
use nix::sys::signal::Signal;
use std::io;
use std::path::PathBuf;
use telemetry::http::HttpAddress;

/// Context shared by the members of a cluster.
#[derive(Debug)]
pub(crate) enum Context {
    Vms(ClusterContext, Vec<Guest>),
    Local(LocalContext, Layout),
}

impl Context {
    pub(crate) fn layout(&self) -> &Layout {
        match self {
            Self::Vms(context, _) => &context.layout,
            Self::Local(_, layout) => layout,
        }
    }

    /// Where member number `i` serves its pages, as seen from this host.
    pub(super) fn http(&self, i: usize, member: &Member) -> HttpAddress {
        match self {
            Self::Vms(_, guests) => pages::local(guests[i].vm.metrics_port),
            Self::Local(context, layout) => context.http(member, layout),
        }
    }

    /// The processes of member number `i`, a VM of which boots from `image`.
    pub(super) fn unit(&self, i: usize, member: &Member, image: Option<&Image>) -> Unit {
        match (self, image) {
            (Self::Vms(context, guests), Some(image)) => context.unit(&guests[i], image),
            (Self::Vms(..), None) => unreachable!("a VM has an image"),
            (Self::Local(context, layout), _) => context.unit(member, layout),
        }
    }

    /// Writes what member number `i` reads when it starts.
    pub(super) fn boot(
        &mut self,
        i: usize,
        image: Option<&Image>,
        sight: &Sight,
    ) -> Result<(), Error> {
        match (self, image) {
            (Self::Vms(context, guests), Some(image)) => {
                vm::boot(context, &mut guests[i], image, sight)
            }
            (Self::Vms(..), None) => unreachable!("a VM has an image"),
            (Self::Local(..), _) => Ok(()),
        }
    }

    /// Removes what processes of the member left.
    pub(super) fn clean(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Vms(context, _) => vm::clean_vm(&context.layout, name),
            Self::Local(..) => Ok(()),
        }
    }

    /// Asks a member to end in order; false if it does not hear that.
    pub(super) fn ask_to_stop(
        &self,
        member: &Member,
        is_healthy: bool,
        main: Option<ProgramId>,
        supervisor: &Supervisor,
    ) -> bool {
        match self {
            // A guest that has not come far does not hear its power button.
            Self::Vms(context, _) => {
                let has_heard = || {
                    let socket = context.layout.of_vm(&member.name, "qmp");
                    // Without its socket QEMU can be asked to write back and end, not the guest.
                    vm::power_down(&socket).is_ok()
                        || main.is_some_and(|id| {
                            supervisor.signal(id, Signal::SIGTERM);
                            true
                        })
                };
                is_healthy && has_heard()
            }
            Self::Local(..) => main.is_some_and(|id| {
                supervisor.signal(id, Signal::SIGTERM);
                true
            }),
        }
    }

    /// The log of a guest's console.
    pub(super) fn console(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Vms(context, _) => Some(context.layout.console(name)),
            Self::Local(..) => None,
        }
    }

    /// The console of a guest, as QEMU writes it.
    pub(super) fn console_raw(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Vms(context, _) => Some(context.layout.console_raw(name)),
            Self::Local(..) => None,
        }
    }

    /// The logs of a guest, its console first.
    pub(super) fn guest_logs(&self, name: &str) -> Vec<PathBuf> {
        match self {
            Self::Vms(context, _) => {
                vec![context.layout.console(name), context.layout.syslog(name)]
            }
            Self::Local(..) => Vec::new(),
        }
    }

    /// The logs that grow while a member runs.
    pub(super) fn logs_of(&self, name: &str) -> Vec<PathBuf> {
        match self {
            Self::Vms(..) => self.guest_logs(name),
            Self::Local(_, layout) => vec![layout.log(name)],
        }
    }

    /// Commands that mend the disk of a member, or take it away, while the cluster is stopped.
    pub(super) fn disk_remedy(&self, name: &str) -> String {
        vm::disk_remedy(&self.layout().state_disk(name))
    }

    pub(super) fn full_disk_remedy(&self, name: &str) -> String {
        vm::full_disk_remedy(&self.layout().state_disk(name))
    }
}
