//! Tables for people: the services, and the targets that Prometheus scrapes.

use super::http;
use super::native;
use super::site::{MonitoringSite, MonitoringWay, StartedMonitoring, is_ready};
use crate::cluster::Error;
use crate::columns::aligned;
use crate::exit;
use crate::say::say;
use serde_json::Value;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

/// Shows the services and where their data are. Status 0: all are ready; 1: some are not.
pub(super) fn status(site: &MonitoringSite, started: StartedMonitoring) -> Result<ExitCode, Error> {
    let mut is_well = true;
    let mut rows = vec![["SERVICE", "STATE", "ADDRESS"].map(str::to_owned)];
    for (name, port, state) in super::services(site, started) {
        is_well &= state == ServiceState::Ready;
        rows.push([name.to_owned(), state.word().to_owned(), format!("127.0.0.1:{port}")]);
    }
    let free = site.free_mib().map_or_else(String::new, |free| format!(", {free} MiB free"));
    print(&format!("{}data in {}{free}\n", aligned(&rows), site.data.display()))?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// Condition of a service that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceState {
    /// It says that it is ready.
    Ready,
    /// It runs and does not say so: it starts, or hangs.
    Starting,
    Down,
}

impl ServiceState {
    const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Down => "down",
        }
    }
}

pub(super) fn state(
    site: &MonitoringSite,
    started: StartedMonitoring,
    name: &str,
    port: u16,
) -> ServiceState {
    // Somebody else may answer at the port of a process that ended.
    let runs = started.way == MonitoringWay::Docker || native::is_running(site, name);
    match (runs, is_ready(name, port)) {
        (true, true) => ServiceState::Ready,
        (true, false) if started.way == MonitoringWay::Native => ServiceState::Starting,
        _ => ServiceState::Down,
    }
}

/// Shows what the supervisor lists, and what Prometheus says of it. Status 3: nothing is listed.
pub(super) fn targets(
    site: &MonitoringSite,
    started: Option<StartedMonitoring>,
) -> Result<ExitCode, Error> {
    let listed = listed(site)?;
    if listed.is_empty() {
        let dir = site.targets();
        say(format_args!(
            "{} lists nothing: no cluster runs, or it has no metrics ports",
            dir.display()
        ));
        return Ok(ExitCode::from(exit::NOT_RUNNING));
    }
    let scraped = started.map_or(Value::Null, |started| scraped(started.port));
    let mut rows = vec![["TARGET", "VM", "ROLE", "HEALTH", "ERROR"].map(str::to_owned)];
    rows.extend(listed.into_iter().map(|(address, labels)| {
        let found = scraped.as_array().into_iter().flatten();
        let found = found.clone().find(|target| target["labels"]["instance"] == *address);
        let word = |value: Option<&Value>| plain(value.and_then(Value::as_str).unwrap_or("-"));
        let health = word(found.map(|target| &target["health"]));
        let error = word(found.map(|target| &target["lastError"]).filter(|error| **error != *""));
        [plain(&address), word(labels.get("vm")), word(labels.get("role")), health, error]
    }));
    print(&aligned(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// Addresses in the files of the supervisor, with their labels.
fn listed(site: &MonitoringSite) -> Result<Vec<(String, Value)>, Error> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(site.targets()) else { return Ok(found) };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read(&path).map_err(Error::step(format!("read {}", path.display())))?;
        let groups: Vec<Value> = serde_json::from_slice(&text)
            .map_err(|error| Error::Refused(format!("{}: {error}", path.display())))?;
        for group in groups {
            let addresses = group["targets"].as_array().into_iter().flatten();
            let addresses = addresses.filter_map(|address| address.as_str().map(str::to_owned));
            found.extend(addresses.map(|address| (address, group["labels"].clone())));
        }
    }
    Ok(found)
}

/// Targets as Prometheus sees them; null without an answer.
fn scraped(port: u16) -> Value {
    let answer = http::get(port, "/api/v1/targets?state=active").ok();
    let answer = answer.and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok());
    answer.map_or(Value::Null, |mut answer| answer["data"]["activeTargets"].take())
}

fn plain(text: &str) -> String {
    crate::supervise::log::plain(text.as_bytes())
}

fn print(text: &str) -> Result<(), Error> {
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::step("write to stdout"))
}
