//! The directories of the monitoring of one cluster, and how it was started.

use super::http;
use crate::args::{MonitoringArgs, state_dir};
use crate::cluster::Error;
use crate::run_dir;
use crate::vm::Layout;
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use telemetry::port_holder;

/// Directory in the run directory in which the supervisor lists what is scraped.
const TARGETS_DIR: &str = "targets";

/// File in the run directory that says what was started.
const STARTED_FILE: &str = "monitoring.json";

/// Free space below which nothing is started, in MiB: Prometheus keeps its journal in pieces of 128 MiB.
pub(crate) const SPACE_SHORT_MIB: u64 = 256;

/// Random bytes of Grafana's password.
const PASSWORD_LEN: usize = 16;

/// Form in which the programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MonitoringWay {
    /// Containers, by compose.
    Docker,
    /// Processes of this user.
    Native,
}

/// A monitoring that was started and not stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct StartedMonitoring {
    pub(crate) way: MonitoringWay,
    /// Port of Prometheus; Alertmanager's is three higher, as 9093 is to 9090.
    pub(crate) port: u16,
    /// It is stopped with the cluster.
    pub(crate) with_cluster: bool,
}

impl StartedMonitoring {
    /// Services, and their ports.
    pub(super) fn services(self) -> Vec<(&'static str, u16)> {
        let mut services = vec![("prometheus", self.port), ("alertmanager", self.port + 3)];
        if self.way == MonitoringWay::Docker {
            let more =
                [("loki", 3100), ("alloy", 12345), ("node-exporter", 9100), ("grafana", 3000)];
            services.extend(more);
        }
        services
    }

    /// Services that people open in a browser.
    pub(super) fn pages(self) -> impl Iterator<Item = (&'static str, u16)> {
        let pages = ["grafana", "prometheus", "alertmanager"];
        self.services().into_iter().filter(move |(name, _)| pages.contains(name))
    }
}

/// Directories and files of the monitoring of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct MonitoringSite {
    pub(crate) run: PathBuf,
    /// Below the state directory.
    pub(crate) data: PathBuf,
    /// `monitoring/` of this tree.
    pub(crate) files: PathBuf,
    /// Directory of `ports.conf`.
    pub(crate) settings: PathBuf,
}

impl MonitoringSite {
    pub(super) fn new(args: &MonitoringArgs) -> Self {
        let asked = args.runtime.dir.as_deref();
        let run = absolute(run_dir::or_default(asked));
        let state = state_dir(args.state.as_deref(), asked).map(absolute);
        let data = Layout::new(&run, state.as_deref()).state().join("monitoring");
        Self { run, data, files: absolute(&args.files), settings: absolute(&args.settings) }
    }

    /// The monitoring that was started for the cluster in a run directory and not stopped, and its place.
    pub(crate) fn started_in(run: &Path) -> Option<(Self, StartedMonitoring)> {
        serde_json::from_slice(&fs::read(run.join(STARTED_FILE)).ok()?).ok()
    }

