//! `run.sh`: what its command line asks for, decided before anything is built or booted.
//!
//! Words that people try first are commands of the cluster (`words`); those of hashctl run with the
//! cluster, one that is booted for them if they hash and none runs.

mod words;

use crate::exit;
use crate::run_dir::{self, RUNTIME_DIR_VARIABLE};
use crate::say::{indented, lines};
use ipc_proto::endpoint::{CLIENT_ENDPOINT_FILE, CLIENT_SOCKET};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use words::{Use, suggestion};

/// Options of `run.sh` with a value.
const WITH_VALUE: [&str; 10] = [
    "--arch",
    "--ports",
    "--config",
    "--dataset",
    "--accel",
    "--image",
    "--kernel",
    "--runtime-dir",
    "--run-dir",
    "--state-dir",
];

/// Options of `run.sh` without one.
const FLAGS: [&str; 6] =
    ["--snapshot", "--forget", "--foreground", "--dry-run", "--local", "--monitoring"];

/// Asks for `--monitoring` in each start, if it is 1.
const MONITORING_VARIABLE: &str = "HASHCLUSTER_MONITORING";

/// A command line of `run.sh`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    /// Directory of ports.conf, unless an option names another.
    settings: PathBuf,
    /// For hashcluster-vm, in its form.
    options: Vec<OsString>,
    runtime_dir: Option<PathBuf>,
    image: Option<OsString>,
    /// Options that select a development image.
    of_image: Vec<OsString>,
    dry_run: bool,
    local: bool,
    /// The monitoring starts before the cluster.
    monitoring: bool,
    /// A cluster is to start, or the VMs that `command` names.
    starts: bool,
    command: Vec<OsString>,
    /// The words before `command`, as they were typed.
    given: Vec<OsString>,
}

impl Line {
    /// The options that say where the cluster is.
    fn places(&self) -> impl Iterator<Item = &OsString> {
        let names = ["--runtime-dir", "--state-dir"];
        self.options.iter().filter(move |option| names.contains(&split(option).0))
    }
}

/// A command line that cannot be carried out.
#[derive(Debug, PartialEq, Eq)]
struct Misuse {
    what: String,
    /// Command to type instead.
    instead: String,
}

/// Carries out the arguments of `run.sh`, which is in `root`; `settings` has `ports.conf` and
/// `cluster.toml` where the arguments name no others.
pub(crate) fn front(root: &Path, settings: &Path, args: &[OsString]) -> ExitCode {
    let result = parse(settings, args).and_then(|line| carry_out(root, &line));
    result.unwrap_or_else(|Misuse { what, instead }| {
        lines(format_args!("run.sh: {what}"));
        indented(instead);
        ExitCode::from(exit::USAGE)
    })
}

fn parse(settings: &Path, args: &[OsString]) -> Result<Line, Misuse> {
    let mut line = Line { settings: settings.to_owned(), ..Line::default() };
    let (mut ports, mut config) = (None, None);
    let mut rest = args.iter();
    while let Some(arg) = rest.as_slice().first() {
        if words::of(arg) == Some(Use::Up) && !line.starts {
            line.starts = true;
            rest.next();
            continue;
        }
        if !arg.as_bytes().starts_with(b"-") || words::of(arg).is_some() {
            break;
        }
        rest.next();
        let (name, joined) = split(arg);
        if FLAGS.contains(&name) && joined.is_none() {
            match name {
                "--dry-run" => line.dry_run = true,
                "--local" => line.local = true,
                "--monitoring" => line.monitoring = true,
                _ => line.options.push(name.into()),
            }
            let next = rest.as_slice().first().and_then(|word| word.to_str());
            let number =
                next.filter(|_| name == "--local").and_then(|word| word.parse::<u64>().ok());
            if let Some(workers) = number {
                line.options.push(format!("--workers={workers}").into());
                rest.next();
            }
            continue;
        }
        if !WITH_VALUE.contains(&name) {
            return Err(unknown_option(arg, rest.as_slice()));
        }
        let value = joined.map(OsStr::to_owned).or_else(|| rest.next().cloned());
        let value = value.ok_or_else(|| Misuse {
            what: format!("{name} needs a value"),
            instead: "see ./run.sh --help".to_owned(),
        })?;
        match name {
            "--ports" => ports = Some(value),
            "--image" => line.image = Some(value),
            "--kernel" | "--arch" => line.of_image.extend([name.into(), value]),
            "--config" => config = Some(value),
            "--runtime-dir" | "--run-dir" => {
                line.runtime_dir = Some(value.clone().into());
                line.options.push(option("--runtime-dir", &value));
            }
            _ => line.options.push(option(name, &value)),
        }
    }
    if let Some(name) = line.of_image.first().filter(|_| line.local) {
        return Err(Misuse {
            what: format!("{} is that of VMs, and --local boots none", name.display()),
            instead: "leave out one of them".to_owned(),
        });
    }
    line.command = rest.cloned().collect();
    line.given = args[..args.len() - line.command.len()].to_vec();
    line.options.extend(config.map(|config| option("--config", &config)));
    if !line.local {
        // A running cluster keeps the file that an earlier command named.
        line.options.push(match &ports {
            Some(ports) => option("--ports", ports),
            None => option("--default-ports", settings.join("ports.conf").as_os_str()),
        });
    }
    Ok(line)
}

