//! `hashcluster-vm`: starts, watches and stops the processes of a cluster on its host.
//!
//! [`supervise`] keeps any set of processes alive and knows nothing of clusters; [`local`] is the
//! cluster without VMs: a controller and its workers as processes of this host; [`deployment`] is what
//! a cluster of VMs is to be.

mod args;
mod deployment;
mod exit;
mod local;
mod pidfile;
mod run_dir;
mod say;
mod supervise;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match args::Args::parse().mode {
        args::Mode::Local { command } => local(&command),
        args::Mode::Config { options } => deployment::config(&options).unwrap_or_else(|error| {
            say::lines(&error);
            error.exit_code()
        }),
    }
}

fn local(command: &args::LocalCommand) -> ExitCode {
    let result = match command {
        args::LocalCommand::Up { options } => local::up(options),
        args::LocalCommand::Run { options, command } => local::run(options, command),
        args::LocalCommand::Stop { run_dir } => local::stop(run_dir.as_deref()),
        args::LocalCommand::Status { run_dir } => local::status(run_dir.as_deref()),
    };
    result.unwrap_or_else(|error| {
        say::say(&error);
        error.exit_code()
    })
}
