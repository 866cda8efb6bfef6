//! Log events of the worker, on standard error.

use ipc_proto::endpoint::Endpoint;
use std::fmt::Display;
use telemetry::{Log, SyslogTarget, events};

/// The worker's log.
pub static LOG: Log = Log::new("hashcluster-worker");

events! {
    /// Events of the worker.
    pub enum Event<'a> {
        Error NoSocket { error: &'a dyn Display } => "no socket in the runtime directory: {error}",
        Error Failed { error: &'a dyn Display } => "{error}",
        Error NoSyslog { target: &'a SyslogTarget, error: &'a dyn Display } => "--syslog {target}: {error}",
        Info Shows { address: &'a dyn Display } => "shows its metrics at {address}",
        Warning NoHttp { address: &'a dyn Display, error: &'a dyn Display }
            => "{address}: {error}; no metrics are shown",
        Info Reading { way: &'a dyn Display } => "reads {way}",
        Info Backends { algorithms: &'a str, choice: &'a str }
            => "backends for {algorithms}: {choice}",
        Info Sandbox { layers: &'a dyn Display } => "sandbox: {layers}",
        Warning NoManager { error: &'a dyn Display }
            => "the service manager at NOTIFY_SOCKET is not told that this program is ready: {error}",
        Warning Hangs { thread: &'a str, seconds: u64 }
            => "thread {thread} hangs: it is at a revoked lease after {seconds} seconds, in a file that does not answer",
        Info IsBack { thread: &'a str } => "thread {thread} works again",
        Error AllHang { threads: u16 } => "all {threads} hashing threads hang; this worker ends to be replaced",
        Info Stopping { signal: &'a dyn Display } => "stopping: {signal}",
        Info Connected { endpoint: &'a Endpoint } => "connected to the controller at {endpoint}",
        Warning Lost { endpoint: &'a Endpoint, reason: &'a dyn Display }
            => "lost the controller at {endpoint}: {reason}",
        Warning NoConnection { endpoint: &'a Endpoint, error: &'a dyn Display }
            => "no connection to the controller at {endpoint}: {error}; trying until there is one",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_documented() {
        telemetry::assert_documented("hashcluster-worker", Event::KINDS);
    }
}