/// Name of an option, and its value where that follows an equals sign.
fn split(arg: &OsStr) -> (&str, Option<&OsStr>) {
    let bytes = arg.as_bytes();
    let at = bytes.iter().position(|&byte| byte == b'=').filter(|_| bytes.starts_with(b"--"));
    let (name, value) = match at {
        Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
        None => (bytes, None),
    };
    (str::from_utf8(name).unwrap_or_default(), value)
}

fn option(name: &str, value: &OsStr) -> OsString {
    [OsStr::new(name), value].join(OsStr::new("="))
}

fn unknown_option(arg: &OsStr, rest: &[OsString]) -> Misuse {
    let shown = arg.to_string_lossy();
    let what = format!("unknown option {shown}");
    let own = WITH_VALUE.iter().chain(&FLAGS).copied();
    let instead = match suggestion(split(arg).0, own) {
        Some(option) => format!("did you mean {option}?"),
        None => {
            let word = rest.iter().find_map(|word| word.to_str().filter(|w| words::hashes(w)));
            format!(
                "options of hashctl follow its command: ./run.sh {} {shown} …",
                word.unwrap_or("sum")
            )
        }
    };
    Misuse { what, instead }
}

fn carry_out(root: &Path, line: &Line) -> Result<ExitCode, Misuse> {
    let Some(word) = line.command.first() else { return start(root, line) };
    if line.starts {
        return Ok(own(line, "start", &line.command));
    }
    let args = &line.command[1..];
    let used = words::of(word).ok_or_else(|| unknown_word(word))?;
    Ok(match used {
        Use::Help => match args.first() {
            Some(about) => hashctl(line, &[about.clone(), "--help".into()]),
            None => become_(Command::new(root.join("run.sh")).arg("--help")),
        },
        Use::Up => return start(root, line),
        Use::Own(word) => own(line, word, args),
        Use::Script(name) => {
            become_(Command::new(root.join("scripts").join(name)).args(script_words(line, name)))
        }
        Use::Version => hashctl(line, &["version".into()]),
        Use::Asks => asks(line),
        Use::Alone => hashctl(line, &line.command),
        Use::Schedule if args.first().is_none_or(|word| is_about_files(word)) => {
            hashctl(line, &line.command)
        }
        Use::Schedule => asks(line),
        Use::Hashes if asks_for_help(args) => hashctl(line, &line.command),
        Use::Hashes => return hash(root, line),
    })
}

/// The arguments of a script. That of the unit starts a cluster with all options, which follow its word.
fn script_words(line: &Line, name: &str) -> Vec<OsString> {
    let args = line.command[1..].to_vec();
    if name == "autostart.sh" {
        return [args, line.given.clone()].concat();
    }
    let dir = line.runtime_dir.iter().map(|dir| dir.as_os_str());
    let place = dir.flat_map(|dir| ["--runtime-dir".into(), dir.to_owned()]);
    place.chain(args).collect()
}

/// Says what may have been meant by a word that is no command.
fn unknown_word(word: &OsStr) -> Misuse {
    let shown = word.to_string_lossy();
    let path = Path::new(word);
    let instead = match words::meant(&shown) {
        Some(instead) => format!("did you mean ./run.sh {instead}?"),
        None if path.exists() => {
            let recursive = if path.is_dir() { "-r " } else { "" };
            format!("to hash it: ./run.sh sum {recursive}{}", crate::quote::path(path))
        }
        None => "see ./run.sh --help".to_owned(),
    };
    Misuse { what: format!("unknown command {}", printable(&shown)), instead }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if telemetry::is_harmful(c) { '?' } else { c }).collect()
}

/// True for the commands of `schedule` that need no cluster.
fn is_about_files(word: &OsStr) -> bool {
    ["check", "next", "help"].iter().any(|name| word == *name)
}

