//! From arguments to an exit status.

use crate::args::{Args, Command};
use crate::commands::{
    audit, backup, check, compare, drain, dups, get, jobs, release, schedule, status, sum, top,
    update,
};
use crate::compat;
use crate::config::Config;
pub use crate::config::Stdio;
use crate::exit::Exit;
pub use crate::input::is_ignored;
use crate::lists::quote::quote;
use crate::output::Out;
use crate::say::{io_text, say};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use ipc_proto::message::JobAct;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use telemetry::is_harmful;

/// Does what `args` ask for. `stdio` says what was open before the standard library opened
/// `/dev/null` in the place of what was not.
pub fn run(args: impl IntoIterator<Item = OsString>, stdio: Stdio) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    ExitCode::from(compat::run(&args, stdio).unwrap_or_else(|| dispatch(args, stdio).code()))
}

/// The definition of all commands and flags, from which help, man pages and completions come.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// Names of the programs that hashctl can stand for.
pub fn personalities() -> impl Iterator<Item = &'static str> {
    compat::names()
}

fn dispatch(args: Vec<OsString>, stdio: Stdio) -> Exit {
    let (args, more_paths) = hold_back(args);
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return explain(&error, stdio),
    };
    let usage_only = args.global.usage_only;
    let config = match Config::new(args.global, stdio) {
        Ok(config) => config,
        Err(error) => {
            say(format_args!("{error}"));
            return error.exit();
        }
    };
    if usage_only {
        return look_ahead(&args.command, &more_paths);
    }
    match args.command {
        Command::Sum(mut args) => {
            args.paths.extend(more_paths);
            let config = args.job.apply(config);
            sum::sum(&config, args)
        }
        Command::Check(mut args) => {
            args.files.extend(more_paths);
            let config = args.job.apply(config);
            check::check(&config, &args.options, args.files)
        }
        Command::Audit(mut args) => {
            args.paths.extend(more_paths);
            audit::audit(&args.job.apply(config), args)
        }
        Command::Compare(mut args) => {
            args.copies.extend(more_paths);
            compare::compare(&args.job.apply(config), args)
        }
        Command::Dups(mut args) => {
            args.dirs.extend(more_paths);
            dups::dups(&args.job.apply(config), args)
        }
        Command::Update(args) => update::update(&args.job.apply(config), args),
        Command::Status(args) => match args.ready {
            Some(workers) => status::wait_ready(&config, workers, args.timeout_s),
            None => status::status(&config, args.json),
        },
        Command::Top(args) => top::top(config, &args),
        Command::Submit(mut args) => {
            args.paths.extend(more_paths);
            jobs::submit::submit(&config, &args)
        }
        Command::Jobs(args) => jobs::jobs(&config, args),
        Command::Show(args) => jobs::show(&config, &args),
        Command::Wait(args) => jobs::wait(&config, &args.and(&more_paths)),
        Command::Result(args) => jobs::result::result(&config, &args),
        Command::Cancel(args) => jobs::act(&config, &args.and(&more_paths), JobAct::Cancel),
        Command::Retry(args) => jobs::act(&config, &args.and(&more_paths), JobAct::Retry),
        Command::Pause(args) => jobs::act(&config, &args.and(&more_paths), JobAct::Pause),
        Command::Resume(args) => jobs::act(&config, &args.and(&more_paths), JobAct::Resume),
        Command::Rm(args) => jobs::act(&config, &args.and(&more_paths), JobAct::Remove),
        Command::Get(args) => get::get(&config, &args),
        Command::Search(args) => get::search(&config, &args),
        Command::Schedule(args) => schedule::schedule(&config, args),
        Command::Release(args) => release::release(&config, &args.worker),
        Command::Backup(args) => backup::backup(&config, &args.file),
        Command::Restore(args) => backup::restore(&args),
        Command::Drain(args) => drain::drain(&config, &args),
        Command::Undrain(args) => drain::undrain(&config, &args.worker),
        Command::Version => status::version(&config),
    }
}

