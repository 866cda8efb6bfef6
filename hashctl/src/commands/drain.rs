//! `hashctl drain` and `hashctl undrain`: workers taken out of service, and back.

use crate::args::DrainArgs;
use crate::cli::print;
use crate::commands::status::ask;
use crate::config::Config;
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::say::say;
use ipc_proto::message::DrainOutcome;

/// Gives a worker no more work and waits until it has none.
pub(crate) fn drain(config: &Config, args: &DrainArgs) -> Exit {
    let drained = ask(config, |client| client.drain(&args.worker, args.deadline, true));
    report(config, &args.worker, drained)
}

/// Gives the worker called `name` work again.
pub(crate) fn undrain(config: &Config, name: &str) -> Exit {
    report(config, name, ask(config, |client| client.undrain(name)))
}

fn report(config: &Config, name: &str, outcome: Result<DrainOutcome, Exit>) -> Exit {
    let worker = quote(name.as_bytes());
    let (is_done, text) = match outcome {
        Ok(DrainOutcome::Drained { passed_on: 0 }) => (true, format!("{worker} is drained")),
        Ok(DrainOutcome::Drained { passed_on }) => (
            true,
            format!("{worker} is drained; {passed_on} batches went to others at the deadline"),
        ),
        Ok(DrainOutcome::Undrained) => (true, format!("{worker} is given work again")),
        Ok(DrainOutcome::NotDraining) => {
            (false, format!("{worker} is not drained; see hashctl status"))
        }
        Ok(DrainOutcome::Unknown) => {
            (false, format!("no worker {worker} is connected; see hashctl status"))
        }
        Ok(DrainOutcome::TooMany) => {
            (false, format!("{worker} is not drained: too many workers are; undrain others first"))
        }
        Ok(DrainOutcome::Forbidden) => (
            false,
            format!("you may not drain {worker}, nor undrain it; see the controller's --policy"),
        ),
        Err(exit) => return exit,
    };
    if is_done {
        return print(config.stdio, &format!("{text}\n"));
    }
    say(format_args!("{text}"));
    Exit::Failure
}
