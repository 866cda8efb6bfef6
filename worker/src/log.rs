//! Log events of the worker, on standard error.

use ipc_proto::endpoint::Endpoint;
use std::fmt::Display;
use telemetry::{Log, events};

/// The worker's log.
pub static LOG: Log = Log::new("hashcluster-worker");

events! {
    /// Events of the worker.
    pub enum Event<'a> {
        Error NoSocket { error: &'a dyn Display } => "no socket in the runtime directory: {error}",
        Error Failed { error: &'a dyn Display } => "{error}",
        Info Reading { way: &'a dyn Display } => "reads {way}",
        Info Backends { algorithms: &'a str, choice: &'a str }
            => "backends for {algorithms}: {choice}",
        Info Sandbox { layers: &'a dyn Display } => "sandbox: {layers}",
        Info Stopping { signal: &'a dyn Display } => "stopping: {signal}",
        Info Connected { endpoint: &'a Endpoint } => "connected to the controller at {endpoint}",
        Warning Lost { endpoint: &'a Endpoint, reason: &'a dyn Display }
            => "lost the controller at {endpoint}: {reason}",
        Warning NoConnection { endpoint: &'a Endpoint, error: &'a dyn Display }
            => "no connection to the controller at {endpoint}: {error}; trying until there is one",
    }
}
