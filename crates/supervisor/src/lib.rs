//! `hashcluster-vm`: starts, watches and stops the processes of a cluster on its host.
//!
//! `supervise` starts and watches any set of processes and knows nothing of clusters; `cluster`
//! keeps a cluster alive, be it of VMs (`vm`) or of processes (`local`); `deployment` is what a
//! cluster of VMs is to be.

mod args;
mod autostart;
mod cluster;
mod columns;
mod deployment;
mod doctor;
mod exit;
mod front;
mod linger;
mod local;
mod monitoring;
mod pidfile;
mod quote;
mod run_dir;
mod running;
mod say;
mod supervise;
mod vm;

use clap::Parser;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Carries out the command line.
#[must_use]
pub fn run() -> ExitCode {
    use args::{LocalCommand, Mode};
    let args: Vec<OsString> = std::env::args_os().collect();
    // Without the parser, which takes long with very many paths.
    if let [_, word, root, settings, args @ ..] = &args[..]
        && word == "front"
    {
        return front::front(Path::new(root), Path::new(settings), args);
    }
    let result = match &args::Args::parse_from(args).mode {
        Mode::Local { command: LocalCommand::Up { options } } => cluster::local_up(options),
        Mode::Local { command: LocalCommand::Run { options, early, command } } => {
            cluster::local_run(options, *early, command)
        }
        Mode::Autostart(args) => autostart::autostart(args),
        Mode::Monitoring(args) => monitoring::monitoring(args),
        Mode::Doctor(options) => doctor::doctor(options),
        Mode::RunDir { runtime } => cluster::print_run_dir(runtime.dir.as_deref()),
        Mode::FilterReport => vm::filter_report(),
        Mode::Config { options } => deployment::config(options),
        Mode::ShareView(options) => {
            say::say(format_args!("share-view: {}", vm::share_view(options)));
            return ExitCode::from(exit::FAILED);
        }
        Mode::Up { options, foreground, ready_fd } => cluster::up(options, *foreground, *ready_fd),
        Mode::Run { options, command } => cluster::run(options, command),
        Mode::Stop { all: true, .. } => cluster::stop_all(),
        Mode::Stop { asked: args::Names { runtime, names }, .. } if names.is_empty() => {
            let stopped = cluster::stop(runtime.dir.as_deref());
            monitoring::down_with_cluster(runtime.dir.as_deref()).and(stopped)
        }
        Mode::Stop { asked, .. } => of_members("stop", asked),
        Mode::Start(asked) => of_members("start", asked),
        Mode::Restart(asked) => of_members("restart", asked),
        Mode::Ps { all: true, json, .. } => cluster::ps_all(*json),
        Mode::Ps { runtime, json, .. } => cluster::ps(runtime.dir.as_deref(), *json),
        Mode::Apply { options } => cluster::apply(options),
        Mode::Deploy { runtime, image } => cluster::deploy(runtime.dir.as_deref(), image),
        Mode::Exec { runtime, tty, name, command } => {
            Err(vm::exec(runtime.dir.as_deref(), name, *tty, command))
        }
        Mode::Logs(options) => cluster::logs(options),
        Mode::Cp { runtime, from, to } => vm::cp(runtime.dir.as_deref(), from, to),
        Mode::Ssh { runtime, name, command } => Err(vm::ssh(runtime.dir.as_deref(), name, command)),
    };
    result.unwrap_or_else(|error| {
        if let cluster::Error::Deployment(errors) = &error {
            say::lines(errors);
        } else {
            say::say(&error);
        }
        error.exit_code()
    })
}

fn of_members(
    word: &str,
    args::Names { runtime, names }: &args::Names,
) -> Result<ExitCode, cluster::Error> {
    cluster::of_members(runtime.dir.as_deref(), word, names)
}

/// The fuzz target `deployment`: see `fuzz/README.md`.
#[cfg(fuzzing)]
pub fn fuzz_deployment(input: &[u8]) {
    deployment::fuzz::deployment(input);
}

/// The fuzz target `report`: see `fuzz/README.md`.
#[cfg(fuzzing)]
pub fn fuzz_report(input: &[u8]) {
    vm::fuzz::report(input);
}
