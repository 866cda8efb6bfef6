//! Log events of the controller, on standard error.

use crate::core::Principal;
use ipc_proto::endpoint::Endpoint;
use std::fmt::Display;
use telemetry::{Log, SyslogTarget, events};

/// The log of this process.
pub static LOG: Log = Log::new("hashcluster-controller");

events! {
    /// Events of the controller.
    pub enum Event<'a> {
        Info Listening { clients: &'a Endpoint, workers: &'a Endpoint }
            => "listens on {clients} and {workers}",
        Info Shows { address: &'a dyn Display } => "shows its metrics at {address}",
        Warning UnusedSocket { name: &'a str }
            => "the service manager's socket {name} is at no path that this controller listens at",
        Warning NoHttp { address: &'a dyn Display, error: &'a dyn Display }
            => "{address}: {error}; no metrics are shown",
        Info Sandbox { layers: &'a dyn Display } => "sandbox: {layers}",
        Warning AnyClientVm {} => "without --client-token-file every VM of this host can be a client",
        Warning AnyWorkerVm {} => "without --worker-tokens every VM of this host can be a worker",
        Error NoSyslog { target: &'a SyslogTarget, error: &'a dyn Display } => "--syslog {target}: {error}",
        Warning NotAnnounced { ready_fd: u32, error: &'a dyn Display }
            => "--ready-fd {ready_fd}: {error}",
        Warning NoManager { error: &'a dyn Display }
            => "the service manager at NOTIFY_SOCKET is not told that this program is ready: {error}",
        Info Maintained { done: &'a str } => "{done}",
        Info JournalWrites {} => "the journal is written to again",
        Error JournalFull { error: &'a str }
            => "no space for the journal ({error}): new durable jobs are refused until there is some",
        Error JournalReadOnly { error: &'a str }
            => "the journal cannot be written to ({error}): new durable jobs are refused until it can",
        Error JournalFailed { error: &'a str }
            => "the journal failed ({error}): durable jobs stand still; repair the disk, then restart this controller",
        Info RunEnded { schedule: &'a str, run: u64, outcome: &'a str }
            => "run {run} of schedule {schedule}: {outcome}",
        Warning RunFailed { schedule: &'a str, run: u64, outcome: &'a str }
            => "run {run} of schedule {schedule}: {outcome}; see hashctl schedule runs {schedule}",
        Error Rotted { schedule: &'a str, run: u64, files: u64 }
            => "run {run} of schedule {schedule}: {files} files rotted: their content changed, size and time of \
                modification did not; see hashctl schedule differences {schedule} {run}",
        Info NoticeDelivered { notice: &'a str } => "notice {notice} is delivered",
        Warning NoticeDelayed { notice: &'a str, error: &'a dyn Display, delay_s: u64 }
            => "notice {notice}: {error}; the next attempt is in {delay_s} s",
        Error NoticeGivenUp { notice: &'a str, error: &'a dyn Display }
            => "notice {notice} is given up: {error}",
        Error NoticeDropped { notice: &'a str } => "notice {notice} is dropped: too many wait",
        Error NotifierEnded { error: &'a dyn Display }
            => "the process that delivers notices has ended ({error}): they wait until this controller restarts",
        Info Reloaded { workers: usize, datasets: &'a str, api_tokens: usize }
            => "SIGHUP: {workers} worker tokens, datasets: {datasets}; {api_tokens} API tokens",
        Info NothingToReload {}
            => "SIGHUP: no --worker-tokens, --datasets-file or --api-tokens to read again",
        Error NotReloaded { error: &'a str } => "SIGHUP: {error}; what was read before stays",
        Info Stopping {} => "stops",
        Error Failed { error: &'a dyn Display } => "{error}",
        Warning AcceptFailed { endpoint: &'a Endpoint, error: &'a dyn Display }
            => "{endpoint}: accept: {error}",
        Warning NoCredentials { error: &'a dyn Display } => "peer without credentials: {error}",
        Warning NoConnection { principal: Principal, error: &'a dyn Display }
            => "connection of {principal}: {error}",
        Warning Refused { refusal: &'a dyn Display } => "peer refused: {refusal}",
        Info Joined { peer: &'a str, threads: u16 } => "{peer} is here, with {threads} threads",
        Warning UnknownDataset { peer: &'a str, dataset: &'a str }
            => "{peer} has dataset {dataset}, which the controller was not told of",
        Warning Closed { peer: &'a str, cause: &'a dyn Display } => "{peer} closed: {cause}",
        Warning Lost { peer: &'a str, error: &'a dyn Display } => "{peer} lost: {error}",
        Info Left { peer: &'a str } => "{peer} has left",
        Error Quarantined { worker: &'a str, fault: &'a dyn Display }
            => "worker {worker} is given no more work: {fault}",
        Warning Doubted { worker: &'a str }
            => "two runs contradict a digest of a file by worker {worker}; nobody is blamed, as the file \
                may have been written to without a trace",
        Warning BackInQuarantine { worker: &'a str, age_s: u64, fault: &'a dyn Display }
            => "worker {worker} connects again and is given no work, quarantined since {age_s} s: \
                {fault}; see hashctl release",
        Info Released { worker: &'a str, by: Principal } => "worker {worker} is released by {by}",
        Info Draining { worker: &'a str, by: Principal }
            => "worker {worker} is drained by {by}: it is given no more work",
        Info Drained { worker: &'a str } => "worker {worker} is drained, and may be stopped",
        Info Undrained { worker: &'a str, by: Principal }
            => "worker {worker} is given work again by {by}",
        Warning DrainForbidden { worker: &'a str, by: Principal }
            => "{by} may not drain worker {worker}, nor undrain it",
        Error NotKept { worker: &'a str }
            => "worker {worker}: that it is drained or in quarantine, or is so no more, is not in the journal; a restart of \
                this controller before the journal can be written to forgets it",
        Warning ReleaseForbidden { worker: &'a str, by: Principal }
            => "{by} may not release worker {worker}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_documented() {
        telemetry::assert_documented("hashcluster-controller", Event::KINDS);
    }
}
