//! `monitoring`: starts, stops and shows the programs of `monitoring/` beside a cluster on this host. They
//! are containers where Docker runs, otherwise Debian's Prometheus and Alertmanager as processes of this user.
//!
//! [`MonitoringSite`] is where everything is: data, logs and Grafana's password in `monitoring/` of the state
//! directory, the list of what is scraped in `targets/` of the run directory, where the supervisor writes it.
//!
//! Invariants:
//! - only processes that were started here are signalled: their pidfiles name them with their start times;
//! - nothing listens elsewhere than at 127.0.0.1;
//! - data outlive `down`.

mod containers;
mod http;
mod native;
mod shown;
mod site;

use crate::args::{MonitoringArgs, MonitoringCommand};
use crate::cluster::Error;
use crate::exit;
use crate::run_dir;
use crate::say::{indented, say};
pub(crate) use shown::ServiceState;
use site::MonitoringWay;
pub(crate) use site::{MonitoringSite, SPACE_SHORT_MIB, StartedMonitoring};
use std::env;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;

/// Port of Prometheus where no other is named.
const PORT: u16 = 9090;

/// Ports that can be named; three more have to fit.
const PORTS: RangeInclusive<u16> = 1024..=65532;

/// Names the port, where the command line does not.
const PORT_VARIABLE: &str = "HASHCLUSTER_MONITORING_PORT";

/// Carries out `monitoring`.
pub(crate) fn monitoring(args: &MonitoringArgs) -> Result<ExitCode, Error> {
    let asked = MonitoringSite::new(args);
    // What runs is where it was started, whatever other options say.
    let (site, started) = match MonitoringSite::started_in(&asked.run) {
        Some((site, started)) => (site, Some(started)),
        None => (asked, None),
    };
    match (args.command, started) {
        (MonitoringCommand::Up, _) => up(&site, started, args),
        (MonitoringCommand::Targets, _) => shown::targets(&site, started),
        (MonitoringCommand::Status, Some(started)) => shown::status(&site, started),
        (MonitoringCommand::Down, Some(started)) => down(&site, started),
        (_, None) => {
            say("no monitoring runs; scripts/monitoring.sh up starts it");
            Ok(ExitCode::from(exit::NOT_RUNNING))
        }
    }
}

/// Services that were started, and the states they are in.
pub(crate) fn services(
    site: &MonitoringSite,
    started: StartedMonitoring,
) -> Vec<(&'static str, u16, ServiceState)> {
    let services = started.services().into_iter();
    services.map(|(name, port)| (name, port, shown::state(site, started, name, port))).collect()
}

/// True if the monitoring of the cluster in a run directory was started and not stopped.
pub(crate) fn is_started(run_dir: &Path) -> bool {
    MonitoringSite::started_in(run_dir).is_some()
}

/// Services of the cluster in a run directory that ended by themselves, and the arguments of this program that
/// start them again. Docker does that for containers.
pub(crate) fn ended(run_dir: &Path) -> Option<(Vec<&'static str>, Vec<OsString>)> {
    let (site, started) = MonitoringSite::started_in(run_dir)?;
    if started.way != MonitoringWay::Native || site.is_busy() {
        return None;
    }
    let mut services: Vec<&str> = started.services().into_iter().map(|(name, _)| name).collect();
    services.retain(|name| native::has_ended_by_itself(&site, name));
    let words = ["monitoring", "up", "--runtime-dir"].map(OsString::from);
    let places = [site.run.into(), "--files".into(), site.files.into()];
    let settings = ["--settings".into(), site.settings.into()];
    (!services.is_empty())
        .then(|| (services, words.into_iter().chain(places).chain(settings).collect()))
}

/// Stops the monitoring of the cluster in a run directory that has stopped, if they were started together.
pub(crate) fn down_with_cluster(run_dir: Option<&Path>) -> Result<(), Error> {
    match MonitoringSite::started_in(&run_dir::or_default(run_dir)) {
        Some((site, started)) if started.with_cluster => down(&site, started).map(drop),
        _ => Ok(()),
    }
}

fn up(
    site: &MonitoringSite,
    ran: Option<StartedMonitoring>,
    args: &MonitoringArgs,
) -> Result<ExitCode, Error> {
    site.prepare()?;
    let _lock = site.lock()?;
    site.check_space()?;
    let started = match ran {
        Some(started) => started,
        None => {
            let port = port(args)?;
            let way = choose(args, port)?;
            StartedMonitoring { way, port, with_cluster: args.with_cluster }
        }
    };
    let other = match started.way {
        MonitoringWay::Docker => args.native,
        MonitoringWay::Native => args.docker,
    };
    if other {
        let text = "it was started in the other way; `scripts/monitoring.sh down` stops it first";
        return Err(Error::Refused(text.to_owned()));
    }
    match started.way {
        MonitoringWay::Native => native::up(site, started)?,
        MonitoringWay::Docker => containers::up(site, started, ran.is_some())?,
    }
    for (name, port) in started.pages() {
        say(format_args!("{name}: http://127.0.0.1:{port}"));
    }
    match started.way {
        MonitoringWay::Docker => {
            let password = site.password();
            say(format_args!("Grafana's user is admin, its password is in {}", password.display()));
        }
        MonitoringWay::Native => {
            say("without Docker there are no dashboards and no collected logs")
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn down(site: &MonitoringSite, started: StartedMonitoring) -> Result<ExitCode, Error> {
    let _lock = site.lock()?;
    match started.way {
        MonitoringWay::Native => native::down(site)?,
        MonitoringWay::Docker => containers::down(site)?,
    }
    site.forget_started()?;
    Ok(ExitCode::SUCCESS)
}

fn port(args: &MonitoringArgs) -> Result<u16, Error> {
    let Some(value) = env::var_os(PORT_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(args.port.unwrap_or(PORT));
    };
    let named =
        value.to_str().and_then(|value| value.parse().ok()).filter(|port| PORTS.contains(port));
    let named = args.port.or(named);
    named.ok_or_else(|| Error::Usage(format!("{PORT_VARIABLE} is no port from 1024 to 65532")))
}

/// The way that was asked for, or else that which this host has.
fn choose(args: &MonitoringArgs, port: u16) -> Result<MonitoringWay, Error> {
    // Ports of containers are fixed.
    if port != PORT && args.docker {
        return Err(Error::Usage(format!("containers have port {PORT}, no other")));
    }
    if args.native || port != PORT {
        return Ok(MonitoringWay::Native);
    }
    match containers::available() {
        Ok(()) => Ok(MonitoringWay::Docker),
        Err(why) if args.docker => Err(Error::Refused(why)),
        Err(why) => {
            say(format_args!("{why}: Debian's programs are used"));
            Ok(MonitoringWay::Native)
        }
    }
}

/// Says what can be installed.
fn lacks(program: &str) -> Error {
    say(format_args!("{program} is missing; install it with"));
    indented("sudo apt-get install -y --no-install-recommends prometheus prometheus-alertmanager");
    indented(
        "sudo systemctl disable --now prometheus prometheus-alertmanager   # it is started here",
    );
    Error::Refused(format!("neither Docker nor {program} is there"))
}
