//! `hashcluster-vm`: starts, watches and stops the processes of a cluster on its host.
//!
//! [`supervise`] keeps any set of processes alive and knows nothing of clusters; [`mod@local`] is the
//! cluster without VMs: a controller and its workers as processes of this host; [`deployment`] is what
//! a cluster of VMs is to be.

mod args;
mod deployment;
mod exit;
mod local;
mod pidfile;
mod quote;
mod run_dir;
mod say;
mod supervise;
mod vm;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    use args::Mode;
    let result = match &args::Args::parse().mode {
        Mode::Local { command } => return local(command),
        Mode::Config { options } => {
            return deployment::config(options).unwrap_or_else(|error| {
                say::lines(&error);
                error.exit_code()
            });
        }
        Mode::View(options) => {
            say::say(format_args!("view: {}", vm::view(options)));
            return ExitCode::from(exit::FAILED);
        }
        Mode::Stop(args::Names { run_dir, names }) if names.is_empty() => {
            let stopped = local(&args::LocalCommand::Stop { run_dir: run_dir.clone() });
            if stopped != ExitCode::SUCCESS {
                return stopped;
            }
            vm::sweep(run_dir.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Mode::Up { options, ready_fd } => vm::up(options, *ready_fd),
        Mode::Run { options, command } => vm::run(options, command),
        Mode::Stop(args::Names { run_dir, names }) => {
            vm::command(run_dir.as_deref(), "stop", names)
        }
        Mode::Start(args::Names { run_dir, names }) => {
            vm::command(run_dir.as_deref(), "start", names)
        }
        Mode::Restart(args::Names { run_dir, names }) => {
            vm::command(run_dir.as_deref(), "restart", names)
        }
        Mode::Status { run_dir } => vm::command(run_dir.as_deref(), "status", &[]),
        Mode::Deploy { run_dir, image } => {
            let image = std::path::absolute(image).unwrap_or_else(|_| image.clone());
            match image.to_str().filter(|text| !text.contains('\n')) {
                Some(image) => vm::command(run_dir.as_deref(), "deploy", &[image.to_owned()]),
                None => Err(vm::Error::Refused(format!(
                    "{} is no path for an image: it has to be one line of UTF-8",
                    image.display()
                ))),
            }
        }
        Mode::Console { run_dir, name } => vm::console(run_dir.as_deref(), name),
        Mode::Ssh { run_dir, name, command } => Err(vm::ssh(run_dir.as_deref(), name, command)),
    };
    result.unwrap_or_else(|error| {
        if let vm::Error::Deployment(errors) = &error {
            say::lines(errors);
        } else {
            say::say(&error);
        }
        error.exit_code()
    })
}

fn local(command: &args::LocalCommand) -> ExitCode {
    let result = match command {
        args::LocalCommand::Up { options } => local::up(options),
        args::LocalCommand::Run { options, command } => local::run(options, command),
        args::LocalCommand::Stop { run_dir } => local::stop(run_dir.as_deref()),
        args::LocalCommand::Status { run_dir } => local::status(run_dir.as_deref()),
    };
    result.unwrap_or_else(|error| {
        if let local::Error::Config(errors) = &error {
            say::lines(errors);
        } else {
            say::say(&error);
        }
        error.exit_code()
    })
}
