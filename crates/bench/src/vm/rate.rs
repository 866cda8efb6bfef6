//! Speed of a worker in a VM, against one outside that is run by the same accelerator and
//! has as many threads.
//!
//! In the figure is all of `hashctl sum`. The VM's worker reads the file through a dataset: a
//! snapshot, which after the first round is in the guest's page cache, and a live one, whose bytes
//! come from the host each time. Outside the worker gets the file's descriptor.

use super::kept::Scratch;
use super::outside::{Outside, Runner};
use super::vms::{Accel, Vms};
use crate::contest::median_ratio;
use crate::report::{Report, median};
use client::{Address, Client};
use ipc_proto::Algorithm;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use test_kit::{bin, write_file};

const ROUNDS: usize = 7;
const FILE: &str = "data";

/// As large as leaves room in the guest's page cache.
const LEN: u64 = 32 << 20;

/// One file, in two datasets.
#[derive(Debug)]
pub(super) struct Data {
    live: PathBuf,
    snapshot: PathBuf,
    /// The file that describes the datasets to `hashcluster-vm`.
    pub(super) config: String,
}

impl Data {
    /// Writes it below `dir`.
    pub(super) fn write(dir: &Path) -> Self {
        let [live, snapshot] = ["live", "snapshot"].map(|name| dir.join(name));
        fs::create_dir(&live).expect("a new directory");
        fs::create_dir(&snapshot).expect("a new directory");
        write_file(&live.join(FILE), LEN, 1);
        fs::hard_link(live.join(FILE), snapshot.join(FILE)).expect("a new name");
        let text = format!(
            "[datasets.live]\ndir = {live:?}\n[datasets.snapshot]\ndir = {snapshot:?}\n\
             snapshot = true\n"
        );
        let config = dir.join("datasets.toml");
        fs::write(&config, text).expect("room for a file");
        let config = config.to_str().expect("a temporary path is text").to_owned();
        Self { live, snapshot, config }
    }
}

/// A worker, and the directory in which it is asked for the file.
struct Lane<'a> {
    name: &'static str,
    runtime_dir: &'a Path,
    dir: &'a Path,
    rates: Vec<f64>,
}

pub(super) fn measure(report: &mut Report, scratch: &Scratch, vms: &Vms<'_>, data: &Data) {
    let native = Outside::with_worker(scratch, "rate-native", Runner::Native);
    let translated = (vms.accel() == Accel::Tcg)
        .then(|| Outside::with_worker(scratch, "rate-translated", Runner::Translated));
    report.note(&format!("kernels, VM: {}", backends(&vms.clients())));
    let outside: Vec<(&'static str, &Outside<'_>)> = translated
        .iter()
        .map(|outside| (Runner::Translated.name(), outside))
        .chain([(Runner::Native.name(), &native)])
        .collect();
    for (name, outside) in &outside {
        let backends = backends(&outside.clients());
        report.note(&format!("kernels, {name}: {backends}"));
    }
    for algorithm in ["sha256", "blake3"] {
        let lane = |name, runtime_dir, dir| Lane { name, runtime_dir, dir, rates: Vec::new() };
        let mut inside = [
            lane("VM, snapshot", vms.run_dir(), data.snapshot.as_path()),
            lane("VM, live dataset", vms.run_dir(), data.live.as_path()),
        ];
        let mut others: Vec<Lane<'_>> =
            outside.iter().map(|(name, outside)| lane(name, outside.dir(), &data.live)).collect();
        for round in 0..=ROUNDS {
            let mut digest = None;
            for lane in inside.iter_mut().chain(&mut others) {
                let (rate, output) = sum(lane.runtime_dir, lane.dir, algorithm);
                assert_eq!(*digest.get_or_insert_with(|| output.clone()), output, "{}", lane.name);
                if round > 0 {
                    lane.rates.push(rate);
                }
            }
        }
        for (lane, other) in inside.iter().flat_map(|lane| others.iter().map(move |o| (lane, o))) {
            report.note(&format!(
                "{algorithm} of {} MiB, 1 thread, {} over {}: {:.2}x ({:.0} MB/s, {:.0} MB/s)",
                LEN >> 20,
                lane.name,
                other.name,
                median_ratio(&lane.rates, &other.rates),
                median(lane.rates.clone()),
                median(other.rates.clone()),
            ));
        }
    }
}

/// MB a second, and what `hashctl` prints.
fn sum(runtime_dir: &Path, dir: &Path, algorithm: &str) -> (f64, Vec<u8>) {
    let mut command = Command::new(bin("hashctl"));
    command.args(["sum", "-a", algorithm, FILE]).current_dir(dir);
    command.env("HASHCLUSTER_RUNTIME_DIR", runtime_dir);
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let seconds = start.elapsed().as_secs_f64();
    let output = output.expect("hashctl is built");
    assert!(output.status.success(), "hashctl sum: {}", output.status);
    (LEN as f64 / seconds / 1e6, output.stdout)
}

/// Backends that the worker chose for the measured algorithms.
fn backends(address: &Address) -> String {
    let mut client = Client::connect(address).expect("the controller lives");
    let status = client.status().expect("the controller lives");
    let chosen = status.workers.first().expect("it has a worker").backends.iter();
    let measured = [Algorithm::Sha256, Algorithm::Blake3];
    let chosen = chosen.filter(|backend| measured.contains(&backend.algorithm));
    chosen.map(|b| format!("{:?} {}", b.algorithm, b.backend)).collect::<Vec<_>>().join(", ")
}