fn asks_for_help(args: &[OsString]) -> bool {
    let mut options = args.iter().take_while(|arg| *arg != "--");
    options.any(|arg| arg == "--help" || arg == "-h")
}

/// Starts a cluster that stays.
fn start(root: &Path, line: &Line) -> Result<ExitCode, Misuse> {
    let asked = env::var_os(MONITORING_VARIABLE).is_some_and(|value| value == "1");
    if (line.monitoring || asked) && !line.dry_run {
        let mut monitoring = own_command(&["monitoring", "up", "--with-cluster", "--files"]);
        monitoring.arg(root.join("monitoring")).arg("--settings").arg(&line.settings);
        monitoring.args(line.places());
        match monitoring.status() {
            Ok(status) if status.success() => {}
            Ok(status) => return Ok(exit_of(status)),
            Err(error) => return Ok(failed(monitoring.get_program(), &error)),
        }
    }
    let mut command = if line.local { own_command(&["local", "up"]) } else { own_command(&["up"]) };
    Ok(with_cluster(root, line, &mut command, &[]))
}

/// Runs a command of hashctl that hashes, after a look at its arguments: a mistake boots no VM.
fn hash(root: &Path, line: &Line) -> Result<ExitCode, Misuse> {
    if line.monitoring {
        return Err(Misuse {
            what: "--monitoring is for a cluster that stays".to_owned(),
            instead: "to start it by itself: scripts/monitoring.sh up".to_owned(),
        });
    }
    if line.local {
        if line.dry_run {
            return Err(Misuse {
                what: "--dry-run shows what starts, and with --local a command starts itself"
                    .to_owned(),
                instead: "to see its processes: ./run.sh --local --dry-run".to_owned(),
            });
        }
        let mut command = own_command(&["local", "run"]);
        // Their items wait for workers.
        if ["sum", "check"].iter().any(|word| line.command[0] == *word) {
            command.arg("--early");
        }
        return Ok(with_cluster(root, line, &mut command, &line.command));
    }
    if !words::is_personality(&line.command[0]) {
        let mut look = Command::new(beside("hashctl"));
        let looked = look.arg("--usage-only").args(&line.command).stdin(Stdio::null()).status();
        match looked {
            Ok(status) if status.success() => {}
            Ok(status) => return Ok(exit_of(status)),
            Err(error) => return Ok(failed(look.get_program(), &error)),
        }
    }
    Ok(with_cluster(root, line, &mut own_command(&["run"]), &line.command))
}

/// Becomes `command` with the options of a start, and with a command of hashctl behind them.
fn with_cluster(root: &Path, line: &Line, command: &mut Command, behind: &[OsString]) -> ExitCode {
    command.args(&line.options);
    if line.dry_run {
        command.arg("--dry-run");
    }
    if line.local {
        // It may be written while the cluster runs.
        let config = line.settings.join("cluster.toml");
        command.arg(option("--default-config", config.as_os_str()));
    }
    if !line.local {
        let mut setup = Command::new(root.join("qemu/setup.sh"));
        setup.args(line.dry_run.then_some("--dry-run"));
        if let Some(image) = &line.image {
            setup.arg("--image").arg(image);
        }
        setup.args(&line.of_image);
        match setup.arg(bin_dir()).stderr(Stdio::inherit()).output() {
            Ok(output) if output.status.success() => {
                let printed = output.stdout.split(|&byte| byte == b'\n').filter(|l| !l.is_empty());
                command.args(printed.map(|word| match word.strip_prefix(b"--image=") {
                    // And its image.
                    Some(image) if line.image.is_none() && line.of_image.is_empty() => {
                        option("--default-image", OsStr::from_bytes(image))
                    }
                    _ => OsStr::from_bytes(word).to_owned(),
                }));
            }
            Ok(output) => return exit_of(output.status),
            Err(error) => return failed(setup.get_program(), &error),
        }
    }
    if !behind.is_empty() {
        command.arg("--").arg(beside("hashctl")).args(behind);
    }
    become_(command)
}

/// Becomes a command of this program, for the cluster that the options name.
fn own(line: &Line, word: &str, args: &[OsString]) -> ExitCode {
    let mut command = own_command(&[word]);
    if let Some(dir) = &line.runtime_dir {
        command.arg("--runtime-dir").arg(dir);
    }
    become_(command.args(args))
}