    /// Makes the directories that are missing, for this user alone.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        run_dir::prepare(&self.run)?;
        for dir in [&self.targets(), &self.data].into_iter().chain(&self.service_dirs()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(Error::step(format!("make {}", dir.display())))?;
        }
        Ok(())
    }

    fn service_dirs(&self) -> [PathBuf; 5] {
        ["prometheus", "alertmanager", "loki", "alloy", "grafana"].map(|name| self.data.join(name))
    }

    pub(super) fn targets(&self) -> PathBuf {
        self.run.join(TARGETS_DIR)
    }

    /// Configuration of Alertmanager: of the user, beside `ports.conf`, or the example.
    pub(super) fn alerts(&self) -> PathBuf {
        let own = self.settings.join("alertmanager.yml");
        if own.exists() { own } else { self.files.join("alertmanager/alertmanager.yml") }
    }

    /// True while a command starts or stops services.
    pub(super) fn is_busy(&self) -> bool {
        File::open(self.lock_path()).is_ok_and(|lock| lock.try_lock().is_err())
    }

    fn lock_path(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// One command at a time.
    pub(super) fn lock(&self) -> Result<File, Error> {
        let path = self.lock_path();
        let lock = File::create(&path).map_err(Error::write(&path))?;
        lock.lock().map_err(Error::step(format!("lock {}", path.display())))?;
        Ok(lock)
    }

    pub(super) fn free_mib(&self) -> Option<u64> {
        let found = statvfs(&self.data).ok()?;
        Some(found.blocks_available().saturating_mul(found.fragment_size()) >> 20)
    }

    /// Prometheus on a full disk runs and keeps nothing.
    pub(super) fn check_space(&self) -> Result<(), Error> {
        match self.free_mib() {
            Some(free) if free < SPACE_SHORT_MIB => {
                let data = self.data.display();
                let text = format!(
                    "{data} has {free} MiB of free space, {SPACE_SHORT_MIB} are needed; make room, or name \
                     another place with --state-dir"
                );
                Err(Error::Refused(text))
            }
            _ => Ok(()),
        }
    }

    /// Writes down what is started, before it is, so that it can be stopped.
    pub(super) fn note_started(&self, started: StartedMonitoring) -> Result<(), Error> {
        let path = self.run.join(STARTED_FILE);
        let text = serde_json::to_vec(&(self, started)).map_err(io::Error::other);
        text.and_then(|text| fs::write(&path, text)).map_err(Error::write(&path))
    }

    pub(super) fn forget_started(&self) -> Result<(), Error> {
        let path = self.run.join(STARTED_FILE);
        fs::remove_file(&path).map_err(Error::step(format!("remove {}", path.display())))?;
        // It has a file while a cluster runs.
        let _ = fs::remove_dir(self.targets());
        Ok(())
    }

    pub(super) fn password(&self) -> PathBuf {
        self.data.join("grafana-password")
    }

    /// Makes Grafana's password, unless there is one: Grafana takes it at its first start only.
    pub(super) fn make_password(&self) -> Result<(), Error> {
        let path = self.password();
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)
        {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            opened => opened.map_err(Error::write(&path))?,
        };
        let mut random = [0; PASSWORD_LEN];
        let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
        read.map_err(Error::step("read /dev/urandom"))?;
        let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        file.write_all(password.as_bytes()).map_err(Error::write(&path))
    }
}

/// Fails if somebody else has a port.
pub(super) fn check_ports(services: &[(&'static str, u16)]) -> Result<(), Error> {
    for &(name, port) in services {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let text = match port_holder::find(port) {
                    Some(holder) => format!("port {port} of {name} is in use by {holder}"),
                    None => format!(
                        "port {port} of {name} is in use; `ss -ltnp sport = {port}` as root says by what"
                    ),
                };
                let how = "stop that (Debian's own service: `systemctl disable --now prometheus \
                           prometheus-alertmanager`), or name another port with --port N";
                return Err(Error::Refused(format!("{text}; {how}")));
            }
            Err(error) => return Err(Error::step(format!("use port {port} of {name}"))(error)),
        }
    }
    Ok(())
}

/// True if the service says that it is ready.
pub(super) fn is_ready(name: &str, port: u16) -> bool {
    let path = match name {
        "grafana" => "/api/health",
        "loki" => "/ready",
        "node-exporter" => "/",
        _ => "/-/ready",
    };
    http::get(port, path).is_ok_and(|answer| answer.status == 200)
}

fn absolute(path: impl AsRef<Path>) -> PathBuf {
    std::path::absolute(&path).unwrap_or_else(|_| path.as_ref().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_started_is_read_back_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().to_owned();
        let site =
            MonitoringSite { run, data: "/d".into(), files: "/f".into(), settings: "/s".into() };
        assert_eq!(MonitoringSite::started_in(dir.path()), None);
        for way in [MonitoringWay::Docker, MonitoringWay::Native] {
            let started = StartedMonitoring { way, port: 9090, with_cluster: true };
            site.note_started(started).unwrap();
            assert_eq!(MonitoringSite::started_in(dir.path()), Some((site.clone(), started)));
        }
        fs::write(dir.path().join(STARTED_FILE), "[{}, 7]").unwrap();
        assert_eq!(MonitoringSite::started_in(dir.path()), None);
    }
}
