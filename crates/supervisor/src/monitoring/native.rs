//! Debian's Prometheus and Alertmanager as processes of this user, in the background.
//!
//! While a cluster runs, its supervisor starts them again when they end ([`has_ended_by_itself`]).

use super::site::{MonitoringSite, StartedMonitoring, check_ports, is_ready};
use crate::cluster::Error;
use crate::pidfile::{self, Supervisor};
use crate::say::say;
use crate::supervise::{is_executable, log, sys, tail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Prometheus reads its journal again before it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Time for what is in memory to be written.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Pause between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Names of a program: of Debian's package, and its own.
fn programs(service: &str) -> &'static [&'static str] {
    match service {
        "alertmanager" => &["prometheus-alertmanager", "alertmanager"],
        _ => &["prometheus"],
    }
}

/// Starts those that do not run, Alertmanager first, and waits until they are ready.
pub(super) fn up(site: &MonitoringSite, started: StartedMonitoring) -> Result<(), Error> {
    let mut missing = started.services();
    missing.retain(|(name, _)| !is_running(site, name));
    missing.reverse();
    let mut paths = Vec::new();
    for (name, _) in &missing {
        let names = programs(name);
        let found = names.iter().find_map(|name| find_program(name));
        paths.push(found.ok_or_else(|| super::lacks(names[0]))?);
    }
    check_ports(&missing)?;
    configure(site, started.port)?;
    site.note_started(started)?;
    for ((name, port), path) in missing.iter().zip(&paths) {
        start(site, name, *port, path)?;
    }
    Ok(())
}

/// Stops those that run, Prometheus first.
pub(super) fn down(site: &MonitoringSite) -> Result<(), Error> {
    for name in ["prometheus", "alertmanager"] {
        let path = pidfile_of(site, name);
        let found = pidfile::find(&path).map_err(Error::step(format!("find {name}")))?;
        if let Some(running) = found {
            stop(name, &running)?;
        }
        // It is there if the service ever ran.
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

fn pidfile_of(site: &MonitoringSite, name: &str) -> PathBuf {
    site.data.join(format!("{name}.pid"))
}

pub(super) fn is_running(site: &MonitoringSite, name: &str) -> bool {
    pidfile::find(&pidfile_of(site, name)).is_ok_and(|found| found.is_some())
}

/// True for one that was started, was not stopped, and does not run.
pub(super) fn has_ended_by_itself(site: &MonitoringSite, name: &str) -> bool {
    let path = pidfile_of(site, name);
    path.exists() && pidfile::find(&path).is_ok_and(|found| found.is_none())
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.iter().map(|dir| dir.join(name)).find(|path| is_executable(path))
}

/// Directory in which they run. Paths in the configuration are relative to it, so that none of this host's
/// has to be written into it.
fn work_dir(site: &MonitoringSite) -> PathBuf {
    site.data.join("native")
}

/// Writes Prometheus' configuration, with the ports that are used here.
fn configure(site: &MonitoringSite, port: u16) -> Result<(), Error> {
    let dir = work_dir(site);
    fs::create_dir_all(&dir).map_err(Error::step(format!("make {}", dir.display())))?;
    let from = site.files.join("prometheus/prometheus.yml");
    let text =
        fs::read_to_string(&from).map_err(Error::step(format!("read {}", from.display())))?;
    let text = text
        .replace("127.0.0.1:9090", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:9093", &format!("127.0.0.1:{}", port + 3));
    let config = dir.join("prometheus.yml");
    fs::write(&config, text).map_err(Error::write(&config))?;
    link(&site.files.join("prometheus/rules"), &dir.join("rules"))?;
    link(&site.targets(), &dir.join("targets"))
}

fn link(target: &Path, link: &Path) -> Result<(), Error> {
    // That of an earlier start may lead elsewhere.
    let _ = fs::remove_file(link);
    let target =
        fs::canonicalize(target).map_err(Error::step(format!("find {}", target.display())))?;
    symlink(target, link).map_err(Error::write(link))
}

fn arguments(site: &MonitoringSite, name: &str, port: u16) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<std::ffi::OsString> =
        vec![format!("--web.listen-address=127.0.0.1:{port}").into()];
    if name == "prometheus" {
        let own = [
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=../prometheus",
            "--storage.tsdb.retention.time=30d",
            "--storage.tsdb.retention.size=4GB",
        ];
        arguments.extend(own.map(Into::into));
    } else {
        let mut config = std::ffi::OsString::from("--config.file=");
        config.push(site.alerts());
        let own = ["--storage.path=../alertmanager", "--cluster.listen-address="];
        arguments.push(config);
        arguments.extend(own.map(Into::into));
    }
    arguments
}

fn start(site: &MonitoringSite, name: &str, port: u16, program: &Path) -> Result<(), Error> {
    let log_path = site.data.join(format!("{name}.log"));
    let (log, begin) = log::open(&log_path).map_err(Error::write(&log_path))?;
    let stdout = log.try_clone().map_err(Error::write(&log_path))?;
    let mut command = Command::new(program);
    command.args(arguments(site, name, port)).current_dir(work_dir(site));
    // A group of its own: Ctrl-C is not for it.
    command.stdin(Stdio::null()).stdout(stdout).stderr(log).process_group(0);
    let child = command.spawn();
    let child = child.map_err(|error| Error::Command { command: name.to_owned(), error })?;
    let failed = || format!("start {name}");
    let pidfd = sys::pidfd_open(child.id()).map_err(Error::step(failed()))?;
    let tail = || tail(&log_path, begin);
    let died = || Error::Died { name: name.to_owned(), how: "ended".to_owned(), tail: tail() };
    let ends_within = |limit| has_ended(&pidfd, limit).map_err(Error::step(failed()));
    let path = pidfile_of(site, name);
    if let Err(error) = pidfile::write_of(&path, child.id()) {
        if ends_within(Duration::ZERO)? {
            return Err(died());
        }
        // Nobody would find it again.
        sys::pidfd_signal(pidfd.as_fd(), Signal::SIGKILL).map_err(Error::step(failed()))?;
        return Err(Error::write(&path)(error));
    }
    let deadline = Instant::now() + READY_LIMIT;
    while !is_ready(name, port) {
        if ends_within(ASK_AGAIN)? {
            return Err(died());
        }
        if Instant::now() > deadline {
            let why = format!("it does not answer at 127.0.0.1:{port}");
            return Err(Error::Late {
                name: name.to_owned(),
                limit: READY_LIMIT,
                why,
                tail: tail(),
            });
        }
    }
    Ok(())
}

fn stop(name: &str, running: &Supervisor) -> Result<(), Error> {
    let failed = || format!("stop {name}");
    let signal = |signal| match sys::pidfd_signal(running.pidfd.as_fd(), signal) {
        // It ended meanwhile.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result.map_err(Error::step(failed())),
    };
    signal(Signal::SIGTERM)?;
    if has_ended(&running.pidfd, STOP_LIMIT).map_err(Error::step(failed()))? {
        return Ok(());
    }
    say(format_args!("{name} did not stop within {} s: it is killed", STOP_LIMIT.as_secs()));
    signal(Signal::SIGKILL)?;
    has_ended(&running.pidfd, STOP_LIMIT).map(drop).map_err(Error::step(failed()))
}

/// Waits for the end of a process, for so long.
fn has_ended(pidfd: &OwnedFd, limit: Duration) -> std::io::Result<bool> {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut polled, timeout)? > 0)
}
