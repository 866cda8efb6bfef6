//! The cluster under attack.

use crate::bystander::Bystander;
use crate::intruder::Intruder;
use crate::user::{ALLOWED, HONEST};
use ipc_proto::endpoint::{Endpoint, WORKER_SOCKET};
use ipc_proto::message::{Counters, WorkerHealth};
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_kit::{Cluster, Footprint, Options, until, until_within};

/// A dataset that the controller knows and no honest worker has: what is named there is for liars.
pub(crate) const TRAP: &str = "trap";

/// The longest that what an attacker held is kept.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// Growth that is no leak: threads that close, files that are being closed, and memory that an allocator
/// keeps for the next time.
const MARGIN: Footprint = Footprint { descriptors: 8, threads: 4, resident_kib: 48 << 10 };

/// A running cluster of two workers, its honest client, and what they were before an attack.
pub(crate) struct Site {
    cluster: Cluster,
    pub(crate) bystander: Bystander,
    data: TempDir,
    footprints: Vec<Footprint>,
    counters: Counters,
    log_len: usize,
    /// Numbers for names that nobody had.
    next: Cell<u64>,
}

impl Site {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        lay_out(data.path());
        let uids = [HONEST, ALLOWED].map(|uid| format!("--allow-uid={uid}"));
        let options = Options {
            datasets: vec![("d", data.path().join("shared"))],
            controller_args: [&uids[..], &[format!("--dataset={TRAP}")]].concat(),
            ..Options::default()
        };
        let cluster = Cluster::start(options);
        cluster.link_datasets();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(cluster.dir(), open).unwrap();
        let bystander = Bystander::start(Endpoint::Unix(cluster.client_socket()));
        // Threads and memory that the first jobs need are there afterwards.
        bystander.measure(Duration::from_millis(500));
        let (footprints, counters) = (Vec::new(), Counters::default());
        Self { cluster, bystander, data, footprints, counters, log_len: 0, next: Cell::new(0) }
    }

    /// Starts everything again after damage, so that the next case has a cluster.
    pub(crate) fn restart(&mut self) {
        *self = Self::start();
    }

    /// Notes everything that an attack may not change.
    pub(crate) fn begin(&mut self) {
        let pids = self.cluster.pids();
        self.footprints = pids.iter().map(|&pid| Footprint::of(pid).expect("it runs")).collect();
        self.counters = self.cluster.status().counters;
        self.log_len = self.cluster.logs().len();
    }

    /// Damage that an attack left behind.
    pub(crate) fn harm(&mut self) -> Option<String> {
        let start = Instant::now();
        loop {
            let harm = self.changes();
            if harm.is_none() || start.elapsed() > SETTLE_LIMIT {
                return self.bystander.harm().or(harm).or_else(|| self.log_harm());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn changes(&self) -> Option<String> {
        for (pid, before) in self.cluster.pids().into_iter().zip(&self.footprints) {
            let Some(now) = Footprint::of(pid) else {
                return Some(format!("process {pid} has ended"));
            };
            if let Some(growth) = now.growth_since(before, &MARGIN) {
                return Some(format!("process {pid} has grown: {growth}"));
            }
        }
        let status = match self.cluster.client().status() {
            Ok(status) => status,
            Err(error) => return Some(format!("no status: {error}")),
        };
        let ready = status.workers.iter().filter(|worker| worker.health == WorkerHealth::Ready);
        let names: Vec<&str> = ready.map(|worker| worker.name.as_str()).collect();
        (names != ["w0", "w1"] || status.workers.len() != 2)
            .then(|| format!("workers that are ready: {names:?} of {:?}", status.workers))
    }

    fn log_harm(&self) -> Option<String> {
        let said = self.said();
        let is_raw =
            |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        said.lines().find(|line| line.contains(is_raw)).map(|line| format!("logged raw: {line:?}"))
    }

    /// Lines that the cluster logged since the case began.
    pub(crate) fn said(&self) -> String {
        let logs = self.cluster.logs();
        logs.get(self.log_len.min(logs.len())..).unwrap_or_default().to_owned()
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Directory for files of a case: `shared` is the dataset `d`, beside it is what nobody shares.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn client_socket(&self) -> PathBuf {
        self.cluster.client_socket()
    }

    pub(crate) fn worker_socket(&self) -> PathBuf {
        self.cluster.dir().join(WORKER_SOCKET)
    }

    pub(crate) fn client(&self) -> Intruder {
        Intruder::client(&self.client_socket())
    }

    pub(crate) fn hashctl(&self) -> Command {
        self.cluster.hashctl()
    }

    /// A number that no other call gives.
    pub(crate) fn fresh(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.cluster.status().counters
    }

    /// Runs `attack`, and waits until as many more peers were closed for a fault.
    pub(crate) fn faulty(&self, peers: u64, attack: impl FnOnce()) {
        let before = self.counters().peers_faulty;
        attack();
        until_within(SETTLE_LIMIT, &format!("{peers} peers are closed for a fault"), || {
            (self.counters().peers_faulty >= before + peers).then_some(())
        });
    }

    /// Waits until the log has `text`, or too many lines hide it.
    pub(crate) fn logged(&self, text: &str) {
        until("a line in the log", || {
            let said = self.said();
            let is_flood = said.matches("warning: ").count() >= 40 || said.contains("were dropped");
            if !is_flood && !said.contains(text) {
                // The count of lines that were dropped comes with the next line.
                Intruder::connect(&self.worker_socket()).send(&[0; 4]);
            }
            (is_flood || said.contains(text)).then_some(())
        });
    }
}

fn lay_out(dir: &Path) {
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(dir);
    let shared = dir.join("shared");
    fs::create_dir(&shared).unwrap();
    open(&shared);
    fs::write(dir.join("secret"), "what nobody shares\n").unwrap();
    fs::write(shared.join("file"), "shared\n").unwrap();
    symlink("../secret", shared.join("out")).unwrap();
    symlink("file", shared.join("inside")).unwrap();
    symlink("/etc", shared.join("etc")).unwrap();
    symlink("loop", shared.join("loop")).unwrap();
}
