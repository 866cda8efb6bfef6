//! Start of a cluster by systemd, at boot or login: writes, enables and removes one unit.
//!
//! The unit runs what a person would type, `run.sh` with the same options, so that whatever it prepares is
//! prepared then, too. Enabling is a link beside the unit: no manager needs to run for it.

use crate::args::{AutostartArgs, AutostartCommand};
use crate::cluster::Error;
use crate::say::{indented, say};
use crate::{exit, linger, quote};
use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const UNIT: &str = "hashcluster.service";

/// The manager that starts the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    User,
    System,
}

impl Manager {
    fn unit_dir(self) -> Result<PathBuf, Error> {
        if self == Self::System {
            return Ok("/etc/systemd/system".into());
        }
        let variable =
            |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || Some(variable("HOME")?.join(".config"));
        let config = variable("XDG_CONFIG_HOME").or_else(home);
        let config = config.ok_or_else(|| Error::Refused("HOME is not set".to_owned()))?;
        Ok(config.join("systemd/user"))
    }

    const fn target(self) -> &'static str {
        match self {
            Self::User => "default.target",
            Self::System => "multi-user.target",
        }
    }

    /// `systemctl`, as a person types it.
    const fn systemctl(self) -> &'static [&'static str] {
        match self {
            Self::User => &["systemctl", "--user"],
            Self::System => &["systemctl"],
        }
    }

    /// True if this manager runs and does `what`.
    fn asks(self, what: &[&str]) -> bool {
        let [program, options @ ..] = self.systemctl() else { return false };
        let mut command = Command::new(program);
        command.args(options).args(what).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// Carries out `autostart`.
pub(crate) fn autostart(args: &AutostartArgs) -> Result<ExitCode, Error> {
    let manager = if args.system { Manager::System } else { Manager::User };
    let dir = manager.unit_dir()?;
    let (unit, link) = (dir.join(UNIT), dir.join(format!("{}.wants/{UNIT}", manager.target())));
    match args.command {
        AutostartCommand::Show => {
            print(&unit_of(args, manager)?)?;
            Ok(ExitCode::SUCCESS)
        }
        AutostartCommand::Enable => {
            let text = unit_of(args, manager)?;
            check_options(args)?;
            make_parent(&link)?;
            fs::write(&unit, text).map_err(Error::write(&unit))?;
            remove(&link)?;
            symlink(format!("../{UNIT}"), &link).map_err(Error::write(&link))?;
            say(format_args!("{} starts the cluster from now on", unit.display()));
            explain(manager);
            Ok(ExitCode::SUCCESS)
        }
        AutostartCommand::Disable => {
            // A cluster that runs is left alone.
            let was_there = remove(&link)? | remove(&unit)?;
            manager.asks(&["daemon-reload"]);
            say(match was_there {
                true => "removed; a cluster that runs is left running, scripts/stop.sh stops it",
                false => "nothing starts the cluster by itself",
            });
            Ok(ExitCode::SUCCESS)
        }
        AutostartCommand::Status => {
            if !link.exists() {
                say("nothing starts the cluster by itself; `enable` changes that");
                return Ok(ExitCode::from(exit::NOT_RUNNING));
            }
            let is_active = manager.asks(&["is-active", UNIT]);
            let state = if is_active { "active" } else { "not active" };
            print(&format!("{} is enabled and {state}\n", unit.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says how to start the cluster now, and what is missing for it to start by itself.
fn explain(manager: Manager) {
    let systemctl = manager.systemctl().join(" ");
    if !manager.asks(&["daemon-reload"]) {
        indented(format_args!("no such manager runs here now; it reads the unit when it starts"));
    }
    indented(format_args!("start it now   {systemctl} start hashcluster"));
    indented(format_args!("its messages   journal{} -u hashcluster", &systemctl["system".len()..]));
    if manager == Manager::System {
        return;
    }
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let user = user.map_or_else(|| "USER".to_owned(), |user| user.name);
    // What it would say if it ran.
    let is_set = || Path::new("/var/lib/systemd/linger").join(&user).exists();
    if !linger::lingers(&user).unwrap_or_else(is_set) {
        indented(
            "it starts at the first login and stops after the last logout; to start it at boot",
        );
        indented(format_args!("               loginctl enable-linger {user}"));
    }
}

/// Lets the program that the unit starts check its options, as far as it can without a start.
fn check_options(args: &AutostartArgs) -> Result<(), Error> {
    if args.options.first().is_some_and(|first| first == "--local") {
        return Ok(());
    }
    let mut command = Command::new(&args.start);
    command.args(&args.options).arg("--dry-run").stdin(Stdio::null()).stdout(Stdio::null());
    let shown = || format!("{} {}", args.start.display(), words(&args.options, quote::shell));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Error::Refused(format!("{} --dry-run fails: no unit is written", shown()))),
        Err(error) => Err(Error::Command { command: shown(), error }),
    }
}

/// The text of the unit.
fn unit_of(args: &AutostartArgs, manager: Manager) -> Result<String, Error> {
    let start =
        std::path::absolute(&args.start).map_err(Error::step("find the program to start"))?;
    let is_local = args.options.first().is_some_and(|first| first == "--local");
    let mut line = escaped(start.as_os_str(), Escape::Program)?;
    if !is_local {
        line += " --foreground";
    }
    for option in &args.options {
        line += " ";
        line += &escaped(option, Escape::Argument)?;
    }
    let mut text = include_str!("autostart/hashcluster.service").to_owned();
    let mut own = String::new();
    if manager == Manager::System {
        own += include_str!("autostart/system.conf");
        if let Some(user) = &args.user {
            let _ = writeln!(own, "User={user}");
        }
    }
    if !args.options.is_empty() {
        // Paths in options are relative to where they were given.
        let cwd = env::current_dir().map_err(Error::step("find the working directory"))?;
        let _ = writeln!(own, "WorkingDirectory={}", escaped(cwd.as_os_str(), Escape::Path)?);
    }
    let (what, files) = match is_local {
        true => ("processes of this host", "cluster.toml"),
        false => ("VMs", "ports.conf and cluster.toml"),
    };
    for (name, value) in [
        ("@WHAT@", what),
        ("@START@", &line),
        ("@FILES@", files),
        ("@TARGET@", manager.target()),
        ("@OWN@\n", &own),
    ] {
        text = text.replace(name, value);
    }
    Ok(text)
}

/// The place of a word in a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    /// The program of a command line, in which no variable is replaced.
    Program,
    Argument,
    /// All that follows `=`, unquoted.
    Path,
}

/// `word` as systemd.service(5) and systemd.syntax(7) read it.
fn escaped(word: &OsStr, place: Escape) -> Result<String, Error> {
    let wrong =
        |what| Error::Refused(format!("{} {what}, as no word of a unit may", quote::shell(word)));
    let text = str::from_utf8(word.as_bytes()).map_err(|_| wrong("is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(wrong("contains a control character"));
    }
    let text = text.replace('%', "%%");
    if place == Escape::Path {
        return Ok(text);
    }
    let mut text = text.replace('\\', r"\\").replace('"', r#"\""#);
    if place == Escape::Argument {
        text = text.replace('$', "$$");
    }
    Ok(format!("\"{text}\""))
}

fn words<T: AsRef<OsStr>>(words: &[T], shown: fn(&OsStr) -> String) -> String {
    words.iter().map(|word| shown(word.as_ref())).collect::<Vec<_>>().join(" ")
}

fn make_parent(path: &Path) -> Result<(), Error> {
    let dir = path.parent().expect("a file is in a directory");
    fs::create_dir_all(dir).map_err(Error::write(dir))
}

/// Removes a file; true if there was one.
fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::write(path)(error)),
    }
}

fn print(text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::step("write to stdout"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn args(options: &[&str]) -> AutostartArgs {
        AutostartArgs {
            command: AutostartCommand::Show,
            system: false,
            user: None,
            start: "/a b/run.sh".into(),
            options: options.iter().map(OsString::from).collect(),
        }
    }

    #[test]
    fn words_mean_to_systemd_what_they_meant_to_the_shell() {
        let start = |options: &[&str]| {
            let text = unit_of(&args(options), Manager::User).unwrap();
            text.lines()
                .find_map(|line| line.strip_prefix("ExecStart=").map(str::to_owned))
                .unwrap()
        };
        assert_eq!(start(&[]), r#""/a b/run.sh" --foreground"#);
        let odd = r#"$HOME "x" 100% \n"#;
        assert_eq!(
            start(&["--ports", odd]),
            r#""/a b/run.sh" --foreground "--ports" "$$HOME \"x\" 100%% \\n""#
        );
        assert_eq!(start(&["--local", "2"]), r#""/a b/run.sh" "--local" "2""#);
        let error = unit_of(&args(&["a\nb"]), Manager::User).unwrap_err().to_string();
        assert!(error.contains("control character"), "{error}");
    }

    #[test]
    fn only_the_systems_unit_has_directories_of_the_system_and_a_user() {
        let mut args = args(&[]);
        args.user = Some("me".into());
        let system = unit_of(&args, Manager::System).unwrap();
        assert!(
            system.contains("\nUser=me\n") && system.contains("\nStateDirectory=hashcluster\n")
        );
        assert!(system.ends_with("WantedBy=multi-user.target\n"));
        let user = unit_of(&args, Manager::User).unwrap();
        assert!(!user.contains("Directory=") && !user.contains('@'), "{user}");
    }
}
