//! Clusters of VMs: everything that only they need.
//!
//! [`preflight`] makes a plan of the command line, [`plan`] every command line of it, [`prepare`]
//! every file, in the places of [`layout`]. [`mod@share_view`] is a program of its own: what a file
//! server sees.
//!
//! Not here: what happens to the VMs while they run (`cluster`).

mod accel;
mod arch;
mod diff;
mod discovery;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod guest;
mod image;
mod layout;
mod paths;
mod plan;
mod preflight;
mod prepare;
mod qmp;
mod report;
mod share;
mod share_view;
mod sight;
mod snapshot_fault;
mod state_disk;

pub(crate) use diff::{RunningVms, VmChanges, WantedVms};
pub(crate) use discovery::tell_datasets;
pub(crate) use guest::{cp, exec, ssh, ssh_in};
pub(crate) use image::{Image, ImageError};
pub(crate) use layout::{CONTROL_SOCKET, HTTP_SOCKET, Layout, OPTIONS_FILE, SSH_CONFIG};
pub(crate) use paths::of as paths_of;
pub(crate) use plan::{Accel, ClusterContext, Guest, VirtiofsdKind};
pub(crate) use preflight::{
    DescribedCluster, Plan, check_shares, check_sockets, choose_accel, dry_run, load, plan_of,
    print_command_lines, run_path, wanted,
};
pub(crate) use prepare::{
    OVERHEAD_MIB, all as prepare_all, available_mib, boot, check_memory, check_unused, clean,
    clean_vm, drop_images, forget, images, lock_state, publish, send_names, send_tokens, snapshot,
    worker_tokens,
};
pub(crate) use qmp::power_down;
pub(crate) use report::{facts, filter_report};
pub(crate) use share::{Root, Share, all as shares_of};
pub(crate) use share_view::run as share_view;
pub(crate) use sight::Sight;
pub(crate) use state_disk::{
    Superblock, remedy as disk_remedy, remedy_when_full as full_disk_remedy,
};