/// Fails, with the messages of a run, if nothing of what a command is to read exists.
fn look_ahead(command: &Command, more_paths: &[OsString]) -> Exit {
    let named = match command {
        Command::Sum(sum) if !sum.options.format.json && sum.options.files_from.is_none() => {
            &sum.paths
        }
        Command::Check(check) if !check.options.json => &check.files,
        Command::Sum(_)
        | Command::Check(_)
        | Command::Audit(_)
        | Command::Update(_)
        | Command::Compare(_)
        | Command::Dups(_)
        | Command::Status(_)
        | Command::Top(_)
        | Command::Schedule(_)
        | Command::Submit(_)
        | Command::Jobs(_)
        | Command::Show(_)
        | Command::Wait(_)
        | Command::Result(_)
        | Command::Cancel(_)
        | Command::Retry(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Rm(_)
        | Command::Get(_)
        | Command::Search(_)
        | Command::Release(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Drain(_)
        | Command::Undrain(_)
        | Command::Version => return Exit::Success,
    };
    let error_of = |name: &OsString| {
        let error = fs::metadata(name).err()?;
        (error.kind() == io::ErrorKind::NotFound && name != "-").then_some(error)
    };
    let named: Vec<&OsString> = named.iter().chain(more_paths).collect();
    let errors: Vec<_> = named.iter().map_while(|name| Some((name, error_of(name)?))).collect();
    if named.is_empty() || errors.len() < named.len() {
        return Exit::Success;
    }
    for (name, error) in errors {
        say(format_args!("{}: {}", quote(name.as_bytes()), io_text(&error)));
    }
    Exit::Failure
}

/// Trailing arguments without a dash that are parsed: the first can be the value of an option or the
/// command, the others can only be paths.
const PARSED_MAX: usize = 8;

/// Splits off paths at the end that need no parsing. With very many of them the parser would take
/// as long as reading a part of the files.
fn hold_back(mut args: Vec<OsString>) -> (Vec<OsString>, Vec<OsString>) {
    let is_option = |arg: &OsString| matches!(arg.as_encoded_bytes(), [b'-', _, ..]);
    let plain_from = args.iter().rposition(is_option).map_or(0, |last| last + 1);
    let paths = args.split_off(args.len().min(plain_from + PARSED_MAX));
    (args, paths)
}

/// Prints help where it was asked for, else what is wrong with the arguments.
fn explain(error: &clap::Error, stdio: Stdio) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return print(stdio, &error.render().to_string());
    }
    // Of a pattern of the shell's, anybody's file name can be taken for an option.
    let shown = |c: char| if c != '\n' && is_harmful(c) { ' ' } else { c };
    let text: String = error.render().to_string().chars().map(shown).collect();
    // Nobody is left to tell when standard error is gone.
    let _ = io::stderr().write_all(text.as_bytes());
    Exit::Usage
}

/// Writes `text` to standard output.
pub(crate) fn print(stdio: Stdio, text: &str) -> Exit {
    let mut out = Out::new(stdio.has_stdout);
    out.buffer().extend_from_slice(text.as_bytes());
    match out.flush() {
        Ok(()) => Exit::Success,
        Err(error) => {
            say(format_args!("standard output: {}", io_text(&error)));
            Exit::Failure
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn held_back(args: &str) -> String {
        let (_, paths) = hold_back(args.split(' ').map(OsString::from).collect());
        paths.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_paths_are_kept_from_the_parser() {
        assert_eq!(held_back("hashctl sum a b c"), "");
        assert_eq!(held_back("hashctl sum 3 4 5 6 7 8 9 10"), "9 10");
        assert_eq!(held_back("hashctl sum a b c d e f g h -a 1 2 3 4 5 6 7 8 9 -"), "9 -");
        assert_eq!(held_back("hashctl sum -- -x 1 2 3 4 5 6 7 8 9"), "9");
        assert_eq!(held_back("hashctl sum 1 2 3 4 5 6 7 8 9 10 -z"), "");
    }

    /// Names of options of a command whose value may be the next word.
    fn valued(command: &clap::Command) -> BTreeSet<String> {
        let takes_word = |arg: &&clap::Arg| {
            let may_be_none = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
            arg.get_action().takes_values() && !arg.is_require_equals_set() && !may_be_none
        };
        let longs = command.get_arguments().filter(takes_word).filter_map(clap::Arg::get_long);
        longs.map(|long| format!("--{long}")).collect()
    }

    /// `./run.sh COMMAND` looks for paths in hashctl's command line before it boots, and cannot link hashctl.
    #[test]
    fn the_supervisor_knows_every_option_with_a_value() {
        let mut root = command();
        root.build();
        let text = include_str!("../../crates/supervisor/src/vm/paths.rs");
        let (_, list) = text.split_once("const VALUED: [").unwrap();
        let (list, _) = list.split_once("];").unwrap();
        let known =
            list.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
        let known: BTreeSet<String> = known.map(str::to_owned).collect();
        let all: BTreeSet<String> = root.get_subcommands().flat_map(valued).collect();
        assert_eq!(known.difference(&all).next(), None, "hashctl has it no more");
        for command in ["sum", "check", "audit", "update", "compare", "dups"] {
            let command = root.find_subcommand(command).unwrap();
            let wanted = valued(command);
            let name = command.get_name();
            assert_eq!(wanted.difference(&known).next(), None, "missing in VALUED, of {name}");
        }
    }
}