/// Becomes hashctl that asks the cluster that runs.
fn asks(line: &Line) -> ExitCode {
    let dir = line.runtime_dir.clone().unwrap_or_else(run_dir::found_by_clients);
    let has = |name| dir.join(name).exists();
    if !asks_for_help(&line.command) && !has(CLIENT_SOCKET) && !has(CLIENT_ENDPOINT_FILE) {
        let starts = run_dir::or_default(line.runtime_dir.as_deref());
        lines(format_args!("run.sh: no cluster runs in {}; ./run.sh starts one", starts.display()));
        return ExitCode::from(exit::NOT_RUNNING);
    }
    hashctl(line, &line.command)
}

fn hashctl(line: &Line, args: &[OsString]) -> ExitCode {
    let mut command = Command::new(beside("hashctl"));
    if let Some(dir) = &line.runtime_dir {
        command.env(RUNTIME_DIR_VARIABLE, dir);
    }
    become_(command.args(args))
}

fn own_command(words: &[&str]) -> Command {
    let mut command = Command::new(beside("hashcluster-vm"));
    command.args(words);
    command
}

fn bin_dir() -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    own.parent().map(Path::to_owned).unwrap_or_default()
}

fn beside(name: &str) -> PathBuf {
    bin_dir().join(name)
}

/// The exit status of a program as ours.
fn exit_of(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(exit::FAILED))
}

/// Replaces this process.
fn become_(command: &mut Command) -> ExitCode {
    let error = command.exec();
    failed(command.get_program(), &error)
}

fn failed(program: &OsStr, error: &io::Error) -> ExitCode {
    lines(format_args!("run.sh: cannot run {}: {error}", program.display()));
    ExitCode::from(exit::FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Line, Misuse> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        parse(Path::new("/tree"), &args)
    }

    #[test]
    fn options_take_their_values_in_both_forms_and_end_at_the_command() {
        let options = ["--dataset=a=/x", "--runtime-dir=/r", "--snapshot", "--ports=/p"];
        let line = parsed(&[
            "--dataset",
            "a=/x",
            "--run-dir=/r",
            "--snapshot",
            "--ports",
            "/p",
            "--image=dev",
            "--dry-run",
            "sum",
            "--ports",
            "x",
        ]);
        let line = line.unwrap();
        assert_eq!(line.options, options);
        assert_eq!(line.command, ["sum", "--ports", "x"]);
        assert_eq!((line.image, line.dry_run), (Some("dev".into()), true));
        assert_eq!(line.runtime_dir, Some("/r".into()));
    }

    #[test]
    fn a_kernel_and_an_architecture_are_for_vms_only() {
        let line = parsed(&["--kernel=minimal", "sum", "x"]).unwrap();
        assert_eq!(line.of_image, ["--kernel", "minimal"]);
        let line = parsed(&["--arch", "arm64", "--kernel=debian", "sum", "x"]).unwrap();
        assert_eq!(line.of_image, ["--arch", "arm64", "--kernel", "debian"]);
        for (args, name) in [
            (["--kernel=minimal", "--local", "sum"], "--kernel"),
            (["--local", "--arch=arm64", "sum"], "--arch"),
        ] {
            let what = parsed(&args).unwrap_err().what;
            assert_eq!(what, format!("{name} is that of VMs, and --local boots none"));
        }
    }

    #[test]
    fn local_takes_a_number_of_workers_that_may_be_left_out() {
        assert_eq!(parsed(&["--local", "3", "sum"]).unwrap().options, ["--workers=3"]);
        let line = parsed(&["--local", "sum", "3"]).unwrap();
        assert!(line.options.is_empty() && line.local);
        assert_eq!(line.command, ["sum", "3"]);
    }

    #[test]
    fn options_before_the_word_reach_a_script_where_it_takes_them() {
        let line = parsed(&["--runtime-dir", "/r", "--ports=/p", "autostart", "enable"]).unwrap();
        let want = ["enable", "--runtime-dir", "/r", "--ports=/p"];
        assert_eq!(script_words(&line, "autostart.sh"), want);
        let line = parsed(&["--runtime-dir=/r", "doctor", "--json"]).unwrap();
        assert_eq!(script_words(&line, "doctor.sh"), ["--runtime-dir", "/r", "--json"]);
    }

    #[test]
    fn an_unknown_option_is_explained() {
        for (args, want) in [
            (&["--acel", "kvm"][..], "--accel"),
            (&["--datasets", "a=/x"], "--dataset"),
            (&["-r", "sum", "x"], "./run.sh sum -r"),
            (&["--local", "--check", "list"], "./run.sh sum --check"),
            (&["-q", "check", "list"], "./run.sh check -q"),
            (&["--ports"], "--help"),
        ] {
            let instead = parsed(args).unwrap_err().instead;
            assert!(instead.contains(want), "{args:?}: {instead}");
        }
    }
}
