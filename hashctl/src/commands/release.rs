//! `hashctl release`: ends a worker's quarantine.

use crate::cli::print;
use crate::commands::status::ask;
use crate::config::Config;
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::say::say;
use ipc_proto::message::ReleaseOutcome;

/// Ends the quarantine of the worker called `name`.
pub(crate) fn release(config: &Config, name: &str) -> Exit {
    let worker = quote(name.as_bytes());
    match ask(config, |client| client.release(name)) {
        Ok(ReleaseOutcome::Released) => print(config.stdio, &format!("{worker} is released\n")),
        Ok(ReleaseOutcome::NotQuarantined) => {
            say(format_args!("{worker} is not in quarantine; see hashctl status"));
            Exit::Failure
        }
        Ok(ReleaseOutcome::Forbidden) => {
            say(format_args!("you may not release {worker}; see the controller's --policy"));
            Exit::Failure
        }
        Err(exit) => exit,
    }
}
