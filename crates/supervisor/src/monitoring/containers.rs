//! All of `monitoring/compose.yml` in containers, by `docker compose` or the older `docker-compose`.

use super::site::{MonitoringSite, StartedMonitoring, check_ports, is_ready};
use crate::cluster::Error;
use crate::say::say;
use nix::poll::{PollTimeout, poll};
use nix::unistd::{getegid, geteuid};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Most seconds that Docker may take for an answer.
const ANSWER_LIMIT_S: &str = "10";

/// Time until all services are ready, without that for fetching images.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Pause between two questions, in milliseconds.
const ASK_AGAIN_MS: u16 = 500;

/// Name of the project, which is part of the names of containers.
const PROJECT: &str = "hashcluster-monitoring";

/// The two forms of compose.
const COMPOSE: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];

/// Checks that containers can be started here.
///
/// # Errors
/// The reason why not.
pub(super) fn available() -> Result<(), String> {
    let Some(info) = ask(&["docker", "info"]) else { return Err("there is no docker".to_owned()) };
    if !info.status.success() {
        let said = String::from_utf8_lossy(&info.stderr).into_owned();
        let last = crate::supervise::log::plain(
            said.trim().lines().last().unwrap_or("no answer").as_bytes(),
        );
        return Err(format!("docker cannot be used ({last})"));
    }
    match compose() {
        Some(_) => Ok(()),
        None => Err("docker is there without compose".to_owned()),
    }
}

fn compose() -> Option<&'static [&'static str]> {
    let works = |words: &[&str]| {
        let version: Vec<&str> = words.iter().copied().chain(["version"]).collect();
        ask(&version).is_some_and(|output| output.status.success())
    };
    COMPOSE.into_iter().find(|words| works(words))
}

fn ask(words: &[&str]) -> Option<Output> {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", ANSWER_LIMIT_S]).args(words).stdin(Stdio::null());
    // timeout(1) says 127 where there is no such program.
    command.output().ok().filter(|output| output.status.code() != Some(127))
}

/// Starts what does not run, and waits until all is ready.
pub(super) fn up(
    site: &MonitoringSite,
    started: StartedMonitoring,
    ran: bool,
) -> Result<(), Error> {
    if !ran && !has_containers(site) {
        check_ports(&started.services())?;
    }
    site.make_password()?;
    site.note_started(started)?;
    run(site, &["up", "--detach", "--remove-orphans"])?;
    let deadline = Instant::now() + READY_LIMIT;
    for (name, port) in started.services() {
        while !is_ready(name, port) {
            if Instant::now() > deadline {
                let tail = logs(site, name);
                let why = format!("it does not answer at 127.0.0.1:{port}");
                return Err(Error::Late { name: name.to_owned(), limit: READY_LIMIT, why, tail });
            }
            poll(&mut [], PollTimeout::from(ASK_AGAIN_MS))
                .map_err(|error| Error::step("wait")(error.into()))?;
        }
    }
    Ok(())
}

/// True if containers of an earlier start run, also where the note of it is gone with its run directory.
fn has_containers(site: &MonitoringSite) -> bool {
    let output = command(site).map(|mut command| command.args(["ps", "--quiet"]).output());
    output.ok().and_then(Result::ok).is_some_and(|output| !output.stdout.is_empty())
}

/// Removes the containers; data are outside them.
pub(super) fn down(site: &MonitoringSite) -> Result<(), Error> {
    run(site, &["down", "--remove-orphans"])
}

fn logs(site: &MonitoringSite, service: &str) -> String {
    let output =
        command(site).map(|mut command| command.args(["logs", "--tail", "20", service]).output());
    let output = output.ok().and_then(Result::ok).map(|output| output.stdout).unwrap_or_default();
    crate::supervise::log::plain(&output)
}

fn run(site: &MonitoringSite, args: &[&str]) -> Result<(), Error> {
    let mut command = command(site)?;
    let status = command.args(args).stdin(Stdio::null()).status();
    match status.map_err(|error| Error::Command { command: "docker".to_owned(), error })? {
        status if status.success() => Ok(()),
        status => Err(Error::Refused(format!("compose {} failed: {status}", args[0]))),
    }
}

fn command(site: &MonitoringSite) -> Result<Command, Error> {
    let words = compose().ok_or_else(|| Error::Refused("there is no compose".to_owned()))?;
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["--project-name", PROJECT, "--file"]);
    command.arg(site.files.join("compose.yml"));
    command.env("MONITORING_DATA", &site.data).env("MONITORING_ALERTS", site.alerts());
    command.env("HASHCLUSTER_TARGETS", site.targets());
    command.env("MONITORING_USER", user()).env("MONITORING_JOURNAL", journal_group().to_string());
    Ok(command)
}

/// The user of the containers. Root of a rootless Docker is the user who runs it.
fn user() -> String {
    let options = ask(&["docker", "info", "--format", "{{.SecurityOptions}}"]);
    let is_rootless =
        options.is_some_and(|it| String::from_utf8_lossy(&it.stdout).contains("rootless"));
    if is_rootless {
        say("Docker is rootless: Alloy reads the journal only if your user may");
        return "0:0".to_owned();
    }
    format!("{}:{}", geteuid(), getegid())
}

/// The group that may read the journal, or else our own.
fn journal_group() -> u32 {
    let group = |path| fs::metadata(path).ok().map(|metadata| metadata.gid());
    let found = ["/var/log/journal", "/run/log/journal"].into_iter().find_map(group);
    found.unwrap_or_else(|| getegid().as_raw())
}
