//! A cluster from its start to its end, whatever it consists of.
//!
//! [`session`] is the life of a cluster and [`fleet`] its middle: what happens to the members
//! ([`machine`]), be they VMs or plain processes ([`context::Context`]). [`watch`] asks how they are,
//! [`control`] takes commands while they run; [`mod@ps`] is the state of it all, which `show` shows.

mod apply;
mod context;
mod control;
mod deploy;
mod description;
mod drain;
mod error;
mod fleet;
mod log;
mod logs;
mod machine;
mod metrics;
mod operation;
mod pages;
mod ps;
mod ready;
mod session;
mod show;
mod targets;
mod watch;

pub(crate) use control::{of_members, stop, stop_all};
pub(crate) use deploy::deploy;
pub(crate) use error::Error;
pub(crate) use logs::logs;
pub(crate) use machine::{Daemon, Unit};
pub(crate) use pages::answers as page_answers;
pub(crate) use ps::{ClusterReport, DatasetReport, MemberHealth, MemberPhase, MemberReport};
pub(crate) use session::{apply, local_run, local_up, run, up};
pub(crate) use show::{print_run_dir, ps, ps_all, require_vm};
