//! Log events of a running cluster, on standard error: the supervisor's log once it is in the
//! background. Answers to a command are not here (`say`).

use super::error::Error;
use super::logs;
use crate::vm::Layout;
use std::fmt::Display;
use telemetry::{Forwarder, Log, SyslogTarget, events};

pub(super) static LOG: Log = Log::new("hashcluster-vm");

events! {
    /// Events of a cluster's members.
    pub(super) enum MemberEvent<'a> {
        Info Booting { member: &'a str } => "{member}: booting",
        Info Healthy { member: &'a str, seconds: f32 } => "{member}: healthy after {seconds:.1} s",
        Warning NoHttp { address: &'a dyn Display, error: &'a dyn Display }
            => "{address}: {error}; the supervisor shows no metrics",
        Warning Failed { member: &'a str, why: &'a str, pause_s: f32 }
            => "{member} {why}; it starts again in {pause_s:.1} s",
        Warning Wrote { member: &'a str, line: &'a str } => "{member} wrote: {line}",
        Warning Killed { member: &'a str } => "{member} did not stop in time and is killed",
        Error Stuck { member: &'a str, pid: u32 }
            => "{member}: the system does not end its killed process {pid}, which is in a read or write \
                that does not return; it is left behind",
        Warning LogMoved { member: &'a str, path: &'a dyn Display }
            => "{member}: {path} has grown too long; its end is kept in the file with .old after its name",
        Warning LogKept { path: &'a dyn Display, error: &'a dyn Display }
            => "cannot move {path} aside: {error}",
        Warning Trouble { member: &'a str, what: &'a str } => "{member}: {what}",
        Info NoTrouble { member: &'a str } => "{member}: its disk takes writes again",
        Info Supervises { pid: u32 } => "the cluster is ready; pid {pid} supervises it",
        Info Asked { command: &'a str, by: &'a str } => "{command}: asked by {by}",
        Info Stopping { signal: &'a dyn Display, pid: u32, uid: u32 }
            => "{signal} from pid {pid}, uid {uid}: stopping the workers, then the controller",
        Error Lost { path: &'a dyn Display }
            => "the run directory {path} was removed: nobody can reach the cluster, which is stopped",
        Info Told { command: &'a str, line: &'a str } => "{command}: {line}",
        Error NotDone { command: &'a str, line: &'a str } => "{command}: {line}",
        Warning Stale { member: &'a str, why: &'a str } => "{member}: {why}; it restarts to see that",
        Warning MonitoringEnded { service: &'a str }
            => "{service} has ended, though nobody stopped it; it is started again",
        Error NotWritten { path: &'a dyn Display, error: &'a dyn Display } => "cannot write {path}: {error}",
        Error Unwatched { error: &'a dyn Display } => "cannot watch the members: {error}",
        Warning Absent { dataset: &'a str, dir: &'a dyn Display }
            => "dataset {dataset}: {dir} is not there; its files are not hashed until it is",
    }
}

/// The collector that gets our events, and what members write.
#[derive(Debug)]
pub(super) struct LogTarget {
    target: SyslogTarget,
    /// The way of the members' lines, once there was a collector.
    forwarder: Option<Forwarder>,
}

impl LogTarget {
    /// No collector yet.
    pub(super) const NONE: Self = Self { target: SyslogTarget::Off, forwarder: None };

    /// Sends to `target` what is written from now on.
    ///
    /// # Errors
    /// There is no way to it: the collector of before stays.
    pub(super) fn turn_to(&mut self, layout: &Layout, target: &SyslogTarget) -> Result<(), Error> {
        if self.target == *target {
            return Ok(());
        }
        let mut turn = || {
            LOG.turn_to(target)?;
            match self.forwarder {
                Some(forwarder) => forwarder.turn_to(target),
                None => {
                    self.forwarder = Forwarder::start(target)?;
                    let start = |forwarder| logs::forward(layout.logs(), forwarder);
                    self.forwarder.map_or(Ok(()), start)
                }
            }
        };
        turn().map_err(Error::step(format!("send logs to {target}, as cluster.toml says")))?;
        self.target = target.clone();
        Ok(())
    }

    /// The difference to another target, for a person.
    pub(super) fn difference(&self, wanted: &SyslogTarget) -> Option<String> {
        let own = &self.target;
        (own != wanted).then(|| format!("~ logs: to {own} -> {wanted}; without a restart"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_documented() {
        telemetry::assert_documented("hashcluster-vm", MemberEvent::KINDS);
    }
}
